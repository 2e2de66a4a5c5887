"""The commands of `genu` that need the workers: work, grade, evaluate, train."""

import json
import sys
from pathlib import Path

import click

from node.settings import Settings
from workers.registry import folders, load, names


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
    help="Card of the model that answers; default: the one that answers in the node, else the shipped one.",
)
@click.option("--side", type=click.Choice(["R", "L"]), help="Side of the knees on PNG and JPEG files, if you know it.")
@click.pass_obj
def grade(
    settings: Settings, files: tuple[Path, ...], out: Path | None, as_json: bool, model: str, side: str | None
) -> None:
    """
    Grade FILES (DICOM, PNG or JPEG; folders are searched) without a network and without a node.

    For DICOM files the same Secondary Capture and Structured Report are written to --out as would be
    sent. Ends with 1 if any file failed; a file that is not analysed for a reason is no failure.

    \b
    Example: genu grade study/*.dcm --out results --json
    """
    from workers.desk import Desk, say

    failed = False
    with Desk(settings, model=model, out=out, side=side) as desk:
        for told in desk.grade(list(files), progress=not as_json and sys.stderr.isatty()):
            click.echo(json.dumps(told, ensure_ascii=False) if as_json else say(told))
            failed = failed or told["outcome"] == "failed"
    if failed:
        raise SystemExit(1)


@click.command()
@click.option(
    "--data",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder with labels.csv.",
)
@click.option("--split", default="val", show_default=True, help="Which split of labels.csv to judge on.")
@click.option("--model", default="", help="Card of the model to judge; default: the one that answers.")
@click.option("--engine", default="", help="openvino or torch; default: the card's.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
@click.pass_obj
def evaluate(settings: Settings, data: Path, split: str, model: str, engine: str, as_json: bool) -> None:
    """
    Judge a model on labelled knees: a folder with labels.csv (path, patient, side, kl, split[, inverted]).

    Every figure comes with a 95 % interval from 1,000 draws of whole patients.
    """
    from workers.standing import wanted_of
    from workers.training.evaluate import evaluate as judge
    from workers.training.evaluate import say

    card = model or wanted_of(settings).card
    loaded = load(card, engine=engine, threads=settings.work.threads, within=folders(settings))
    figures = judge(loaded, data, split)
    click.echo(json.dumps(figures) if as_json else say(figures))


@click.command()
@click.argument("card", type=click.Choice(names()))
@click.option(
    "--data",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder with labels.csv.",
)
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Checkpoints and log.")
def train(card: str, data: Path, out: Path) -> None:
    """
    Train the model that CARD describes again, by the recipe written in the card.

    Interrupted, it goes on from its last epoch when called again with the same --out. At the end --out
    holds the weights, the graph and the finished card; copy them into the folder models of the storage
    to use them (`genu models`).
    """
    from workers.training.train import train as run

    run(card, data, out)
