"""Metrics for Prometheus, read from the ledger at each scrape. Labels never have a UID or a patient as value."""

import threading
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

import structlog
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from node import __version__
from node.admin import model_views
from node.admin.health import SILENT_AFTER, last_heartbeats
from node.admin.model_views import model_of
from node.errors import Transient
from node.ledger import Heartbeat, Ledger, State
from node.ledger.totals import LedgerTotals
from node.reasons import FLAGS, REASONS
from node.settings import Settings
from node.storage import Vault

log = structlog.get_logger()

Samples = list[tuple[tuple[str, ...], float]]
"""(values of the labels, number) ..."""

_RECEIVER_COUNTERS = (
    # key of the receiver's heartbeat, metric, label (None: one number), help
    ("received", "genu_receive_objects", "result", "Objects stored, by result."),
    ("received_bytes", "genu_receive_bytes", None, "Bytes of the objects stored."),
    ("statuses", "genu_receive_responses", "status", "C-STORE responses, by status."),
    ("echoes", "genu_receive_echoes", None, "C-ECHO requests answered."),
    ("associations_accepted", "genu_receive_associations_accepted", None, "Associations accepted."),
    ("associations_refused", "genu_receive_associations_refused", "reason", "Associations rejected."),
    ("associations_broken", "genu_receive_associations_broken", "reason", "Associations aborted by this node."),
)
_MAX_LABEL_VALUES = 64
"""No metric has more values of a label than this; any further ones are counted as "other"."""


class LedgerCollector(Collector):
    """Reads ledger and vault once for each scrape. Without the ledger it reports that, and what is still known."""

    def __init__(self, settings: Settings, vault: Vault, ledger: Ledger) -> None:
        self._settings, self._vault, self._ledger = settings, vault, ledger
        self._tally: LedgerTotals | None = None
        self._lock = threading.Lock()

    def collect(self) -> Iterator[Metric]:
        yield _gauge("genu_build_info", "Version of this node.", [((__version__,), 1)], "version")
        least = self._settings.storage.min_free_mb * 2**20
        yield _gauge("genu_storage_minimum_bytes", "With less free space, new objects are refused.", _single(least))
        try:
            free = self._vault.free_mb() * 2**20
            yield _gauge("genu_storage_free_bytes", "Free space for the node.", _single(free))
        except OSError as error:
            log.warning("metric_missing", metric="genu_storage_free_bytes", error=type(error).__name__)
        try:
            families = list(self._ledger_metrics())
        except Transient as error:
            log.warning("metrics_without_ledger", error=type(error).__name__)
            families = []
        yield _gauge("genu_ledger_up", "1 if the ledger answered.", _single(1 if families else 0))
        yield from families

    def _ledger_metrics(self) -> Iterator[Metric]:
        now, beats = datetime.now(UTC), self._ledger.heartbeats()
        yield from self._radiographs(now)
        yield from self._deliveries(beats, now)
        yield from _heartbeats(beats, now)
        yield from _models(beats, now)
        yield from _receivers(beats, now)
        yield from self._totals()

    def _radiographs(self, now: datetime) -> Iterator[Metric]:
        counts = self._ledger.counts_by_state()
        samples: Samples = [((state.value,), counts.get(state, 0)) for state in State]
        yield _gauge("genu_radiographs", "Radiographs by state.", samples, "state")
        ages: Samples = [((state.value,), _age(since, now)) for state, since in self._ledger.oldest_by_state().items()]
        yield _gauge("genu_radiographs_oldest_age_seconds", "Age of the oldest radiograph.", ages, "state")
        reasons = _limit_labels(
            ((state.value, code if code in REASONS else "other"), count)
            for (state, code), count in self._ledger.counts_by_reason().items()
        )
        yield _gauge("genu_radiographs_without_grade", "Radiographs by reason.", reasons, "state", "reason")

    def _deliveries(self, beats: list[Heartbeat], now: datetime) -> Iterator[Metric]:
        queues = {queue.destination: queue for queue in self._ledger.pending_deliveries()}
        names = sorted({destination.name for destination in self._settings.destination} | set(queues))
        counts = _limit_labels(((name,), queues[name].count if name in queues else 0) for name in names)
        yield _gauge("genu_deliveries_waiting", "Objects that wait for a destination.", counts, "destination")
        ages = _limit_labels(((name,), _age(queue.oldest_at, now)) for name, queue in queues.items())
        yield _gauge("genu_deliveries_oldest_age_seconds", "Longest wait for a destination.", ages, "destination")
        fresh = [beat for beat in beats if beat.process == "deliver" and now - beat.seen_at <= SILENT_AFTER]
        known = [beat for beat in fresh if beat.detail.get("state") in ("up", "down")]
        up = _limit_labels(((beat.name,), beat.detail["state"] == "up") for beat in known)
        yield _gauge("genu_destination_up", "1 if it answered last time, 0 if not.", up, "destination")

    def _totals(self) -> Iterator[Metric]:
        with self._lock:
            tally = self._tally = self._ledger.totals(self._tally)
        events = _limit_labels(((what.replace(" ", "_"),), count) for what, count in tally.events.items())
        yield _counter("genu_events", "Entries of the journal, by event.", events, "event")
        yield _counter("genu_attempts", "Times a worker began to grade.", _single(tally.events["claimed"]))
        grades = _limit_labels(
            ((name, version, str(grade)), n) for (name, version, grade, _), n in tally.grades.items()
        )
        yield _counter("genu_grades", "Knees graded.", grades, "model", "version", "grade")
        undecided = _limit_labels(((name, version), n * doubt) for (name, version, _, doubt), n in tally.grades.items())
        help_text = "Knees of which two neighbouring grades could not be told apart."
        yield _counter("genu_undecided_grades", help_text, undecided, "model", "version")
        flags = _limit_labels(((code if code in FLAGS else "other",), count) for code, count in tally.flags.items())
        yield _counter("genu_flags", "Knees by flag, graded or not.", flags, "flag")
        agreements: Samples = [
            ((word.replace(" ", "_"),), tally.agreements[word]) for word in ("same", "one apart", "more")
        ]
        help_text = "Knees graded in shadow, by distance to the answer."
        yield _counter("genu_shadow_grades", help_text, agreements, "agreement")
        failed = _single(tally.agreements["failed"])
        yield _counter("genu_shadow_failures", "Radiographs that the shadow could not grade.", failed)


def _heartbeats(beats: list[Heartbeat], now: datetime) -> Iterator[Metric]:
    latest = _limit_labels(((process,), at.timestamp()) for process, at in last_heartbeats(beats).items())
    yield _gauge("genu_part_last_seen_timestamp_seconds", "Time of the last heartbeat of a process.", latest, "part")
    fresh = _limit_labels(((beat.process,), now - beat.seen_at <= SILENT_AFTER) for beat in beats)
    yield _gauge("genu_part_fresh_heartbeats", "Processes whose heartbeat is recent.", fresh, "part")


def _models(beats: list[Heartbeat], now: datetime) -> Iterator[Metric]:
    """The models that the live workers report."""
    workers = model_views.live_workers(beats, now, SILENT_AFTER)
    loaded = {(role, model_of(beat, role)) for beat in workers for role in model_views.HEARTBEAT_PREFIXES}
    labels = sorted((role, model.name, model.version, model.sha256) for role, model in loaded if model)
    samples = _limit_labels((values, 1) for values in labels)
    yield _gauge("genu_model_info", "Models that are loaded, by role.", samples, "role", "model", "version", "sha256")
    errors = model_views.model_errors(workers)
    counts: Samples = [
        ((role,), sum(failed == role for failed, _ in errors)) for role in model_views.HEARTBEAT_PREFIXES
    ]
    yield _gauge("genu_model_troubles", "Errors that make a model unusable, by role.", counts, "role")


def _receivers(beats: list[Heartbeat], now: datetime) -> Iterator[Metric]:
    """The counters of the live receivers, added up; they start at zero with a receiver, as counters may."""
    details = [beat.detail for beat in beats if beat.process == "receive" and now - beat.seen_at <= SILENT_AFTER]
    for key, name, label, help_text in _RECEIVER_COUNTERS if details else ():
        found = [detail[key] for detail in details if key in detail]
        if label is None:
            yield _counter(name, help_text, _single(sum(found)))
        else:
            samples = _limit_labels(((str(word),), count) for counts in found for word, count in counts.items())
            yield _counter(name, help_text, samples, label)


def _limit_labels(samples: Iterable[tuple[tuple[str, ...], float]]) -> Samples:
    """Samples of the same labels added up, and at most _MAX_LABEL_VALUES different ones: the rest are "other"."""
    totals: dict[tuple[str, ...], float] = {}
    for values, number in samples:
        key = values if values in totals or len(totals) < _MAX_LABEL_VALUES else ("other",) * len(values)
        totals[key] = totals.get(key, 0) + number
    return list(totals.items())


def _single(number: float) -> Samples:
    """The sample of a metric without labels."""
    return [((), number)]


def _gauge(name: str, help_text: str, samples: Samples, *labels: str) -> Metric:
    family = GaugeMetricFamily(name, help_text, labels=labels)
    for values, number in samples:
        family.add_metric(values, number)
    return family


def _counter(name: str, help_text: str, samples: Samples, *labels: str) -> Metric:
    family = CounterMetricFamily(name, help_text, labels=labels)
    for values, number in samples:
        family.add_metric(values, number)
    return family


def _age(since: datetime, now: datetime) -> float:
    return max(0.0, (now - since).total_seconds())
