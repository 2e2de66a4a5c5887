"""Fixtures that the tests of several files share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers.delivering_node import Node
from tests.peers.genu_command import GenuCommand


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    """A node that delivers, and whose deliverer beats often."""
    monkeypatch.setattr("node.deliver.deliverer.HEARTBEAT_SECONDS", 0.1)
    it = Node(tmp_path / "node")
    yield it
    it.ledger.close()


@pytest.fixture
def genu_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> GenuCommand:
    """Calls `genu` in this process."""
    return GenuCommand(monkeypatch, capsys)
