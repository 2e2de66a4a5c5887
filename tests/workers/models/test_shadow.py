"""A model in shadow grades what another has answered; whatever it says or breaks, the answer is as if it were not."""

import hashlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from structlog.testing import capture_logs

from node.ledger import State
from node.settings import Destination, Settings
from tests.peers.archives import StoreSCP, needs, storescp, wait_until
from tests.peers.running_node import running, until_settled
from tests.samples.site_models import BASE_WEIGHTS, add_model, receive, spoil
from workers.models.engines import Array
from workers.models.registry import DEFAULT
from workers.phantom import samples
from workers.tasks import WorkerContext, grade
from workers.worker import set_up

AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SHADOW = "kl-leaning"


def settings_of(folder: Path, **work: object) -> Settings:
    destination = [{"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 4242}]
    return Settings(storage={"folder": folder}, destination=destination, work={"shadow": SHADOW, **work})


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    settings = settings_of(tmp_path / "data")
    add_model(settings, SHADOW, "2.0.0")
    return settings


@pytest.fixture
def context(settings: Settings) -> Iterator[WorkerContext]:
    context = set_up(settings, "w")
    yield context
    context.reader.close()
    context.ledger.close()


def test_the_same_knees_are_graded_in_shadow_and_owe_nobody(settings: Settings, context: WorkerContext) -> None:
    """After the answer, by the other model, in the same boxes; the outbox and the deliveries know nothing of it."""
    uid = receive(settings, samples(seed=3)[2])
    grade(uid, context)
    (shadow,) = context.ledger.shadow_readings(uid)
    assert shadow.model is not None
    assert shadow.reading is not None
    assert (shadow.card, shadow.model.name, shadow.model.version, shadow.fault) == (SHADOW, SHADOW, "2.0.0", "")
    (answer,) = context.ledger.answers(uid)
    assert answer.model_name == DEFAULT
    assert shadow.reading["model"]["sha256"] == shadow.model.sha256 != answer.model_sha256
    for ours, theirs in zip(shadow.reading["knees"], answer.reading["knees"], strict=True):
        assert ours["box"] == theirs["box"]
        assert ours["grade"] == 4
    assert shadow.at > answer.at
    names = {path.name.split("-")[0] for path in context.vault.results_folder(uid).iterdir()}
    assert names == {"patient.json", "film.png", "heat", "sc", "sr", "seg"}
    assert len(context.ledger.deliveries(uid)) == 3


def test_what_is_not_graded_has_no_shadow(settings: Settings, context: WorkerContext) -> None:
    """A film without a knee is refused once, and that is all."""
    uid = receive(settings, samples(seed=3)[5])
    grade(uid, context)
    entry = context.ledger.find(uid)
    assert entry is not None
    assert (entry.state, context.ledger.shadow_readings(uid)) == (State.NOT_ANALYSED, [])


def test_the_model_that_answers_does_not_shadow_itself(tmp_path: Path) -> None:
    """Nothing is graded twice by one card."""
    settings = settings_of(tmp_path / "data", shadow=DEFAULT)
    context = set_up(settings, "w")
    uid = receive(settings, samples(seed=3)[0])
    grade(uid, context)
    assert context.ledger.shadow_readings(uid) == []
    assert context.shadow.heartbeat(DEFAULT) == {}
    context.reader.close()
    context.ledger.close()


class Broken:
    """An engine that answers once, when it is tried, and then breaks with a patient on its lips."""

    name = "broken"

    def __call__(self, images: Array) -> tuple[Array, ...]:
        raise RuntimeError("Kanarienvogel^Zoë")


def test_a_failure_in_shadow_is_recorded_and_the_result_stays_valid(settings: Settings, context: WorkerContext) -> None:
    """The film is REPORTED with its objects; the fault is in the ledger and in the log, by its kind alone."""
    model = context.shadow._model
    assert model is not None
    object.__setattr__(model, "run", Broken())
    uid = receive(settings, samples(seed=3)[0])
    with capture_logs() as logs:
        grade(uid, context)
    entry = context.ledger.find(uid)
    assert entry is not None
    assert (entry.state, len(context.ledger.deliveries(uid))) == (State.REPORTED, 3)
    (shadow,) = context.ledger.shadow_readings(uid)
    assert (shadow.reading, shadow.fault) == (None, "RuntimeError")
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["shadow_failed"]
    assert "Kanarienvogel" not in str(logs)


def test_a_shadow_that_cannot_be_recorded_leaves_the_answer_alone(
    settings: Settings, context: WorkerContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger takes the answer and not the shadow: one line in the log."""

    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(context.ledger, "record_shadow_reading", full)
    uid = receive(settings, samples(seed=3)[0])
    with capture_logs() as logs:
        grade(uid, context)
    entry = context.ledger.find(uid)
    assert entry is not None
    assert entry.state is State.REPORTED
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["shadow_not_recorded"]


def test_a_worker_starts_without_a_shadow_that_cannot_be_used(settings: Settings) -> None:
    """It answers all the same, says in its heartbeat what is wrong, and records it with each film."""
    spoil(settings.storage.folder / "models" / BASE_WEIGHTS)
    context = set_up(settings, "w")
    assert "is not the file that its card describes" in context.shadow.heartbeat(DEFAULT)["shadow_trouble"]
    uid = receive(settings, samples(seed=3)[0])
    grade(uid, context)
    assert len(context.ledger.deliveries(uid)) == 3
    (shadow,) = context.ledger.shadow_readings(uid)
    assert (shadow.model, shadow.reading) == (None, None)
    assert "is not the file" in shadow.fault
    context.reader.close()
    context.ledger.close()


def delivered(folder: Path, films: Sequence[Dataset], *, shadow: bool) -> tuple[dict[str, str], list[Any]]:
    """What a storescp holds after a whole node has graded the films: hash by UID; and what was said in shadow."""
    folder.mkdir()
    with storescp(folder / "scp") as peer:
        extra = f'[work]\nshadow = "{SHADOW}"\n' if shadow else ""
        settings = Settings(storage={"folder": folder / "data"})
        add_model(settings, SHADOW, "2.0.0")
        uids = [receive(settings, film, at=AT) for film in films]
        destination = Destination(name="scp", ae_title=peer.ae_title, host=peer.host, port=peer.port)
        with running(folder, destination, extra=extra) as node:
            until_settled(node, uids)
            ledger = node.ledger
            if shadow:
                assert wait_until(lambda: all(ledger.shadow_readings(uid) for uid in uids), 60), node.log.read_text()
            readings = [reading for uid in uids for reading in ledger.shadow_readings(uid)]
            assert {one.object.kind for uid in uids for one in ledger.deliveries(uid)} == {"SC", "SR", "SEG"}
            ledger.close()
        return _bytes_of(peer), readings


def _bytes_of(peer: StoreSCP) -> dict[str, str]:
    return {uid: hashlib.sha256(path.read_bytes()).hexdigest() for uid, path in peer.received().items()}


@needs("storescp")
def test_nothing_of_a_shadow_leaves_the_node(tmp_path: Path) -> None:
    """Two whole nodes grade the same films, one with a shadow: a storescp gets the same objects byte for byte."""
    films = [samples(seed=3)[0], samples(seed=3)[2]]
    without, nothing = delivered(tmp_path / "without", films, shadow=False)
    beside, readings = delivered(tmp_path / "beside", films, shadow=True)
    assert len(without) == 6
    assert beside == without
    assert (len(nothing), len(readings)) == (0, 2)
    assert {knee["grade"] for reading in readings for knee in reading.reading["knees"]} == {4}
    everything = b"".join(path.read_bytes() for path in (tmp_path / "beside" / "scp" / "received").iterdir())
    for word in (SHADOW, readings[0].model.sha256[:16]):
        assert word.encode() not in everything
