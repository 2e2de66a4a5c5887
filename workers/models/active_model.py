"""Which model answers: the one that the settings name, else the one promoted last, else the one that is shipped."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import structlog

from node.errors import SettingsError, Transient
from node.finding import Laterality, ModelIdentity
from node.ledger import CardState, Ledger, ModelChange
from node.settings import Settings
from workers.detection.detect import open_eyes
from workers.detection.joints import Knee
from workers.explanation.grad_cam import explain
from workers.grading.grader import grade_crops
from workers.models.registry import DEFAULT, Card, Model, folders, load
from workers.preprocessing import Box

log = structlog.get_logger()

AGAIN_SECONDS = 30.0
"""So long a model that could not be loaded is left alone: to try it costs the films beside it their time."""


@dataclass(frozen=True)
class Wanted:
    """
    The card that should answer, and whose word that is.

    `state` is the card as it was promoted: one that says something else today does not answer in its name.
    """

    card: str
    source: str
    state: CardState | None = None


def wanted(settings: Settings, ledger: Ledger | None) -> Wanted:
    """What should answer now; `ledger` is None where there is none to ask."""
    if settings.work.model:
        return Wanted(settings.work.model, "[work] model")
    change = ledger.active_model() if ledger else None
    if change is None:
        return Wanted(DEFAULT, "shipped")
    return Wanted(change.card, f"{change.what} by {change.by}", state_of(change))


def state_of(change: ModelChange) -> CardState:
    """The card of a change as it was then."""
    return CardState(change.card, change.card_sha256, change.model)


@contextmanager
def existing_ledger(settings: Settings) -> Iterator[Ledger | None]:
    """The node's ledger for a command that runs beside it, or without one: none is made by asking."""
    ledger = Ledger.open_existing(settings.database_url)
    try:
        yield ledger
    finally:
        if ledger:
            ledger.close()


def wanted_of(settings: Settings) -> Wanted:
    """What should answer, asked from outside of the node."""
    if settings.work.model:
        return wanted(settings, None)
    try:
        with existing_ledger(settings) as ledger:
            return wanted(settings, ledger)
    except Transient as fault:
        raise SettingsError(
            f"the ledger that knows which model answers is away: {fault.what.partition(chr(10))[0]}",
            hint="name a model with --model CARD, or pin one with [work] model",
        ) from fault


def take(asked: Wanted, settings: Settings) -> Model:
    """
    The model, checked, loaded and tried on a blank knee.

    Raises
    ------
    SettingsError
        If it cannot be used, is no grader, or is not the one that was promoted.
    """
    work = settings.work
    model = load(asked.card, engine=work.engine, threads=work.threads, within=folders(settings))
    card = model.card
    if card.kind != "grader":
        raise SettingsError(f"the card {asked.card} is a {card.kind}: it gives no grades", hint="see `genu models`")
    change = changed(card, asked)
    if change:
        raise SettingsError(
            f"the card {asked.card} {change}",
            hint=f"put the old card back, or `genu models promote {asked.card}` to let the new one answer",
        )
    _try(model)
    return model


def changed(card: Card, asked: Wanted) -> str:
    """What has become of the card since it was promoted; "" if nothing has, or it never was."""
    then = asked.state
    if then is None or card.sha256 == then.sha256:
        return ""
    if card.identity != then.model:
        return f"is {said(card.identity)} today, but {said(then.model)} was {asked.source}"
    return f"says something else today than when it was {asked.source}"


def check(settings: Settings) -> str:
    """What `genu check` says of the models; raises what keeps a worker, or the model in shadow, from its work."""
    work, asked = settings.work, wanted_of(settings)
    eyes = open_eyes(engine=work.engine, threads=work.threads, within=folders(settings))
    answering = take(asked, settings)
    told = f"{_on(eyes.finder)} finds, {_on(eyes.looker)} looks at each, {_on(eyes.teller)} tells how they hang, "
    told += f"{_on(eyes.reader)} reads lead letters, {_on(eyes.marker)} names what lies beside the bones, "
    told += f"{_on(answering)} answers ({asked.source})"
    if not work.shadow:
        return told
    if work.shadow == asked.card:
        return f"{told}; [work] shadow names the same card: nothing runs in shadow"
    return f"{told}, {_on(take(Wanted(work.shadow, '[work] shadow'), settings))} runs in shadow"


def _on(model: Model) -> str:
    return f"{model.card.name} {model.card.version} on {model.run.name}"


def said(model: ModelIdentity) -> str:
    """A model in a few words: name, version, and the start of its weights' hash."""
    return f"{model.name} {model.version} ({model.sha256[:12]})"


def _try(model: Model) -> None:
    """A blank knee goes the way of every knee: what is taken is known to grade and to explain."""
    card = model.card
    blank = np.zeros((card.input_size, card.input_size), np.float32)
    knee = Knee(Box.whole(blank), Laterality.UNKNOWN, "none", 1.0)
    try:
        (graded,) = grade_crops([blank], [knee], model)
        explain(graded, card.heat_scale)
    except Exception as error:
        raise SettingsError(f"the model {card.stem} fails on a blank knee: {type(error).__name__}") from error
    if graded.logits.shape != (5,) or len(graded.maps) != 5 or not np.isfinite(graded.probabilities).all():
        raise SettingsError(f"the model {card.stem} does not answer with five grades and their maps")


class Answering:
    """
    The model that answers in this process. It follows the ledger: what is promoted is loaded, then takes over.

    What cannot be loaded takes nothing over: the old model goes on, and `trouble` says why.
    """

    def __init__(self, settings: Settings, ledger: Ledger) -> None:
        """Raises SettingsError if what should answer cannot be used: a worker starts with the right model or not."""
        self._settings, self._ledger = settings, ledger
        self._lock = threading.Lock()
        self._taken = wanted(settings, ledger)
        self._refused: Wanted | None = None
        self._tried = 0.0
        self._model = take(self._taken, settings)
        self.trouble = ""

    def model(self) -> Model:
        """
        What answers now. Ask once for each radiograph: one model grades, explains and reports it.

        While the heartbeat loads another, the film does not wait: the one that answered goes on.
        """
        if self._lock.acquire(blocking=False):
            try:
                self._follow(again=False)
            finally:
                self._lock.release()
        return self._model

    def follow(self) -> None:
        """Take up what was promoted meanwhile, and now and then try once more what could not be loaded."""
        with self._lock:
            self._follow(again=time.monotonic() - self._tried >= AGAIN_SECONDS)

    def _follow(self, *, again: bool) -> None:
        try:
            asked = wanted(self._settings, self._ledger)
        except Transient as fault:
            log.warning("standing_unknown", fault=str(fault))
            return
        if asked == self._taken:
            self._refused, self.trouble = None, ""
        elif asked != self._refused or again:
            self._take(asked)
            self._tried = time.monotonic()

    def _take(self, asked: Wanted) -> None:
        try:
            model = take(asked, self._settings)
        except Exception as fault:  # noqa: BLE001 - whatever is the matter with the new model, the old one goes on
            why = str(fault) if isinstance(fault, SettingsError) else type(fault).__name__
            if why != self.trouble:
                log.error("model_not_loaded", card=asked.card, goes_on=self._model.card.stem, fault=why)
            self._refused, self.trouble = asked, why
            return
        before, self._model = self._model.card.identity, model
        self._taken, self._refused, self.trouble = asked, None, ""
        log.info("model_changed", before=said(before), now=said(model.card.identity), source=asked.source)

    def told(self) -> dict[str, str]:
        """For the heartbeat: who answers here, and what keeps another from it."""
        card = self._model.card
        return {
            "card": card.stem,
            "model": card.name,
            "version": card.version,
            "sha256": card.identity.sha256,
            "engine": self._model.run.name,
            "trouble": self.trouble,
        }
