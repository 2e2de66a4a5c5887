"""The ledger knows every radiograph, its state, its results and where they still have to go. It is the truth."""

from node.ledger.ledger import Ledger
from node.ledger.records import (
    Answer,
    Beat,
    CardState,
    Conflict,
    Delivery,
    Entry,
    JournalLine,
    Kept,
    ModelChange,
    ModelUse,
    Pair,
    ResultObject,
    ShadowReading,
    Waiting,
)
from node.ledger.states import MOVES, State, check_move

__all__ = [
    "MOVES",
    "Answer",
    "Beat",
    "CardState",
    "Conflict",
    "Delivery",
    "Entry",
    "JournalLine",
    "Kept",
    "Ledger",
    "ModelChange",
    "ModelUse",
    "Pair",
    "ResultObject",
    "ShadowReading",
    "State",
    "Waiting",
    "check_move",
]
