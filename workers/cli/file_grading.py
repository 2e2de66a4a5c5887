"""`genu grade`: grades films from files and writes the result objects to a folder, without a network and a node."""

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

PICTURE_SUFFIXES = {".png", ".jpg", ".jpeg"}


class FileGrader:
    """The models and a decoder, loaded once for many files. Use it as a context manager."""

    def __init__(
        self, settings: Settings, *, model: str = "", out: Path | None = None, side: str | None = None
    ) -> None:
        self._work = settings.work
        self._out = out
        self._side = side
        engine, threads, within = self._work.engine, self._work.threads, folders(settings)
        self._models = load_detection_models(engine=engine, threads=threads, within=within)
        request = RequestedModel(model, "--model") if model else requested_model_of_node(settings)
        self._grader = load_checked(request, settings)
        self._reader = Reader.from_settings(self._work)

    def __enter__(self) -> "FileGrader":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._reader.close()

    def grade(self, paths: Sequence[Path], *, progress: bool = False) -> Iterator[dict[str, Any]]:
        """The reading of each file as JSON; of a folder, of all files in it."""
        files = [file for path in paths for file in _files(path)]
        shown = track(files, "Grading", console=Console(stderr=True)) if progress else files
        yield from (self._grade_file(file) for file in shown)

    def _grade_file(self, file: Path) -> dict[str, Any]:
        try:
            film, analysis = self._read(file)
        except Ungradable as refusal:
            film, analysis = None, refused("", refusal)
        except Permanent as fault:
            reading_json = refused("", Ungradable(fault.reason, fault.detail)).reading.as_json()
            return {"file": str(file), **reading_json, "outcome": Outcome.FAILED.value, "objects": []}
        reading_json = analysis.reading.as_json()
        reading_json["model"] = reading_json["model"] or self._model_json()
        try:
            paths = self._write(file, film, analysis) if film is not None and film.header else []
        except Permanent as fault:  # graded, but the source lacks what a result needs to be filed
            reading_json["outcome"] = Outcome.FAILED.value
            reading_json["reason"] = reason_as_json(fault.reason, fault.detail)
            paths = []
        return {"file": str(file), **reading_json, "objects": [str(path) for path in paths]}

    def _model_json(self) -> dict[str, str]:
        identity = self._grader.card.identity
        return {"name": identity.name, "version": identity.version, "sha256": identity.sha256}

    def _read(self, file: Path) -> tuple[Film, Analysis]:
        if file.suffix.lower() in PICTURE_SUFFIXES and not is_dicom(file):
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
        objects = report(
            film,
            analysis.reading,
            analysis.heat_maps,
            self._grader.card.identity,
            sr_class=self._work.sr_class,
            made_at=datetime.now(UTC).replace(microsecond=0),
            long_side=self._work.picture_long_side,
        )
        for result in objects:
            validate(result.dataset, film.header)
        paths = []
        for result in objects:
            path = self._out / f"{file.stem}-{result.kind.lower()}.dcm"
            path.write_bytes(result.encode())
            paths.append(path)
        return paths


def _files(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


def reading_text(reading_json: dict[str, Any]) -> str:
    """The reading of one file, as `grade` returns it, as text."""
    file = reading_json["file"]
    if reading_json["outcome"] != Outcome.GRADED.value:
        reason = reading_json["reason"]
        detail = f" ({reason['detail']})" if reason.get("detail") else ""
        outcome = reading_json["outcome"].replace("_", " ")
        return f"{file}: {outcome}: {reason['code']}: {reason['text']}{detail}. {reason['advice']}"
    knees = [_knee_text(Finding.from_json(knee)) for knee in reading_json["knees"]]
    return "\n".join([f"{file}: {', '.join(knees)}", *(f"  wrote {path}" for path in reading_json.get("objects", ()))])


def _knee_text(knee: Finding) -> str:
    side = {Laterality.RIGHT: "right", Laterality.LEFT: "left", Laterality.UNKNOWN: "side unknown"}[knee.laterality]
    if knee.grade is None:
        return f"{side} not graded ({knee.reason.code if knee.reason else 'no reason'}{_red_flags(knee)})"
    certainty = knee.certainty
    parts = [knee.confidence_text]
    if certainty is not None:
        parts.append(f"only {certainty.words}" if certainty.lowest == certainty.highest else certainty.words)
        parts += [certainty.doubt] if certainty.doubt else []
    return f"{side} KL {knee.grade} ({', '.join(parts)}{_red_flags(knee)})"


def _red_flags(knee: Finding) -> str:
    """The codes of a knee's red flags, each after a comma."""
    return "".join(f", {flag.code}" for flag in knee.flags if flag.red)
