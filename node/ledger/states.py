"""The states of a radiograph, and the transitions allowed between them."""

from collections.abc import Mapping
from enum import StrEnum


class State(StrEnum):
    """State of a radiograph. "Queued" is no state: the broker alone knows what is queued."""

    RECEIVED = "RECEIVED"
    GRADING = "GRADING"
    REPORTED = "REPORTED"
    DELIVERED = "DELIVERED"
    CONFIRMED = "CONFIRMED"
    NOT_ANALYSED = "NOT_ANALYSED"
    FAILED = "FAILED"


TRANSITIONS: Mapping[State, frozenset[State]] = {
    # To NOT_ANALYSED: refused at intake; to FAILED: all attempts are used.
    State.RECEIVED: frozenset({State.GRADING, State.NOT_ANALYSED, State.FAILED}),
    # To GRADING: another worker takes over after the lease; to RECEIVED: a transient fault.
    State.GRADING: frozenset({State.GRADING, State.RECEIVED, State.REPORTED, State.NOT_ANALYSED, State.FAILED}),
    # To RECEIVED from the next three: a person requests a new grading, by another model than before.
    State.REPORTED: frozenset({State.DELIVERED, State.RECEIVED}),
    # To CONFIRMED by storage commitment (PS3.4 Annex J): sent is not confirmed.
    State.DELIVERED: frozenset({State.CONFIRMED, State.RECEIVED}),
    State.CONFIRMED: frozenset({State.RECEIVED}),
    # A person retries.
    State.NOT_ANALYSED: frozenset({State.RECEIVED}),
    State.FAILED: frozenset({State.RECEIVED}),
}


def check_transition(old: State, new: State) -> None:
    """Raise ValueError unless TRANSITIONS allows the change."""
    if new not in TRANSITIONS[old]:
        raise ValueError(f"{old} -> {new} is not an allowed transition")
