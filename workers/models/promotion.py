"""Promotion and rollback of a model: checked first, then recorded in the ledger, which the workers follow."""

from dataclasses import dataclass

from node.errors import GenuError
from node.finding import ModelIdentity
from node.ledger import CardState, Ledger
from node.ledger.model_history import previous_model
from node.settings import Settings
from workers.models.active_model import (
    RequestedModel,
    card_state_of,
    load_checked,
    model_label,
    requested_model,
)
from workers.models.card_list import readable_cards
from workers.models.registry import Card, folders, read_card


@dataclass(frozen=True)
class Promotion:
    """The card that was active before and the one that is active now; equal if there was nothing to do."""

    before: CardState
    now: CardState


def promote(settings: Settings, card: str, by: str) -> Promotion:
    """
    Make the model of `card` the active one.

    Raises
    ------
    GenuError
        If the settings pin a model, or this one cannot be used, is no grader, or has another's name and version.
    """
    _refuse_pinned(settings)
    now = _state(load_checked(RequestedModel(card, "to be promoted"), settings).card)
    _refuse_same_version(settings, card, now.model)
    ledger = _open_ledger(settings)
    try:
        request = requested_model(settings, ledger)
        previous = request.state or _state(read_card(request.card, folders(settings)))
        if previous != now:
            ledger.promote(now, by, previous=previous)
    finally:
        ledger.close()
    return Promotion(previous, now)


def roll_back(settings: Settings, by: str) -> Promotion:
    """
    Make the model that was active before the current one active again.

    Raises
    ------
    GenuError
        If the settings pin a model, none was active before, or its card has changed since.
    """
    _refuse_pinned(settings)
    ledger = _open_ledger(settings)
    try:
        history = ledger.model_changes()
        to = previous_model(history)
        if to is None:
            raise GenuError("no other model was active before this one", hint="`genu models history` lists all changes")
        load_checked(RequestedModel(to.card, "active before", card_state_of(to)), settings)
        if not ledger.roll_back(to, by):
            raise GenuError("the model was changed meanwhile", hint="see `genu models history`")
    finally:
        ledger.close()
    return Promotion(card_state_of(history[-1]), card_state_of(to))


def _state(card: Card) -> CardState:
    return CardState(card.stem, card.sha256, card.identity)


def _refuse_pinned(settings: Settings) -> None:
    pinned = settings.work.model
    if pinned:
        raise GenuError(
            f'[work] model = "{pinned}" in the settings pins the active model',
            hint="remove it from genu.toml, and GENU__WORK__MODEL from the environment, and restart the workers",
        )


def _refuse_same_version(settings: Settings, card: str, model: ModelIdentity) -> None:
    """Results and ledger identify a model by name, version and hash: two cards must not share a name and version."""
    for other in readable_cards(folders(settings)):
        if other.stem != card and (other.name, other.version) == (model.name, model.version):
            raise GenuError(
                f"the cards {card} and {other.stem} are both {model_label(model)}: results could not tell them apart",
                hint="give one of them another version",
            )


def _open_ledger(settings: Settings) -> Ledger:
    ledger = Ledger(settings.database_url)
    ledger.upgrade()
    return ledger
