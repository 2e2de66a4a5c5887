"""The sweep asks again for whatever is unfinished, over a real broker, and clears away only what is nobody's."""

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

from node import sweep as sweeping
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
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


class Node:
    """The memory floor of one node and its sweep, with a broker of its own."""

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

    def keep(self, number: int) -> str:
        """A film is in the vault and in the ledger, and it has not been published."""
        spooled = self.vault.spool / f"incoming-{number}"
        spooled.write_bytes(b"film %d" % number)
        sha256 = hashlib.sha256(spooled.read_bytes()).hexdigest()
        self.vault.store(spooled, sha256)
        uid = f"1.2.{number}"
        self.ledger.record_received(
            Radiograph(uid, "1.2", "1.2", sha256, 6, "MODALITY", "192.0.2.1", datetime.now(UTC))
        )
        return sha256

    def done(self) -> int:
        """How many films came to their end: the test's worker fails each, which ends it."""
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


def test_what_nobody_rang_for_is_asked_for(node: Node) -> None:
    """Oldest first; and what is done is not."""
    for number in range(3):
        node.keep(number)
    node.ledger.claim("1.2.1", "w", lease_seconds=60, attempts=3)
    node.ledger.fail("1.2.1", "w", "INTERNAL", "")
    assert node.sweep.ask() == 2
    assert node.publisher.queued() == 2


def test_an_emptied_broker_is_filled_again_from_the_ledger(node: Node) -> None:
    """FLUSHALL, twice: within half a minute every film is asked for again, and a worker ends them all."""
    for number in range(5):
        node.keep(number)
        assert node.publisher.publish(f"1.2.{number}")
    redis.Redis.from_url(node.url).flushall()
    assert node.sweep.ask() == 5
    redis.Redis.from_url(node.url).flushall()
    node.clock.seconds += sweeping.LATE_SECONDS
    assert node.sweep.ask() == 5
    with worker(node.url, node.folder / "said", node.database, 0, code=WORK_WITH_LEDGER):
        assert wait_until(lambda: node.done() == 5, 60)


def test_a_film_is_not_asked_for_twice_in_half_a_minute(node: Node) -> None:
    """A worker may be about to claim it; but a film that came in meanwhile is."""
    node.keep(0)
    assert node.sweep.ask() == 1
    redis.Redis.from_url(node.url).flushall()
    node.clock.seconds += sweeping.LATE_SECONDS - 1
    node.keep(1)
    assert node.sweep.ask() == 1
    node.clock.seconds += 1
    assert node.sweep.ask() == 1


def test_a_queue_without_workers_does_not_grow(node: Node) -> None:
    """While the broker holds a message for each unfinished film, days of sweeping add none; one lost brings all."""
    for number in range(4):
        node.keep(number)
    for _ in range(50):
        node.sweep.ask()
        node.clock.seconds += HOUR
    assert node.publisher.queued() == 4
    redis.Redis.from_url(node.url).lpop("genu:grade")
    assert node.sweep.ask() == 4
    assert node.sweep.ask() == 0


def test_ringing_twice_is_harmless(node: Node) -> None:
    """Two sweeps and two receivers publish the same films; each film is worked on once."""
    for number in range(3):
        node.keep(number)
        for _ in range(4):
            assert node.publisher.publish(f"1.2.{number}")
    said = node.folder / "said"
    with worker(node.url, said, node.database, 0, code=WORK_WITH_LEDGER):
        assert wait_until(lambda: len(received_uids(said)) == 12, 60)
        assert wait_until(lambda: node.done() == 3)
    for number in range(3):
        assert [line.what for line in node.ledger.journal(f"1.2.{number}")] == ["received", "claimed", "failed"]


def test_a_worker_killed_in_mid_film_is_made_up_for(node: Node) -> None:
    """Its lease runs out, the sweep asks again, and another worker ends the film at the second attempt."""
    said = node.folder / "said"
    node.keep(0)
    assert node.publisher.publish("1.2.0")
    with worker(node.url, said, node.database, 600, code=WORK_WITH_LEDGER):
        assert wait_until(lambda: node.ledger.counts_by_state()[State.GRADING] == 1, 60)
    assert wait_until(lambda: node.sweep.ask() == 1)
    with worker(node.url, said, node.database, 0, code=WORK_WITH_LEDGER):
        assert wait_until(lambda: node.done() == 1, 60)
    entry = node.ledger.find("1.2.0")
    assert entry is not None
    assert entry.attempts == 2


def test_a_broker_that_is_away_ends_the_pass_and_not_the_sweep(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is noted as asked for that was not; the next pass, with the broker back, asks for all."""
    for number in range(3):
        node.keep(number)
    queued = node.publisher.queued
    monkeypatch.setattr(node.publisher, "queued", lambda: 0)  # it goes away between the count and the message
    monkeypatch.setattr(node.publisher, "publish", lambda uid: uid != "1.2.1")
    assert node.sweep.ask() == 1
    monkeypatch.undo()
    assert queued() == 0
    monkeypatch.setattr(node.publisher, "queued", lambda: None)
    assert node.sweep.ask() == 0
    monkeypatch.undo()
    assert node.sweep.ask() == 2


def test_left_overs_in_the_spool_go_after_an_hour(node: Node) -> None:
    """What a receiver is writing stays."""
    for name, seconds in (("old", 2 * HOUR), ("young", 10)):
        (node.vault.spool / name).write_bytes(b"half a film")
        age(node.vault.spool / name, seconds)
    with capture_logs() as logs:
        node.sweep.tidy()
    assert [path.name for path in node.vault.spool.iterdir()] == ["young"]
    assert [(line["event"], line["files"]) for line in logs] == [("spool_swept", 1)]


def test_a_radiograph_that_no_row_knows_goes_after_two_looks_an_hour_apart(node: Node) -> None:
    """Kept, then crashed before the commit: nobody was told 0x0000. What has a row stays, a conflict's bytes too."""
    known = node.keep(0)
    stray = hashlib.sha256(b"stray").hexdigest()
    spooled = node.vault.spool / "incoming"
    spooled.write_bytes(b"stray")
    for sha256 in (known, stray):
        if sha256 == stray:
            node.vault.store(spooled, stray)
        age(node.vault.radiograph_path(sha256), 2 * HOUR)
    with capture_logs() as logs:
        for pause in (0, HOUR / 2, HOUR / 2 - 1):
            node.clock.seconds += pause
            node.sweep.tidy()
            assert node.vault.radiograph_path(stray).exists()
        node.clock.seconds += 1
        node.sweep.tidy()
    assert set(node.vault.radiograph_hashes(0)) == {known}
    assert [(line["event"], line["sha256"]) for line in logs] == [("stray_discarded", stray)]


def test_a_stray_that_gets_its_row_between_the_looks_stays(node: Node) -> None:
    """A receiver that slept an hour with its machine commits late; its film is not lost."""
    spooled = node.vault.spool / "incoming"
    spooled.write_bytes(b"film 7")
    sha256 = hashlib.sha256(b"film 7").hexdigest()
    age(node.vault.store(spooled, sha256), 2 * HOUR)
    node.sweep.tidy()
    node.keep(7)
    age(node.vault.radiograph_path(sha256), 2 * HOUR)
    node.clock.seconds += 2 * HOUR
    node.sweep.tidy()
    assert node.vault.radiograph_path(sha256).read_bytes() == b"film 7"


def test_it_runs_until_it_is_told_to_stop_and_says_that_it_lives(node: Node) -> None:
    """Asks at its pace, beats in the ledger, ends at once; a ledger that is away for a while does not end it."""
    stop, sweep = threading.Event(), Sweep(node.settings, node.vault, node.ledger, node.publisher)
    database, away = node.ledger._database, Ledger(f"sqlite:///{node.folder / 'empty.sqlite'}")
    running = threading.Thread(target=sweep.run, args=(stop,))
    running.start()
    try:
        assert wait_until(lambda: [beat.process for beat in node.ledger.heartbeats()] == ["sweep"])
        node.ledger._database = away._database
        with capture_logs() as logs:
            assert wait_until(lambda: any(line["event"].startswith("sweep_") for line in logs))
        node.ledger._database = database
        node.keep(0)
        assert wait_until(lambda: node.publisher.queued() == 1)
    finally:
        node.ledger._database = database
        stop.set()
        running.join(20)
    assert not running.is_alive()
