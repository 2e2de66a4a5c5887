"""`genu echo`, `genu probe` and `genu send`: clients of other nodes, and of this one."""

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from importlib.metadata import entry_points
from pathlib import Path
from tempfile import TemporaryDirectory

import click
from pydicom.uid import UID, ExplicitVRLittleEndian

from node.deliver.fallbacks import FALLBACK_SOP_CLASSES
from node.errors import GenuError
from node.radiograph import SOP_CLASS_OF_KIND
from node.ris import check_connection, probe_ris
from node.scu import ProposedContext, SendResult, adhoc_destination
from node.scu import probe as accepted_classes
from node.scu import send as send_files
from node.settings import OPTIONAL_KINDS, Destination, Settings

LITTLE_ENDIAN = str(ExplicitVRLittleEndian)
KINDS = {uid: kind for kind, uid in SOP_CLASS_OF_KIND.items()}


@click.command()
@click.argument("name", required=False)
@click.pass_obj
def echo(settings: Settings, name: str | None) -> None:
    """
    Verify that the destination NAME answers (C-ECHO, for a RIS a connection or GET metadata); without a name, verify
    every destination and this node.
    """
    chosen = [destination_named(settings, name)] if name else [*settings.destination, this_node(settings)]
    failed = 0
    for target in chosen:
        label = "this node" if target.name == "-" else target.name
        try:
            check_connection(target, settings.deliver)
            click.echo(f"{label}: {target.address} answers")
        except GenuError as error:
            failed += 1
            click.echo(f"{label}: {error}", err=True)
    if failed:
        raise SystemExit(1)


@click.command()
@click.argument("name", required=False)
@click.pass_obj
def probe(settings: Settings, name: str | None) -> None:
    """
    Show which of Genu's objects the destination NAME, or every destination, accepts. Nothing is sent: an association
    proposes all their SOP classes. Ends with 1 if a destination does not answer, or does not accept what its
    [[destination]] objects lists.

    Segmentations and other extras that a destination does not accept are not sent to it. Pages are sent as single
    frames (SC1) where it accepts no multi-frame, and a Comprehensive 3D report as a Comprehensive one.

    A RIS is probed as its protocol allows: MLLP with a connection, a FHIR service with its capability statement.
    """
    failed = False
    for target in [destination_named(settings, name)] if name else settings.destination:
        try:
            if target.protocol != "dicom":
                description, suitable = probe_ris(target, settings.deliver)
                click.echo(f"{target.name}: {target.address}\n  {target.protocol:5} {description}")
                failed = failed or not suitable
                continue
            accepted = accepted_classes(
                target, [ProposedContext(uid, (LITTLE_ENDIAN,)) for uid in SOP_CLASS_OF_KIND.values()], settings.deliver
            )
        except GenuError as error:
            click.echo(f"{target.name}: {error}", err=True)
            failed = True
            continue
        click.echo(f"{target.name}: {target.address}")
        failed = not _print_classes(target, accepted, settings) or failed
    if failed:
        raise SystemExit(1)


def _print_classes(target: Destination, accepted: Collection[str], settings: Settings) -> bool:
    """Print which SOP classes the destination accepts. False if one that it should be sent is not accepted."""
    complete = True
    sr = "SR" if settings.work.sr_class == "comprehensive" else "SR3D"
    wanted = {sr if kind == "SR" else kind for kind in target.objects}
    for kind, uid in SOP_CLASS_OF_KIND.items():
        result = "accepted" if uid in accepted else "not accepted"
        fallback, _ = FALLBACK_SOP_CLASSES.get(uid, ("", None))
        missing = kind in wanted and uid not in accepted and fallback not in accepted and kind not in OPTIONAL_KINDS
        remark = " <- but it is listed in objects" if missing else ""
        if kind in wanted and uid in accepted:
            remark = " (sent)"
        elif kind in wanted and fallback in accepted:
            remark = f" (sent as {KINDS[fallback]})"
        click.echo(f"  {kind:5} {UID(uid).name:55} {result}{remark}")
        complete = complete and not missing
    return complete


@click.command()
@click.argument("files", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option(
    "--samples", is_flag=True, help="Send the rendered knees of `genu demo` instead of FILES; they show no patient."
)
@click.option("--to", "name", help="A destination in the settings; by default this node itself.")
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
        target = adhoc_destination(host, port, ae_title)
    elif host or port or ae_title:
        raise click.UsageError("--host, --port and --ae-title go together")
    else:
        target = _dicom(destination_named(settings, name)) if name else this_node(settings)
    with sample_files() if samples else nullcontext(_expanded(files)) as paths:
        rows = _with_progress(send_files(paths, target, settings.deliver), len(paths))
    stored = sum(row.stored for row in rows)
    click.echo(f"{stored} of {len(rows)} stored by {target.ae_title} at {target.host}:{target.port}")
    if stored < len(rows):
        raise SystemExit(1)


def _dicom(target: Destination) -> Destination:
    if target.protocol != "dicom":
        raise GenuError(f"{target.name} uses {target.protocol}", hint="name a destination that uses DICOM")
    return target


def _expanded(paths: tuple[Path, ...]) -> list[Path]:
    """The files, and those in the folders, by name."""
    groups = (sorted(path.rglob("*")) if path.is_dir() else [path] for path in paths)
    return [file for group in groups for file in group if file.is_file()]


@contextmanager
def sample_files() -> Iterator[list[Path]]:
    """The sample radiographs as files, for as long as the block lasts. Raises GenuError if no worker is installed."""
    try:
        samples = [sample for entry in entry_points(group="genu.samples") for sample in entry.load()()]
    except ModuleNotFoundError as error:
        raise GenuError(
            f"the samples are rendered with {error.name}, which is not installed", hint="pip install 'genu[worker-cpu]'"
        ) from error
    with TemporaryDirectory() as folder:
        files = [Path(folder) / f"sample-{number}.dcm" for number in range(1, len(samples) + 1)]
        for file, sample in zip(files, samples, strict=True):
            sample.save_as(file, enforce_file_format=True)
        yield files


def _with_progress(rows: Iterable[SendResult], count: int) -> list[SendResult]:
    """All rows; prints the error of a row as it comes, and the progress 20 times."""
    done: list[SendResult] = []
    for row in rows:
        done.append(row)
        if not row.stored:
            click.echo(f"{row.file}: {row.error}", err=True)
        elif count > 20 and len(done) % max(1, count // 20) == 0:
            click.echo(f"{len(done)} of {count}", err=True)
    return done


def this_node(settings: Settings) -> Destination:
    """This node's own receiver, as a destination."""
    host = "127.0.0.1" if settings.receive.host in ("0.0.0.0", "::") else settings.receive.host  # noqa: S104
    return adhoc_destination(host, settings.receive.port, settings.receive.ae_title)


def destination_named(settings: Settings, name: str) -> Destination:
    """The destination of that name. Raises GenuError with the names that exist."""
    for destination in settings.destination:
        if destination.name == name:
            return destination
    known = ", ".join(destination.name for destination in settings.destination) or "none"
    raise GenuError(
        f"there is no destination {name!r} in the settings; there are: {known}", hint="add a [[destination]]"
    )


COMMANDS = (echo, probe, send)
