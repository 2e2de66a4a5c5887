"""Models of a site, made from the shipped one: under another name, with another bias, or without the mirror image."""

import hashlib
import json
import shutil
import struct
from datetime import UTC, datetime
from pathlib import Path

from pydicom import Dataset
from tomlkit import dumps, parse

from node.ledger import Ledger
from node.radiograph import Radiograph
from node.settings import Settings
from node.storage import Vault
from workers.models.registry import CARDS, DEFAULT, SHIPPED, WEIGHTS, Model, load, read_card

BASE_FILES = [*(file.name for file in read_card(DEFAULT).weights), read_card(DEFAULT).graph.name]
BASE_WEIGHTS = BASE_FILES[0]
"""The file that holds the trunk and the head of the shipped grader."""


def add_card(settings: Settings, stem: str, version: str) -> Path:
    """The card `stem`: the shipped one under another name and version."""
    folder = settings.storage.folder / "models"
    folder.mkdir(parents=True, exist_ok=True)
    fields = parse((CARDS / f"{DEFAULT}.toml").read_text())
    fields["name"], fields["version"] = stem, version
    path = folder / f"{stem}.toml"
    path.write_text(dumps(fields))
    return path


def add_model(settings: Settings, stem: str, version: str, *, bias: tuple[float, ...] = (0, 0, 0, 0, 99)) -> Path:
    """The card `stem` with weights of its own, whose head has that `bias`: by default it grades KL 4."""
    path = add_card(settings, stem, version)
    for name in BASE_FILES[1:]:
        shutil.copy(WEIGHTS / name, path.parent)
    content = bytearray((WEIGHTS / BASE_WEIGHTS).read_bytes())
    (length,) = struct.unpack("<Q", content[:8])
    start, end = json.loads(content[8 : 8 + length])["head.bias"]["data_offsets"]
    content[8 + length + start : 8 + length + end] = struct.pack("<5f", *bias)
    path.with_name(BASE_WEIGHTS).write_bytes(content)
    fields = parse(path.read_text())
    fields["weights"][0]["sha256"] = hashlib.sha256(content).hexdigest()
    path.write_text(dumps(fields))
    return path


def load_plain_grader(folder: Path) -> Model:
    """The trunk and head of the shipped grader as a network that sees one view, on torch; the likeliest grade wins."""
    fields = parse((CARDS / f"{DEFAULT}.toml").read_text())
    fields["name"], fields["engine"], fields["architecture"] = "plain", "torch", "efficientnet_lite2 fine"
    del fields["weights"][1:]
    del fields["weights"][0]["prefix"]
    fields["calibration"]["cost"] = 0.0
    (folder / "plain.toml").write_text(dumps(fields))
    return load("plain", within=(folder, *SHIPPED))


def spoil(path: Path) -> None:
    """Change one byte in the middle of the file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def receive(settings: Settings, film: Dataset, *, at: datetime | None = None) -> str:
    """The film is in the vault and in the ledger, as if it had been received. Returns its UID."""
    vault, ledger = Vault(settings.storage.folder), Ledger(settings.database_url)
    ledger.upgrade()
    uid = str(film.SOPInstanceUID)
    spooled = vault.spool / "arriving"
    film.save_as(spooled, enforce_file_format=True)
    sha256 = hashlib.sha256(spooled.read_bytes()).hexdigest()
    size = spooled.stat().st_size
    vault.store(spooled, sha256)
    syntax = str(film.file_meta.TransferSyntaxUID)
    came = Radiograph(uid, str(film.SOPClassUID), syntax, sha256, size, "CR", "127.0.0.1", at or datetime.now(UTC))
    ledger.record_received(came)
    ledger.close()
    return uid
