"""The model in shadow: it grades films that the active model has graded, and its readings never leave the node."""

from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from node.errors import SettingsError
from node.finding import Reading
from node.ledger import Ledger, ShadowReading
from node.settings import Settings
from workers.models.active_model import RequestedModel, load_checked
from workers.models.registry import Model

log = structlog.get_logger()


class Shadow:
    """
    The model that [work] shadow names, if any. It writes to the ledger's shadow table and nowhere else.

    Every fault is logged and recorded; none is raised.
    """

    def __init__(self, settings: Settings, ledger: Ledger, worker: str) -> None:
        self.card = settings.work.shadow
        self._ledger, self._worker = ledger, worker
        self._model: Model | None = None
        self.fault = ""
        if self.card:
            try:
                self._model = load_checked(RequestedModel(self.card, "[work] shadow"), settings)
            except SettingsError as error:
                self.fault = str(error)
                log.error("shadow_not_loaded", card=self.card, fault=self.fault)

    def grade(self, uid: str, active_card: str, read: Callable[[Model], Reading]) -> None:
        """Record the reading of one film, `read` of the model in shadow, beside that of the active card."""
        if self.card in ("", active_card):
            return
        try:
            self._ledger.record_shadow_reading(uid, self._reading(uid, read), self._worker)
        except Exception as error:  # noqa: BLE001 - the reported grade stays valid, whatever happens to its shadow
            log.error("shadow_not_recorded", sop_instance_uid=uid, card=self.card, fault=type(error).__name__)

    def _reading(self, uid: str, read: Callable[[Model], Reading]) -> ShadowReading:
        identity = self._model.card.identity if self._model else None
        now, reading, fault = datetime.now(UTC), None, self.fault
        if self._model:
            try:
                reading = read(self._model).as_json()
            except Exception as error:  # noqa: BLE001 - its text may quote the film
                fault = type(error).__name__
                log.error("shadow_failed", sop_instance_uid=uid, card=self.card, fault=fault)
        return ShadowReading(now, self.card, identity, reading, fault)

    def heartbeat(self, active_card: str) -> dict[str, str]:
        """For the heartbeat: the model in shadow beside that of the active card; empty where there is none."""
        if self.card in ("", active_card):
            return {}
        identity = self._model.card.identity if self._model else None
        return {
            "shadow_card": self.card,
            "shadow_model": identity.name if identity else "",
            "shadow_version": identity.version if identity else "",
            "shadow_sha256": identity.sha256 if identity else "",
            "shadow_trouble": self.fault,
        }
