"""A part stops when it is told to, also by somebody who says so many times at once."""

import signal
import subprocess
import sys

import pytest

WAITS = """
from node.supervisor import stop_on_signals
stop = stop_on_signals()
print("up", flush=True)
while not stop.wait(0.0001):
    pass
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_that_come_at_once_stop_it(number: signal.Signals) -> None:
    """As of a terminal, a shell and a supervisor that all stop it: one must not wait for the lock of another."""
    for _ in range(8):
        with subprocess.Popen([sys.executable, "-c", WAITS], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            for _ in range(40):
                process.send_signal(number)
            try:
                assert process.wait(30) in (0, -number)  # the last ones may come when Python has ended its handlers
            except subprocess.TimeoutExpired:
                process.kill()
                raise
