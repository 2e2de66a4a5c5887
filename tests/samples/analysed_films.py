"""Rendered films with all that Genu answers to them, read and graded as a worker does it. No patient is in them."""

import subprocess
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from node.finding import Laterality, Reading
from node.settings import ObjectKind, Settings
from tests.peers.archives import HOST, Orthanc
from tests.samples.source_films import MADE_AT
from workers.analysis import analyse
from workers.detection.detection_models import DetectionModels, load_detection_models
from workers.detection.landmarks import TYPICAL
from workers.models.registry import DEFAULT, Model, load
from workers.phantom import Header, KneeShape, as_cr, as_dx, render, step_wedge
from workers.read import Reader
from workers.report import ResultInstance, report
from workers.training.implants import add_implant

DEFAULT_KINDS: Collection[ObjectKind] = ("SC", "SR", "SEG")
WORN = KneeShape(Laterality.RIGHT, 1.4, 6.0, osteophytes=0.8, tilt_degrees=4.0)
SOUND = KneeShape(Laterality.LEFT, 4.8, 5.4)


@dataclass(frozen=True)
class Answered:
    """A film in a study of its own, its reading, and its result objects."""

    name: str
    source: Dataset
    reading: Reading
    instances: tuple[ResultInstance, ...]

    @property
    def study(self) -> str:
        return str(self.source.StudyInstanceUID)

    def of(self, kind: str) -> ResultInstance:
        """The first object of that kind."""
        return next(instance for instance in self.instances if instance.kind == kind)


def _one(side: str) -> Dataset:
    drawn = render([WORN], rows=1500, columns=1240, spacing_mm=0.2, seed=1)
    return as_dx(drawn, Header(patient_id=f"PHANTOM-1{side}", side=side))


def _both(*, plate: bool) -> Dataset:
    """Both knees; with `plate` the left one is covered by metal and must not be graded."""
    drawn = render([WORN, SOUND], rows=1300, columns=1880, spacing_mm=0.2, seed=2)
    pixels, box = drawn.pixels.copy(), drawn.boxes[1]
    joint = np.s_[round(box.y0) : round(box.y1), round(box.x0) : round(box.x1)]
    if plate:
        grey = (pixels[joint] / np.float32(4095)).astype(np.float32)
        points = (TYPICAL * np.array(grey.shape[::-1])).astype(np.float32)
        covered, _ = add_implant(grey, points, "plate", np.random.default_rng(1))
        pixels[joint] = np.rint(covered * 4095)
    return as_dx(replace(drawn, pixels=pixels), Header(patient_id="PHANTOM-2M" if plate else "PHANTOM-2"))


FILMS: Mapping[str, Callable[[], Dataset]] = {
    "one knee": lambda: _one("R"),
    "two knees": lambda: _both(plate=False),
    "flagged": lambda: _one("L"),  # the header names the wrong side: a red flag
    "mixed": lambda: _both(plate=True),
    "refused": lambda: as_cr(step_wedge(), Header(patient_id="PHANTOM-6", side=None, body_part="", view_position="")),
}


@lru_cache(maxsize=1)
def _grader() -> tuple[DetectionModels, Model]:
    return load_detection_models(), load(DEFAULT)


def answered(name: str, folder: Path, kinds: Collection[ObjectKind] = DEFAULT_KINDS) -> Answered:
    """The film of that name with the objects of its answer; `folder` takes the film's file."""
    source, (models, grader) = FILMS[name](), _grader()
    path = folder / f"{name.replace(' ', '-')}.dcm"
    source.save_as(path, enforce_file_format=True)
    reader = Reader.from_settings(Settings().work)
    try:
        film = reader.film(path)
    finally:
        reader.close()
    analysis = analyse(str(source.SOPInstanceUID), film, models=models, grader=grader)
    instances = report(
        analysis.film or film,
        analysis.reading,
        analysis.heat_maps,
        grader.card.identity,
        sr_class="comprehensive",
        made_at=MADE_AT,
        kinds=kinds,
    )
    return Answered(name, source, analysis.reading, tuple(instances))


def store(archive: Orthanc, answer: Answered, folder: Path) -> None:
    """Film and objects go to the archive with DCMTK's storescu."""
    paths = [folder / "film.dcm", *(folder / f"{number}.dcm" for number in range(len(answer.instances)))]
    answer.source.save_as(paths[0], enforce_file_format=True)
    for path, instance in zip(paths[1:], answer.instances, strict=True):
        path.write_bytes(instance.encode())
    command = ["storescu", "-R", "-aec", archive.ae_title, HOST, str(archive.port), *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
