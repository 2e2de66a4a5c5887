"""The pages: what is on each, what never is, and that no line of type touches another or a knee."""

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.evidence import Certainty, KLGrade, LateralitySource
from node.finding import Finding, Laterality
from node.reasons import REASONS, Flag
from tests.samples.source_films import (
    CARD,
    CUT_OFF,
    EMPTY,
    LEFT,
    MADE_AT,
    RIGHT,
    SHARES,
    UNDECIDED,
    UNKNOWN,
    WHERE,
    film,
    header,
    heat,
)
from workers.preprocessing import Box
from workers.report.layout.canvas import Canvas, font
from workers.report.layout.colours import AGAINST, FOR, TABLE, Bytes, heat_alpha, heat_colour
from workers.report.layout.page_frame import RED, Layout
from workers.report.layout.pages import Page, draw_pages, pixel_aspect
from workers.report.layout.rendering import crop
from workers.report.layout.wording import KNEE_LABELS, WARNING, KneeContent, attention_facts

LONG = 480
LAYOUT = Layout(LONG)
ALL = ["original", "overlay 25 %", "overlay 50 %", "overlay 75 %", "contours", "contrast", "explanation"]


CONFLICT = Flag("SIDE_CONFLICT", "What tells the side contradicts itself", "Check the marker.", True)
REMARK = Flag("AGE_UNKNOWN", "The header does not tell the age", "Make sure that this is an adult.", False)


def flagged(finding: Finding, *flags: Flag) -> Finding:
    return replace(finding, flags=flags)


def drawn(*rows: KneeContent, long_side: int = LONG, of: Any = None) -> list[Page]:
    return draw_pages(of or film(header()), rows, card=CARD, made_at=MADE_AT, long_side=long_side)


def by_name(*rows: KneeContent, long_side: int = LONG) -> dict[str, Bytes]:
    return {page.name: page.pixels for page in drawn(*rows, long_side=long_side)}


def picture(page: Bytes, layout: Layout = LAYOUT) -> Bytes:
    return page[layout.top : layout.bottom]


def is_grey(shown: Bytes) -> bool:
    return bool((shown.max(-1) == shown.min(-1)).all())


def test_every_knee_has_its_pages_and_the_right_one_comes_first() -> None:
    """Seven pages a knee, named by side, in scrolling order; right knee first, whatever the order of the input."""
    expected = [f"{side} {name}" for side in "RL" for name in ALL]
    assert [
        page.name for page in drawn(KneeContent(RIGHT, heat()), KneeContent(LEFT, heat(Box(*LEFT.box))))
    ] == expected
    assert [
        page.name for page in drawn(KneeContent(LEFT, heat(Box(*LEFT.box))), KneeContent(RIGHT, heat()))
    ] == expected
    crossed = (
        KneeContent(replace(RIGHT, box=LEFT.box), heat(Box(*LEFT.box))),
        KneeContent(replace(LEFT, box=RIGHT.box), heat()),
    )
    assert [page.knee.laterality for page in drawn(*crossed)] == [Laterality.RIGHT] * 7 + [Laterality.LEFT] * 7


def test_two_knees_of_unknown_side_are_ordered_by_their_place() -> None:
    """The one on the image's left is the first."""
    second = replace(UNKNOWN, box=LEFT.box)
    page_list = drawn(KneeContent(second, heat()), KneeContent(UNKNOWN, heat()))
    assert [page.name for page in page_list] == [f"{number} {name}" for number in "12" for name in ALL]
    assert page_list[0].knee.box == UNKNOWN.box


@pytest.mark.parametrize(
    "knee",
    [KneeContent(CUT_OFF, None), KneeContent(EMPTY, heat(empty=True))],
    ids=["refused knee", "map without evidence"],
)
def test_a_knee_without_anything_to_show_has_the_radiograph_and_the_words(knee: KneeContent) -> None:
    """Overlays of nothing would be the same picture four times, and a refused knee has no map of its own."""
    pages_by_name = by_name(knee)
    assert [name.split(" ", 1)[1] for name in pages_by_name] == ["original", "explanation"]
    assert all(is_grey(picture(page)) for name, page in pages_by_name.items() if "original" in name)


@pytest.mark.parametrize("long_side", [400, 480, 900, 2048])
def test_all_pages_have_one_size_and_an_even_number_of_bytes(long_side: int) -> None:
    """Frames of one object must; the long side is that of the settings."""
    shapes = {
        page.pixels.shape for page in drawn(KneeContent(RIGHT, heat()), KneeContent(CUT_OFF, None), long_side=long_side)
    }
    [(height, width, colours)] = shapes
    assert (height, colours) == (long_side, 3)
    assert width % 2 == 0
    assert 0.78 < width / height < 0.82


def test_fourteen_pages_stay_below_eight_megabytes_by_default() -> None:
    """Two knees, uncompressed, as any archive takes them."""
    assert (
        sum(page.pixels.nbytes for page in drawn(KneeContent(RIGHT, heat()), KneeContent(LEFT, heat(Box(*LEFT.box)))))
        <= 8_000_000
    )


def test_nothing_is_written_on_the_joint() -> None:
    """The original page is the film's own pixels between the strips, and nothing else."""
    shown = picture(by_name(KneeContent(RIGHT, heat()))["R original"])
    expected = crop(film(header()), Box(*RIGHT.box), LAYOUT.picture_size, LAYOUT.picture_size)
    assert np.array_equal(shown, np.repeat(expected[..., None], 3, axis=2))


def test_an_overlay_is_coloured_where_the_map_has_evidence_and_stronger_with_every_page() -> None:
    """Grey where there is no evidence, and bone visible through the strongest colour."""
    pages_by_name = by_name(KneeContent(RIGHT, heat()))
    plain = picture(pages_by_name["R original"])
    side = LAYOUT.picture_size
    peak = slice(int(side * 0.45), int(side * 0.55)), slice(int(side * 0.25), int(side * 0.4))
    strong = []
    for percent in (25, 50, 75):
        shown = picture(pages_by_name[f"R overlay {percent} %"])
        strong.append(float(np.ptp(shown[peak].astype(int), axis=-1).mean()))
        assert is_grey(shown[: side // 8, -side // 8 :])
        assert np.array_equal(shown[: side // 8, -side // 8 :], plain[: side // 8, -side // 8 :])
    assert strong == sorted(strong)
    assert strong[0] > 15
    across, middle = int(side * 0.34), side // 2
    for beside in (middle - 16, middle + 16):
        before = int(plain[middle, across].sum()) - int(plain[beside, across].sum())
        after = int(shown[middle, across].sum()) - int(shown[beside, across].sum())
        assert abs(before) > 100
        assert after / before > 0.2


def test_outlines_are_light_lines_with_a_dark_rim_and_change_nothing_else() -> None:
    """Three rings around the peak that show on bone and on air, without colour."""
    pages_by_name = by_name(KneeContent(RIGHT, heat()))
    plain, lined = (picture(pages_by_name[f"R {name}"]).astype(int) for name in ("original", "contours"))
    assert is_grey(lined.astype(np.uint8))
    changed = (plain != lined).any(-1)
    assert 0.01 < changed.mean() < 0.25
    through_peak = lined[int(LAYOUT.picture_size * 0.56), :, 0] - plain[int(LAYOUT.picture_size * 0.56), :, 0]
    assert (through_peak < -20).any() or (through_peak > 60).any()


def test_a_map_is_as_strong_on_every_film() -> None:
    """One fixed scale: a weak map is drawn weakly."""
    strong = heat()
    quarter = (strong.strength / 4).astype(np.float32)
    weak = replace(strong, values=quarter, strength=quarter)
    colour = [
        int(np.ptp(picture(by_name(KneeContent(RIGHT, heat_map))["R overlay 50 %"]).astype(int), axis=-1).sum())
        for heat_map in (strong, weak)
    ]
    assert colour[1] < colour[0] / 2


def test_on_a_grey_monitor_stronger_is_lighter_and_opacity_only_rises() -> None:
    """Lightness rises from end to end of the table, and even at full strength the film shows through."""
    light = TABLE @ np.array([0.299, 0.587, 0.114])
    assert (np.diff(light) > -0.5).all()
    assert light[-1] - light[0] > 120
    alpha = heat_alpha(np.linspace(0, 1, 101, dtype=np.float32))
    assert (np.diff(alpha) >= 0).all()
    assert alpha[0] == 0
    assert alpha[-1] < 0.7
    assert np.array_equal(heat_colour(np.array([1.5], np.float32)), TABLE[-1:])


AS_SEEN = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
"""What is left of linear RGB to those who lack one kind of cone (Machado et al. 2009, severity 1)."""


def lab(colours: Any, eye: str) -> Any:
    """CIELab (n, 3) of sRGB colours, as that eye sees them."""
    srgb = np.asarray(colours, np.float32).reshape(1, -1, 3) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.array(AS_SEEN[eye], np.float32).T, 0, 1).astype(np.float32)
    return cv2.cvtColor(seen, cv2.COLOR_LRGB2Lab)[0]


@pytest.mark.parametrize("eye", AS_SEEN)
def test_colour_blind_readers_see_the_same_order_and_both_signs(eye: str) -> None:
    """The heat map's colours grow lighter evenly; evidence for and against have distant colours."""
    light = lab(TABLE, eye)[:, 0]
    assert (np.diff(light) > -0.3).all()
    steps = np.diff(light[[0, 64, 128, 192, 255]])
    assert steps.min() > 0.5 * steps.mean()
    one, other = lab([FOR, AGAINST], eye)
    assert np.linalg.norm(one - other) > 40


class Ink:
    """Every line of type that the pages have, with the rectangle that it covers; a copied sheet has its copy's too."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.texts: dict[int, list[tuple[str, tuple[float, float, float, float]]]] = {}
        self.canvases: list[Canvas] = []
        set_type, copy, fill = Canvas.text, Canvas.copy, Canvas.box

        def noted(canvas: Canvas, x: float, y: float, words: str, size: int, **style: Any) -> float:
            letters = font(size, bold=style.get("bold", False))
            box = canvas.draw.textbbox((x, y), words, font=letters, anchor=style.get("anchor", "ls"))
            self.canvases.append(canvas)
            self.texts.setdefault(id(canvas), []).append((words, box))
            return set_type(canvas, x, y, words, size, **style)

        def copied(canvas: Canvas) -> Canvas:
            other = copy(canvas)
            self.canvases.append(other)
            self.texts[id(other)] = list(self.texts.get(id(canvas), []))
            return other

        def covered(canvas: Canvas, x0: float, y0: float, x1: float, y1: float, **style: Any) -> None:
            fill(canvas, x0, y0, x1, y1, **style)
            if style.get("fill") == (0, 0, 0):  # what lies below is gone
                self.texts[id(canvas)] = [
                    (words, box)
                    for words, box in self.texts.get(id(canvas), [])
                    if not (x0 <= box[0] and y0 <= box[1] and box[2] <= x1 and box[3] <= y1)
                ]

        monkeypatch.setattr(Canvas, "box", covered)
        monkeypatch.setattr(Canvas, "text", noted)
        monkeypatch.setattr(Canvas, "copy", copied)

    def check(self, *rows: KneeContent, long_side: int = LONG) -> str:
        """All words of the pages of the rows; no line runs over another, off the sheet or onto a picture."""
        self.texts.clear()
        self.canvases.clear()
        layout = Layout(long_side)
        page_list = drawn(*rows, long_side=long_side)
        assert len(page_list) <= len(self.texts)
        for lines in self.texts.values():
            explains = any(words == "Explanation" for words, _ in lines)
            for at, (words, (x0, y0, x1, y1)) in enumerate(lines):
                if not words:
                    continue
                assert x0 >= 0, words
                assert y0 >= 0, words
                assert x1 <= layout.width, words
                assert y1 <= layout.height, words
                assert explains or y1 <= layout.top or y0 >= layout.bottom, words
                for other, (left, top, right, bottom) in lines[at + 1 :]:
                    apart = x1 <= left or right <= x0 or y1 <= top or bottom <= y0
                    assert apart or not other, (words, other)
        return " ".join(words for lines in self.texts.values() for words, _ in lines)


SETS = [(low, high) for low in KLGrade for high in KLGrade if low <= high]


@pytest.mark.parametrize("grade", KLGrade)
def test_the_certainty_of_a_grade_is_beside_it_and_nothing_overlaps(
    grade: KLGrade, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Confidence, set and doubt in words, for every grade and set."""
    ink = Ink(monkeypatch)
    likely = tuple(0.46 if other == grade else 0.135 for other in KLGrade)
    for low, high in (ends for ends in SETS if ends[0] <= grade <= ends[1]):
        for doubt in ((low, high),) if high - low == 1 else ((KLGrade.KL1, KLGrade.KL2), None):
            sure = Certainty(low, high, 0.9, undecided=doubt)
            words = ink.check(KneeContent(replace(RIGHT, grade=grade, probabilities=likely, certainty=sure), None))
            assert f"KL {grade}" in words
            assert "46 % sure" in words
            assert sure.remaining in words
            assert ("could not be told apart" in words) == (doubt is not None)


@pytest.mark.parametrize("long_side", [400, 480, 1024])
def test_every_page_names_its_knee_its_answer_the_model_and_what_it_is_not(
    long_side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page that is shown alone, on a phone or a small monitor, still identifies knee and purpose."""
    ink = Ink(monkeypatch)
    ink.check(KneeContent(RIGHT, heat()), KneeContent(CUT_OFF, None), long_side=long_side)
    for lines in ink.texts.values():
        words = " ".join(text for text, _ in lines)
        assert any(side in words for side in KNEE_LABELS.values())
        assert WARNING in words
        assert CARD.name in words
        assert "KL 3" in words or "Not graded" in words


def test_the_explanation_is_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shares, set, side and its source, notes, model with version and hash, time, limits, and more rows if given."""
    ink = Ink(monkeypatch)
    knee = KneeContent(UNDECIDED, heat(), (("Regions", "medial 62 %, lateral 30 %, elsewhere 8 %"),))
    words = ink.check(knee)
    for expected in (
        "42.0 %",
        "KL 1 is likelier; KL 2 errs less on average",
        "from the position on the film",
        "Regions",
    ):
        assert expected in words
    for expected in (
        "medial 62 %",
        "weights 9f3c1a7be2d0",
        "2026-05-04 13:22 UTC",
        "no outline of disease",
        "a cell is 1/8",
    ):
        assert expected in words


@pytest.mark.parametrize(
    ("shift", "expected"), [(-0.152, " (-0.2 grades)"), (0.06, " (+0.1 grades)"), (0.04, ""), (-0.0, "")]
)
def test_the_check_gives_the_shift_of_the_grade(shift: float, expected: str) -> None:
    """Where it is not zero, rounded to a tenth."""
    facts = dict(attention_facts(replace(RIGHT, attention=replace(WHERE, shift=shift, without=KLGrade.KL2))))
    assert facts["Check"] == f"KL 2 without what lies beside the joint{expected}"
    assert attention_facts(replace(RIGHT, attention=None)) == ()


def test_flags_are_shown_and_a_red_one_colours_the_header(monkeypatch: pytest.MonkeyPatch) -> None:
    """Red behind white in the head of every page of that knee, words on the explanation; a remark is no alarm."""
    ink = Ink(monkeypatch)
    words = ink.check(KneeContent(flagged(RIGHT, REMARK, CONFLICT), heat()))
    assert words.count("SIDE CONFLICT") == len(ALL) + 1  # of the strips that they are all copied from
    assert REMARK.meaning.split()[0] in words
    for page in drawn(KneeContent(flagged(RIGHT, CONFLICT), heat())):
        assert tuple(page.pixels[2, 2]) == RED
    for page in drawn(KneeContent(flagged(RIGHT, REMARK), heat())):
        assert not page.pixels[2, 2].any()


LONG_WORDS = "a very long note of the kind that only a film from far away has, and then some more of it, on and on"


@settings(deadline=None, max_examples=25)
@given(
    grade=st.sampled_from([*KLGrade, None]),
    why=st.sampled_from(sorted(REASONS)),
    side=st.sampled_from(list(Laterality)),
    source=st.sampled_from(LateralitySource),
    facts=st.integers(0, 6),
    flags=st.lists(st.sampled_from([CONFLICT, REMARK]), max_size=4),
)
def test_words_keep_to_their_place(
    grade: KLGrade | None, why: str, side: Laterality, source: LateralitySource, facts: int, flags: list[Flag]
) -> None:
    """For any text, nothing overlaps or leaves the page: what is too long is shortened."""
    shares = SHARES if grade is not None else None
    finding = Finding(side, source, RIGHT.box, grade, shares, None if grade is not None else REASONS[why])
    knee = KneeContent(flagged(finding, *flags), heat() if grade is not None else None, (("Fact", LONG_WORDS),) * facts)
    with pytest.MonkeyPatch.context() as patch:
        Ink(patch).check(knee)


@pytest.mark.parametrize("box", [(0, 0, 1200, 1000), (-80, -40, 400, 440), (900, 700, 1300, 1100), (5, 5, 205, 405)])
def test_a_box_of_any_place_and_shape_is_drawn(box: tuple[float, float, float, float]) -> None:
    """A box over the film's edge, a tall one, a whole film: beyond the film it is black, and nothing is stretched."""
    knee = Finding(Laterality.RIGHT, LateralitySource.POSITION, box, KLGrade.KL3, SHARES)
    shown = picture(by_name(KneeContent(knee, heat()))["R original"])
    assert shown.any()
    if box[0] < 0:
        assert not shown[:, : int(80 / 480 * LAYOUT.picture_size) - 4].any()
    if box == (5, 5, 205, 405):
        assert not shown[:, : LAYOUT.picture_size // 4 - 2].any()


@pytest.mark.parametrize(
    ("keyword", "value", "aspect"),
    [
        ("ImagerPixelSpacing", ["0.4", "0.2"], 2.0),
        ("PixelSpacing", ["0.1", "0.2"], 0.5),
        ("PixelAspectRatio", ["2", "1"], 2.0),
        ("ImagerPixelSpacing", ["0", "0.2"], 1.0),
        ("ImagerPixelSpacing", ["90", "0.2"], 1.0),
    ],
)
def test_pixels_that_are_no_squares_are_drawn_as_they_lay_on_the_detector(
    keyword: str, value: list[str], aspect: float
) -> None:
    """A round head of a bone is round on the page; a spacing that makes no sense changes nothing."""
    of = film(
        header(ImagerPixelSpacing=..., **{keyword: value})
        if keyword != "ImagerPixelSpacing"
        else header(**{keyword: value})
    )
    assert pixel_aspect(of) == aspect
    shown = drawn(KneeContent(RIGHT, heat()), of=of)[0].pixels[LAYOUT.top : LAYOUT.bottom]
    wide, high = (np.flatnonzero(shown.any(-1).any(axis)) for axis in (0, 1))
    assert (np.ptp(high) + 1) / (np.ptp(wide) + 1) == pytest.approx(aspect, rel=0.02)


@pytest.mark.parametrize(("rows", "columns"), [(64, 64), (8000, 6000)])
def test_tiny_and_huge_films_have_pages_of_the_same_size(rows: int, columns: int) -> None:
    """The smallest film that is read, and one of 48 megapixels."""
    of = film(header(), rows=rows, columns=columns)
    knee = replace(RIGHT, box=(0.1 * columns, 0.2 * rows, 0.6 * columns, 0.8 * rows))
    page_list = drawn(KneeContent(knee, heat()), of=of)
    assert {page.pixels.shape for page in page_list} == {(480, 384, 3)}
    assert picture(page_list[0].pixels).any()
