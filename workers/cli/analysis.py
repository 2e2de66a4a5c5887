"""The commands `genu work`, `grade` and `read`."""

import json
import sys
from pathlib import Path

import click

from node.errors import GenuError
from node.settings import Settings


@click.command()
@click.option("--name", default="", help="Name of this worker on this host; by default its process id.")
@click.pass_obj
def work(settings: Settings, name: str) -> None:
    """Grade what is received, until stopped. Start as many as there are GPUs, or one for every two cores."""
    from workers.worker import run

    run(settings, name)


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder for the result objects.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a file, each on a line of its own.")
@click.option(
    "--model",
    default="",
    help="Card of the model; default: [work] model, else the promoted one, else the shipped one.",
)
@click.option("--side", type=click.Choice(["R", "L"]), help="Side of the knees on PNG and JPEG files, if you know it.")
@click.pass_obj
def grade(
    settings: Settings, files: tuple[Path, ...], out: Path | None, as_json: bool, model: str, side: str | None
) -> None:
    """
    Grade FILES (DICOM, PNG or JPEG; folders are searched) without a network and without a node. Only the ledger is
    read, also on PostgreSQL, for the promoted model, unless --model or [work] model names one.

    For DICOM files the objects that are sent to a destination by default (pages, report, Segmentation) are written
    to --out. Exits with 1 if any file failed; a file that is not analysed for a reason is no failure. Each grade is
    followed by its probability and the grades that could not be ruled out; --json has them as confidence and
    certainty (deploy/CONFORMANCE.md lists the keys).

    \b
    Example: genu grade study/*.dcm --out results --json
    """
    from workers.cli.file_grading import FileGrader, reading_text

    failed = False
    with FileGrader(settings, model=model, out=out, side=side) as grader:
        for reading in grader.grade(list(files), progress=not as_json and sys.stderr.isatty()):
            click.echo(json.dumps(reading, ensure_ascii=False) if as_json else reading_text(reading))
            failed = failed or reading["outcome"] == "failed"
    if failed:
        raise SystemExit(1)


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a file, each on a line of its own.")
def read(files: tuple[Path, ...], as_json: bool) -> None:
    """
    Print the content of Genu's result objects: FILES are its reports, Secondary Captures and Segmentations (DICOM).

    --json prints the same JSON as `genu grade`, except for the names of files. A report that has lost its private
    attributes in transfer is read from its codes; landmarks and attention are then missing. Exits with 1 if a file
    could not be read.

    \b
    Example: genu read study/*.dcm --json
    From Python: from workers.report import read_result
    """
    from workers.cli.file_grading import reading_text
    from workers.report import read_result

    failed = False
    for file in files:
        try:
            reading = {"file": str(file), **read_result(file).as_json()}
        except GenuError as error:
            click.echo(str(error), err=True)
            failed = True
            continue
        click.echo(json.dumps(reading, ensure_ascii=False) if as_json else reading_text(reading))
    if failed:
        raise SystemExit(1)
