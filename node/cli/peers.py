"""`genu echo`, `genu send` and `genu demo`: talking to other nodes, and to this one."""

import logging
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from importlib.metadata import entry_points
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click
from pydicom.uid import UID, ExplicitVRLittleEndian

from node.cli.processes import house, settings_file, welcome
from node.deliver.fallbacks import INSTEAD
from node.errors import GenuError
from node.ledger import Entry, Ledger, State
from node.logs import configure
from node.radiograph import SOP_CLASSES
from node.reasons import REASONS
from node.ris import echo as ask_echo
from node.ris import probe as ask_ris
from node.scu import Context, Sent, peer
from node.scu import probe as ask_taken
from node.scu import send as send_files
from node.settings import EXTRAS, Destination, Settings
from node.supervisor import stop_on_signals

if TYPE_CHECKING:
    from node.demo import DemoPacs

LITTLE_ENDIAN = str(ExplicitVRLittleEndian)


@click.command()
@click.argument("name", required=False)
@click.pass_obj
def echo(settings: Settings, name: str | None) -> None:
    """
    Ask the destination NAME whether it is there (C-ECHO, for a RIS a connection or GET metadata); without a name, ask
    every destination and this node.
    """
    chosen = [destination_named(settings, name)] if name else [*settings.destination, this_node(settings)]
    failed = 0
    for each in chosen:
        called = "this node" if each.name == "-" else each.name
        try:
            ask_echo(each, settings.deliver)
            click.echo(f"{called}: {each.address} answers")
        except GenuError as error:
            failed += 1
            click.echo(f"{called}: {error}", err=True)
    if failed:
        raise SystemExit(1)


KINDS = {uid: kind for kind, uid in SOP_CLASSES.items()}


@click.command()
@click.argument("name", required=False)
@click.pass_obj
def probe(settings: Settings, name: str | None) -> None:
    """
    Ask the destination NAME, or all, which of Genu's objects it takes. Nothing is sent: what it answers to a proposal
    of all their SOP classes is shown. Ends with 1 if one does not answer, or does not take what [[destination]]
    objects says that it gets.

    Segmentations and other extras that a destination does not take are left out by themselves. Pages go as single
    frames (SC1) where it takes no multi-frame, and a Comprehensive 3D report as a Comprehensive one.

    Of a RIS is asked what its protocol allows: over MLLP a connection, of a FHIR service what it says of itself.
    """
    failed = False
    for each in [destination_named(settings, name)] if name else settings.destination:
        try:
            if each.protocol != "dicom":
                said, fits = ask_ris(each, settings.deliver)
                click.echo(f"{each.name}: {each.address}\n  {each.protocol:5} {said}")
                failed = failed or not fits
                continue
            taken = ask_taken(each, [Context(uid, (LITTLE_ENDIAN,)) for uid in SOP_CLASSES.values()], settings.deliver)
        except GenuError as error:
            click.echo(f"{each.name}: {error}", err=True)
            failed = True
            continue
        click.echo(f"{each.name}: {each.address}")
        sr = "SR" if settings.work.sr_class == "comprehensive" else "SR3D"
        wanted = {sr if kind == "SR" else kind for kind in each.objects}
        for kind, uid in SOP_CLASSES.items():
            said = "taken" if uid in taken else "not taken"
            instead, _ = INSTEAD.get(uid, ("", None))
            missing = kind in wanted and uid not in taken and instead not in taken and kind not in EXTRAS
            mark = " <- but it is to get it" if missing else ""
            if kind in wanted and uid in taken:
                mark = " (sent)"
            elif kind in wanted and instead in taken:
                mark = f" (sent as {KINDS[instead]})"
            click.echo(f"  {kind:5} {UID(uid).name:55} {said}{mark}")
            failed = failed or missing
    if failed:
        raise SystemExit(1)


@click.command()
@click.argument("files", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option(
    "--samples", is_flag=True, help="Instead of FILES the rendered knees of `genu demo`; no patient is on them."
)
@click.option("--to", "name", help="A destination of the settings; by default this node itself.")
@click.option("--host", help="Or any other node: its address,")
@click.option("--port", type=int, help="its port")
@click.option("--ae-title", help="and its AE title.")
@click.pass_obj
def send(
    settings: Settings,
    files: tuple[Path, ...],
    samples: bool,
    name: str | None,
    host: str | None,
    port: int | None,
    ae_title: str | None,
) -> None:
    """
    Send FILES (folders are searched) by C-STORE, as they are, to this node or another.

    \b
    Example: genu send study/          (to this node, as a PACS would)
             genu send --to pacs sc.dcm
             genu send --samples
    """
    if bool(files) == samples:
        raise click.UsageError("name FILES to send, or use --samples")
    if host and port and ae_title:
        target = peer(host, port, ae_title)
    elif host or port or ae_title:
        raise click.UsageError("--host, --port and --ae-title go together")
    else:
        target = _dicom(destination_named(settings, name)) if name else this_node(settings)
    with sample_files() if samples else nullcontext(_found(files)) as found:
        rows = list(_told(send_files(found, target, settings.deliver), len(found)))
    stored = sum(row.stored for row in rows)
    click.echo(f"{stored} of {len(rows)} stored by {target.ae_title} at {target.host}:{target.port}")
    if stored < len(rows):
        raise SystemExit(1)


def _dicom(named: Destination) -> Destination:
    if named.protocol != "dicom":
        raise GenuError(f"{named.name} is spoken to over {named.protocol}", hint="name a destination that takes DICOM")
    return named


def _found(files: tuple[Path, ...]) -> list[Path]:
    """The files, and those in the folders, by name."""
    inside = (sorted(path.rglob("*")) if path.is_dir() else [path] for path in files)
    return [file for several in inside for file in several if file.is_file()]


@contextmanager
def sample_files() -> Iterator[list[Path]]:
    """The sample radiographs as files, for as long as the block lasts. Raises GenuError where no worker is."""
    try:
        samples = [each for entry in entry_points(group="genu.samples") for each in entry.load()()]
    except ModuleNotFoundError as error:
        raise GenuError(
            f"the samples are rendered with {error.name}, which is not installed", hint="pip install 'genu[worker-cpu]'"
        ) from error
    with TemporaryDirectory() as folder:
        files = [Path(folder) / f"sample-{number}.dcm" for number in range(1, len(samples) + 1)]
        for file, sample in zip(files, samples, strict=True):
            sample.save_as(file, enforce_file_format=True)
        yield files


def _told(rows: Iterable[Sent], count: int) -> list[Sent]:
    """Every row, its error printed as it comes, and now and then how far it is."""
    told: list[Sent] = []
    for row in rows:
        told.append(row)
        if not row.stored:
            click.echo(f"{row.file}: {row.error}", err=True)
        elif count > 20 and len(told) % max(1, count // 20) == 0:
            click.echo(f"{len(told)} of {count}", err=True)
    return told


def this_node(settings: Settings) -> Destination:
    """This node's own receiver, as a peer sees it."""
    host = "127.0.0.1" if settings.receive.host in ("0.0.0.0", "::") else settings.receive.host  # noqa: S104
    return peer(host, settings.receive.port, settings.receive.ae_title)


def destination_named(settings: Settings, name: str) -> Destination:
    """The destination of that name. Raises GenuError, naming the ones there are."""
    for each in settings.destination:
        if each.name == name:
            return each
    known = ", ".join(each.name for each in settings.destination) or "none"
    raise GenuError(
        f"there is no destination {name!r} in the settings; there are: {known}", hint="add a [[destination]]"
    )


@click.command()
@click.option("--once", is_flag=True, help="End when all results are back, instead of staying up.")
@click.pass_context
def demo(ctx: click.Context, once: bool) -> None:
    """
    Start the node beside a small PACS of its own, send it rendered sample knees, and show where the results are.

    With --settings the node's ports and folder are the settings'; the demo PACS is added as a destination.
    """
    from node.demo import DemoPacs

    configure("run", level=logging.WARNING)
    settings: Settings = ctx.obj
    stop = stop_on_signals()
    with DemoPacs(settings.storage.folder / "demo-pacs") as pacs:
        settings = with_destination(settings, pacs.port, pacs.ae_title)
        log_file = settings.storage.folder / "demo.log"
        with house(settings, settings_file(ctx), destinations=settings.destination, log_file=log_file) as supervisor:
            keeper = threading.Thread(target=supervisor.run, args=(stop,))
            keeper.start()
            try:
                show(settings, pacs, stop)
                click.echo(f"What the parts say is in {log_file}")
                if not once:
                    click.echo(welcome(settings))
                    stop.wait()
            finally:
                stop.set()
                keeper.join()


def with_destination(settings: Settings, port: int, ae_title: str) -> Settings:
    """The same settings, with the demo PACS among the destinations."""
    added = Destination(name="demo", host="127.0.0.1", port=port, ae_title=ae_title)
    return settings.model_copy(update={"destination": (*settings.destination, added)})


def show(settings: Settings, pacs: "DemoPacs", stop: threading.Event) -> None:
    """Send the samples, wait until every one has come to its end, and say what came of it."""
    wait_until_up(settings, stop)
    uids = []
    with sample_files() as files:
        for row in send_files(files, this_node(settings), settings.deliver):
            click.echo(f"sent {row.file.name}: {'kept' if row.stored else row.error}")
            uids.append(row.sop_instance_uid)
    for line in await_ends(settings, uids, stop):
        click.echo(line)
    click.echo(f"The demo PACS has {pacs.results} results, as DICOM files, in {pacs.folder}")


def wait_until_up(settings: Settings, stop: threading.Event, seconds: float = 60) -> None:
    """Return when this node answers a C-ECHO. Raises GenuError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not stop.is_set():
        try:
            ask_echo(this_node(settings), settings.deliver)
        except GenuError as error:
            if time.monotonic() > deadline:
                raise GenuError(f"the node did not come up: {error}", hint="read the lines above") from error
            stop.wait(0.3)
        else:
            return


def await_ends(settings: Settings, uids: list[str], stop: threading.Event, seconds: float = 120) -> Iterator[str]:
    """A line for each radiograph as it comes to its end: delivered, not analysed because, failed because."""
    ledger = Ledger(settings.database_url)
    waiting, deadline = list(uids), time.monotonic() + seconds
    while waiting and not stop.is_set() and time.monotonic() < deadline:
        for uid in list(waiting):
            entry = ledger.find(uid)
            if entry is not None and entry.state in ENDS and all(d.state == "SENT" for d in ledger.deliveries(uid)):
                waiting.remove(uid)
                yield summary(entry, number=uids.index(uid) + 1)
        stop.wait(0.2)
    ledger.close()
    if waiting and not stop.is_set():
        raise GenuError(f"{len(waiting)} samples did not come to an end", hint="look at the admin page and the log")


ENDS = (State.DELIVERED, State.CONFIRMED, State.NOT_ANALYSED, State.FAILED)


def summary(entry: Entry, *, number: int) -> str:
    """How one radiograph ended, in a line."""
    reading = entry.reading or {}
    if entry.reason:
        return f"sample-{number}: {entry.state.lower().replace('_', ' ')}: {REASONS[entry.reason].meaning}"
    knees = [f"{knee['laterality']} KL {knee['grade']}" for knee in reading.get("knees", [])]
    return f"sample-{number}: {entry.state.lower()}: {', '.join(knees)}"


COMMANDS = (echo, probe, send, demo)
