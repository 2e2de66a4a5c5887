"""The model in shadow: it grades what another has answered, and nothing that it says leaves the node."""

from datetime import UTC, datetime

import structlog

from node.errors import SettingsError
from node.ledger import Ledger, ShadowReading
from node.settings import Settings
from workers.analysis import Analysis, say
from workers.models.active_model import Wanted, take
from workers.models.registry import Model
from workers.read import Film

log = structlog.get_logger()


class Shadow:
    """
    The model that [work] shadow names, if any. It writes to the ledger's table of shadows and nowhere else.

    Whatever goes wrong with it is logged and recorded as its fault; nothing is ever raised.
    """

    def __init__(self, settings: Settings, ledger: Ledger, worker: str) -> None:
        self.card = settings.work.shadow
        self._ledger, self._worker = ledger, worker
        self._model: Model | None = None
        self.trouble = ""
        if self.card:
            try:
                self._model = take(Wanted(self.card, "[work] shadow"), settings)
            except SettingsError as fault:
                self.trouble = str(fault)
                log.error("shadow_not_loaded", card=self.card, fault=self.trouble)

    def look(self, uid: str, film: Film, analysis: Analysis, answered: Model) -> None:
        """Grade the knees that were found on the film once more, and record it beside what `answered` said."""
        if not self.card or self.card == answered.card.stem:
            return
        try:
            self._ledger.record_shadow_reading(uid, self._reading(uid, film, analysis), self._worker)
        except Exception as fault:  # noqa: BLE001 - the answer stands, whatever becomes of its shadow
            log.error("shadow_not_recorded", sop_instance_uid=uid, card=self.card, fault=type(fault).__name__)

    def _reading(self, uid: str, film: Film, analysis: Analysis) -> ShadowReading:
        identity = self._model.card.identity if self._model else None
        now, reading, fault = datetime.now(UTC), None, self.trouble
        if self._model:
            try:
                reading = say(uid, film, analysis.found, self._model).reading.as_json()
            except Exception as error:  # noqa: BLE001 - its text may quote the film
                fault = type(error).__name__
                log.error("shadow_failed", sop_instance_uid=uid, card=self.card, fault=fault)
        return ShadowReading(now, self.card, identity, reading, fault)

    def told(self, answers: str) -> dict[str, str]:
        """For the heartbeat: who runs in shadow beside the card that answers; nothing where none does."""
        if self.card in ("", answers):
            return {}
        identity = self._model.card.identity if self._model else None
        return {
            "shadow_card": self.card,
            "shadow_model": identity.name if identity else "",
            "shadow_version": identity.version if identity else "",
            "shadow_sha256": identity.sha256 if identity else "",
            "shadow_trouble": self.trouble,
        }
