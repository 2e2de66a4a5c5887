"""The one table from what went wrong to the C-STORE status that says so (PS3.4 table B.2-1, PS3.7 annex C)."""

import errno

from node.errors import Refused, Transient

SUCCESS = 0x0000
PROCESSING_FAILURE = 0x0110
INVALID_INSTANCE = 0x0117
"""The SOP Instance UID breaks the rules for UIDs (PS3.7 C.5)."""
CLASS_NOT_SUPPORTED = 0x0122
OUT_OF_RESOURCES = 0xA700
MISMATCH = 0xA900
"""The data set is not of the class, or not the instance, that the command names."""
CANNOT_UNDERSTAND = 0xC000

# Success is also the answer to other bytes under a known UID: they are kept and flagged, and no warning of PS3.4
# B.2.3 says that (B000 speaks of coerced, B006 of discarded elements, B007 of the class). A failure would make the
# sender try for ever.

_NO_ROOM = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EROFS, errno.EAGAIN}
)


def status_of(error: Exception) -> int:
    """The status that answers `error`. What may go away by itself is 0xA700: senders try that again."""
    if isinstance(error, Refused):
        return error.status
    if isinstance(error, (Transient, MemoryError)):
        return OUT_OF_RESOURCES
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        return OUT_OF_RESOURCES
    return PROCESSING_FAILURE


def comment_of(error: Exception) -> str:
    """An Error Comment (0000,0902) for the sender's log: what a Refused says, else nothing. At most 64 characters."""
    return error.what[:64] if isinstance(error, Refused) else ""
