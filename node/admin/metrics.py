"""What Prometheus is told, read from the ledger when it asks. Labels are words of ours: never a UID or a patient."""

import threading
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

import structlog
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from node import __version__
from node.admin import model_views
from node.admin.health import SILENT_AFTER, last_seen
from node.admin.model_views import model_of
from node.errors import Transient
from node.ledger import Beat, Ledger, State
from node.ledger.totals import Tally
from node.reasons import FLAGS, REASONS
from node.settings import Settings
from node.storage import Vault

log = structlog.get_logger()

Samples = list[tuple[tuple[str, ...], float]]
"""(values of the labels, number) ..."""

_RECEIVER = (
    # key of the receiver's heartbeat, metric, label (None: one number), help
    ("received", "genu_receive_objects", "result", "Objects kept, by what they turned out to be."),
    ("received_bytes", "genu_receive_bytes", None, "Bytes of the objects kept."),
    ("statuses", "genu_receive_responses", "status", "C-STORE responses, by status."),
    ("echoes", "genu_receive_echoes", None, "C-ECHO requests answered."),
    ("associations_accepted", "genu_receive_associations_accepted", None, "Associations accepted."),
    ("associations_refused", "genu_receive_associations_refused", "reason", "Associations refused."),
    ("associations_broken", "genu_receive_associations_broken", "reason", "Associations broken off by this node."),
)
_MOST_LABELS = 64
"""No metric has more values of a label than this; what comes after is counted as "other"."""


class LedgerCollector(Collector):
    """Reads ledger and vault once for each scrape. With the ledger away it says so, and what it still knows."""

    def __init__(self, settings: Settings, vault: Vault, ledger: Ledger) -> None:
        self._settings, self._vault, self._ledger = settings, vault, ledger
        self._tally: Tally | None = None
        self._lock = threading.Lock()

    def collect(self) -> Iterator[Metric]:
        yield _gauge("genu_build_info", "Version of this node.", [((__version__,), 1)], "version")
        least = self._settings.storage.min_free_mb * 2**20
        yield _gauge("genu_storage_minimum_bytes", "With less free space, new objects are refused.", _one(least))
        try:
            yield _gauge("genu_storage_free_bytes", "Free space for the node.", _one(self._vault.free_mb() * 2**20))
        except OSError as error:
            log.warning("metric_missing", metric="genu_storage_free_bytes", error=type(error).__name__)
        try:
            told = list(self._from_ledger())
        except Transient as error:
            log.warning("metrics_without_ledger", error=type(error).__name__)
            told = []
        yield _gauge("genu_ledger_up", "1 if the ledger answered.", _one(1 if told else 0))
        yield from told

    def _from_ledger(self) -> Iterator[Metric]:
        now, beats = datetime.now(UTC), self._ledger.parts()
        yield from self._radiographs(now)
        yield from self._deliveries(beats, now)
        yield from _parts(beats, now)
        yield from _models(beats, now)
        yield from _receiver(beats, now)
        yield from self._history()

    def _radiographs(self, now: datetime) -> Iterator[Metric]:
        counts = self._ledger.counts()
        samples: Samples = [((state.value,), counts.get(state, 0)) for state in State]
        yield _gauge("genu_radiographs", "Radiographs by state.", samples, "state")
        ages: Samples = [((state.value,), _age(since, now)) for state, since in self._ledger.oldest().items()]
        yield _gauge("genu_radiographs_oldest_age_seconds", "Age of the oldest radiograph.", ages, "state")
        reasons = _bounded(
            ((state.value, code if code in REASONS else "other"), count)
            for (state, code), count in self._ledger.reasons().items()
        )
        yield _gauge("genu_radiographs_without_grade", "Radiographs by reason.", reasons, "state", "reason")

    def _deliveries(self, beats: list[Beat], now: datetime) -> Iterator[Metric]:
        waits = {one.destination: one for one in self._ledger.waiting()}
        names = sorted({one.name for one in self._settings.destination} | set(waits))
        counts = _bounded(((name,), waits[name].count if name in waits else 0) for name in names)
        yield _gauge("genu_deliveries_waiting", "Objects that wait for a destination.", counts, "destination")
        ages = _bounded(((name,), _age(one.oldest_at, now)) for name, one in waits.items())
        yield _gauge("genu_deliveries_oldest_age_seconds", "Longest wait for a destination.", ages, "destination")
        told = [beat for beat in beats if beat.part == "deliver" and now - beat.seen_at <= SILENT_AFTER]
        known = [beat for beat in told if beat.detail.get("state") in ("up", "down")]
        up = _bounded(((beat.name,), beat.detail["state"] == "up") for beat in known)
        yield _gauge("genu_destination_up", "1 if it answered last time, 0 if not.", up, "destination")

    def _history(self) -> Iterator[Metric]:
        with self._lock:
            tally = self._tally = self._ledger.tally(self._tally)
        events = _bounded(((what.replace(" ", "_"),), count) for what, count in tally.events.items())
        yield _counter("genu_events", "Lines of the journal, by what happened.", events, "event")
        yield _counter("genu_attempts", "Times a worker began to grade.", _one(tally.events["claimed"]))
        grades = _bounded(((name, version, str(grade)), n) for (name, version, grade, _), n in tally.grades.items())
        yield _counter("genu_grades", "Knees graded.", grades, "model", "version", "grade")
        undecided = _bounded(((name, version), n * doubt) for (name, version, _, doubt), n in tally.grades.items())
        told = "Knees of which two neighbouring grades could not be told apart."
        yield _counter("genu_undecided_grades", told, undecided, "model", "version")
        flags = _bounded(((code if code in FLAGS else "other",), count) for code, count in tally.flags.items())
        yield _counter("genu_flags", "Knees by what they were flagged with, graded or not.", flags, "flag")
        agreed: Samples = [
            ((word.replace(" ", "_"),), tally.agreements[word]) for word in ("same", "one apart", "more")
        ]
        yield _counter("genu_shadow_grades", "Knees graded in shadow, by distance to the answer.", agreed, "agreement")
        failed = _one(tally.agreements["failed"])
        yield _counter("genu_shadow_failures", "Radiographs that the shadow could not grade.", failed)


def _parts(beats: list[Beat], now: datetime) -> Iterator[Metric]:
    seen = _bounded(((part,), at.timestamp()) for part, at in last_seen(beats).items())
    yield _gauge("genu_part_last_seen_timestamp_seconds", "When a part was last heard of.", seen, "part")
    live = _bounded(((beat.part,), now - beat.seen_at <= SILENT_AFTER) for beat in beats)
    yield _gauge("genu_part_fresh_heartbeats", "Heartbeats of a part that are fresh.", live, "part")


def _models(beats: list[Beat], now: datetime) -> Iterator[Metric]:
    """What the workers that live say of the models that they have."""
    workers = model_views.live(beats, now, SILENT_AFTER)
    loaded = {(role, model_of(beat, role)) for beat in workers for role in model_views.PREFIXES}
    told = sorted((role, each.name, each.version, each.sha256) for role, each in loaded if each)
    labels = ("role", "model", "version", "sha256")
    yield _gauge("genu_model_info", "Models that are loaded, by role.", _bounded((each, 1) for each in told), *labels)
    troubles = model_views.troubles(workers)
    wrong: Samples = [((role,), sum(each == role for each, _ in troubles)) for role in model_views.PREFIXES]
    yield _gauge("genu_model_troubles", "Faults that keep a model from its work, by role.", wrong, "role")


def _receiver(beats: list[Beat], now: datetime) -> Iterator[Metric]:
    """The counters of the receivers that live, added up; they begin anew with a receiver, as counters may."""
    details = [beat.detail for beat in beats if beat.part == "receive" and now - beat.seen_at <= SILENT_AFTER]
    for key, name, label, told in _RECEIVER if details else ():
        found = [detail[key] for detail in details if key in detail]
        if label is None:
            yield _counter(name, told, _one(sum(found)))
        else:
            words = _bounded(((str(word),), count) for each in found for word, count in each.items())
            yield _counter(name, told, words, label)


def _bounded(samples: Iterable[tuple[tuple[str, ...], float]]) -> Samples:
    """Samples of the same labels added up, and at most _MOST_LABELS different ones: the rest are "other"."""
    kept: dict[tuple[str, ...], float] = {}
    for values, number in samples:
        key = values if values in kept or len(kept) < _MOST_LABELS else ("other",) * len(values)
        kept[key] = kept.get(key, 0) + number
    return list(kept.items())


def _one(number: float) -> Samples:
    return [((), number)]


def _gauge(name: str, told: str, samples: Samples, *labels: str) -> Metric:
    family = GaugeMetricFamily(name, told, labels=labels)
    for values, number in samples:
        family.add_metric(values, number)
    return family


def _counter(name: str, told: str, samples: Samples, *labels: str) -> Metric:
    family = CounterMetricFamily(name, told, labels=labels)
    for values, number in samples:
        family.add_metric(values, number)
    return family


def _age(since: datetime, now: datetime) -> float:
    return max(0.0, (now - since).total_seconds())
