"""Delivery: every result is sent to every destination that is to get it, as soon as the destination accepts it."""

from node.deliver.deliverer import Deliverer

__all__ = ["Deliverer"]
