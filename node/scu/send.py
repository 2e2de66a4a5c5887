"""Ask a destination for an echo, or offer it files, by hand: what `genu echo` and `genu send` do."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from node.scu.association import MOST_CONTEXTS, Link, linked
from node.scu.errors import Declined, Lost, Unreachable, Unsendable
from node.scu.instance import VERIFICATION, Context, Parcel, parcel
from node.settings import Deliver, Destination


def echo(destination: Destination, patience: Deliver | None = None) -> None:
    """The destination has answered a C-ECHO. Raises Unreachable or Declined, which say why not."""
    with linked(destination, [VERIFICATION], patience or Deliver()) as link:
        link.echo()


def probe(
    destination: Destination, contexts: Iterable[Context], patience: Deliver | None = None
) -> dict[str, list[str]]:
    """What the destination takes of the contexts: SOP classes and transfer syntaxes. Raises Unreachable."""
    with linked(destination, contexts, patience or Deliver()) as link:
        return link.taken()


def peer(host: str, port: int, ae_title: str, *, calling_ae_title: str = "GENU") -> Destination:
    """A destination that no settings file names."""
    return Destination(name="-", host=host, port=port, ae_title=ae_title, calling_ae_title=calling_ae_title)


@dataclass(frozen=True)
class Sent:
    """What became of one file. `stored` is true if the destination said so; otherwise `error` says why not."""

    file: Path
    sop_instance_uid: str = ""
    status: int | None = None
    stored: bool = False
    error: str = ""


def send(files: Iterable[Path], destination: Destination, patience: Deliver | None = None) -> Iterator[Sent]:
    """
    Every file has been offered to the destination, as it lies on disk; yields what became of each as it happens.

    One association carries all, and a new one what is left if it breaks. Nothing is raised: if no association
    comes about, every file that is left is told so.
    """
    patience = patience or Deliver()
    packed: list[Parcel] = []
    for file in files:
        try:
            packed.append(parcel(file))
        except Unsendable as error:
            yield Sent(file, error=str(error))
    while packed:
        contexts = list(dict.fromkeys(each.context for each in packed))[:MOST_CONTEXTS]
        left = [each for each in packed if each.context not in contexts]
        batch = [each for each in packed if each.context in contexts]
        done = 0
        try:
            with linked(destination, contexts, patience) as link:
                for each in batch:
                    row = _offer(link, each)
                    done += 1
                    yield row
        except Lost as error:
            yield Sent(batch[done].path, batch[done].sop_instance_uid, error=str(error))
            done += 1
        except Unreachable as error:
            yield from (Sent(each.path, each.sop_instance_uid, error=str(error)) for each in packed)
            return
        packed = batch[done:] + left


def _offer(link: Link, sent: Parcel) -> Sent:
    row = Sent(sent.path, sent.sop_instance_uid)
    try:
        status = link.store(sent)
    except Declined as error:
        return replace(row, status=error.status, error=str(error))
    except Unsendable as error:
        return replace(row, error=str(error))
    return replace(row, status=status, stored=True)
