"""A process stops on a signal, also on many signals at once."""

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
def test_many_signals_at_once_stop_the_process(number: signal.Signals) -> None:
    """A terminal, a shell and a supervisor may all stop it: no handler may wait for the lock of another."""
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
