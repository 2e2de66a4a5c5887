"""The exceptions of the clients are a tree of kinds: what may pass is Transient, what will not is no kind of it."""

import pytest

from node.errors import GenuError, Transient
from node.scu import (
    ContextRejected,
    DestinationUnavailable,
    NoResponse,
    PermanentRejection,
    RequestRejected,
    UnsendableFile,
)

PARENTS = {
    DestinationUnavailable: Transient,
    NoResponse: Transient,
    RequestRejected: Transient,
    ContextRejected: RequestRejected,
    PermanentRejection: GenuError,
    UnsendableFile: GenuError,
}


@pytest.mark.parametrize(("error", "parent"), PARENTS.items(), ids=lambda cls: cls.__name__)
def test_every_exception_has_one_parent(error: type[GenuError], parent: type[GenuError]) -> None:
    """The tree as node/scu/errors.py shows it."""
    assert error.__bases__ == (parent,)


def test_only_what_may_pass_is_transient() -> None:
    """A final rejection and an unsendable file are not caught with faults that pass."""
    transient = {error for error in PARENTS if issubclass(error, Transient)}
    assert transient == {DestinationUnavailable, NoResponse, RequestRejected, ContextRejected}
