"""The result objects of one radiograph, written into its folder of the storage for delivery and the admin page."""

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial

from pydicom import Dataset

from node.destination import MESSAGE_KINDS
from node.finding import ModelIdentity, Outcome
from node.ledger import Entry, ResultObject
from node.settings import DEFAULT_OBJECTS, ObjectKind, Work
from node.storage import Vault
from workers.analysis import Analysis
from workers.messages import Message, messages
from workers.read import Film, patient_facts
from workers.report import (
    Predecessor,
    ResultInstance,
    film_png,
    overlay_png,
    predecessor,
    report,
    report_refusal,
    require_patient_id,
    validate,
)


@dataclass(frozen=True)
class Source:
    """What was received, as far as it could be read: its header, and the film if it is one."""

    header: Dataset | None
    film: Film | None = None


def fill_outbox(
    entry: Entry,
    source: Source,
    analysis: Analysis,
    vault: Vault,
    model: ModelIdentity,
    work: Work,
    kinds: Collection[ObjectKind] = DEFAULT_OBJECTS,
    current: Sequence[ResultObject] = (),
) -> list[ResultObject]:
    """
    Write what is to be sent and what the admin page shows; return what is to be sent, of the `kinds` wanted.

    `current` are the objects of the result that was valid until now; a report names the one that it replaces.
    Everything derives from the source and the model alone: written twice, it is the same byte for byte.

    Raises
    ------
    Permanent
        IDENTITY_MISSING or RESULT_FAULTY: nothing of it may be sent.
    """
    uid, reading = entry.sop_instance_uid, analysis.reading
    if source.header is None:
        return []
    vault.write_result(uid, "patient.json", json.dumps(patient_facts(source.header)).encode())
    if source.film is not None:
        vault.write_result(uid, "film.png", film_png(source.film))
        for number, heat_map in enumerate(analysis.heat_maps, start=1):  # as the knees are counted
            if heat_map is not None:
                vault.write_result(uid, f"heat-{number}.png", overlay_png(source.film, heat_map))
    if reading.outcome is not Outcome.GRADED and not work.report_refusals:
        return []
    replaced = predecessor(current, partial(vault.read_result, uid), reading, model)
    instances = _instances(entry, source, analysis, model, work, _with_report(kinds), replaced)
    _validate(instances, source.header)
    reports = [instance.dataset for instance in instances if instance.kind == "SR"]
    objects: list[ResultInstance | Message] = [*instances, *messages(reports, kinds, entry.received_at)]
    return [_write(uid, content, vault) for content in objects]


def _instances(
    entry: Entry,
    source: Source,
    analysis: Analysis,
    model: ModelIdentity,
    work: Work,
    kinds: Collection[ObjectKind],
    replaces: Predecessor | None,
) -> list[ResultInstance]:
    reading, sr_class, made_at = analysis.reading, work.sr_class, entry.received_at
    if source.film is None:
        assert source.header is not None
        return report_refusal(source.header, reading, model, sr_class=sr_class, made_at=made_at, replaces=replaces)
    return report(
        source.film,
        reading,
        analysis.heat_maps,
        model,
        sr_class=sr_class,
        made_at=made_at,
        kinds=kinds,
        long_side=work.picture_long_side,
        replaces=replaces,
    )


def _validate(instances: Sequence[ResultInstance], header: Dataset) -> None:
    """Raises Permanent unless all of them may be sent."""
    if instances:
        require_patient_id(header)
    for instance in instances:
        validate(instance.dataset, header)


def _with_report(kinds: Collection[ObjectKind]) -> Collection[ObjectKind]:
    """A message is made from the report, which is stored though no destination takes it: the next report names it."""
    return {*kinds, "SR"} if set(kinds) & set(MESSAGE_KINDS.values()) else kinds


def _write(uid: str, written: ResultInstance | Message, vault: Vault) -> ResultObject:
    content = written.encode()
    # The object's own UID is in the name: the objects of another model version do not overwrite these.
    name = (
        f"{written.kind.lower()}-{hashlib.sha256(written.sop_instance_uid.encode()).hexdigest()[:16]}.{written.suffix}"
    )
    vault.write_result(uid, name, content)
    return ResultObject(
        kind=written.kind,
        sop_class_uid=written.sop_class_uid,
        sop_instance_uid=written.sop_instance_uid,
        transfer_syntax_uid=written.transfer_syntax_uid,
        file=name,
        sha256=hashlib.sha256(content).hexdigest(),
    )
