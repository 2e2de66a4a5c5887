"""
How much a model's answers hang on what should not matter: `genu evaluate --stress`.

The same knees are graded again, each changed as another film of it may differ, and each the way that the node
grades a film, but for the finder: the crop is the joint. A change makes one film of another; negatives are turned
and sides that nobody tells are read off the image, as the node does.
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
from workers.evaluation.evaluate import Judgement
from workers.evaluation.labelled_films import BATCH, as_film, film_of, grade_joints, joint_of
from workers.evaluation.labelled_knees import LabelledKnee, truth_of
from workers.evaluation.metrics import Grades, draws, interval, quadratic_weighted_kappa
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
"""By as much may accuracy fall under any one change."""


@dataclass(frozen=True)
class Change:
    """What another film of the same knee may have otherwise; `make` gets the film and the knee's number."""

    name: str
    make: Callable[[Film, int], Film]


def moved(film: Film, at: int, *, turn: float = 0.0, zoom: float = 1.0, shift: float = 0.0) -> Film:
    """Turned by degrees, enlarged, and shifted by a part of its width to one of four sides; its edge continues."""
    rows, columns = film.pixels.shape
    matrix = np.asarray(cv2.getRotationMatrix2D(((columns - 1) / 2, (rows - 1) / 2), turn, zoom), np.float64)
    side = np.random.default_rng((SEED, at)).integers(4)
    matrix[:, 2] += shift * columns * np.array([(1, 0), (-1, 0), (0, 1), (0, -1)][side])
    pixels = cv2.warpAffine(
        film.pixels, matrix, (columns, rows), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return replace(film, pixels=np.asarray(pixels, np.float32))


def exposed(film: Film, _: int, *, gamma: float) -> Film:
    """Darker (gamma above 1) or lighter."""
    return replace(film, pixels=film.pixels ** np.float32(gamma))


def inverted(film: Film, _: int) -> Film:
    """Bones dark, and no header that says so."""
    return replace(film, pixels=1 - film.pixels)


def mirrored(film: Film, _: int) -> Film:
    """Hung the wrong way round: the header states the side that it was."""
    return replace(film, pixels=np.ascontiguousarray(film.pixels[:, ::-1]))


def of_unknown_side(film: Film, _: int) -> Film:
    """The same film, and nobody says which knee it is."""
    return film_of(film.pixels, Laterality.UNKNOWN)


def through_dicom(film: Film, at: int, *, reader: Reader, folder: Path) -> Film:
    """Written as a digital X-ray of 12 bits and read as the node reads what it received."""
    stored = RenderedFilm(np.rint(film.pixels * 4095).astype(np.uint16), spacing_mm=0.34)
    side, _ = stated_side(film.header)
    path = folder / f"{at}.dcm"
    as_dx(stored, Header(side=side or None)).save_as(path, enforce_file_format=True)
    try:
        return reader.film(path)
    finally:
        path.unlink()


@contextmanager
def changes(work: Work) -> Iterator[list[Change]]:
    """All of them."""
    reader = Reader.from_settings(work)
    with tempfile.TemporaryDirectory() as folder:
        try:
            yield [
                Change("shifted by 8 %", partial(moved, shift=0.08)),
                Change("enlarged by 15 %", partial(moved, zoom=1.15)),
                Change("reduced by 15 %", partial(moved, zoom=0.85)),
                Change("turned left by 10°", partial(moved, turn=10)),
                Change("turned right by 10°", partial(moved, turn=-10)),
                Change("gamma 0.6", partial(exposed, gamma=0.6)),
                Change("gamma 1.6", partial(exposed, gamma=1.6)),
                Change("inverted", inverted),
                Change("mirrored", mirrored),
                Change("12-bit DICOM", partial(through_dicom, reader=reader, folder=Path(folder))),
                Change("side unknown", of_unknown_side),
            ]
        finally:
            reader.close()


def stress(judged: Judgement, settings: Settings) -> list[dict[str, Any]]:
    """
    For each change what it does to accuracy, kappa, grades and expected grades; the first row is without any.

    A film that is refused under a change has no grade: it counts as wrong and as changed.
    """
    knees, before = judged.knees, judged.graded
    teller, looker = (
        load(name, engine=settings.work.engine, within=folders(settings)) for name in (ORIENTATION, REFINER)
    )
    told = [{"change": "as it is", **compared(knees, before, before)}]
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    # Time is told from all that was done so far: reading and writing DICOM files takes longer than a shift.
    bar = Progress(*columns, console=Console(stderr=True), transient=True, speed_estimate_period=1e9)
    with changes(settings.work) as todo, bar:
        task = bar.add_task("", total=len(todo) * len(knees))
        for number, change in enumerate(todo, start=1):
            bar.update(task, description=f"{change.name} ({number} of {len(todo)})")
            after: list[Graded | None] = []
            for at in range(0, len(knees), BATCH):
                chunk = list(enumerate(knees[at : at + BATCH], start=at))
                after += _graded(change, chunk, judged.model, teller, looker)
                bar.advance(task, len(chunk))
            told.append({"change": change.name, **compared(knees, before, after)})
    return told


def _graded(
    change: Change, chunk: Sequence[tuple[int, LabelledKnee]], model: Model, teller: Model, looker: Model
) -> list[Graded | None]:
    """What is said of some knees under a change; None where the film is refused."""
    joints: list[tuple[Film, Knee] | None] = []
    for at, knee in chunk:
        try:
            film = change.make(as_film(knee), at)
        except Ungradable:
            joints.append(None)
            continue
        film = as_positive(film, [Box.whole(film.pixels)], teller)
        joint = joint_of(film, looker)
        (side,) = determine_laterality(film, [joint], (), teller)
        joints.append((film, Knee(joint, side)))
    graded = iter(grade_joints([joint for joint in joints if joint is not None], model))
    told = (None if joint is None else next(graded) for joint in joints)
    return [None if each is None or each.out_of_distribution else each for each in told]


def compared(
    knees: Sequence[LabelledKnee], before: Sequence[Graded | None], after: Sequence[Graded | None]
) -> dict[str, Any]:
    """
    What became of the answers.

    `accuracy_change` is negative where accuracy fell; in its interval each patient is compared with himself.
    `changed` is the part of knees with another grade, `moved` the mean distance of the expected grades.
    """
    truth, was, now = truth_of(knees), _grades(before), _grades(after)
    gain = (now == truth).astype(float) - (was == truth)
    drawn = np.array([gain[chosen].mean() for chosen in draws([knee.patient for knee in knees])])
    given = now >= 0
    moves = np.abs(_expected(after) - _expected(before))[given]
    return {
        "accuracy": round(float((now == truth).mean()), 4),
        "qwk": round(quadratic_weighted_kappa(truth[given], now[given]), 4) if given.any() else None,
        "accuracy_change": interval(float(gain.mean()), drawn),
        "changed": round(float((now != was).mean()), 4),
        "moved": round(float(moves.mean()), 4) if given.any() else None,
        "refused": int((~given).sum()),
    }


def _grades(graded: Sequence[Graded | None]) -> Grades:
    return np.array([-1 if each is None else int(each.grade) for each in graded], np.int64)


def _expected(graded: Sequence[Graded | None]) -> npt.NDArray[np.float64]:
    return np.array([np.nan if each is None else float(each.probabilities @ GRADES) for each in graded])


HEAD = f"{'change':20} {'accuracy':>8} {'QWK':>6}   {'change in points':22} {'regraded':>8} {'moved by':>8}"
NOTE = (
    "Change of accuracy in points, with its 95 % interval over patients; regraded: part of knees with another grade;\n"
    "moved by: mean distance between the expected grades (repeatability)."
)


def say(told: Sequence[dict[str, Any]]) -> str:
    """The rows as a table for a person."""
    return "\n".join([HEAD, *(_row(each) for each in told), "", NOTE, verdict(told)])


def verdict(told: Sequence[dict[str, Any]]) -> str:
    """Under which changes accuracy falls by more than is tolerated."""
    limit = f"{100 * TOLERATED:.0f} points"
    worse = [each["change"] for each in told if each["accuracy_change"]["value"] < -TOLERATED]
    return f"Accuracy falls by more than {limit}: {', '.join(worse)}." if worse else f"No fall by more than {limit}."


def _row(told: dict[str, Any]) -> str:
    value, low, high = (100 * told["accuracy_change"][key] for key in ("value", "low", "high"))
    points = f"{value:+.1f} ({low:+.1f} to {high:+.1f})"
    qwk, moved_by = ("-" if told[key] is None else f"{told[key]:.3f}" for key in ("qwk", "moved"))
    refused = f"  {told['refused']} refused" if told["refused"] else ""
    return (
        f"{told['change']:20} {told['accuracy']:8.3f} {qwk:>6}   {points:22} "
        f"{100 * told['changed']:6.1f} % {moved_by:>8}{refused}"
    )
