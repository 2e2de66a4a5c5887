"""A ledger and a vault with radiographs in every state, and with patient data that must not be disclosed."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import cv2
import httpx
import numpy as np
from pydicom import uid as dicom
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from node.admin.app import application
from node.evidence import Agreement, Certainty, Evidence, KLGrade, LateralitySource
from node.finding import Finding, Laterality, ModelIdentity, Outcome, Reading
from node.ledger import Ledger, ResultObject, ShadowReading
from node.radiograph import Radiograph
from node.reasons import reason
from node.settings import Settings
from node.storage import Vault

MARKUP = "<img src=x onerror=alert(1)>'\"&{{7777*7777}}"
HTML = {"accept": "text/html"}
PASSWORD = "korrekt-Pferd-Batterie"
PATIENT = {
    "name": "Kanarienvogel^Zoë<b>^^Dr",
    "id": "CANARY-4711<i>",
    "birth_date": "19570304",
    "study_date": "20261101",
    "description": f"Knie beidseits {MARKUP}",
}
SECRETS = ("Kanarienvogel", "Zoë", "CANARY-4711", "19570304", "1957-03-04", "Knie beidseits")
MODEL = ModelIdentity("kl-lite2", "1.0.0", "ab" * 32)
SHADOW = ModelIdentity(f"kl-shadow{MARKUP}", "2.0.0", "cd" * 32)
DESTINATIONS = {"pacs": ("SC", "SR"), "archive": ("SR",)}
WORKER = "work@here:1"


@dataclass(frozen=True)
class SampleNode:
    """Settings, vault and ledger, and the UID of a radiograph in each state."""

    settings: Settings
    vault: Vault
    ledger: Ledger
    uids: dict[str, str]


def settings_of(folder: Path, **admin: object) -> Settings:
    return Settings(
        storage={"folder": folder, "min_free_mb": 1},
        admin={"password": PASSWORD, **admin},
        destination=[
            {"name": "pacs", "ae_title": "ORTHANC", "host": "127.0.0.1", "port": 4242},
            {"name": "archive", "ae_title": "ARCHIVE", "host": "127.0.0.1", "port": 4243, "objects": ["SR"]},
        ],
    )


def empty(settings: Settings) -> SampleNode:
    vault, ledger = Vault(settings.storage.folder), Ledger(settings.database_url)
    ledger.upgrade()
    return SampleNode(settings, vault, ledger, {})


def busy(settings: Settings) -> SampleNode:
    """One radiograph of every kind, all processes alive, and a destination that is down."""
    sample = empty(settings)
    for name in ("received", "grading", "reported", "delivered", "refused", "failed", "hostile"):
        sample.uids[name] = arrive(sample, name)
    for name in ("reported", "delivered", "hostile"):
        answer(sample, sample.uids[name], doubt=(KLGrade.KL2, KLGrade.KL3) if name == "delivered" else None)
    sample.ledger.claim(sample.uids["grading"], WORKER, lease_seconds=600, attempts=3)
    refuse(sample, sample.uids["refused"])
    sample.ledger.claim(sample.uids["failed"], WORKER, lease_seconds=600, attempts=3)
    sample.ledger.fail(sample.uids["failed"], WORKER, "DECODER_LIMIT", f"stopped after 30 s {MARKUP}")
    for delivery in sample.ledger.deliveries(sample.uids["delivered"]):
        sample.ledger.record_sent(delivery.id, 0)
    now = datetime.now(UTC)
    pending = [delivery for uid in ("reported", "hostile") for delivery in sample.ledger.deliveries(sample.uids[uid])]
    unreachable = [delivery.id for delivery in pending if delivery.destination == "pacs"]
    sample.ledger.postpone(unreachable, now + timedelta(minutes=5), f"connection refused {MARKUP}")
    shadowed(sample, sample.uids["hostile"])
    # The same UID with other bytes.
    arrive(sample, "hostile", content="other bytes")
    sample.ledger.add_flag(sample.uids["hostile"], f"odd{MARKUP}"[:60])
    alive(sample)
    return sample


def alive(sample: SampleNode) -> None:
    """Every process has just sent a heartbeat."""
    received = {
        "received": {"NEW": 7, "KNOWN": 1},
        "received_bytes": 70_000_000,
        "statuses": {"0000": 8, "A700": 1},
        "echoes": 2,
        "associations_accepted": 9,
        "associations_refused": {"called AE title": 1},
        "associations_broken": {},
    }
    sample.ledger.record_heartbeat("receive", "receive@here:1", received)
    models = {"card": MODEL.name, "model": MODEL.name, "version": MODEL.version, "sha256": MODEL.sha256, "trouble": ""}
    shadow = {"shadow_model": SHADOW.name, "shadow_version": SHADOW.version, "shadow_sha256": SHADOW.sha256}
    sample.ledger.record_heartbeat("work", WORKER, {**models, **shadow, "shadow_trouble": f"cannot be read {MARKUP}"})
    sample.ledger.record_heartbeat(
        "deliver", "pacs", {"state": "down", "since": datetime.now(UTC).isoformat(), "next_try": None}
    )
    sample.ledger.record_heartbeat("deliver", "archive", {"state": "up", "since": datetime.now(UTC).isoformat()})
    sample.ledger.record_heartbeat("sweep", "sweep@here:1", {})


def arrive(sample: SampleNode, name: str, *, content: str = "", at: datetime | None = None) -> str:
    """Receive a radiograph. Its sender's AE title and host are markup when it is the hostile one."""
    uid = dicom.generate_uid(entropy_srcs=[name])
    hostile = name == "hostile"
    sample.ledger.record_received(
        Radiograph(
            sop_instance_uid=uid,
            sop_class_uid=dicom.DigitalXRayImageStorageForPresentation,
            transfer_syntax_uid=dicom.JPEG2000Lossless,
            sha256=(name + content).encode().hex().ljust(64, "0")[:64],
            size=9_876_543,
            calling_ae_title="<script>x()</a>" if hostile else "XRAY_ROOM_2",
            calling_host=f"10.0.0.7{MARKUP}" if hostile else "10.20.0.7",
            received_at=at or datetime.now(UTC) - timedelta(minutes=3),
        )
    )
    return uid


def answer(sample: SampleNode, uid: str, *, doubt: tuple[KLGrade, KLGrade] | None = None) -> None:
    """
    A worker grades the radiograph: both knees, a film, heat maps, patient facts, two objects.

    The right knee has a certainty; the left one has none, like results of older versions.
    """
    sample.ledger.claim(uid, WORKER, lease_seconds=600, attempts=3)
    knees = (
        Finding(
            Laterality.RIGHT,
            LateralitySource.POSITION,
            (40.0, 60.0, 360.0, 380.0),
            KLGrade.KL3,
            (0.01, 0.04, 0.17, 0.71, 0.07),
            certainty=Certainty(KLGrade.KL2, KLGrade.KL3, 0.9, undecided=doubt, spread=0.11),
        ),
        Finding(
            Laterality.LEFT,
            LateralitySource.IMAGE_LATERALITY,
            (440.0, 60.0, 760.0, 380.0),
            KLGrade.KL0,
            (0.83, 0.12, 0.04, 0.01, 0.0),
            empty_map=True,
            evidence=(
                Evidence(LateralitySource.IMAGE_LATERALITY, "L", 4.0),
                Evidence(LateralitySource.MARKER, "R", 3.0),
            ),
            agreement=Agreement.CONFLICT,
        ),
    )
    reading = Reading(uid, Outcome.GRADED, MODEL, knees, notes=(f"polarity put right {MARKUP}",))
    sample.vault.write_result(uid, "film.png", film())
    sample.vault.write_result(uid, "heat-1.png", heat())
    sample.vault.write_result(uid, "patient.json", json.dumps(PATIENT).encode())
    classes = (("SC", dicom.SecondaryCaptureImageStorage), ("SR", dicom.ComprehensiveSRStorage))
    objects = [
        ResultObject(
            kind, sop_class, dicom.generate_uid(), dicom.ExplicitVRLittleEndian, f"{kind.lower()}.dcm", "1" * 64
        )
        for kind, sop_class in classes
    ]
    content = reading.as_json()
    assert sample.ledger.report(uid, WORKER, content, objects, DESTINATIONS, undecided=reading.undecided)


def shadowed(sample: SampleNode, uid: str) -> None:
    """A shadow model gives the same grade for the right knee and two grades more for the left; a second one fails."""
    reading = sample.ledger.answers(uid)[-1].reading
    left = {**reading["knees"][1], "grade": 2}
    other = {**reading, "knees": [reading["knees"][0], left]}
    now = datetime.now(UTC)
    sample.ledger.record_shadow_reading(uid, ShadowReading(now, "kl-shadow", SHADOW, other, ""), WORKER)
    sample.ledger.record_shadow_reading(
        uid, ShadowReading(now, f"kl-broken{MARKUP}", None, None, f"RuntimeError {MARKUP}"), WORKER
    )


def refuse(sample: SampleNode, uid: str) -> None:
    """A worker finds no knee on the radiograph."""
    sample.ledger.claim(uid, WORKER, lease_seconds=600, attempts=3)
    reading = Reading(uid, Outcome.NOT_ANALYSED, MODEL, reason=reason("NOT_A_KNEE"))
    assert sample.ledger.record_not_analysed(
        uid, WORKER, "NOT_A_KNEE", "no joint above the threshold", reading.as_json()
    )


def film() -> bytes:
    """A grey picture with two bright columns that are each broken by a gap, as bones are by a joint."""
    rows, columns = np.mgrid[0:480, 0:800]
    bones = sum(np.exp(-(((columns - centre) / 90) ** 4)) for centre in (200, 600))
    grey = 20 + 190 * bones * (1 - 0.8 * np.exp(-(((rows - 240) / 12) ** 2)))
    return bytes(cv2.imencode(".png", grey.clip(0, 255).astype(np.uint8))[1])


def heat() -> bytes:
    """A red spot on the first joint, clear elsewhere."""
    rows, columns = np.mgrid[0:480, 0:800]
    spot = np.exp(-(((columns - 160) / 60) ** 2) - (((rows - 240) / 50) ** 2))
    picture = np.zeros((480, 800, 4), np.uint8)
    picture[..., 2], picture[..., 1], picture[..., 3] = 255, (120 * spot), (220 * spot)
    return bytes(cv2.imencode(".png", picture)[1])


def client_of(sample: SampleNode, ping: Callable[[], bool] = lambda: True, **kwargs: object) -> TestClient:
    return TestClient(application(sample.settings, sample.vault, sample.ledger, ping), follow_redirects=False, **kwargs)


def csrf_in(text: str) -> str:
    found = re.search(r'name="csrf" value="([0-9a-f]{64})"', text)
    assert found, text[:500]
    return found[1]


def sign_in(client: TestClient, password: str = PASSWORD, **fields: str) -> httpx.Response:
    token = csrf_in(client.get("/sign-in").text)
    return client.post("/sign-in", data={"csrf": token, "password": password, **fields})


def addresses(client: TestClient, sample: SampleNode) -> list[tuple[str, str]]:
    """Every (method, address) that the application routes, with a real UID in it."""
    found = []
    for route in client.app.routes:
        if isinstance(route, Mount):
            continue
        assert isinstance(route, Route)
        path = route.path.replace("{uid}", sample.uids["delivered"]).replace("{image}", "film.png")
        found += [(method, path) for method in (route.methods or ()) if method != "HEAD"]
    return found
