"""
What can go wrong, and who hears of it.

GenuError                what happened, and what to do about it
├── SettingsError        the person who starts the node: it does not start
├── Refused              the sender, as a C-STORE status; nothing was kept
├── Ungradable           the reader, as a coded reason; final, and no fault of the node's
├── Transient            nobody yet; it is tried again after a growing pause
└── Permanent            the administrator; the radiograph waits in FAILED

Four of them are outcomes rather than errors, and are named for what becomes of the radiograph (so N818 is waived).
"""

from node.reasons import Reason


class GenuError(Exception):
    """Something went wrong. `hint` says what to do about it."""

    def __init__(self, what: str, *, hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.what} ({self.hint})" if self.hint else self.what


class SettingsError(GenuError):
    """The settings cannot be used; the message says which line or variable, and why."""


class Refused(GenuError):  # noqa: N818
    """An object that is not kept; `status` is the C-STORE status that says so (PS3.4 B.2.3)."""

    def __init__(self, status: int, what: str, *, hint: str = "") -> None:
        super().__init__(what, hint=hint)
        self.status = status


class Ungradable(GenuError):  # noqa: N818
    """A radiograph, or one knee on it, that must not be graded, and the coded reason."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(f"{reason.code}: {detail or reason.meaning}", hint=reason.advice)
        self.reason = reason
        self.detail = detail


class Transient(GenuError):  # noqa: N818
    """It may work another time: a broker, a disk or a peer that is away."""


class Permanent(GenuError):  # noqa: N818
    """It will not work another time; a person has to look. `reason` is the code that is shown."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(f"{reason.code}: {detail or reason.meaning}", hint=reason.advice)
        self.reason = reason
        self.detail = detail
