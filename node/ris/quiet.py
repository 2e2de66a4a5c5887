"""
What a RIS says in words, made fit for a log: short, in one line, and without the patient.

An answer often quotes what it is about ("patient DOE^JOHN unknown"). Logs, journal and `genu status` must not hold
that, so every word by which the message names its patient and its order is struck out of the answer.
"""

import re
from collections.abc import Collection, Iterable

LONGEST = 200
"""Characters of an answer that are kept: enough for a sentence, too few to flood a log."""
_STRUCK = "***"
_ANYWHERE = 4
"""Words so long are struck out within other words too; shorter ones only where they stand alone."""


def words_of(values: Iterable[str]) -> set[str]:
    """The words of a patient's values, and the ways in which a date of birth among them is written."""
    found: set[str] = set()
    for value in values:
        words = re.findall(r"[^\W_]+", value)
        found |= {word for word in words if len(word) > 1 or not word.isascii()}
        for year, month, day in re.findall(r"(\d{4})-?(\d{2})-?(\d{2})", value):
            found |= {f"{year}{month}{day}", f"{year}-{month}-{day}", f"{day}.{month}.{year}", f"{year}/{month}/{day}"}
            found |= {f"{month}/{day}/{year}", f"{day}/{month}/{year}"}
    return found


def quiet(text: str, words: Collection[str]) -> str:
    """`text` in one line without those words, cut to LONGEST characters; empty if nothing was said."""
    line = " ".join("".join(each if each.isprintable() else " " for each in text).split())
    for word in sorted(words, key=len, reverse=True):
        alone = len(word) < _ANYWHERE and word.isascii()
        pattern = rf"(?<![^\W_]){re.escape(word)}(?![^\W_])" if alone else re.escape(word)
        line = re.sub(pattern, _STRUCK, line, flags=re.IGNORECASE)
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"
