"""Which model answers: a running worker follows what is promoted, and never mixes two models in one answer."""

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from node.errors import SettingsError
from node.ledger import Ledger
from node.settings import Database, Settings
from tests.peers.archives import needs
from tests.samples.site_models import BASE_WEIGHTS, add_card, add_model, receive, spoil
from tests.samples.source_films import dciodvfy
from workers.cli.file_grading import FileGrader
from workers.evaluation.labelled_films import grader_of
from workers.models import active_model, registry
from workers.models.active_model import ActiveModel, RequestedModel, check, requested_model, requested_model_of_node
from workers.models.card_list import card_listings
from workers.models.engines import Array
from workers.models.promotion import promote, roll_back
from workers.models.registry import DEFAULT, Model, read_card
from workers.phantom import samples
from workers.read import Film
from workers.report import ResultInstance
from workers.tasks import WorkerContext, grade
from workers.worker import set_up


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    destination = [{"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 4242}]
    return Settings(storage={"folder": tmp_path / "data"}, destination=destination)


@pytest.fixture
def context(settings: Settings) -> Iterator[WorkerContext]:
    context = set_up(settings, "w")
    yield context
    context.reader.close()
    context.ledger.close()


def with_work(settings: Settings, **work: object) -> Settings:
    return settings.model_copy(update={"work": settings.work.model_copy(update=work)})


def answered_by(context: WorkerContext, uid: str) -> str | None:
    """The name of the model in every place where the answer says it; they have to be one."""
    (answer,) = context.ledger.answers(uid)
    names = {answer.model_name, answer.reading["model"]["name"]}
    for made in context.ledger.result_objects(uid):
        dataset = pydicom.dcmread(context.vault.results_folder(uid) / made.file)
        names.add(dataset.SoftwareVersions[1].split()[0])
    assert {"SC", "SR"} <= {made.kind for made in context.ledger.result_objects(uid)}
    (name,) = names
    return name


def test_the_settings_win_over_the_ledger_and_the_ledger_over_what_is_shipped(settings: Settings) -> None:
    """Nothing promoted: the shipped model; and to ask makes neither a folder nor a ledger."""
    assert requested_model_of_node(settings).card == DEFAULT
    assert not settings.storage.folder.exists()
    add_card(settings, "kl-next", "2.0.0")
    promote(settings, "kl-next", "mary")
    found = requested_model_of_node(settings)
    assert (found.card, found.source) == ("kl-next", "promoted by mary")
    assert requested_model_of_node(with_work(settings, model="other")).card == "other"


def test_a_running_worker_grades_its_next_film_with_the_promoted_model(
    settings: Settings, context: WorkerContext
) -> None:
    """Without a restart, there and back again; each answer names its model in ledger, reading and both objects."""
    add_model(settings, "kl-next", "2.0.0")
    films = [receive(settings, film) for film in samples(seed=3)[:3]]
    grade(films[0], context)
    promote(settings, "kl-next", "mary")
    grade(films[1], context)
    roll_back(settings, "mary")
    grade(films[2], context)
    assert [answered_by(context, uid) for uid in films] == [DEFAULT, "kl-next", DEFAULT]
    reading = context.ledger.answers(films[1])[0].reading
    assert {knee["grade"] for knee in reading["knees"]} == {4}


def report_of(context: WorkerContext, uid: str) -> pydicom.Dataset:
    (made,) = (item for item in context.ledger.result_objects(uid) if item.kind == "SR")
    return pydicom.dcmread(context.vault.results_folder(uid) / made.file)


def replaced_by(report: pydicom.Dataset) -> list[str]:
    """UIDs of the reports that a report says it replaces."""
    return [
        str(document.ReferencedSOPInstanceUID)
        for study in report.get("PredecessorDocumentsSequence", ())
        for series in study.ReferencedSeriesSequence
        for document in series.ReferencedSOPSequence
    ]


@needs("dciodvfy")
def test_a_new_model_s_report_names_the_one_that_it_replaces(
    settings: Settings, context: WorkerContext, tmp_path: Path
) -> None:
    """Graded again by another model, and by the first again: each names the one before; by the same it is the same."""
    add_model(settings, "kl-next", "2.0.0")
    uid = receive(settings, samples(seed=3)[0])
    grade(uid, context)
    first = report_of(context, uid)
    assert replaced_by(first) == []

    def again() -> pydicom.Dataset:
        assert not context.ledger.retry(uid, "mary")
        assert context.ledger.retry(uid, "mary", graded=True)
        grade(uid, context)
        return report_of(context, uid)

    assert again() == first
    promote(settings, "kl-next", "mary")
    second = again()
    assert replaced_by(second) == [str(first.SOPInstanceUID)]
    (study,) = second.PredecessorDocumentsSequence
    assert study.StudyInstanceUID == first.StudyInstanceUID
    assert study.ReferencedSeriesSequence[0].SeriesInstanceUID == first.SeriesInstanceUID
    assert again() == second
    roll_back(settings, "mary")
    third = again()
    assert replaced_by(third) == [str(second.SOPInstanceUID)]
    assert len({str(item.SOPInstanceUID) for item in (first, second, third)}) == 3
    assert dciodvfy(ResultInstance("SR", third), tmp_path) == []


def test_a_film_in_progress_is_finished_by_the_model_that_began_it(settings: Settings, context: WorkerContext) -> None:
    """A promotion while it is read, even one that the heartbeat has already taken up, waits for the next film."""
    add_card(settings, "kl-next", "2.0.0")
    uid = receive(settings, samples(seed=3)[2])

    class PromotesMeanwhile:
        def film(self, path: Path) -> Film:
            promote(settings, "kl-next", "mary")
            context.active_model.refresh()
            return context.reader.film(path)

    grade(uid, replace(context, reader=PromotesMeanwhile()))  # type: ignore[arg-type]
    assert context.active_model.heartbeat()["card"] == "kl-next"
    assert answered_by(context, uid) == DEFAULT


def test_a_worker_that_lost_its_radiograph_writes_no_picture_beside_the_others_answer(
    settings: Settings, context: WorkerContext
) -> None:
    """It sleeps while it reads; another takes over and answers by a model promoted meanwhile; then it wakes."""
    add_model(settings, "kl-next", "2.0.0")
    uid = receive(settings, samples(seed=3)[2])
    other = replace(context, name="other")

    def written() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in context.vault.results_folder(uid).iterdir()}

    class SleepsMeanwhile:
        def __init__(self) -> None:
            self.found: dict[str, bytes] = {}

        def film(self, path: Path) -> Film:
            promote(settings, "kl-next", "mary")
            with context.ledger._database.write() as connection:
                connection.execute(sa.text("UPDATE radiograph SET lease_until = '2000-01-01 00:00:00.000000'"))
            grade(uid, other)
            self.found = written()
            return context.reader.film(path)

    sleeper = SleepsMeanwhile()
    grade(uid, replace(context, reader=sleeper))  # type: ignore[arg-type]
    assert answered_by(context, uid) == "kl-next"
    assert {"heat-1.png", "film.png", "patient.json"} <= sleeper.found.keys()
    assert written() == sleeper.found


def test_a_model_that_cannot_be_loaded_does_not_become_active(
    settings: Settings, context: WorkerContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its file is spoilt after it was promoted: the old one goes on, an error says so once, and it is tried again."""
    monkeypatch.setattr(active_model, "RETRY_SECONDS", 0)
    add_model(settings, "kl-next", "2.0.0")
    weights = settings.storage.folder / "models" / BASE_WEIGHTS
    promote(settings, "kl-next", "mary")
    spoil(weights)
    first, second = (receive(settings, film) for film in samples(seed=4)[:2])
    with capture_logs() as logs:
        grade(first, context)
        for _ in range(3):
            context.active_model.refresh()
    errors = [line for line in logs if line["log_level"] == "error"]
    assert [(line["event"], line["card"], line["active"]) for line in errors] == [
        ("model_not_loaded", "kl-next", DEFAULT)
    ]
    assert f"{weights} is not the file that its card describes" in context.active_model.heartbeat()["trouble"]
    assert answered_by(context, first) == DEFAULT
    spoil(weights)
    context.active_model.refresh()
    assert context.active_model.heartbeat()["trouble"] == ""
    grade(second, context)
    assert answered_by(context, second) == "kl-next"


def test_a_model_that_fails_unexpectedly_does_not_become_active(
    settings: Settings, context: WorkerContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The heartbeat lives on, and tells the kind of the fault; its text may hold anything."""
    add_card(settings, "kl-next", "2.0.0")
    promote(settings, "kl-next", "mary")

    def broken(*_: object) -> None:
        raise MemoryError("Kanarienvogel")

    monkeypatch.setattr(active_model, "load_checked", broken)
    context.active_model.refresh()
    assert (context.active_model.heartbeat()["card"], context.active_model.heartbeat()["trouble"]) == (
        DEFAULT,
        "MemoryError",
    )


def test_no_film_waits_for_a_model_that_is_being_loaded(
    settings: Settings, context: WorkerContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The heartbeat loads it; until it is there, the model of before answers."""
    add_card(settings, "kl-next", "2.0.0")
    promote(settings, "kl-next", "mary")
    begun, free, real = threading.Event(), threading.Event(), active_model.load_checked

    def slowly(asked: RequestedModel, settings: Settings) -> Model:
        begun.set()
        free.wait(20)
        return real(asked, settings)

    monkeypatch.setattr(active_model, "load_checked", slowly)
    heartbeat = threading.Thread(target=context.active_model.refresh)
    heartbeat.start()
    assert begun.wait(20)
    assert context.active_model.current().card.stem == DEFAULT
    free.set()
    heartbeat.join()
    assert context.active_model.current().card.stem == "kl-next"


def test_a_model_that_failed_to_load_is_retried_after_a_while(
    settings: Settings, context: WorkerContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Heartbeats do not try it each time, films never; another that is promoted is tried at once."""
    tried = []

    def broken(asked: RequestedModel, settings: Settings) -> None:
        tried.append(asked.card)
        raise SettingsError("broken")

    for card in ("kl-next", "kl-last"):
        add_card(settings, card, "2.0.0")
        promote(settings, card, "mary")
        with monkeypatch.context() as patched:
            patched.setattr(active_model, "load_checked", broken)
            for _ in range(3):
                context.active_model.refresh()
                context.active_model.current()
    assert tried == ["kl-next", "kl-last"]
    monkeypatch.setattr(active_model, "RETRY_SECONDS", 0)
    monkeypatch.setattr(active_model, "load_checked", broken)
    context.active_model.current()
    assert tried == ["kl-next", "kl-last"]
    context.active_model.refresh()
    assert tried == ["kl-next", "kl-last", "kl-last"]


def test_the_fault_ends_when_its_model_is_rolled_back(settings: Settings, context: WorkerContext) -> None:
    """The model that goes on is then the one that should."""
    path = add_card(settings, "kl-next", "2.0.0")
    promote(settings, "kl-next", "mary")
    path.unlink()
    context.active_model.refresh()
    assert "there is no model card 'kl-next'" in context.active_model.heartbeat()["trouble"]
    roll_back(settings, "mary")
    context.active_model.refresh()
    assert context.active_model.heartbeat()["trouble"] == ""


def test_a_card_of_another_version_is_not_the_promoted_one(settings: Settings) -> None:
    """Another version under the same name: a worker does not start with it, and says what was promoted."""
    add_card(settings, "kl-next", "2.0.0")
    promote(settings, "kl-next", "mary")
    add_card(settings, "kl-next", "2.0.1")
    ledger = Ledger(settings.database_url)
    with pytest.raises(SettingsError, match=r"is kl-next 2\.0\.1 .* now, but kl-next 2\.0\.0 .* was promoted by mary"):
        ActiveModel(settings, ledger)
    promote(settings, "kl-next", "mary")
    assert ActiveModel(settings, ledger).heartbeat()["version"] == "2.0.1"
    ledger.close()


def test_a_card_whose_calibration_was_changed_is_not_the_promoted_one(settings: Settings) -> None:
    """Name, version and weights are the same, what it says of a knee is not; promoted again it may."""
    path = add_card(settings, "kl-next", "2.0.0")
    promote(settings, "kl-next", "mary")
    path.write_text(path.read_text().replace("temperature = ", "temperature = 1"))
    why = "the card kl-next has changed since it was promoted by mary"
    with pytest.raises(SettingsError, match=why):
        check(settings)
    (listing,) = (item for item in card_listings(settings) if item.card == "kl-next")
    assert (listing.role, listing.fault) == ("unusable", why.replace("the card kl-next", "it"))
    promote(settings, "kl-next", "mary")
    assert "kl-next 2.0.0 on openvino grades" in check(settings)


def test_a_worker_does_not_start_with_a_spoilt_model(settings: Settings) -> None:
    """The message names file, expected and found hash."""
    add_model(settings, "kl-next", "2.0.0")
    promote(settings, "kl-next", "mary")
    weights = settings.storage.folder / "models" / BASE_WEIGHTS
    expected = hashlib.sha256(weights.read_bytes()).hexdigest()
    spoil(weights)
    found = hashlib.sha256(weights.read_bytes()).hexdigest()
    with pytest.raises(SettingsError, match=f"{weights.name} is not .* expected sha256 {expected}, found {found}"):
        set_up(settings, "w")


def test_a_model_with_invalid_output_is_refused_before_it_grades(settings: Settings) -> None:
    """A graph that asks for another shape is tried on a blank knee first."""
    path = add_card(settings, "kl-odd", "1.0.0")
    path.write_text(path.read_text().replace("input_size = 256", "input_size = 20"))
    with pytest.raises(SettingsError, match="kl-odd"):
        promote(settings, "kl-odd", "mary")
    with pytest.raises(SettingsError, match="kl-odd"):  # nor is it judged on labelled knees
        grader_of("kl-odd", settings)


class Faulty:
    """An engine that does not return what a grader returns."""

    name = "faulty"

    def __init__(self, *outputs: Array) -> None:
        self.outputs = outputs

    def __call__(self, images: Array) -> tuple[Array, ...]:
        return self.outputs


LOGITS, MAPS = np.zeros((2, 5), np.float32), np.zeros((2, 5, 8, 8), np.float32)


@pytest.mark.parametrize(
    ("outputs", "fault"),
    [
        ((LOGITS, MAPS[:, :3]), "does not return five grades and their maps"),
        ((LOGITS * np.nan, MAPS), "does not return five grades and their maps"),
        ((LOGITS,), "fails on a blank knee: ValueError"),
    ],
)
def test_a_model_without_five_grades_and_maps_is_refused_before_it_grades(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, outputs: tuple[Array, ...], fault: str
) -> None:
    """A blank knee is graded when a model is loaded: what every knee needs has to be there."""
    add_card(settings, "kl-next", "2.0.0")
    monkeypatch.setattr(registry, "OpenVinoEngine", lambda *_, **__: Faulty(*outputs))
    with pytest.raises(SettingsError, match=f"kl-next {fault}"):
        promote(settings, "kl-next", "mary")


def test_a_worker_without_its_ledger_continues_with_its_model(settings: Settings, tmp_path: Path) -> None:
    """What cannot be asked changes nothing."""
    ledger = Ledger(settings.database_url)
    ledger.upgrade()
    active = ActiveModel(settings, ledger)
    ledger.close()
    (settings.storage.folder / "ledger.sqlite").unlink()
    with capture_logs() as logs:
        active.refresh()
    assert [line["event"] for line in logs] == ["requested_model_unknown"]
    assert active.heartbeat()["card"] == DEFAULT


def test_an_unreachable_database_is_an_error_that_names_the_option(settings: Settings) -> None:
    """Nobody knows then what was promoted: no model answers silently in its place, but one that is named does."""
    away = settings.model_copy(update={"database": Database(url="postgresql+psycopg://genu@127.0.0.1:1/genu")})
    with pytest.raises(SettingsError, match=r"ledger that records the promoted model is unreachable.*--model CARD"):
        requested_model_of_node(away)
    assert requested_model_of_node(with_work(away, model=DEFAULT)).card == DEFAULT
    with FileGrader(away, model=DEFAULT):
        pass


def test_check_names_the_active_model_and_the_one_in_shadow(settings: Settings) -> None:
    """A shadow of the answering model itself is told to be none; a spoilt one is an error."""
    shipped = f"{DEFAULT} {read_card(DEFAULT).version} on openvino"
    assert check(settings) == (
        "finder 2.0.0 on openvino detects joints, look 1.0.0 on openvino refines them, "
        "upright 2.0.0 on openvino classifies polarity and side, letters 1.0.0 on openvino classifies lead letters, "
        f"marks 1.1.0 on openvino segments artefacts, {shipped} grades (shipped)"
    )
    add_card(settings, "kl-next", "2.0.0")
    assert check(with_work(settings, shadow="kl-next")).endswith(", kl-next 2.0.0 on openvino runs in shadow")
    assert "nothing runs in shadow" in check(with_work(settings, shadow=DEFAULT))
    with pytest.raises(SettingsError, match="no model card 'kl-lost'"):
        check(with_work(settings, shadow="kl-lost"))
    assert "grades ([work] model)" in check(with_work(settings, model="kl-next"))


def test_a_pinned_worker_ignores_the_ledger(settings: Settings) -> None:
    """With [work] model the ledger's word is not heard."""
    add_card(settings, "kl-next", "2.0.0")
    promote(settings, "kl-next", "mary")
    ledger = Ledger(settings.database_url)
    assert requested_model(with_work(settings, model=DEFAULT), ledger).card == DEFAULT
    ledger.close()
