"""/healthz, /readyz and /metrics, which need no sign-in."""

import re
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from tests.samples import busy_ledger
from tests.samples.busy_ledger import HTML, MARKUP, SampleNode, client_of, sign_in


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SampleNode]:
    sample = busy_ledger.busy(busy_ledger.settings_of(tmp_path_factory.mktemp("admin")))
    yield sample
    sample.ledger.close()


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[SampleNode]:
    sample = busy_ledger.empty(busy_ledger.settings_of(tmp_path))
    yield sample
    sample.ledger.close()


def test_healthz_answers_without_ledger_vault_and_broker(fresh: SampleNode) -> None:
    """The process answers even with neither ledger nor vault nor broker."""
    client = client_of(fresh, ping=lambda: False)
    fresh.ledger.close()
    (fresh.settings.storage.folder / "ledger.sqlite").unlink()
    assert client.get("/healthz").status_code == 200


def test_readyz_is_ready_when_all_processes_are_alive(fresh: SampleNode) -> None:
    """With every process alive and no destination degraded, the node is ready."""
    busy_ledger.alive(fresh)
    fresh.ledger.record_heartbeat("deliver", "pacs", {"state": "up"})
    answer = client_of(fresh).get("/readyz")
    assert answer.status_code == 200
    assert answer.json() == {
        "status": "ready",
        "ready": True,
        "checks": dict.fromkeys(("ledger", "receive", "work", "deliver", "sweep", "vault", "space", "broker"), "ok"),
        "degraded": [],
    }


def test_a_destination_that_is_down_makes_the_node_degraded_not_unready(sample: SampleNode) -> None:
    """The node stays ready and names the destination."""
    busy_ledger.alive(sample)
    answer = client_of(sample).get("/readyz")
    assert answer.status_code == 200
    assert answer.json()["status"] == "degraded"
    assert answer.json()["degraded"] == ["pacs"]


def _silence(sample: SampleNode, part: str) -> None:
    from sqlalchemy import create_engine, text

    engine = create_engine(sample.settings.database_url)
    with engine.begin() as connection:
        then = datetime.now(UTC).replace(tzinfo=None) - timedelta(seconds=21)
        connection.execute(text("UPDATE beat SET seen_at = :then WHERE part = :part"), {"then": then, "part": part})
    engine.dispose()


@pytest.mark.parametrize("part", ["receive", "work", "deliver", "sweep"])
def test_a_silent_process_makes_the_node_unready(fresh: SampleNode, part: str) -> None:
    """A process without a heartbeat for more than 20 s is named."""
    assert client_of(fresh).get("/readyz").json()["checks"][part] == "never started"
    busy_ledger.alive(fresh)
    _silence(fresh, part)
    answer = client_of(fresh).get("/readyz")
    assert answer.status_code == 503
    assert {check for check, word in answer.json()["checks"].items() if word != "ok"} == {part}
    assert answer.json()["checks"][part] == "silent"


def test_a_broker_that_fails_or_blocks_makes_the_node_unready(fresh: SampleNode) -> None:
    """False, an error and no answer at all are the same to /readyz, and it always responds."""
    busy_ledger.alive(fresh)
    release = threading.Event()

    def broken() -> bool:
        raise ConnectionError(f"redis://:secret@{MARKUP}")

    for ping in (lambda: False, broken, lambda: release.wait(20)):
        answer = client_of(fresh, ping=ping).get("/readyz")
        assert answer.status_code == 503
        assert answer.json()["checks"]["broker"] == "no answer"
        assert "secret" not in answer.text
    release.set()


def test_a_full_or_read_only_disk_makes_the_node_unready(fresh: SampleNode) -> None:
    """Too little space and a vault that is not writable are distinguished."""
    busy_ledger.alive(fresh)
    greedy = fresh.settings.model_copy(
        update={"storage": fresh.settings.storage.model_copy(update={"min_free_mb": 10**9})}
    )
    answer = client_of(replace(fresh, settings=greedy)).get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["checks"]["space"] == "low"
    fresh.vault.spool.rmdir()
    answer = client_of(fresh).get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["checks"]["vault"] == "not writable"


def test_an_unavailable_ledger_is_reported_without_details(
    fresh: SampleNode, capfd: pytest.CaptureFixture[str]
) -> None:
    """Probes, metrics and pages answer without a traceback; a page shows a plain message."""
    busy_ledger.alive(fresh)
    client = client_of(fresh)
    sign_in(client)
    from sqlalchemy import create_engine, text

    engine = create_engine(fresh.settings.database_url)
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE beat"))
        connection.execute(text("DROP TABLE flag"))
    engine.dispose()
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["checks"]["ledger"] == "no answer"
    assert "genu_ledger_up 0.0" in client.get("/metrics").text
    page = client.get("/", headers=HTML)
    assert page.status_code in (500, 503)
    output = page.text + answer.text + "".join(capfd.readouterr())
    assert "no such table" not in output
    assert "page_failed" in output


def metrics_of(client: TestClient) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    families = text_string_to_metric_families(client.get("/metrics").text)
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def test_metrics_count_what_the_ledger_holds(sample: SampleNode) -> None:
    """States, reasons, ages, deliveries, processes, receiver, grades and the build have their numbers."""
    busy_ledger.alive(sample)
    found = metrics_of(client_of(sample))

    def number(name: str, **labels: str) -> float:
        return found[(name, frozenset(labels.items()))]

    assert number("genu_radiographs", state="REPORTED") == 2
    assert number("genu_radiographs", state="CONFIRMED") == 0
    assert number("genu_radiographs_without_grade", state="FAILED", reason="DECODER_LIMIT") == 1
    assert number("genu_radiographs_without_grade", state="NOT_ANALYSED", reason="NOT_A_KNEE") == 1
    assert number("genu_radiographs_oldest_age_seconds", state="RECEIVED") >= 180
    assert number("genu_deliveries_waiting", destination="pacs") == 4
    assert number("genu_deliveries_waiting", destination="archive") == 2
    assert number("genu_deliveries_oldest_age_seconds", destination="pacs") >= 0
    assert number("genu_destination_up", destination="pacs") == 0
    assert number("genu_destination_up", destination="archive") == 1
    assert number("genu_part_last_seen_timestamp_seconds", part="work") == pytest.approx(time.time(), abs=60)
    assert number("genu_receive_objects_total", result="NEW") == 7
    assert number("genu_receive_bytes_total") == 70_000_000
    assert number("genu_receive_responses_total", status="A700") == 1
    assert number("genu_receive_associations_refused_total", reason="called AE title") == 1
    assert number("genu_attempts_total") == 6
    assert number("genu_grades_total", model="kl-lite2", version="1.0.0", grade="3") == 3
    assert number("genu_grades_total", model="kl-lite2", version="1.0.0", grade="0") == 3
    assert number("genu_undecided_grades_total", model="kl-lite2", version="1.0.0") == 1
    answers = {"model": "kl-lite2", "version": "1.0.0", "sha256": "ab" * 32}
    assert number("genu_model_info", role="answers", **answers) == 1
    assert number("genu_model_troubles", role="answers") == 0
    assert number("genu_model_troubles", role="shadow") == 1
    agreed = {word: number("genu_shadow_grades_total", agreement=word) for word in ("same", "one_apart", "more")}
    assert agreed == {"same": 1, "one_apart": 0, "more": 1}
    assert number("genu_shadow_failures_total") == 1
    assert number("genu_storage_free_bytes") > 0
    assert number("genu_ledger_up") == 1
    assert any(name == "genu_build_info" for name, _ in found)


def test_metric_names_and_labels_follow_the_rules(sample: SampleNode) -> None:
    """All are called genu_, counters end in _total, units are base units, and no label is a UID."""
    text = client_of(sample).get("/metrics").text
    for family in text_string_to_metric_families(text):
        assert family.name.startswith("genu_")
        assert not re.search(r"_(ms|mb|minutes|hours|percent)(_|$)", family.name)
        for sample in family.samples:
            assert sample.name.endswith("_total") == (family.type == "counter")
            assert not any(
                re.search(r"\d\.\d+\.\d", value) for label, value in sample.labels.items() if label != "version"
            )
    assert MARKUP not in text


def test_history_is_counted_once_however_often_it_is_scraped(
    fresh: SampleNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Grades and attempts of later scrapes are those of the whole ledger, also beyond what was settled before."""
    client = client_of(fresh)
    assert ("genu_attempts_total", frozenset()) in metrics_of(client)
    for round_ in range(1, 4):
        busy_ledger.answer(fresh, busy_ledger.arrive(fresh, f"r{round_}"))
        if round_ == 2:
            monkeypatch.setattr("node.ledger.totals._SETTLED_AFTER", timedelta(0))
        for _ in range(2):
            found = metrics_of(client)
            assert found[("genu_attempts_total", frozenset())] == round_
            graded = {"model": "kl-lite2", "version": "1.0.0", "grade": "3"}
            assert found[("genu_grades_total", frozenset(graded.items()))] == round_
