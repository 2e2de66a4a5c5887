"""
Robustness of a model to changes that should not matter: `genu evaluate --stress`.

The same knees are graded again, each changed as another film of it may differ, and each as the node grades a film,
except for the detector: the crop is the joint. A perturbation makes one film of another; negatives are inverted and
unknown sides are determined from the image, as the node does.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from node.errors import Ungradable
from node.finding import Laterality
from node.settings import Settings, Work
from workers.detection.polarity import as_positive
from workers.evaluation.evaluate import Evaluation
from workers.evaluation.labelled_films import BATCH, as_film, film_from_pixels, grade_joints, joint_of_crop
from workers.evaluation.labelled_knees import LabelledKnee, true_grades
from workers.evaluation.metrics import Grades, interval, patient_resamples, quadratic_weighted_kappa
from workers.grading.grader import Graded
from workers.knee import Knee
from workers.laterality.determine import determine_laterality
from workers.laterality.header_evidence import stated_side
from workers.models.calibration import GRADES
from workers.models.registry import ORIENTATION, REFINER, Model, folders, load
from workers.phantom import Header, RenderedFilm, as_dx
from workers.preprocessing import Box
from workers.read import Film, Reader

SEED = 8
TOLERATED = 0.02
"""The fall of accuracy that is tolerated under any one perturbation."""


@dataclass(frozen=True)
class Perturbation:
    """A difference that another film of the same knee may have; `make` gets the film and the knee's number."""

    name: str
    make: Callable[[Film, int], Film]


def displaced(film: Film, at: int, *, turn: float = 0.0, zoom: float = 1.0, shift: float = 0.0) -> Film:
    """Turned by degrees, enlarged, and shifted by a part of its width to one of four sides; its edge continues."""
    rows, columns = film.pixels.shape
    matrix = np.asarray(cv2.getRotationMatrix2D(((columns - 1) / 2, (rows - 1) / 2), turn, zoom), np.float64)
    side = np.random.default_rng((SEED, at)).integers(4)
    matrix[:, 2] += shift * columns * np.array([(1, 0), (-1, 0), (0, 1), (0, -1)][side])
    pixels = cv2.warpAffine(
        film.pixels, matrix, (columns, rows), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return replace(film, pixels=np.asarray(pixels, np.float32))


def with_gamma(film: Film, _: int, *, gamma: float) -> Film:
    """Darker (gamma above 1) or lighter."""
    return replace(film, pixels=film.pixels ** np.float32(gamma))


def inverted(film: Film, _: int) -> Film:
    """Bones dark, although the header does not state it."""
    return replace(film, pixels=1 - film.pixels)


def mirrored(film: Film, _: int) -> Film:
    """Displayed mirrored: the header still states the true side."""
    return replace(film, pixels=np.ascontiguousarray(film.pixels[:, ::-1]))


def without_side(film: Film, _: int) -> Film:
    """The same film with a header that does not state the side."""
    return film_from_pixels(film.pixels, Laterality.UNKNOWN)


def through_dicom(film: Film, at: int, *, reader: Reader, folder: Path) -> Film:
    """Written as a digital X-ray of 12 bits and read as the node reads received files."""
    stored = RenderedFilm(np.rint(film.pixels * 4095).astype(np.uint16), spacing_mm=0.34)
    side, _ = stated_side(film.header)
    path = folder / f"{at}.dcm"
    as_dx(stored, Header(side=side or None)).save_as(path, enforce_file_format=True)
    try:
        return reader.film(path)
    finally:
        path.unlink()


@contextmanager
def perturbations(work: Work) -> Iterator[list[Perturbation]]:
    """All perturbations; some need a reader and a folder, which exist within this context."""
    reader = Reader.from_settings(work)
    with tempfile.TemporaryDirectory() as folder:
        try:
            yield [
                Perturbation("shifted by 8 %", partial(displaced, shift=0.08)),
                Perturbation("enlarged by 15 %", partial(displaced, zoom=1.15)),
                Perturbation("reduced by 15 %", partial(displaced, zoom=0.85)),
                Perturbation("turned left by 10°", partial(displaced, turn=10)),
                Perturbation("turned right by 10°", partial(displaced, turn=-10)),
                Perturbation("gamma 0.6", partial(with_gamma, gamma=0.6)),
                Perturbation("gamma 1.6", partial(with_gamma, gamma=1.6)),
                Perturbation("inverted", inverted),
                Perturbation("mirrored", mirrored),
                Perturbation("12-bit DICOM", partial(through_dicom, reader=reader, folder=Path(folder))),
                Perturbation("side unknown", without_side),
            ]
        finally:
            reader.close()


def run_stress_test(evaluation: Evaluation, settings: Settings) -> list[dict[str, Any]]:
    """
    The effect of each perturbation on accuracy, kappa, grades and expected grades; the first row is without any.

    A film that is refused under a perturbation has no grade: it counts as wrong and as changed.
    """
    knees, before = evaluation.knees, evaluation.graded
    orientation, refiner = (
        load(name, engine=settings.work.engine, within=folders(settings)) for name in (ORIENTATION, REFINER)
    )
    rows = [{"change": "as it is", **compare_outcomes(knees, before, before)}]
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    # The time left is estimated from all work so far: reading and writing DICOM files takes longer than a shift.
    bar = Progress(*columns, console=Console(stderr=True), transient=True, speed_estimate_period=1e9)
    with perturbations(settings.work) as todo, bar:
        task = bar.add_task("", total=len(todo) * len(knees))
        for number, perturbation in enumerate(todo, start=1):
            bar.update(task, description=f"{perturbation.name} ({number} of {len(todo)})")
            after: list[Graded | None] = []
            for at in range(0, len(knees), BATCH):
                chunk = list(enumerate(knees[at : at + BATCH], start=at))
                after += _graded(perturbation, chunk, evaluation.model, orientation, refiner)
                bar.advance(task, len(chunk))
            rows.append({"change": perturbation.name, **compare_outcomes(knees, before, after)})
    return rows


def _graded(
    perturbation: Perturbation,
    chunk: Sequence[tuple[int, LabelledKnee]],
    model: Model,
    orientation: Model,
    refiner: Model,
) -> list[Graded | None]:
    """The grades of some knees under a perturbation; None where the film is refused."""
    joints: list[tuple[Film, Knee] | None] = []
    for at, knee in chunk:
        try:
            film = perturbation.make(as_film(knee), at)
        except Ungradable:
            joints.append(None)
            continue
        film = as_positive(film, [Box.whole(film.pixels)], orientation)
        joint = joint_of_crop(film, refiner)
        (side,) = determine_laterality(film, [joint], (), orientation)
        joints.append((film, Knee(joint, side)))
    graded = iter(grade_joints([joint for joint in joints if joint is not None], model))
    results = (None if joint is None else next(graded) for joint in joints)
    return [None if result is None or result.out_of_distribution else result for result in results]


def compare_outcomes(
    knees: Sequence[LabelledKnee], before: Sequence[Graded | None], after: Sequence[Graded | None]
) -> dict[str, Any]:
    """
    How the grades changed.

    `accuracy_change` is negative where accuracy fell; its interval is paired by patient.
    `changed` is the part of knees with another grade, `moved` the mean distance of the expected grades.
    """
    truth, was, now = true_grades(knees), _grades(before), _grades(after)
    gain = (now == truth).astype(float) - (was == truth)
    resampled = np.array([gain[indices].mean() for indices in patient_resamples([knee.patient for knee in knees])])
    given = now >= 0
    moves = np.abs(_expected(after) - _expected(before))[given]
    return {
        "accuracy": round(float((now == truth).mean()), 4),
        "qwk": round(quadratic_weighted_kappa(truth[given], now[given]), 4) if given.any() else None,
        "accuracy_change": interval(float(gain.mean()), resampled),
        "changed": round(float((now != was).mean()), 4),
        "moved": round(float(moves.mean()), 4) if given.any() else None,
        "refused": int((~given).sum()),
    }


def _grades(graded: Sequence[Graded | None]) -> Grades:
    return np.array([-1 if one is None else int(one.grade) for one in graded], np.int64)


def _expected(graded: Sequence[Graded | None]) -> npt.NDArray[np.float64]:
    return np.array([np.nan if one is None else float(one.probabilities @ GRADES) for one in graded])


HEAD = f"{'change':20} {'accuracy':>8} {'QWK':>6}   {'change in points':22} {'regraded':>8} {'moved by':>8}"
NOTE = (
    "Change of accuracy in points, with its 95 % interval over patients; regraded: part of knees with another grade;\n"
    "moved by: mean distance between the expected grades (repeatability)."
)


def format_rows(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as a table."""
    return "\n".join([HEAD, *(_format_row(row) for row in rows), "", NOTE, verdict(rows)])


def verdict(rows: Sequence[dict[str, Any]]) -> str:
    """Names the perturbations under which accuracy falls by more than is tolerated."""
    limit = f"{100 * TOLERATED:.0f} points"
    worse = [row["change"] for row in rows if row["accuracy_change"]["value"] < -TOLERATED]
    return f"Accuracy falls by more than {limit}: {', '.join(worse)}." if worse else f"No fall by more than {limit}."


def _format_row(row: dict[str, Any]) -> str:
    value, low, high = (100 * row["accuracy_change"][key] for key in ("value", "low", "high"))
    points = f"{value:+.1f} ({low:+.1f} to {high:+.1f})"
    qwk, moved_by = ("-" if row[key] is None else f"{row[key]:.3f}" for key in ("qwk", "moved"))
    refused = f"  {row['refused']} refused" if row["refused"] else ""
    return (
        f"{row['change']:20} {row['accuracy']:8.3f} {qwk:>6}   {points:22} "
        f"{100 * row['changed']:6.1f} % {moved_by:>8}{refused}"
    )
