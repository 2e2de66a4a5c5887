"""
Genu's exceptions.

GenuError                an error with a hint what to do about it
├── SettingsError        settings that cannot be used; the node does not start
├── Refused              refusal of a received object, with the status of the C-STORE response; nothing is stored
├── Ungradable           refusal to grade a radiograph or knee, with a coded reason; final, and no fault of the node
├── Transient            fault that may pass; the work is retried after a growing pause
└── Permanent            fault that does not pass, with a coded reason; the radiograph is FAILED until a person retries

Four are named for the outcome of the radiograph, without "Error" (so N818 is waived). Modules derive their own from
these, such as node.scu.errors.
"""

from node.reasons import Reason


class GenuError(Exception):
    """`what` went wrong, and `hint`: what to do about it."""

    def __init__(self, what: str, *, hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.what} ({self.hint})" if self.hint else self.what


class SettingsError(GenuError):
    """The settings cannot be used; the message has the line or variable, and the cause."""


class Refused(GenuError):  # noqa: N818
    """A received object is refused and not stored; `status` is the status of the C-STORE response (PS3.4 B.2.3)."""

    def __init__(self, status: int, what: str, *, hint: str = "") -> None:
        super().__init__(what, hint=hint)
        self.status = status


class Ungradable(GenuError):  # noqa: N818
    """A radiograph, or one knee on it, must not be graded; `reason` is the coded reason."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(f"{reason.code}: {detail or reason.meaning}", hint=reason.advice)
        self.reason = reason
        self.detail = detail


class Transient(GenuError):  # noqa: N818
    """A fault that may pass: a broker, disk, database or peer that is unavailable."""


class Permanent(GenuError):  # noqa: N818
    """A fault that will not pass without a person; `reason` is the coded reason that is shown."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(f"{reason.code}: {detail or reason.meaning}", hint=reason.advice)
        self.reason = reason
        self.detail = detail
