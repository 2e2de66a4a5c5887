"""
Text of a RIS, redacted for a log: short, in one line, and without the patient.

An answer often quotes what it is about ("patient DOE^JOHN unknown"). Logs, journal and `genu status` must not contain
that, so every word with which the message identifies its patient and its order is removed, and every date.
"""

import re
from collections.abc import Collection, Iterable

MAX_CHARACTERS = 200
"""Of an answer: enough for a sentence, too few to flood a log."""
_REDACTED = "***"
_DATE = re.compile(r"(?<!\d)((19|20)\d\d[-/.]?\d\d[-/.]?\d\d|\d\d?[-/.]\d\d?[-/.](19|20)\d\d)(?!\d)")
"""Any day of two centuries: a receiver may know a date of birth that the message does not have."""
_MIN_PART_LENGTH = 4
"""Words of this length are redacted within other words too; shorter ones only as whole words."""


def words_to_redact(values: Iterable[str]) -> set[str]:
    """The words of values that identify a patient; a single ASCII letter, such as that of the sex, is excluded."""
    words = (word for value in values for word in re.findall(r"[^\W_]+", value))
    return {word for word in words if len(word) > 1 or not word.isascii()}


def redact(text: str, words: Collection[str]) -> str:
    """`text` in one line without those words, at most MAX_CHARACTERS long; empty if `text` is."""
    line = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    line = _DATE.sub(_REDACTED, line)
    for word in sorted(words, key=len, reverse=True):
        whole_word = len(word) < _MIN_PART_LENGTH and word.isascii()
        pattern = rf"(?<![^\W_]){re.escape(word)}(?![^\W_])" if whole_word else re.escape(word)
        line = re.sub(pattern, _REDACTED, line, flags=re.IGNORECASE)
    return line if len(line) <= MAX_CHARACTERS else line[: MAX_CHARACTERS - 1] + "…"
