"""The commands of `genu models`."""

import getpass
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import numpy as np

from node.errors import SettingsError
from node.settings import Settings
from workers.models.active_model import Wanted, existing_ledger, said, take, wanted_of
from workers.models.registry import REFINER, Model, folders, load, read_card, verified

by_whom = click.option("--by", default="", help="Who does this, for the history; by default your user name.")
as_json_too = click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")


@click.group(invoke_without_command=True)
@click.pass_context
def models(ctx: click.Context) -> None:
    """
    See which models there are, compare them, and say which one answers.

    A model is a card (TOML) and the files that it names. Shipped ones are part of Genu; a site's own lie in the
    folder `models` of its storage. One model answers. Another may run in shadow ([work] shadow): it grades the
    same films, what it says is kept in the ledger and never sent.

    \b
    Example: genu models                    which there are, and what each does
             genu models show kl-lite0      what one is for, and what it is not for
             genu models compare            the one that answers and the one in shadow
             genu models promote kl-next    kl-next answers from now on
             genu models rollback           no, the one before
    """
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_cards, as_json=False)


@models.command("list")
@as_json_too
@click.pass_obj
def list_cards(settings: Settings, as_json: bool) -> None:
    """
    List every card: what it is, what it does here, how good it was on val, how many films it answered.

    A card that cannot be used is listed with the reason.

    \b
    Example: genu models list --json
    """
    from workers.models.card_list import listed, table

    told = listed(settings)
    click.echo(json.dumps([each.as_json() for each in told]) if as_json else table(told))


@models.command()
@click.argument("card")
@click.pass_obj
def show(settings: Settings, card: str) -> None:
    """
    Show the whole card of a model, and examine its files now; end with 1 if they are not what the card says.

    \b
    Example: genu models show kl-lite0
    """
    from workers.models.card_list import in_full

    found = read_card(card, folders(settings))
    try:
        home: Path | None = verified(found, settings.work.engine, folders(settings))
        fault = ""
    except SettingsError as error:
        home, fault = None, str(error)
    click.echo(in_full(found, home))
    if fault:
        click.echo(f"genu: {fault}", err=True)
        raise SystemExit(1)


@models.command()
@click.argument("cards", nargs=-1)
@click.option(
    "--data", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Also on the knees of its labels.csv."
)
@click.option("--split", default="val", show_default=True, help="Which split of labels.csv.")
@as_json_too
@click.pass_obj
def compare(settings: Settings, cards: tuple[str, ...], data: Path | None, split: str, as_json: bool) -> None:
    """
    Compare two models on the radiographs that one answered while the other graded them in shadow.

    CARDS are two; the one that answers takes the place of the first if you name one, and [work] shadow that of the
    second if you name none. With --data both grade labelled knees as well, and the difference of their figures
    comes with a 95 % interval over patients.

    \b
    Example: genu models compare
             genu models compare kl-lite0 kl-next --data knees --split val
    """
    from workers.evaluation.comparison import on_films, say

    cards = _two(settings, cards)
    one, other = (read_card(each, folders(settings)).identity for each in cards)
    with existing_ledger(settings) as ledger:
        films = on_films(ledger.paired_readings(one, other) if ledger else [])
    knees = _on_knees(settings, cards, data, split) if data else None
    told = {"models": [asdict(one), asdict(other)], "films": films, "knees": knees}
    click.echo(json.dumps(told) if as_json else say(one, other, films, knees))


def _two(settings: Settings, cards: tuple[str, ...]) -> tuple[str, str]:
    if len(cards) > 2:
        raise click.UsageError("name two cards at most")
    if len(cards) == 2:
        return cards[0], cards[1]
    first, second = wanted_of(settings).card, cards[0] if cards else settings.work.shadow
    if not second:
        raise click.UsageError("nothing runs in shadow: name two cards, or set [work] shadow")
    if first == second:
        raise click.UsageError(f"{first} is the one that answers: name another to compare it with")
    return first, second


def _on_knees(settings: Settings, cards: tuple[str, ...], data: Path, split: str) -> dict[str, Any]:
    from workers.evaluation.comparison import on_knees
    from workers.evaluation.evaluate import answers
    from workers.evaluation.labelled_knees import read_labels

    knees = read_labels(data, split)
    looker = load(REFINER, engine=settings.work.engine, within=folders(settings))

    def grades(model: Model) -> Any:
        calibration = model.card.calibration
        return calibration.grades(calibration.probabilities(answers(model, knees, looker).logits))

    one, other = (grades(take(Wanted(card, "compared"), settings)) for card in cards)
    truth = np.array([knee.kl for knee in knees])
    return on_knees(truth, one, other, [knee.patient for knee in knees])


@models.command()
@click.argument("card")
@by_whom
@click.pass_obj
def promote(settings: Settings, card: str, by: str) -> None:
    """
    Let the model of CARD answer from now on; it is examined, loaded and tried first.

    Running workers take it up as soon as they have loaded it; a film in hand is finished by the model that began it.
    What was answered before stays as it is.

    \b
    Example: genu models promote kl-next --by "M. Curie"
    """
    from workers.models.promotion import promote as take_over

    done = take_over(settings, card, by or _user())
    if done.before == done.now:
        click.echo(f"{said(done.now.model)} answers already.")
        return
    click.echo(f"{said(done.before.model)} answered until now.\n{said(done.now.model)} answers from now on.")


@models.command()
@by_whom
@click.pass_obj
def rollback(settings: Settings, by: str) -> None:
    """
    Let the model that answered before answer again; call it twice to go back two steps.

    The history keeps every step. What was answered stays as it is.

    \b
    Example: genu models rollback --by "M. Curie"
    """
    from workers.models.promotion import roll_back

    done = roll_back(settings, by or _user())
    click.echo(f"{said(done.before.model)} answered until now.\n{said(done.now.model)} answers again.")


@models.command()
@as_json_too
@click.pass_obj
def history(settings: Settings, as_json: bool) -> None:
    """
    Tell which model was made to answer when and by whom, and which answered how many films.

    \b
    Example: genu models history --json
    """
    from workers.models.card_list import uses_of

    with existing_ledger(settings) as ledger:
        changes, uses = ledger.model_changes() if ledger else [], uses_of(ledger)
    if as_json:
        told = [
            {
                "at": change.at.isoformat(timespec="seconds"),
                "what": change.what,
                "card": change.card,
                "card_sha256": change.card_sha256,
                **asdict(change.model),
                "by": change.by,
            }
            for change in changes
        ]
        click.echo(json.dumps({"changes": told, "answers": uses}))
        return
    for change in changes:
        click.echo(f"{change.at:%Y-%m-%d %H:%M:%S} {change.what:12} {said(change.model)} by {change.by}")
    if not changes:
        click.echo("Nothing was promoted yet: the shipped model answers.")
    for use in uses:
        model = f"{use['name']} {use['version']} ({use['sha256'][:12]})"
        click.echo(f"{model} answered {use['films']} films from {use['since']} to {use['until']}")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        return f"user {os.getuid()}"
