"""A PACS for trying Genu out: it takes every result and keeps it as a file that any viewer opens."""

import hashlib
from pathlib import Path
from types import TracebackType

from pynetdicom import AE, evt
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.events import EventHandlerType
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from node.radiograph import STORAGE_CLASSES, TRANSFER_SYNTAXES

STORED, OUT_OF_RESOURCES = 0x0000, 0xA700

KINDS = {"SR": "sr", "Secondary Capture": "sc", "Segmentation": "seg"}
"""Starts of file names, by a word of the SOP class."""


class DemoPacs:
    """A Storage SCP on loopback, on a free port. Use it as a context manager; `results` counts what came."""

    ae_title = "DEMOPACS"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._ae = AE(ae_title=self.ae_title)
        for sop_class in STORAGE_CLASSES:
            self._ae.add_supported_context(sop_class, list(TRANSFER_SYNTAXES))
        self._ae.add_supported_context(Verification)

    def __enter__(self) -> "DemoPacs":
        handlers: list[EventHandlerType] = [(evt.EVT_C_STORE, self._keep)]
        server = self._ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        assert server is not None  # it is only where start_server blocks
        self._server = server
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def results(self) -> int:
        """How many objects it holds, those of earlier starts included."""
        return len(list(self.folder.glob("*.dcm")))

    def _keep(self, event: evt.Event) -> int:
        assert isinstance(event.request, C_STORE)
        uid = str(event.request.AffectedSOPInstanceUID)
        sop_class = event.context.abstract_syntax.name
        kind = next((short for told, short in KINDS.items() if told in sop_class), "other")
        name = f"{kind}-{hashlib.sha256(uid.encode()).hexdigest()[:12]}.dcm"  # a UID is no path
        try:
            (self.folder / name).write_bytes(event.encoded_dataset())
        except OSError:
            return OUT_OF_RESOURCES
        return STORED
