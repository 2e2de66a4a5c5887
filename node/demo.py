"""A PACS for the demo: it stores every result as a file that any viewer opens."""

import hashlib
from pathlib import Path
from types import TracebackType

from pynetdicom import AE, evt
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.events import EventHandlerType
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from node.radiograph import STORAGE_CLASSES, TRANSFER_SYNTAXES

STORED, OUT_OF_RESOURCES = 0x0000, 0xA700

FILE_PREFIXES = {"SR": "sr", "Secondary Capture": "sc", "Segmentation": "seg"}
"""Part of a SOP class's name -> prefix of the file names."""


class DemoPacs:
    """A Storage SCP on loopback, on a free port. Use it as a context manager; `results` counts the stored objects."""

    ae_title = "DEMOPACS"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._ae = AE(ae_title=self.ae_title)
        for sop_class in STORAGE_CLASSES:
            self._ae.add_supported_context(sop_class, list(TRANSFER_SYNTAXES))
        self._ae.add_supported_context(Verification)

    def __enter__(self) -> "DemoPacs":
        handlers: list[EventHandlerType] = [(evt.EVT_C_STORE, self._store)]
        server = self._ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        assert server is not None  # None only if start_server blocks
        self._server = server
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def results(self) -> int:
        """Number of stored objects, those of earlier runs included."""
        return len(list(self.folder.glob("*.dcm")))

    def _store(self, event: evt.Event) -> int:
        assert isinstance(event.request, C_STORE)
        uid = str(event.request.AffectedSOPInstanceUID)
        sop_class = event.context.abstract_syntax.name
        prefix = next((prefix for part, prefix in FILE_PREFIXES.items() if part in sop_class), "other")
        name = f"{prefix}-{hashlib.sha256(uid.encode()).hexdigest()[:12]}.dcm"  # a UID must not become a path
        try:
            (self.folder / name).write_bytes(event.encoded_dataset())
        except OSError:
            return OUT_OF_RESOURCES
        return STORED
