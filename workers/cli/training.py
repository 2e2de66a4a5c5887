"""The commands `genu train`, `evaluate`, `audit` and `calibrate`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from node.settings import Settings
from workers.models.registry import REFINER, card_names, folders, load

if TYPE_CHECKING:
    from workers.models.registry import Model

data_option = click.option(
    "--data",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder with labels.csv.",
)


@click.command()
@data_option
@click.option("--split", default="val", show_default=True, help="Which split of labels.csv to evaluate on.")
@click.option("--model", default="", help="Card of the model to evaluate; default: the active one.")
@click.option("--engine", default="", help="openvino or torch; default: the card's.")
@click.option("--stress", is_flag=True, help="Also evaluate on the same knees shifted, turned, inverted and so on.")
@click.option("--films", is_flag=True, help="Evaluate on whole films, composed of the knees, instead.")
@click.option("--count", default=500, show_default=True, type=click.IntRange(1), help="With --films: how many.")
@click.option("--gate", "refusals", is_flag=True, help="Evaluate refusals, laterality and polarity instead.")
@click.option(
    "--report", type=click.Path(dir_okay=False, path_type=Path), help="Also write the model's page, one HTML file."
)
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
@click.pass_obj
def evaluate(
    settings: Settings,
    data: Path,
    split: str,
    model: str,
    engine: str,
    stress: bool,
    films: bool,
    count: int,
    refusals: bool,
    report: Path | None,
    as_json: bool,
) -> None:
    """
    Evaluate a model on labelled knees: a folder with labels.csv (path, patient, side, kl, split[, inverted]).

    Every metric has a 95 % interval from 1,000 bootstrap samples of patients. --stress grades the knees eleven more
    times, each time changed as another film of them may differ, and prints the change of accuracy (at most 2 points
    should be lost) and of the grades. --report writes an HTML page: intended use, data, plots of the metrics, and
    wrongly graded knees, without file names or patients.

    --films composes whole films of the knees, with a fixed seed, and prints how many joints are detected, how well
    their boxes fit, and how often the grade equals that of the crop. --gate analyses each knee with an empty header
    and prints refusals by reason, laterality from the image, and negatives that are inverted (--split "": all).

    \b
    Example: genu evaluate --data knees --stress --report model.html
    """
    from workers.evaluation.labelled_films import grader_of
    from workers.models.active_model import requested_model_of_node

    _check_options(node=films + refusals, crops=stress or report is not None, report=report)
    grader = grader_of(model or requested_model_of_node(settings).card, settings, engine=engine)
    if refusals:
        figures, words = _on_refusals(grader, data, split, settings)
    elif films:
        figures, words = _on_films(grader, data, split, settings, count)
    else:
        figures, words = _on_crops(grader, data, split, settings, stress=stress, report=report)
    click.echo(json.dumps(figures) if as_json else words)


def _check_options(*, node: int, crops: bool, report: Path | None) -> None:
    """Raise, before the work, for options that exclude each other and for a page that could not be written."""
    if node > 1 or (node and crops):
        raise click.UsageError("--films and --gate evaluate the node: give one of them, without --stress and --report")
    if report:
        from workers.evaluation import page

        page.require_folder(report)


def _on_films(grader: "Model", data: Path, split: str, settings: Settings, count: int) -> tuple[dict[str, Any], str]:
    """The metrics of a grader on films composed of labelled knees, and the same as text."""
    from workers.training import film_evaluation

    figures = film_evaluation.evaluate_films(grader, data, split, settings, count)
    return figures, film_evaluation.format_film_figures(figures)


def _on_refusals(grader: "Model", data: Path, split: str, settings: Settings) -> tuple[dict[str, Any], str]:
    """Refusals, laterality and polarity of labelled knees; and the same as text."""
    from workers.evaluation import refusals

    figures = refusals.evaluate_eligibility(grader, data, split, settings)
    return figures, refusals.format_refusals(figures)


def _on_crops(
    grader: "Model", data: Path, split: str, settings: Settings, *, stress: bool, report: Path | None
) -> tuple[dict[str, Any], str]:
    """The metrics of a grader on labelled knees, and the same as text; with `report` the page is written."""
    from workers.evaluation.evaluate import evaluate, format_figures
    from workers.evaluation.stress import format_rows, run_stress_test

    refiner = load(REFINER, engine=settings.work.engine, within=folders(settings))
    evaluation = evaluate(grader, data, split, refiner)
    words = [format_figures(evaluation.figures)]
    if stress:
        evaluation.figures["stress"] = run_stress_test(evaluation, settings)
        words.append(format_rows(evaluation.figures["stress"]))
    if report:
        from workers.evaluation import page

        page.write_model_page(evaluation, report)
    return evaluation.figures, "\n\n".join(words)


@click.command()
@data_option
@click.option("--split", default="val", show_default=True, help="Which split of labels.csv to audit.")
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder of the page.")
@click.option("--model", default="", help="Card of the model to audit; default: the active one.")
@click.option(
    "--planted", "artefacts", is_flag=True, help="Also insert markers, text, borders and metal into the same knees."
)
@click.option(
    "--cheating",
    "shortcut",
    is_flag=True,
    help="Also train a copy of the model on a shortcut, and count its flags.",
)
@click.option("--count", default=0, type=click.IntRange(0), help="Audit so many knees, at random; 0: all.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@click.pass_obj
def audit(
    settings: Settings,
    data: Path,
    split: str,
    out: Path,
    model: str,
    artefacts: bool,
    shortcut: bool,
    count: int,
    as_json: bool,
) -> None:
    """
    Show what a model's grades are based on: a page of every knee that it graded wrong, and figures.

    OUT/index.html opens from disk: film and maps of each wrong knee, the contribution of each region to the decision,
    red flags, filters. OUT/summary.json has how many errors are one grade or have their attention outside the joint,
    how faithful the maps are (deletion and insertion against a map of the centre and against chance), and with
    --planted how many grades that depend on an inserted marker, text, border or metal are flagged. --cheating trains a
    copy of the model on knees of the split train whose grade a numeral gives away, which takes some minutes, and
    counts how many of its grades that follow a numeral are flagged. The page contains the file names of the knees:
    store it where they are stored.

    \b
    Example: genu audit --data knees --split val --planted --out audit
    """
    from workers.evaluation.labelled_films import grader_of
    from workers.models.active_model import requested_model_of_node
    from workers.training.audit.run import audit as run
    from workers.training.audit.run import format_audit

    grader = grader_of(model or requested_model_of_node(settings).card, settings)
    figures = run(
        grader, data, split, out, settings, with_artefacts=artefacts, with_shortcut_model=shortcut, count=count
    )
    click.echo(json.dumps(figures) if as_json else format_audit(figures, out))


@click.command()
@click.argument("card", type=click.Choice(card_names()))
@data_option
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Checkpoints and log.")
def train(card: str, data: Path, out: Path) -> None:
    """
    Train the model of CARD again, by the recipe in the card.

    If interrupted, it resumes from its last epoch when called again with the same --out. At the end --out contains
    the weights, the graph and the finished card. To use them, give the card its own name and version and copy the
    files into the folder models of the storage (`genu models`). OUT/CARD/log.jsonl has a line for each epoch, and
    log.svg plots them.
    """
    from workers.training.train import train as run

    run(card, data, out)


@click.command()
@data_option
@click.option("--split", default="", help="Which split of labels.csv to use; needed where it has several.")
@click.option("--model", default="", help="Card of the model to calibrate; default: the active one.")
@click.option("--name", required=True, help="Name of the new card, e.g. kl-lite2-site.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the new card; default: models, in storage.",
)
@click.pass_obj
def calibrate(settings: Settings, data: Path, split: str, model: str, name: str, out: Path | None) -> None:
    """
    Calibrate a model's probabilities and prediction sets on your own films, and write a new card for it.

    The folder --data contains labels.csv with the columns path, patient, side (R or L) and kl (0 to 4, as read by
    your own readers); a path is a DICOM film, or the crop of one joint as PNG or JPEG. The network is unchanged: the
    temperature of its probabilities and the thresholds of its sets are fitted. That needs at least 100 knees of 50
    patients; aim for 50 knees of each grade. The figures printed for the new card are cross-fitted: each knee is
    evaluated with a calibration that was fitted without its patient.

    The new card has its own version and is not used before `genu models promote NAME`.

    \b
    Example: genu calibrate --data our-films --name kl-lite2-site
    """
    from workers.evaluation.site_calibration import calibrate as run
    from workers.evaluation.site_calibration import format_calibration
    from workers.models.active_model import requested_model_of_node

    click.echo(
        format_calibration(run(settings, data, split, model or requested_model_of_node(settings).card, name, out))
    )
