"""Processes are killed while films arrive; the peer ends with one SC, SR and SEG of each acknowledged film."""

import random
import subprocess
import threading
import time
from pathlib import Path

import pydicom
from pydicom.uid import generate_uid

from node.ledger import State
from node.settings import Destination
from tests.peers.archives import HOST, needs, storescp, wait_until
from tests.peers.running_node import Node, running, until_settled
from workers.phantom import Header, KneeShape, as_dx, render

FILMS, KILLS = 100, 20


def small_films(folder: Path, count: int) -> list[Path]:
    """Different films of one rendered knee, small so that a hundred of them are analysed quickly."""
    from node.finding import Laterality

    rendered = render([KneeShape(Laterality.RIGHT)], rows=320, columns=300, spacing_mm=0.4, marker=False)
    files = []
    for number in range(count):
        film = as_dx(rendered, Header(sop_instance_uid=generate_uid(), study_uid=generate_uid()))
        film.InstanceNumber = number + 1
        path = folder / f"film-{number:03}.dcm"
        film.save_as(path, enforce_file_format=True)
        files.append(path)
    return files


def send_until_acknowledged(node: Node, files: list[Path]) -> None:
    """Send as a modality does: what is not answered 0x0000 is sent again."""
    receive = node.settings.receive
    for file in files:
        command = ["storescu", "-to", "5", "-aec", receive.ae_title, HOST, str(receive.port), str(file)]
        for _ in range(400):
            if subprocess.run(command, capture_output=True, check=False, timeout=60).returncode == 0:
                break
            time.sleep(0.3)
        else:
            raise AssertionError(f"{file} was never accepted")


@needs("storescu", "storescp")
def test_twenty_kills_lose_and_duplicate_nothing(tmp_path: Path) -> None:
    """Receive, work and deliver are killed at random moments; the destination gets each object of a film once."""
    random.seed(20)
    (tmp_path / "films").mkdir()
    files = small_films(tmp_path / "films", FILMS)
    uids = [str(pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID) for file in files]
    with storescp(tmp_path / "scp") as scp:
        destination = Destination(name="scp", ae_title=scp.ae_title, host=scp.host, port=scp.port)
        extra = "[work]\nlease_seconds = 3\nattempts = 50\n"
        with running(tmp_path, destination, extra=extra) as node:
            sender = threading.Thread(target=send_until_acknowledged, args=(node, files))
            sender.start()
            killed = 0
            while killed < KILLS:
                time.sleep(random.uniform(0.2, 1.5))
                killed += node.kill(random.choice(("receive", "work", "deliver")))
            sender.join()
            until_settled(node, uids, seconds=180)
            entries = {uid: node.ledger.find(uid) for uid in uids}
        received = [pydicom.dcmread(path) for path in scp.received().values()]
    assert {entry.state for entry in entries.values() if entry} == {State.DELIVERED}
    for modality in ("OT", "SEG"):
        sources = [
            str(dataset.SourceImageSequence[0].ReferencedSOPInstanceUID)
            for dataset in received
            if dataset.Modality == modality
        ]
        assert sorted(sources) == sorted(uids)
    studies = [str(dataset.StudyInstanceUID) for dataset in received if dataset.Modality == "SR"]
    assert len(studies) == len(set(studies)) == FILMS
    assert len(received) == 3 * FILMS


@needs("storescp")
def test_an_emptied_broker_loses_nothing(tmp_path: Path) -> None:
    """The broker loses everything while films wait; the sweep enqueues each of them again."""
    (tmp_path / "films").mkdir()
    files = small_films(tmp_path / "films", 12)
    uids = [str(pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID) for file in files]
    with storescp(tmp_path / "scp") as scp:
        destination = Destination(name="scp", ae_title=scp.ae_title, host=scp.host, port=scp.port)
        with running(tmp_path, destination) as node:
            node.genu("send", *map(str, files))
            url = next(
                line.split(b"=", 1)[1].decode()
                for line in Path(f"/proc/{node.process_ids()['receive']}/environ").read_bytes().split(b"\0")
                if line.startswith(b"GENU__BROKER__URL=")
            )
            import redis

            redis.Redis.from_url(url).flushall()
            until_settled(node, uids)
            assert len(scp.received()) == 3 * len(files)


def test_a_killed_process_is_started_again(tmp_path: Path) -> None:
    """Every process that is killed is started again, and the node is ready again."""
    with running(tmp_path) as node:
        before = node.process_ids()
        for part in before:
            assert node.kill(part)
        assert wait_until(
            lambda: (
                node.process_ids().keys() == before.keys()
                and not set(node.process_ids().values()) & set(before.values())
            ),
            30,
        )
        assert wait_until(lambda: node.answers("/readyz") == 200, 60)
