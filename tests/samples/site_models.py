"""Models of a site's own, made of a shipped one: the same under another name, or with another opinion."""

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
from workers.models.registry import CARDS, DEFAULT, WEIGHTS, read_card

SHIPPED = DEFAULT
"""The card that answers where nothing was promoted."""

BASE = "kl-lite0"
"""The shipped card, of one network, that the others are made of."""

BASE_WEIGHTS = read_card(BASE).weights[0].name


def add_card(settings: Settings, stem: str, version: str) -> Path:
    """The card `stem`: BASE under another name and version."""
    folder = settings.storage.folder / "models"
    folder.mkdir(parents=True, exist_ok=True)
    told = parse((CARDS / f"{BASE}.toml").read_text())
    told["name"], told["version"] = stem, version
    path = folder / f"{stem}.toml"
    path.write_text(dumps(told))
    return path


def add_model(settings: Settings, stem: str, version: str, *, bias: tuple[float, ...] = (0, 0, 0, 0, 99)) -> Path:
    """The card `stem` with weights of its own, whose answer leans by `bias`: to KL 4 unless said otherwise."""
    path = add_card(settings, stem, version)
    weights = path.with_name(BASE_WEIGHTS)
    content = bytearray((WEIGHTS / weights.name).read_bytes())
    (length,) = struct.unpack("<Q", content[:8])
    start, end = json.loads(content[8 : 8 + length])["head.bias"]["data_offsets"]
    content[8 + length + start : 8 + length + end] = struct.pack("<5f", *bias)
    weights.write_bytes(content)
    shutil.copy(WEIGHTS / read_card(BASE).graph.name, path.parent)
    told = parse(path.read_text())
    told["weights"]["sha256"] = hashlib.sha256(content).hexdigest()
    path.write_text(dumps(told))
    return path


def spoil(path: Path) -> None:
    """One byte in the middle of the file is another."""
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
