"""A real Celery worker in a process of its own, for the tests of the publisher and the sweep."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.paths import ROOT

WORK = """
import os, sys, time
from node.broker import QUEUE, TASK, application

url, uids_file = sys.argv[1:3]
app = application(url)

@app.task(name=TASK)
def grade(uid):
    with open(uids_file, "a") as file:
        file.write(uid + "\\n")
    if uid.endswith(".666"):
        raise ValueError("a fault in the task")

app.worker_main(["worker", "--pool=solo", f"--queues={QUEUE}", "--loglevel=WARNING",
                 "--without-gossip", "--without-mingle", "--without-heartbeat"])
"""

WORK_WITH_LEDGER = WORK.replace(
    '    if uid.endswith(".666"):\n',
    """
    from node.ledger import Ledger
    ledger = Ledger(sys.argv[3])
    if ledger.claim(uid, str(os.getpid()), lease_seconds=2, attempts=5):
        time.sleep(float(sys.argv[4]))
        ledger.fail(uid, str(os.getpid()), "INTERNAL", "graded")
    if uid.endswith(".666"):
""",
)


@contextmanager
def worker(url: str, uids_file: Path, *more: object, code: str = WORK) -> Iterator["subprocess.Popen[bytes]"]:
    """A worker consumes; it writes each UID that it receives into `uids_file`, one a line. It is killed in the end."""
    process = subprocess.Popen([sys.executable, "-c", code, url, str(uids_file), *map(str, more)], cwd=ROOT)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def received_uids(uids_file: Path) -> Sequence[str]:
    """The UIDs that workers received, in order."""
    return uids_file.read_text().split() if uids_file.exists() else ()
