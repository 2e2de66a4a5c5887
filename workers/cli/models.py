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
from workers.models.active_model import (
    RequestedModel,
    existing_ledger,
    load_checked,
    model_label,
    requested_model_of_node,
)
from workers.models.registry import REFINER, Model, folders, load, read_card, verified_folder

by_option = click.option("--by", default="", help="Who does this, for the history; default: your user name.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(invoke_without_command=True)
@click.pass_context
def models(ctx: click.Context) -> None:
    """
    List models, compare them, and choose the active one.

    A model is a card (TOML) and the files that it names. Some are shipped with Genu; a site's own lie in the
    folder `models` of its storage. One model is active. Another may run in shadow ([work] shadow): it grades the
    same films, and its grades are recorded in the ledger and never sent.

    \b
    Example: genu models                    list all models and their roles
             genu models show kl-lite2      what one is for, and what it is not for
             genu models compare            the active model and the one in shadow
             genu models promote kl-next    make kl-next the active model
             genu models rollback           return to the one before
    """
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_cards, as_json=False)


@models.command("list")
@json_option
@click.pass_obj
def list_cards(settings: Settings, as_json: bool) -> None:
    """
    List every card: model, kind, role, accuracy on val, and how many films it graded.

    A card that cannot be used is listed with the reason.

    \b
    Example: genu models list --json
    """
    from workers.models.card_list import card_listings, table

    listings = card_listings(settings)
    click.echo(json.dumps([listing.as_json() for listing in listings]) if as_json else table(listings))


@models.command()
@click.argument("card")
@click.pass_obj
def show(settings: Settings, card: str) -> None:
    """
    Show the whole card of a model and verify its files now; exit with 1 if they are not those of the card.

    \b
    Example: genu models show kl-lite2
    """
    from workers.models.card_list import card_as_text

    model_card = read_card(card, folders(settings))
    try:
        folder: Path | None = verified_folder(model_card, settings.work.engine, folders(settings))
        fault = ""
    except SettingsError as error:
        folder, fault = None, str(error)
    click.echo(card_as_text(model_card, folder))
    if fault:
        click.echo(f"genu: {fault}", err=True)
        raise SystemExit(1)


@models.command()
@click.argument("cards", nargs=-1)
@click.option(
    "--data", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Also on the knees of its labels.csv."
)
@click.option("--split", default="val", show_default=True, help="Which split of labels.csv.")
@json_option
@click.pass_obj
def compare(settings: Settings, cards: tuple[str, ...], data: Path | None, split: str, as_json: bool) -> None:
    """
    Compare two models on the radiographs that one graded as the active model and the other in shadow.

    CARDS are two names. If you name one, it is compared with the active model; if you name none, the active model is
    compared with [work] shadow. With --data both also grade labelled knees, and the difference of each metric has a
    95 % interval over patients.

    \b
    Example: genu models compare
             genu models compare kl-lite2 kl-next --data knees --split val
    """
    from workers.evaluation.comparison import compare_on_films, format_comparison

    cards = _two_cards(settings, cards)
    one, other = (read_card(card, folders(settings)).identity for card in cards)
    with existing_ledger(settings) as ledger:
        films = compare_on_films(ledger.paired_readings(one, other) if ledger else [])
    knees = _compare_on_knees(settings, cards, data, split) if data else None
    comparison = {"models": [asdict(one), asdict(other)], "films": films, "knees": knees}
    click.echo(json.dumps(comparison) if as_json else format_comparison(one, other, films, knees))


def _two_cards(settings: Settings, cards: tuple[str, ...]) -> tuple[str, str]:
    if len(cards) > 2:
        raise click.UsageError("name two cards at most")
    if len(cards) == 2:
        return cards[0], cards[1]
    first, second = requested_model_of_node(settings).card, cards[0] if cards else settings.work.shadow
    if not second:
        raise click.UsageError("nothing runs in shadow: name two cards, or set [work] shadow")
    if first == second:
        raise click.UsageError(f"{first} is the active model: name another to compare it with")
    return first, second


def _compare_on_knees(settings: Settings, cards: tuple[str, ...], data: Path, split: str) -> dict[str, Any]:
    from workers.evaluation.comparison import compare_on_knees
    from workers.evaluation.evaluate import calibration_inputs
    from workers.evaluation.labelled_knees import read_labels

    knees = read_labels(data, split)
    refiner = load(REFINER, engine=settings.work.engine, within=folders(settings))

    def grades(model: Model) -> Any:
        calibration = model.card.calibration
        return calibration.grades(calibration.probabilities(calibration_inputs(model, knees, refiner).logits))

    one, other = (grades(load_checked(RequestedModel(card, "compared"), settings)) for card in cards)
    truth = np.array([knee.kl for knee in knees])
    return compare_on_knees(truth, one, other, [knee.patient for knee in knees])


@models.command()
@click.argument("card")
@by_option
@click.pass_obj
def promote(settings: Settings, card: str, by: str) -> None:
    """
    Make the model of CARD the active one; it is verified, loaded and tried first.

    Running workers switch to it as soon as they have loaded it; a film in progress is finished by the old model.
    Films graded before keep their results.

    \b
    Example: genu models promote kl-next --by "M. Curie"
    """
    from workers.models.promotion import promote as promote_card

    promotion = promote_card(settings, card, by or _user())
    if promotion.before == promotion.now:
        click.echo(f"{model_label(promotion.now.model)} is active already.")
        return
    click.echo(f"{model_label(promotion.before.model)} was active until now.")
    click.echo(f"{model_label(promotion.now.model)} is active from now on.")


@models.command()
@by_option
@click.pass_obj
def rollback(settings: Settings, by: str) -> None:
    """
    Make the model that was active before active again; call it twice to go back two steps.

    The history records every step. Films graded before keep their results.

    \b
    Example: genu models rollback --by "M. Curie"
    """
    from workers.models.promotion import roll_back

    promotion = roll_back(settings, by or _user())
    click.echo(f"{model_label(promotion.before.model)} was active until now.")
    click.echo(f"{model_label(promotion.now.model)} is active again.")


@models.command()
@json_option
@click.pass_obj
def history(settings: Settings, as_json: bool) -> None:
    """
    Show which model was made active when and by whom, and how many films each graded.

    \b
    Example: genu models history --json
    """
    from workers.models.card_list import model_uses

    with existing_ledger(settings) as ledger:
        changes, uses = ledger.model_changes() if ledger else [], model_uses(ledger)
    if as_json:
        entries = [
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
        click.echo(json.dumps({"changes": entries, "answers": uses}))
        return
    for change in changes:
        click.echo(f"{change.at:%Y-%m-%d %H:%M:%S} {change.what:12} {model_label(change.model)} by {change.by}")
    if not changes:
        click.echo("Nothing was promoted yet: the shipped model is active.")
    for use in uses:
        model = f"{use['name']} {use['version']} ({use['sha256'][:12]})"
        click.echo(f"{model} graded {use['films']} films from {use['since']} to {use['until']}")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        return f"user {os.getuid()}"
