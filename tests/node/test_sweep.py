"""The sweep publishes unfinished radiographs again, over a real broker, and deletes only orphaned files."""

import hashlib
import os
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import redis
from structlog.testing import capture_logs

from node import sweep as sweep_module
from node.broker import EmbeddedBroker, Publisher, application
from node.ledger import Ledger, State
from node.radiograph import Radiograph
from node.settings import Settings
from node.storage import Vault
from node.sweep import Sweep
from tests.peers.archives import wait_until
from tests.peers.celery_worker import WORK_WITH_LEDGER, received_uids, worker

HOUR = 3600.0


class Clock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


class Node:
    """Storage, ledger and sweep of one node, with a broker of its own."""

    def __init__(self, folder: Path, url: str) -> None:
        self.url = url
        self.folder = folder
        self.database = f"sqlite:///{folder / 'ledger.sqlite'}"
        self.vault = Vault(folder)
        self.ledger = Ledger(self.database)
        self.ledger.upgrade()
        self.publisher = Publisher(application(url))
        self.clock = Clock()
        self.settings = Settings.model_validate({"storage": {"folder": folder}, "broker": {"sweep_seconds": 0.2}})
        self.sweep = Sweep(self.settings, self.vault, self.ledger, self.publisher, clock=self.clock)

    def receive(self, number: int) -> str:
        """Store and record a film without publishing it. Returns its hash."""
        spooled = self.vault.spool / f"incoming-{number}"
        spooled.write_bytes(b"film %d" % number)
        sha256 = hashlib.sha256(spooled.read_bytes()).hexdigest()
        self.vault.store(spooled, sha256)
        uid = f"1.2.{number}"
        self.ledger.record_received(
            Radiograph(uid, "1.2", "1.2", sha256, 6, "MODALITY", "192.0.2.1", datetime.now(UTC))
        )
        return sha256

    def finished(self) -> int:
        """How many films are finished: the test's worker fails every film."""
        return self.ledger.counts_by_state()[State.FAILED]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with EmbeddedBroker(tmp_path) as broker:
        node = Node(tmp_path, broker.url)
        yield node
        node.publisher.close()
        node.ledger.close()


def age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def test_unfinished_radiographs_are_published(node: Node) -> None:
    """Finished ones are not."""
    for number in range(3):
        node.receive(number)
    node.ledger.claim("1.2.1", "w", lease_seconds=60, attempts=3)
    node.ledger.fail("1.2.1", "w", "INTERNAL", "")
    assert node.sweep.republish() == 2
    assert node.publisher.queued() == 2


def test_an_emptied_broker_is_refilled_from_the_ledger(node: Node) -> None:
    """FLUSHALL, twice: within half a minute every film is published again, and a worker finishes them all."""
    for number in range(5):
        node.receive(number)
        assert node.publisher.publish(f"1.2.{number}")
    redis.Redis.from_url(node.url).flushall()
    assert node.sweep.republish() == 5
    redis.Redis.from_url(node.url).flushall()
    node.clock.seconds += sweep_module.REPUBLISH_SECONDS
    assert node.sweep.republish() == 5
    with worker(node.url, node.folder / "log", node.database, 0, code=WORK_WITH_LEDGER):
        assert wait_until(lambda: node.finished() == 5, 60)


def test_a_film_is_not_published_twice_in_half_a_minute(node: Node) -> None:
    """A worker may be about to claim it; but a film that was received meanwhile is published."""
    node.receive(0)
    assert node.sweep.republish() == 1
    redis.Redis.from_url(node.url).flushall()
    node.clock.seconds += sweep_module.REPUBLISH_SECONDS - 1
    node.receive(1)
    assert node.sweep.republish() == 1
    node.clock.seconds += 1
    assert node.sweep.republish() == 1


def test_a_queue_without_workers_does_not_grow(node: Node) -> None:
    """While the broker holds a message for each unfinished film, sweeps add none; if one is lost, all are published."""
    for number in range(4):
        node.receive(number)
    for _ in range(50):
        node.sweep.republish()
        node.clock.seconds += HOUR
    assert node.publisher.queued() == 4
    redis.Redis.from_url(node.url).lpop("genu:grade")
    assert node.sweep.republish() == 4
    assert node.sweep.republish() == 0


def test_publishing_twice_is_harmless(node: Node) -> None:
    """Two sweeps and two receivers publish the same films; every film is graded once."""
    for number in range(3):
        node.receive(number)
        for _ in range(4):
            assert node.publisher.publish(f"1.2.{number}")
    log = node.folder / "log"
    with worker(node.url, log, node.database, 0, code=WORK_WITH_LEDGER):
        assert wait_until(lambda: len(received_uids(log)) == 12, 60)
        assert wait_until(lambda: node.finished() == 3)
    for number in range(3):
        assert [line.what for line in node.ledger.journal(f"1.2.{number}")] == ["received", "claimed", "failed"]


def test_the_film_of_a_killed_worker_is_finished_by_another(node: Node) -> None:
    """Its lease expires, the sweep publishes again, and another worker finishes the film at the second attempt."""
    log = node.folder / "log"
    node.receive(0)
    assert node.publisher.publish("1.2.0")
    with worker(node.url, log, node.database, 600, code=WORK_WITH_LEDGER):
        assert wait_until(lambda: node.ledger.counts_by_state()[State.GRADING] == 1, 60)
    assert wait_until(lambda: node.sweep.republish() == 1)
    with worker(node.url, log, node.database, 0, code=WORK_WITH_LEDGER):
        assert wait_until(lambda: node.finished() == 1, 60)
    entry = node.ledger.find("1.2.0")
    assert entry is not None
    assert entry.attempts == 2


def test_an_unreachable_broker_ends_the_pass_and_not_the_sweep(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was not published is not noted as published; the next pass, with the broker back, publishes it."""
    for number in range(3):
        node.receive(number)
    queued = node.publisher.queued
    monkeypatch.setattr(node.publisher, "queued", lambda: 0)  # unreachable between the count and the publishing
    monkeypatch.setattr(node.publisher, "publish", lambda uid: uid != "1.2.1")
    assert node.sweep.republish() == 1
    monkeypatch.undo()
    assert queued() == 0
    monkeypatch.setattr(node.publisher, "queued", lambda: None)
    assert node.sweep.republish() == 0
    monkeypatch.undo()
    assert node.sweep.republish() == 2


def test_stale_files_in_the_spool_are_deleted_after_an_hour(node: Node) -> None:
    """What a receiver is writing stays."""
    for name, seconds in (("old", 2 * HOUR), ("young", 10)):
        (node.vault.spool / name).write_bytes(b"half a film")
        age(node.vault.spool / name, seconds)
    with capture_logs() as logs:
        node.sweep.clean_up()
    assert [path.name for path in node.vault.spool.iterdir()] == ["young"]
    assert [(line["event"], line["files"]) for line in logs] == [("spool_swept", 1)]


def test_an_orphan_is_discarded_after_two_passes_an_hour_apart(node: Node) -> None:
    """Stored, then crashed before the commit: 0x0000 was never sent. Files with a row stay, those of conflicts too."""
    known = node.receive(0)
    orphan = hashlib.sha256(b"orphan").hexdigest()
    spooled = node.vault.spool / "incoming"
    spooled.write_bytes(b"orphan")
    for sha256 in (known, orphan):
        if sha256 == orphan:
            node.vault.store(spooled, orphan)
        age(node.vault.radiograph_path(sha256), 2 * HOUR)
    with capture_logs() as logs:
        for pause in (0, HOUR / 2, HOUR / 2 - 1):
            node.clock.seconds += pause
            node.sweep.clean_up()
            assert node.vault.radiograph_path(orphan).exists()
        node.clock.seconds += 1
        node.sweep.clean_up()
    assert set(node.vault.radiograph_hashes(0)) == {known}
    assert [(line["event"], line["sha256"]) for line in logs] == [("orphan_discarded", orphan)]


def test_an_orphan_that_gets_its_row_between_the_passes_stays(node: Node) -> None:
    """A receiver that was suspended for an hour commits late; its film is not lost."""
    spooled = node.vault.spool / "incoming"
    spooled.write_bytes(b"film 7")
    sha256 = hashlib.sha256(b"film 7").hexdigest()
    age(node.vault.store(spooled, sha256), 2 * HOUR)
    node.sweep.clean_up()
    node.receive(7)
    age(node.vault.radiograph_path(sha256), 2 * HOUR)
    node.clock.seconds += 2 * HOUR
    node.sweep.clean_up()
    assert node.vault.radiograph_path(sha256).read_bytes() == b"film 7"


def test_it_runs_until_it_is_stopped_and_records_heartbeats(node: Node) -> None:
    """Publishes at its interval, ends at once; a ledger that is unavailable for a while does not end it."""
    stop, sweep = threading.Event(), Sweep(node.settings, node.vault, node.ledger, node.publisher)
    database, other = node.ledger._database, Ledger(f"sqlite:///{node.folder / 'empty.sqlite'}")
    running = threading.Thread(target=sweep.run, args=(stop,))
    running.start()
    try:
        assert wait_until(lambda: [beat.process for beat in node.ledger.heartbeats()] == ["sweep"])
        node.ledger._database = other._database
        with capture_logs() as logs:
            assert wait_until(lambda: any(line["event"].startswith("sweep_") for line in logs))
        node.ledger._database = database
        node.receive(0)
        assert wait_until(lambda: node.publisher.queued() == 1)
    finally:
        node.ledger._database = database
        stop.set()
        running.join(20)
    assert not running.is_alive()
