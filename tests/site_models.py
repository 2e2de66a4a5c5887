"""Models of a site's own, made of the shipped one: another calibration, or weights with another opinion."""

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
from node.vault import Vault
from workers.registry import CARDS, WEIGHTS

SHIPPED = "kl-lite0"


def add_card(settings: Settings, stem: str, version: str, *, temperature: float = 2.0, kind: str = "grader") -> Path:
    """The card `stem`: the shipped weights, calibrated otherwise."""
    folder = settings.storage.folder / "models"
    folder.mkdir(parents=True, exist_ok=True)
    told = parse((CARDS / f"{SHIPPED}.toml").read_text())
    told["name"], told["version"], told["kind"] = stem, version, kind
    told["calibration"]["temperature"] = temperature
    path = folder / f"{stem}.toml"
    path.write_text(dumps(told))
    return path


def add_model(settings: Settings, stem: str, version: str, *, bias: tuple[float, ...] = (0, 0, 0, 0, 99)) -> Path:
    """The card `stem` with weights of its own, whose answer leans by `bias`: to KL 4 unless said otherwise."""
    path = add_card(settings, stem, version)
    weights = path.with_name(f"{SHIPPED}.safetensors")
    content = bytearray((WEIGHTS / weights.name).read_bytes())
    (length,) = struct.unpack("<Q", content[:8])
    start, end = json.loads(content[8 : 8 + length])["head.bias"]["data_offsets"]
    content[8 + length + start : 8 + length + end] = struct.pack("<5f", *bias)
    weights.write_bytes(content)
    shutil.copy(WEIGHTS / f"{SHIPPED}.onnx", path.parent)
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
    vault.keep(spooled, sha256)
    syntax = str(film.file_meta.TransferSyntaxUID)
    came = Radiograph(uid, str(film.SOPClassUID), syntax, sha256, size, "CR", "127.0.0.1", at or datetime.now(UTC))
    ledger.keep(came)
    ledger.close()
    return uid
