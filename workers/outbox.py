"""The result objects of one radiograph, written into its folder of the vault for delivery and the admin page."""

import hashlib
import json
from collections.abc import Sequence

from node.finding import ModelIdentity, Outcome
from node.ledger import Entry, ResultObject
from node.settings import Work
from node.vault import Vault
from workers.analysis import Analysis
from workers.explain import HeatMap
from workers.prepare import Box
from workers.read import Film, patient_facts
from workers.report import MadeObject, film_png, overlay_png, report


def fill_outbox(
    entry: Entry, film: Film | None, analysis: Analysis, vault: Vault, model: ModelIdentity, work: Work
) -> list[ResultObject]:
    """
    Write what is to be sent and what the admin page shows; return the objects that are to be sent.

    Everything derives from the source and the model alone: written twice, it is the same byte for byte.
    """
    uid, reading = entry.sop_instance_uid, analysis.reading
    vault.write_result(uid, "reading.json", json.dumps(reading.as_json(), indent=1).encode())
    if film is None:
        return []
    vault.write_result(uid, "patient.json", json.dumps(patient_facts(film.header)).encode())
    vault.write_result(uid, "film.png", film_png(film))
    for number, (box, heat_map) in enumerate(_drawn(analysis), start=1):
        vault.write_result(uid, f"heat-{number}.png", overlay_png(film, box, heat_map))
    if reading.outcome is not Outcome.GRADED and not work.report_refusals:
        return []
    made = report(film, reading, analysis.heat_maps, model, sr_class=work.sr_class, made_at=entry.received_at)
    return [_keep(uid, each, vault) for each in made]


def _drawn(analysis: Analysis) -> Sequence[tuple[Box, HeatMap]]:
    boxes = [Box(*knee.box) for knee in analysis.reading.knees]
    return list(zip(boxes, analysis.heat_maps, strict=True))


def _keep(uid: str, made: MadeObject, vault: Vault) -> ResultObject:
    content = made.encode()
    # The object's own UID is in the name: the objects of another model version do not overwrite these.
    name = f"{made.kind.lower()}-{hashlib.sha256(made.sop_instance_uid.encode()).hexdigest()[:16]}.dcm"
    vault.write_result(uid, name, content)
    return ResultObject(
        kind=made.kind,
        sop_class_uid=made.sop_class_uid,
        sop_instance_uid=made.sop_instance_uid,
        transfer_syntax_uid=str(made.dataset.file_meta.TransferSyntaxUID),
        file=name,
        sha256=hashlib.sha256(content).hexdigest(),
    )
