"""`genu grade`: films from files to answers on the screen and objects in a folder, with no network and no node."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from pydicom.misc import is_dicom
from rich.console import Console
from rich.progress import track

from node.errors import Permanent, Ungradable
from node.finding import Finding, Laterality, Outcome, reason_as_json
from node.settings import Settings
from workers.analysis import Analysis, analyse, refused
from workers.detection.detection_models import load_detection_models
from workers.eligibility import Rules
from workers.models.active_model import RequestedModel, load_checked, requested_model_of_node
from workers.models.registry import folders
from workers.read import Film, Reader, read_picture
from workers.report import report, validate

PICTURES = {".png", ".jpg", ".jpeg"}


class Desk:
    """The models and a decoder, ready for files. Use it as a context manager."""

    def __init__(
        self, settings: Settings, *, model: str = "", out: Path | None = None, side: str | None = None
    ) -> None:
        self._work = settings.work
        self._out = out
        self._side = side
        engine, threads, within = self._work.engine, self._work.threads, folders(settings)
        self._models = load_detection_models(engine=engine, threads=threads, within=within)
        asked = RequestedModel(model, "--model") if model else requested_model_of_node(settings)
        self._grader = load_checked(asked, settings)
        self._reader = Reader.from_settings(self._work)

    def __enter__(self) -> "Desk":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._reader.close()

    def grade(self, given: Sequence[Path], *, progress: bool = False) -> Iterator[dict[str, Any]]:
        """What is said of each file, as JSON; folders stand for the files in them."""
        files = [file for path in given for file in _files(path)]
        yield from (
            self._one(file) for file in (track(files, "Grading", console=Console(stderr=True)) if progress else files)
        )

    def _one(self, file: Path) -> dict[str, Any]:
        try:
            film, analysis = self._read(file)
        except Ungradable as refusal:
            film, analysis = None, refused("", refusal)
        except Permanent as fault:
            told = refused("", Ungradable(fault.reason, fault.detail)).reading.as_json()
            return {"file": str(file), **told, "outcome": Outcome.FAILED.value, "objects": []}
        told = analysis.reading.as_json()
        told["model"] = told["model"] or self._model()
        try:
            written = self._write(file, film, analysis) if film is not None and film.header else []
        except Permanent as fault:  # graded, but the source lacks what a result needs to be filed
            told["outcome"], told["reason"] = Outcome.FAILED.value, reason_as_json(fault.reason, fault.detail)
            written = []
        return {"file": str(file), **told, "objects": [str(path) for path in written]}

    def _model(self) -> dict[str, str]:
        identity = self._grader.card.identity
        return {"name": identity.name, "version": identity.version, "sha256": identity.sha256}

    def _read(self, file: Path) -> tuple[Film, Analysis]:
        if file.suffix.lower() in PICTURES and not is_dicom(file):
            film, uid = read_picture(file), ""
            if self._side:
                film.header.ImageLaterality = Laterality(self._side).value
        else:
            film = self._reader.film(file)
            uid = str(film.header.get("SOPInstanceUID", ""))
        analysis = analyse(uid, film, models=self._models, grader=self._grader, rules=Rules.of(self._work))
        return analysis.film or film, analysis

    def _write(self, file: Path, film: Film, analysis: Analysis) -> list[Path]:
        if self._out is None or not analysis.reading.sop_instance_uid:
            return []
        self._out.mkdir(parents=True, exist_ok=True)
        made = report(
            film,
            analysis.reading,
            analysis.heat_maps,
            self._grader.card.identity,
            sr_class=self._work.sr_class,
            made_at=datetime.now(UTC).replace(microsecond=0),
            long_side=self._work.picture_long_side,
        )
        for each in made:
            validate(each.dataset, film.header)
        paths = []
        for each in made:
            path = self._out / f"{file.stem}-{each.kind.lower()}.dcm"
            path.write_bytes(each.encode())
            paths.append(path)
        return paths


def _files(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


def say(told: dict[str, Any]) -> str:
    """One answer as lines for a person."""
    if told["outcome"] != Outcome.GRADED.value:
        why = told["reason"]
        detail = f" ({why['detail']})" if why.get("detail") else ""
        outcome = told["outcome"].replace("_", " ")
        return f"{told['file']}: {outcome}: {why['code']}: {why['text']}{detail}. {why['advice']}"
    knees = [_say_knee(Finding.from_json(knee)) for knee in told["knees"]]
    return "\n".join([f"{told['file']}: {', '.join(knees)}", *(f"  wrote {path}" for path in told.get("objects", ()))])


def _say_knee(knee: Finding) -> str:
    side = {Laterality.RIGHT: "right", Laterality.LEFT: "left", Laterality.UNKNOWN: "side unknown"}[knee.laterality]
    if knee.grade is None:
        return f"{side} not graded ({knee.reason.code if knee.reason else 'no reason'}{_flagged(knee)})"
    sure = knee.certainty
    told = [knee.confidence_text]
    if sure is not None:
        told.append(f"only {sure.words}" if sure.lowest == sure.highest else sure.words)
        told += [sure.doubt] if sure.doubt else []
    return f"{side} KL {knee.grade} ({', '.join(told)}{_flagged(knee)})"


def _flagged(knee: Finding) -> str:
    """The grave flags of a knee, as they follow what else is said of it."""
    return "".join(f", {each.code}" for each in knee.flags if each.red)
