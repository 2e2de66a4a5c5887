"""The ledger: every radiograph, its state, its results and their deliveries. It is the only state of the node."""

from node.ledger.ledger import Ledger
from node.ledger.records import (
    Answer,
    CardState,
    Conflict,
    Delivery,
    Entry,
    Heartbeat,
    IntakeOutcome,
    JournalLine,
    ModelChange,
    ModelUse,
    PairedReadings,
    PendingDeliveries,
    ResultObject,
    ShadowReading,
)
from node.ledger.states import TRANSITIONS, State

__all__ = [
    "TRANSITIONS",
    "Answer",
    "CardState",
    "Conflict",
    "Delivery",
    "Entry",
    "Heartbeat",
    "IntakeOutcome",
    "JournalLine",
    "Ledger",
    "ModelChange",
    "ModelUse",
    "PairedReadings",
    "PendingDeliveries",
    "ResultObject",
    "ShadowReading",
    "State",
]
