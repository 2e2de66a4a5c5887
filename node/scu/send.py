"""C-ECHO and C-STORE requests on demand: what `genu echo`, `genu probe` and `genu send` do."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from node.scu.association import MAX_CONTEXTS, ScuAssociation, open_association
from node.scu.errors import DestinationUnavailable, NoResponse, RequestRejected, UnsendableFile
from node.scu.instance import VERIFICATION, ProposedContext, SendableInstance, sendable_instance
from node.settings import Deliver, Destination


def echo(destination: Destination, timing: Deliver | None = None) -> None:
    """Send a C-ECHO request. Raises DestinationUnavailable, NoResponse, RequestRejected or ContextRejected."""
    with open_association(destination, [VERIFICATION], timing or Deliver()) as association:
        association.echo()


def probe(
    destination: Destination, contexts: Iterable[ProposedContext], timing: Deliver | None = None
) -> dict[str, list[str]]:
    """Which of the contexts the destination accepts: SOP classes, transfer syntaxes. Raises DestinationUnavailable."""
    with open_association(destination, contexts, timing or Deliver()) as association:
        return association.accepted_contexts()


def adhoc_destination(host: str, port: int, ae_title: str) -> Destination:
    """A destination that is not in the settings file."""
    return Destination(name="-", host=host, port=port, ae_title=ae_title)


@dataclass(frozen=True)
class SendResult:
    """The outcome of one file. `stored` is true if the destination confirmed it; otherwise `error` has the reason."""

    file: Path
    sop_instance_uid: str = ""
    status: int | None = None
    stored: bool = False
    error: str = ""


def send(files: Iterable[Path], destination: Destination, timing: Deliver | None = None) -> Iterator[SendResult]:
    """
    Send every file to the destination, as it is on disk; yield the result of each at once.

    One association is used for all; if it breaks, a new one for the remaining files. Nothing is raised: if no
    association is established, every remaining file has that error as its result.
    """
    timing = timing or Deliver()
    pending: list[SendableInstance] = []
    for file in files:
        try:
            pending.append(sendable_instance(file))
        except UnsendableFile as error:
            yield SendResult(file, error=str(error))
    while pending:
        contexts = list(dict.fromkeys(instance.context for instance in pending))[:MAX_CONTEXTS]
        later = [instance for instance in pending if instance.context not in contexts]
        batch = [instance for instance in pending if instance.context in contexts]
        done = 0
        try:
            with open_association(destination, contexts, timing) as association:
                for instance in batch:
                    result = _store(association, instance)
                    done += 1
                    yield result
        except NoResponse as error:
            yield SendResult(batch[done].path, batch[done].sop_instance_uid, error=str(error))
            done += 1
        except DestinationUnavailable as error:
            yield from (SendResult(instance.path, instance.sop_instance_uid, error=str(error)) for instance in pending)
            return
        pending = batch[done:] + later


def _store(association: ScuAssociation, instance: SendableInstance) -> SendResult:
    result = SendResult(instance.path, instance.sop_instance_uid)
    try:
        status = association.store(instance)
    except RequestRejected as error:
        return replace(result, status=error.status, error=str(error))
    except UnsendableFile as error:
        return replace(result, error=str(error))
    return replace(result, status=status, stored=True)
