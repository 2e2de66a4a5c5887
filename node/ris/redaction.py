"""
What a RIS says in words, made fit for a log: short, in one line, and without the patient.

An answer often quotes what it is about ("patient DOE^JOHN unknown"). Logs, journal and `genu status` must not hold
that, so every word by which the message names its patient and its order is struck out of the answer, and every date.
"""

import re
from collections.abc import Collection, Iterable

LONGEST = 200
"""Characters of an answer that are kept: enough for a sentence, too few to flood a log."""
_STRUCK = "***"
_DATE = re.compile(r"(?<!\d)((19|20)\d\d[-/.]?\d\d[-/.]?\d\d|\d\d?[-/.]\d\d?[-/.](19|20)\d\d)(?!\d)")
"""Any day of two centuries: a receiver may know a date of birth that the message does not."""
_ANYWHERE = 4
"""Words so long are struck out within other words too; shorter ones only where they stand alone."""


def words_of(values: Iterable[str]) -> set[str]:
    """The words of a patient's values; a single letter, such as that of the sex, is none."""
    words = (word for value in values for word in re.findall(r"[^\W_]+", value))
    return {word for word in words if len(word) > 1 or not word.isascii()}


def quiet(text: str, words: Collection[str]) -> str:
    """`text` in one line without those words, cut to LONGEST characters; empty if nothing was said."""
    line = " ".join("".join(each if each.isprintable() else " " for each in text).split())
    line = _DATE.sub(_STRUCK, line)
    for word in sorted(words, key=len, reverse=True):
        alone = len(word) < _ANYWHERE and word.isascii()
        pattern = rf"(?<![^\W_]){re.escape(word)}(?![^\W_])" if alone else re.escape(word)
        line = re.sub(pattern, _STRUCK, line, flags=re.IGNORECASE)
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"
