"""The one table from errors to the status of the C-STORE response (PS3.4 table B.2-1, PS3.7 annex C)."""

import errno

from node.errors import Refused, Transient

SUCCESS = 0x0000
PROCESSING_FAILURE = 0x0110
INVALID_INSTANCE = 0x0117
"""The SOP Instance UID violates the rules for UIDs (PS3.7 C.5)."""
CLASS_NOT_SUPPORTED = 0x0122
OUT_OF_RESOURCES = 0xA700
MISMATCH = 0xA900
"""The data set is not of the class, or not the instance, that the command names."""
CANNOT_UNDERSTAND = 0xC000

# Success is also the status for other bytes under a known UID: they are stored and flagged, and no warning of PS3.4
# B.2.3 means that (B000 is for coerced, B006 for discarded elements, B007 for the class). After a failure the sender
# would retry for ever.

_OUT_OF_RESOURCES_ERRNOS = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EROFS, errno.EAGAIN}
)


def status_of(error: Exception) -> int:
    """The status for `error`. It is 0xA700 for what may go away by itself: senders retry after that."""
    if isinstance(error, Refused):
        return error.status
    if isinstance(error, (Transient, MemoryError)):
        return OUT_OF_RESOURCES
    if isinstance(error, OSError) and error.errno in _OUT_OF_RESOURCES_ERRNOS:
        return OUT_OF_RESOURCES
    return PROCESSING_FAILURE


def comment_of(error: Exception) -> str:
    """The Error Comment (0000,0902) for the sender's log: the text of a Refused, else empty. At most 64 characters."""
    return error.what[:64] if isinstance(error, Refused) else ""
