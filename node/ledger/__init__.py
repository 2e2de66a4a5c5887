"""The ledger knows every radiograph, its state, its results and where they still have to go. It is the truth."""

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
from node.ledger.states import MOVES, State, check_move

__all__ = [
    "MOVES",
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
    "check_move",
]
