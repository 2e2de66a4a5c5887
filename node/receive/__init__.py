"""The Storage SCP: radiographs are received by C-STORE, and what is acknowledged is safe."""

from node.receive.scp import StorageScp

__all__ = ["StorageScp"]
