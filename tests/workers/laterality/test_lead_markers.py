"""Lead letters on a film: an R or L that stands alone is read, and is one witness of the side; all else is not."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from node.errors import Ungradable
from node.evidence import Agreement, LateralitySource
from node.finding import Laterality
from node.settings import Work
from tests.samples.labelled import rendered_knees
from tests.samples.real_knees import needs_knees, pixels, some_knees
from tests.workers.detection.test_joints import as_film, rendered
from workers.analysis import prepare_film
from workers.detection.detection_models import DetectionModels, load_detection_models
from workers.eligibility import Rules
from workers.evaluation.labelled_knees import LabelledKnee, read_labels
from workers.knee import Knee
from workers.laterality.lead_markers import isolated, letter_candidates, read_lead_markers
from workers.laterality.vote import MARKERS
from workers.models.networks import LeadMarkerClassifier
from workers.phantom import KneeShape, render
from workers.phantom.sample_films import samples
from workers.preprocessing import Box, Grey
from workers.read import Film, Reader
from workers.training.films import Crop, compose
from workers.training.fit_lead_markers import LeadMarkerRecipe, evaluate_lead_markers, fit_lead_marker_classifier
from workers.training.lead_letter_films import film_without_letters, with_letters

R, L = Laterality.RIGHT, Laterality.LEFT
SIDE = 300.0
"""Of the joint on the films that are drawn here, in pixels."""


@pytest.fixture(scope="module")
def models() -> DetectionModels:
    return load_detection_models()


def knees_on(film: Film, models: DetectionModels) -> list[Knee]:
    return [candidate.knee for candidate in prepare_film(film, models, Rules()).candidates]


@pytest.fixture(scope="module")
def knees(tmp_path_factory: pytest.TempPathFactory) -> list[LabelledKnee]:
    return read_labels(rendered_knees(tmp_path_factory.mktemp("knees"), 6))


def sheet() -> Grey:
    """A film of nothing but a slow gradient and some noise."""
    grey = np.tile(np.linspace(0.1, 0.45, 700, dtype=np.float32), (800, 1))
    return grey + np.random.default_rng(0).normal(0, 0.01, grey.shape).astype(np.float32)


def written(film: Grey, text: str, x: int, y: int, *, mirrored: bool = False, tilt: float = 0.0) -> Grey:
    """The film with the text on it, its middle at (x, y)."""
    tall, font, scale = 30, cv2.FONT_HERSHEY_DUPLEX, 30 / 21
    (wide, _), _ = cv2.getTextSize(text, font, scale, 4)
    ink = np.zeros((4 * tall, wide + 4 * tall), np.uint8)
    cv2.putText(ink, text, (2 * tall, int(2.5 * tall)), font, scale, 255, 4, cv2.LINE_AA)
    ink = ink[:, ::-1] if mirrored else ink
    turn = cv2.getRotationMatrix2D((ink.shape[1] / 2, ink.shape[0] / 2), tilt, 1)
    cover = cv2.warpAffine(np.ascontiguousarray(ink), turn, ink.shape[::-1]).astype(np.float32) / 255
    top, left = y - cover.shape[0] // 2, x - cover.shape[1] // 2
    part = film[top : top + cover.shape[0], left : left + cover.shape[1]]
    part[:] = part * (1 - cover) + 0.95 * cover
    return film


def read(film: Grey, models: DetectionModels) -> list[str]:
    found = read_lead_markers(film, [Box.about((350, 400), SIDE)], models.lead_markers)
    assert all(0.9 < sure <= 1 for _, _, sure in found)
    return [letter for _, letter, _ in found]


@pytest.mark.parametrize("letter", ["R", "L"])
@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("tilt", [-8.0, 0.0, 8.0])
def test_a_letter_alone_is_read_also_tilted_and_mirrored(
    models: DetectionModels, letter: str, mirrored: bool, tilt: float
) -> None:
    """A mirrored letter names the side of the knee that hangs mirrored beside it; and it is found where it lies."""
    film = written(sheet(), letter, 150, 220, mirrored=mirrored, tilt=tilt)
    ((where, said, _),) = read_lead_markers(film, [Box.about((350, 400), SIDE)], models.lead_markers)
    assert said == letter
    assert np.hypot(where.middle[0] - 150, where.middle[1] - 220) < 15
    assert 20 < where.height < 50


def test_a_letter_in_a_ring_is_read(models: DetectionModels) -> None:
    film = written(sheet(), "R", 400, 300)
    cv2.circle(film, (400, 300), 36, 0.95, 4, cv2.LINE_AA)
    assert read(film, models) == ["R"]


@pytest.mark.parametrize("text", ["LAT", "KNEE", "RR", "STANDING", "B", "P", "K", "7", "T", "J", "1204"])
def test_words_and_other_letters_are_not(models: DetectionModels, text: str) -> None:
    """The L of a word is no marker, whatever word it is."""
    assert read(written(sheet(), text, 330, 300), models) == []


def test_rulers_balls_and_frames_are_not(models: DetectionModels) -> None:
    """An L has the shape of two ticks of a ruler or of a frame's corner."""
    film = sheet()
    cv2.line(film, (80, 20), (80, 780), 0.95, 3)
    for at, y in enumerate(range(20, 780, 20)):
        cv2.line(film, (80, y), (80 + (24 if at % 5 == 0 else 12), y), 0.95, 2)
    cv2.circle(film, (500, 200), 25, 0.95, -1, cv2.LINE_AA)
    cv2.rectangle(film, (450, 500), (520, 560), 0.95, 4)
    cv2.line(film, (300, 600), (330, 660), 0.95, 8, cv2.LINE_AA)
    found, patches = letter_candidates(film, SIDE, 32)
    assert len(found) == len(patches) > 0
    assert read(film, models) == []


def test_one_of_a_row_stands_not_alone() -> None:
    """Equal in height, level, and hardly apart: a word. A smaller neighbour, or one farther away, makes none."""
    letter = [100, 100, 14, 20, 120]
    assert len(isolated(np.array([letter]))) == 1
    assert not isolated(np.array([letter, [120, 101, 13, 19, 120]]))
    assert len(isolated(np.array([letter, [120, 110, 6, 8, 30]]))) == 1
    assert len(isolated(np.array([letter, [160, 100, 14, 20, 120]]))) == 2
    assert not isolated(np.array([[100, 100, 14, 20, 275], [200, 100, 90, 20, 600], [300, 100, 3, 4, 9]]))


@pytest.mark.parametrize("mirrored", [False, True])
def test_the_marker_is_evidence_of_each_knees_side(models: DetectionModels, mirrored: bool) -> None:
    """A film of two with a lead letter beside each; hung mirrored, markers and fibulas say so against the places."""
    film = render([KneeShape(R), KneeShape(L)], rows=2000, columns=2400, seed=7)
    shown = rendered(film)
    if mirrored:
        shown = as_film(np.ascontiguousarray(shown.pixels[:, ::-1]))
    knees = knees_on(shown, models)
    evidence = [{item.source: item for item in knee.side.evidence} for knee in knees]
    assert [sources[LateralitySource.MARKER].value for sources in evidence] == (["L", "R"] if mirrored else ["R", "L"])
    assert all(0.9 * MARKERS < sources[LateralitySource.MARKER].weight <= MARKERS for sources in evidence)
    assert [knee.laterality for knee in knees] == ([L, R] if mirrored else [R, L])


def test_a_header_that_contradicts_the_marker_is_a_conflict(models: DetectionModels) -> None:
    """What was exposed with the knee outweighs what the console was told, and the reader is told of it."""
    film = rendered(render([KneeShape(R)], rows=1800, columns=1500, seed=4))
    film.header.ImageLaterality = "L"
    (knee,) = knees_on(film, models)
    assert knee.laterality is R
    assert knee.side.agreement is Agreement.CONFLICT
    assert LateralitySource.MARKER in {item.source for item in knee.side.evidence if item.value == "R"}


def test_no_sample_film_is_read_wrongly(models: DetectionModels, tmp_path: Path) -> None:
    """Of the films that come with Genu, each marker that is read says the knee's side, and most are read."""
    shown, reader = [], Reader.from_settings(Work())
    for ds, sides in zip(samples(), ("R", "L", "RL", "", "L", ""), strict=True):
        try:
            ds.save_as(tmp_path / "film.dcm", enforce_file_format=True)
            knees = knees_on(reader.film(tmp_path / "film.dcm"), models)
        except Ungradable:
            continue
        shown += [
            (item.value, side)
            for knee, side in zip(knees, sides, strict=False)
            for item in knee.side.evidence
            if item.source is LateralitySource.MARKER
        ]
    reader.close()
    assert all(value == side for value, side in shown)
    assert len(shown) >= 4


@needs_knees
def test_knees_without_markers_say_nothing(models: DetectionModels) -> None:
    """Of 150 crops and 40 films of val without a letter, none."""
    for row in some_knees("val", 150):
        crop = pixels(row).astype(np.float32) / 255
        assert not read_lead_markers(crop, [Box(0, 0, 299, 299)], models.lead_markers), row["path"]
    rows = some_knees("val", 40)
    for at, row in enumerate(rows):
        knee = Crop(pixels(row).astype(np.float32) / 255)
        film = compose([knee], np.random.default_rng(at), joint=(200, 300), longest=900, metal=0.3, with_markers=False)
        assert not read_lead_markers(film.pixels, film.boxes, models.lead_markers), row["path"]


def test_training_learns_what_a_letter_is(knees: list[LabelledKnee]) -> None:
    """A few films are enough to tell most letters from what is none, and the figures count what they say they do."""
    recipe = LeadMarkerRecipe(films=8, copies=4, steps=250, batch=64, seed=3)
    network = fit_lead_marker_classifier(recipe, knees, 32, on_step=lambda step, loss: None)
    assert isinstance(network, LeadMarkerClassifier)
    told = evaluate_lead_markers(network, knees, 32, 0.5, films=10)
    assert (told.films, told.letters) == (10, 20)
    assert told.read + told.wrong <= 1
    assert told.read > 0.1
    assert evaluate_lead_markers(network, knees, 32, 1.1, films=2).read == 0


def test_films_for_training_know_their_letters(knees: list[LabelledKnee]) -> None:
    """Letters lie where they are said to lie: they are what changed, and a film for others has none."""
    random = np.random.default_rng(5)
    film, side = film_without_letters(knees, random)
    assert not with_letters(film, side, random, 0, 3).letters
    lettered = with_letters(film, side, random, 1, 0)
    ((where, _),) = lettered.letters
    changed = np.abs(lettered.pixels - film) > 0.02
    assert changed[int(where.y0) : int(where.y1), int(where.x0) : int(where.x1)].any()
