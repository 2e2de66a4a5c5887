"""The receiving door: radiographs come in by C-STORE, and what is acknowledged is safe."""

from node.receive.scp import Receiver

__all__ = ["Receiver"]
