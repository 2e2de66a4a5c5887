"""Which model grades: the one that the settings name, else the one promoted last, else the shipped one."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import structlog

from node.errors import SettingsError, Transient
from node.finding import ModelIdentity
from node.ledger import CardState, Ledger, ModelChange
from node.settings import Settings
from workers.models.registry import (
    ARTEFACTS,
    DEFAULT,
    DETECTOR,
    LEAD_MARKERS,
    ORIENTATION,
    REFINER,
    Card,
    Model,
    folders,
    load,
)
from workers.preprocessing import grader_input

log = structlog.get_logger()

RETRY_SECONDS = 30.0
"""Wait before a model that failed to load is tried again: each attempt delays the films of this worker."""

DETECTION_STEPS = {
    DETECTOR: "detects joints",
    REFINER: "refines them",
    ORIENTATION: "classifies polarity and side",
    LEAD_MARKERS: "classifies lead letters",
    ARTEFACTS: "segments artefacts",
}
"""The card of each network before the grader, and what it does."""


@dataclass(frozen=True)
class RequestedModel:
    """
    The card whose model should grade, and who requested it.

    `state` is the card as it was promoted; a card that has changed since is refused. None if it was not promoted.
    """

    card: str
    source: str
    state: CardState | None = None


def requested_model(settings: Settings, ledger: Ledger | None) -> RequestedModel:
    """The model that should grade now; `ledger` is None where there is none yet."""
    if settings.work.model:
        return RequestedModel(settings.work.model, "[work] model")
    change = ledger.active_model() if ledger else None
    if change is None:
        return RequestedModel(DEFAULT, "shipped")
    return RequestedModel(change.card, f"{change.what} by {change.by}", card_state_of(change))


def card_state_of(change: ModelChange) -> CardState:
    """The card as it was when the change was recorded."""
    return CardState(change.card, change.card_sha256, change.model)


@contextmanager
def existing_ledger(settings: Settings) -> Iterator[Ledger | None]:
    """The node's ledger, for a command outside the node; None if there is none. It creates none."""
    ledger = Ledger.open_existing(settings.database_url)
    try:
        yield ledger
    finally:
        if ledger:
            ledger.close()


def requested_model_of_node(settings: Settings) -> RequestedModel:
    """
    The model that should grade now, for a command outside the node.

    Raises
    ------
    SettingsError
        If the ledger is unreachable and [work] model names no card.
    """
    if settings.work.model:
        return requested_model(settings, None)
    try:
        with existing_ledger(settings) as ledger:
            return requested_model(settings, ledger)
    except Transient as fault:
        raise SettingsError(
            f"the ledger that records the promoted model is unreachable: {fault.what.partition(chr(10))[0]}",
            hint="name a model with --model CARD, or pin one with [work] model",
        ) from fault


def load_checked(request: RequestedModel, settings: Settings) -> Model:
    """
    The requested model, loaded and tried on a blank knee.

    Raises
    ------
    SettingsError
        If it cannot be used, is no grader, or is not the one that was promoted.
    """
    work = settings.work
    model = load(request.card, engine=work.engine, threads=work.threads, within=folders(settings))
    card = model.card
    if card.kind != "grader":
        raise SettingsError(f"the card {request.card} is a {card.kind}, not a grader", hint="see `genu models`")
    change = change_since_promotion(card, request)
    if change:
        raise SettingsError(
            f"the card {request.card} {change}",
            hint=f"restore the old card, or `genu models promote {request.card}` to use the new one",
        )
    _grade_blank_knee(model)
    return model


def change_since_promotion(card: Card, request: RequestedModel) -> str:
    """How the card differs from the one that was promoted; "" if it does not, or was never promoted."""
    promoted = request.state
    if promoted is None or card.sha256 == promoted.sha256:
        return ""
    if card.identity != promoted.model:
        return f"is {model_label(card.identity)} now, but {model_label(promoted.model)} was {request.source}"
    return f"has changed since it was {request.source}"


def check(settings: Settings) -> str:
    """The models' line of `genu check`. Raises SettingsError if a worker or the shadow model could not start."""
    work, within = settings.work, folders(settings)
    steps = [
        f"{_engine_label(load(name, engine=work.engine, threads=work.threads, within=within))} {step}"
        for name, step in DETECTION_STEPS.items()
    ]
    request = requested_model_of_node(settings)
    steps.append(f"{_engine_label(load_checked(request, settings))} grades ({request.source})")
    if work.shadow == request.card:
        return f"{', '.join(steps)}; [work] shadow names the same card: nothing runs in shadow"
    if work.shadow:
        shadow = load_checked(RequestedModel(work.shadow, "[work] shadow"), settings)
        steps.append(f"{_engine_label(shadow)} runs in shadow")
    return ", ".join(steps)


def _engine_label(model: Model) -> str:
    return f"{model.card.name} {model.card.version} on {model.run.name}"


def model_label(model: ModelIdentity) -> str:
    """Name, version and the first 12 digits of the weights' hash."""
    return f"{model.name} {model.version} ({model.sha256[:12]})"


def _grade_blank_knee(model: Model) -> None:
    """Raises SettingsError unless the model returns five finite grades and their maps for a blank knee."""
    card = model.card
    # As for a knee of unknown side: the knee and, unless the model mirrors it itself, its mirror image.
    n = 1 if card.sees_both_sides else 2
    try:
        blank = grader_input(np.zeros((card.input_size, card.input_size), np.float32), card.input_size)
        logits, maps, *others = model.run(np.stack([blank] * n))
        probabilities = card.calibration.probabilities(logits.mean(0))
    except Exception as error:
        raise SettingsError(f"the model {card.stem} fails on a blank knee: {type(error).__name__}") from error
    shapes_fit = logits.shape == maps.shape[:2] == (n, 5) and maps.ndim == 4 and all(len(part) == n for part in others)
    if not shapes_fit or not np.isfinite(probabilities).all():
        raise SettingsError(f"the model {card.stem} does not return five grades and their maps")


class ActiveModel:
    """
    The model that grades in this process. It follows the ledger: a promoted model is loaded and replaces the old one.

    If the promoted model cannot be loaded, the old one stays active and `fault` is the reason.
    """

    def __init__(self, settings: Settings, ledger: Ledger) -> None:
        """Raises SettingsError if the requested model cannot be used: a worker starts with that model or not at all."""
        self._settings, self._ledger = settings, ledger
        self._lock = threading.Lock()
        self._active = requested_model(settings, ledger)
        self._rejected: RequestedModel | None = None
        self._tried_at = 0.0
        self._model = load_checked(self._active, settings)
        self.fault = ""

    def current(self) -> Model:
        """
        The model that grades now. Call it once for each radiograph: one model grades, explains and reports it.

        While the heartbeat loads another model, this returns the old one without waiting.
        """
        if self._lock.acquire(blocking=False):
            try:
                self._refresh(retry=False)
            finally:
                self._lock.release()
        return self._model

    def refresh(self) -> None:
        """Load what was promoted since; retry a model that could not be loaded every RETRY_SECONDS."""
        with self._lock:
            self._refresh(retry=time.monotonic() - self._tried_at >= RETRY_SECONDS)

    def _refresh(self, *, retry: bool) -> None:
        try:
            request = requested_model(self._settings, self._ledger)
        except Transient as fault:
            log.warning("requested_model_unknown", fault=str(fault))
            return
        if request == self._active:
            self._rejected, self.fault = None, ""
        elif request != self._rejected or retry:
            self._switch_to(request)
            self._tried_at = time.monotonic()

    def _switch_to(self, request: RequestedModel) -> None:
        try:
            model = load_checked(request, self._settings)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the new model, the old one stays active
            fault = str(error) if isinstance(error, SettingsError) else type(error).__name__
            if fault != self.fault:
                log.error("model_not_loaded", card=request.card, active=self._model.card.stem, fault=fault)
            self._rejected, self.fault = request, fault
            return
        before, self._model = self._model.card.identity, model
        self._active, self._rejected, self.fault = request, None, ""
        now = model_label(model.card.identity)
        log.info("model_changed", before=model_label(before), now=now, source=request.source)

    def heartbeat(self) -> dict[str, str]:
        """For the heartbeat: the active model, and as `trouble` why the requested one is not active."""
        card = self._model.card
        return {
            "card": card.stem,
            "model": card.name,
            "version": card.version,
            "sha256": card.identity.sha256,
            "engine": self._model.run.name,
            "trouble": self.fault,
        }
