"""The states of a radiograph, and the one table of legal moves between them."""

from collections.abc import Mapping
from enum import StrEnum


class State(StrEnum):
    """Where a radiograph stands. Being queued is a fact about the broker, not a state."""

    RECEIVED = "RECEIVED"
    GRADING = "GRADING"
    REPORTED = "REPORTED"
    DELIVERED = "DELIVERED"
    CONFIRMED = "CONFIRMED"
    NOT_ANALYSED = "NOT_ANALYSED"
    FAILED = "FAILED"


MOVES: Mapping[State, frozenset[State]] = {
    # NOT_ANALYSED from here: put aside at the door; FAILED: its attempts are used up.
    State.RECEIVED: frozenset({State.GRADING, State.NOT_ANALYSED, State.FAILED}),
    # GRADING from here: another worker takes over after the lease; RECEIVED: a fault that may pass.
    State.GRADING: frozenset({State.GRADING, State.RECEIVED, State.REPORTED, State.NOT_ANALYSED, State.FAILED}),
    # RECEIVED from the next three: a person wants it graded again, by another model than the one that did.
    State.REPORTED: frozenset({State.DELIVERED, State.RECEIVED}),
    # CONFIRMED by storage commitment (PS3.4 Annex J): sent is not confirmed.
    State.DELIVERED: frozenset({State.CONFIRMED, State.RECEIVED}),
    State.CONFIRMED: frozenset({State.RECEIVED}),
    # A person asks again.
    State.NOT_ANALYSED: frozenset({State.RECEIVED}),
    State.FAILED: frozenset({State.RECEIVED}),
}


def check_move(old: State, new: State) -> None:
    """Raises ValueError unless MOVES has the move."""
    if new not in MOVES[old]:
        raise ValueError(f"{old} -> {new} is not a legal move")
