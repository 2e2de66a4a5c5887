"""One model takes over from another, or gives back: tried first, then written into the ledger, which workers follow."""

from dataclasses import dataclass

from node.errors import GenuError
from node.finding import ModelIdentity
from node.ledger import CardState, Ledger
from node.ledger.model_history import previous_model
from node.settings import Settings
from workers.models.active_model import Wanted, said, state_of, take, wanted
from workers.models.card_list import readable
from workers.models.registry import Card, folders, read_card


@dataclass(frozen=True)
class Exchange:
    """Which card's model answered until now, and which does from now on; the same if there was nothing to do."""

    before: CardState
    now: CardState


def promote(settings: Settings, card: str, by: str) -> Exchange:
    """
    The model of `card` answers from now on.

    Raises
    ------
    GenuError
        If the settings pin a model, or this one cannot be used, is no grader, or would be taken for another.
    """
    _must_be_free(settings)
    now = _state(take(Wanted(card, "to be promoted"), settings).card)
    _must_be_told_apart(settings, card, now.model)
    ledger = _opened(settings)
    try:
        asked = wanted(settings, ledger)
        until_now = asked.state or _state(read_card(asked.card, folders(settings)))
        if until_now != now:
            ledger.promote(now, by, previous=until_now)
    finally:
        ledger.close()
    return Exchange(until_now, now)


def roll_back(settings: Settings, by: str) -> Exchange:
    """
    The model that answered before does so again.

    Raises
    ------
    GenuError
        If the settings pin a model, none answered before, or it is not any more what it was then.
    """
    _must_be_free(settings)
    ledger = _opened(settings)
    try:
        history = ledger.model_changes()
        to = previous_model(history)
        if to is None:
            raise GenuError("no other model answered before this one", hint="`genu models history` shows all changes")
        take(Wanted(to.card, "answering before", state_of(to)), settings)
        if not ledger.roll_back(to, by):
            raise GenuError("somebody has changed the model meanwhile", hint="look at `genu models history`")
    finally:
        ledger.close()
    return Exchange(state_of(history[-1]), state_of(to))


def _state(card: Card) -> CardState:
    return CardState(card.stem, card.sha256, card.identity)


def _must_be_free(settings: Settings) -> None:
    pinned = settings.work.model
    if pinned:
        raise GenuError(
            f'[work] model = "{pinned}" in the settings says which model answers: nothing else can take over',
            hint="take it out of genu.toml, and GENU__WORK__MODEL out of the environment, and restart the workers",
        )


def _must_be_told_apart(settings: Settings, card: str, model: ModelIdentity) -> None:
    """Results and ledger know a model by name, version and hash; two cards that share a version would be one."""
    for other in readable(folders(settings)):
        if other.stem != card and (other.name, other.version) == (model.name, model.version):
            raise GenuError(
                f"the cards {card} and {other.stem} are both {said(model)}: nobody could tell their answers apart",
                hint="give one of them a version of its own",
            )


def _opened(settings: Settings) -> Ledger:
    ledger = Ledger(settings.database_url)
    ledger.upgrade()
    return ledger
