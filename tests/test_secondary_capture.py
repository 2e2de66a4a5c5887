"""The picture: what is on it, what never is, and the Secondary Capture around it."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.finding import Certainty, Finding, KLGrade, Laterality
from node.reasons import REASONS
from tests.peers import needs
from tests.sources import (
    CARD,
    CUT_OFF,
    EMPTY,
    LEFT,
    MADE_AT,
    READINGS,
    RIGHT,
    SHARES,
    UNDECIDED,
    UNKNOWN,
    UNSURE,
    dciodvfy,
    film,
    header,
    heat,
    made_of,
    reading,
)
from workers.prepare import Box
from workers.report import draw, film_png, overlay_png
from workers.report.canvas import Canvas, font
from workers.report.colours import TABLE, Bytes, heat_alpha, heat_colour
from workers.report.draw import Row, picture
from workers.report.view import cut

GRADED = [name for name, what in READINGS.items() if any(knee.grade is not None for knee in what.knees)]


def drawn(*rows: Row) -> Bytes:
    return picture(film(header()), rows, card=CARD, made_at=MADE_AT)


def panels(shown: Bytes, number: int, count: int) -> tuple[Bytes, Bytes]:
    """The knee of row `number` (from 0) and the same under its map, without their frames."""
    side = draw.SINGLE if count == 1 else draw.PAIR
    top = draw.HEAD + number * (side + draw.CAPTION + draw.GAP)
    left, right = draw.MARGIN, draw.MARGIN + side + draw.GAP
    inside = slice(top + 1, top + side - 1)
    return shown[inside, left + 1 : left + side - 1], shown[inside, right + 1 : right + side - 1]


def decoded(png: bytes) -> Bytes:
    return np.asarray(cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED), dtype=np.uint8)


def is_grey(shown: Bytes) -> bool:
    return bool((shown.max(-1) == shown.min(-1)).all())


@needs("dciodvfy")
@pytest.mark.parametrize("name", GRADED)
def test_dciodvfy_finds_nothing(name: str, tmp_path: Path) -> None:
    """One knee, two, one of them refused, side unknown, an empty map."""
    assert dciodvfy(made_of(header(), READINGS[name])["SC"], tmp_path) == []


@pytest.mark.parametrize("name", GRADED)
def test_it_is_a_single_rgb_frame_of_bounded_size_without_a_pixel_spacing(name: str) -> None:
    """Every PACS takes the single frame; on a picture that is not on the film's grid no one may measure."""
    made = pydicom.dcmread(io.BytesIO(made_of(header(PixelSpacing=["0.2", "0.2"]), READINGS[name])["SC"].encode()))
    assert made.SOPClassUID == "1.2.840.10008.5.1.4.1.1.7"
    assert max(made.Rows, made.Columns) <= draw.LONGEST_SIDE
    assert made.pixel_array.shape == (made.Rows, made.Columns, 3)
    assert len(made.PixelData) <= 8 << 20
    assert not any(keyword in made for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"))
    assert made.SourceImageSequence[0].ReferencedSOPInstanceUID == header().SOPInstanceUID
    assert made.SourceImageSequence[0].SpatialLocationsPreserved == "NO"
    assert made.BurnedInAnnotation == "YES"
    assert made.ImageType[:2] == ["DERIVED", "SECONDARY"]


def test_the_image_has_a_side_only_if_it_shows_one_knee_of_known_side() -> None:
    """A side at image level would be wrong for one of two knees, and a guess for an unknown one."""
    sides = {name: made_of(header(Laterality="L"), READINGS[name])["SC"].dataset.get("Laterality") for name in GRADED}
    assert sides == {
        "graded": "R",
        "two knees": None,
        "mixed": None,
        "side unknown": None,
        "empty map": "R",
        "sure": "R",
        "unsure": None,
    }


def test_a_film_once_compressed_with_loss_stays_one() -> None:
    """Loss cannot be undone by drawing on the film, so the mark stays with its ratio and method."""
    lossy = header(
        LossyImageCompression="01", LossyImageCompressionRatio="12.5", LossyImageCompressionMethod="ISO_10918_1"
    )
    made = made_of(lossy, READINGS["graded"])["SC"].dataset
    assert (made.LossyImageCompression, made.LossyImageCompressionRatio) == ("01", 12.5)
    assert made.LossyImageCompressionMethod == "ISO_10918_1"
    assert made_of(header(), READINGS["graded"])["SC"].dataset.LossyImageCompression == "00"


@pytest.mark.parametrize(
    ("syntax", "declared", "marked"),
    [
        (pydicom.uid.JPEGBaseline8Bit, ..., "01"),
        (pydicom.uid.JPEGBaseline8Bit, "00", "01"),
        (pydicom.uid.JPEG2000, ..., "01"),
        (pydicom.uid.JPEG2000, "00", "00"),
        (pydicom.uid.JPEGLSLossless, ..., "00"),
    ],
)
def test_a_lossy_transfer_syntax_marks_a_film_that_does_not_say_so(syntax: str, declared: object, marked: str) -> None:
    """JPEG baseline always loses; JPEG 2000 may not have, if the header says so."""
    source = header(LossyImageCompression=declared)
    source.file_meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
    assert made_of(source, READINGS["graded"])["SC"].dataset.LossyImageCompression == marked


def test_nothing_is_written_on_the_joint() -> None:
    """The first panel is the film's own pixels and nothing else."""
    shown, _ = panels(drawn(Row(RIGHT, heat())), 0, 1)
    expected = cut(film(header()), Box(*RIGHT.box), draw.SINGLE, draw.SINGLE)[1:-1, 1:-1]
    assert np.array_equal(shown, np.repeat(expected[..., None], 3, axis=2))


def test_the_map_is_coloured_where_it_speaks_and_bone_shows_through() -> None:
    """Colour at the peak, none where there is no evidence, and under the colour still the film's own pattern."""
    plain, mapped = panels(drawn(Row(RIGHT, heat())), 0, 1)
    side = mapped.shape[0]
    peak = mapped[int(side * 0.45) : int(side * 0.55), int(side * 0.25) : int(side * 0.4)]
    assert (peak.max(-1).astype(int) - peak.min(-1)).mean() > 60
    assert is_grey(mapped[: side // 8, -side // 8 :])
    # The joint line crosses the peak, and still stands out from the bone beside it.
    across, middle = int(side * 0.34), side // 2
    for beside in (middle - 20, middle + 20):
        before = int(plain[middle, across].sum()) - int(plain[beside, across].sum())
        after = int(mapped[middle, across].sum()) - int(mapped[beside, across].sum())
        assert abs(before) > 100
        assert after / before > 0.2


def test_an_empty_map_shows_no_colour() -> None:
    """No positive evidence is said in words; the picture under it stays grey."""
    _, mapped = panels(drawn(Row(EMPTY, heat(empty=True))), 0, 1)
    assert is_grey(mapped)
    assert mapped.any()


def test_a_refused_knee_beside_a_graded_one_shows_the_film_and_no_map() -> None:
    """The refused knee keeps its row, its film and its reason; where a map would be, there is nothing."""
    shown = drawn(Row(RIGHT, heat()), Row(CUT_OFF, None))
    film_part, map_part = panels(shown, 1, 2)
    assert film_part.any()
    assert not map_part.any()


def test_the_right_knee_comes_first_whatever_order_they_are_told_in() -> None:
    """As a film hangs: the patient's right first, also on a film whose right knee lies on the image's right."""
    one, other = Row(RIGHT, heat()), Row(LEFT, heat(empty=True))
    assert np.array_equal(drawn(one, other), drawn(other, one))
    assert not is_grey(panels(drawn(other, one), 0, 2)[1])
    crossed = Row(replace(RIGHT, box=LEFT.box), heat()), Row(replace(LEFT, box=RIGHT.box), heat(empty=True))
    assert not is_grey(panels(drawn(*crossed), 0, 2)[1])
    assert is_grey(panels(drawn(*crossed), 1, 2)[1])


def test_the_scale_is_the_same_on_every_film() -> None:
    """The colour bar does not change with the map, and a weak map looks weak."""
    strong = heat()
    quarter = (strong.strength / 4).astype(np.float32)
    weak = type(strong)(quarter, quarter, False)
    bar = slice(draw.MARGIN + 2 * (draw.SINGLE + draw.GAP), draw.MARGIN + 2 * (draw.SINGLE + draw.GAP) + draw.BAR_WIDTH)
    shown = [drawn(Row(RIGHT, each)) for each in (strong, weak)]
    assert np.array_equal(shown[0][:, bar], shown[1][:, bar])
    colourful = [int((np.ptp(panels(each, 0, 1)[1], axis=-1).astype(int)).sum()) for each in shown]
    assert colourful[1] < colourful[0] / 2


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


class Ink:
    """Every line of type that a picture has, with the rectangle that it covers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lines: list[tuple[str, tuple[float, float, float, float]]] = []
        set_type = Canvas.text

        def noted(sheet: Canvas, x: float, y: float, words: str, size: int, **style: Any) -> float:
            letters = font(size, bold=style.get("bold", False))
            box = sheet.pen.textbbox((x, y), words, font=letters, anchor=style.get("anchor", "ls"))
            self.lines.append((words, box))
            return set_type(sheet, x, y, words, size, **style)

        monkeypatch.setattr(Canvas, "text", noted)

    def drawn(self, *rows: Row) -> tuple[str, Bytes]:
        """All words of the picture, and the picture, on which no line touches another or a knee."""
        self.lines.clear()
        shown = drawn(*rows)
        side = draw.SINGLE if len(rows) == 1 else draw.PAIR
        for at, (words, (x0, y0, x1, y1)) in enumerate(self.lines):
            assert x1 <= draw.LONGEST_SIDE - draw.MARGIN + 1, words
            for other, (left, top, right, bottom) in self.lines[at + 1 :]:
                assert x1 <= left or right <= x0 or y1 <= top or bottom <= y0, (words, other)
            for number in range(len(rows)):
                top = draw.HEAD + number * (side + draw.CAPTION + draw.GAP)
                on_panels = x0 < draw.MARGIN + 2 * side + draw.GAP and y0 < top + side and y1 > top
                assert not on_panels, words
        return " ".join(words for words, _ in self.lines), shown


SETS = [(low, high) for low in KLGrade for high in KLGrade if low <= high]


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("grade", KLGrade)
def test_how_sure_a_grade_is_stands_beside_it_and_nothing_overlaps(
    grade: KLGrade, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Confidence, set and doubt in words, for every grade and set, one knee and two."""
    ink = Ink(monkeypatch)
    likely = tuple(0.46 if each == grade else 0.135 for each in KLGrade)
    for low, high in (ends for ends in SETS if ends[0] <= grade <= ends[1]):
        for doubt in ((low, high),) if high - low == 1 else ((KLGrade.KL1, KLGrade.KL2), None):
            sure = Certainty(low, high, 0.9, undecided=doubt)
            knee = replace(RIGHT, grade=grade, probabilities=likely, certainty=sure)
            words, _ = ink.drawn(*[Row(knee, heat())] * count)
            assert f"KL {grade}" in words
            assert words.count("46 % sure") == count
            assert words.count(sure.remaining) == count
            assert words.count("could not be told apart") == (count if doubt else 0)


def test_the_words_of_certainty() -> None:
    """A set of one, of some, of all grades; a doubt; and a confidence that is never all or nothing."""
    all_of_it = Certainty(KLGrade.KL0, KLGrade.KL4, 0.9)
    some = replace(all_of_it, lowest=KLGrade.KL1, highest=KLGrade.KL2, level=0.955)
    one = replace(all_of_it, lowest=KLGrade.KL2, highest=KLGrade.KL2)
    assert all_of_it.remaining == "No grade can be ruled out (90 % set)"
    assert some.remaining == "KL 1 to 2 cannot be ruled out (95.5 % set)"
    assert one.remaining == "Only KL 2 remains (90 % set)"
    assert one.doubt == ""
    doubt = replace(some, undecided=(KLGrade.KL1, KLGrade.KL2))
    assert doubt.doubt == "KL 1 and KL 2 could not be told apart"
    told = [
        replace(RIGHT, probabilities=(0, 0, 0, share, 1 - share)).sureness for share in (0.001, 0.62, 0.994, 0.9999)
    ]
    assert told == ["<1 %", "62 %", "99 %", ">99 %"]
    assert CUT_OFF.sureness == ""


def test_an_answer_of_before_has_its_confidence_and_claims_no_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without certainty there is nothing to say of a set; a refused knee has no confidence either."""
    words, _ = Ink(monkeypatch).drawn(Row(RIGHT, heat()), Row(CUT_OFF, None))
    assert "71 % sure" in words
    assert "set)" not in words
    assert "told apart" not in words
    assert words.count("sure") == 1


def test_a_grade_that_is_not_the_likeliest_is_not_passed_off_as_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a card weighs mistakes, the picture says which grade is likelier; else it says nothing of the kind."""
    ink = Ink(monkeypatch)
    words, _ = ink.drawn(Row(UNDECIDED, heat()), Row(UNSURE, heat()))
    assert words.count("likelier") == 1
    assert "KL 1 is likelier; KL 2 errs less on average" in words
    alone, _ = ink.drawn(Row(UNDECIDED, heat()))
    assert "KL 1 is likelier" in alone


def test_the_bracket_spans_the_set_and_reads_without_colour() -> None:
    """Left of the bars a light line runs from the set's lowest grade to its highest, and nowhere else."""
    left = draw.MARGIN + 2 * (draw.SINGLE + draw.GAP) + draw.BAR_WIDTH + 76
    first = draw.HEAD + draw.SINGLE - 5 * draw.PITCH
    for low, high in SETS:
        certainty = Certainty(low, high, 0.9)
        shown = drawn(Row(replace(RIGHT, grade=high, certainty=certainty), heat()))
        rows = shown[first : first + 5 * draw.PITCH, left : left + 3]
        middles = rows[draw.PITCH // 2 :: draw.PITCH]
        assert [bool((middle > 200).all()) for middle in middles] == [low <= each <= high for each in KLGrade]
        assert is_grey(rows)
        assert not rows[: low * draw.PITCH].any()
        assert not rows[(high + 1) * draw.PITCH :].any()
    assert not drawn(Row(RIGHT, heat()))[first : first + 5 * draw.PITCH, left : left + 3].any()


def test_side_grade_and_source_change_the_words() -> None:
    """What is written differs with what is said: side, its source, grade, emptiness, model, reason."""
    told = [
        Row(RIGHT, heat()),
        Row(LEFT, heat()),
        Row(UNKNOWN, heat()),
        Row(Finding(Laterality.RIGHT, "ImageLaterality", RIGHT.box, KLGrade.KL3, SHARES), heat()),
        Row(Finding(Laterality.RIGHT, "position", RIGHT.box, KLGrade.KL2, SHARES), heat()),
        Row(CUT_OFF, None),
    ]
    words = [drawn(row)[:, 1180:] for row in told]
    for at, one in enumerate(words):
        assert not any(np.array_equal(one, other) for other in words[at + 1 :])


@settings(deadline=None, max_examples=40)
@given(
    grade=st.sampled_from([*KLGrade, None]),
    why=st.sampled_from(sorted(REASONS)),
    side=st.sampled_from(list(Laterality)),
    source=st.sampled_from([*draw.SIDE_SOURCES, "a very long name of some attribute that no one has heard of yet"]),
    count=st.integers(1, 4),
)
def test_words_keep_to_their_column(grade: KLGrade | None, why: str, side: Laterality, source: str, count: int) -> None:
    """No line runs over the margin or off the sheet, for any grade, reason, side or number of knees."""
    shares = SHARES if grade is not None else None
    finding = Finding(side, source, RIGHT.box, grade, shares, None if grade is not None else REASONS[why])
    row = Row(finding, heat() if grade is not None else None)
    shown = drawn(*[row] * count)
    assert max(shown.shape) <= draw.LONGEST_SIDE
    assert not shown[:, -draw.MARGIN + 2 :].any()
    assert not shown[:, : draw.MARGIN - 2].any()
    assert not shown[-12:].any()


@pytest.mark.parametrize("box", [(0, 0, 1200, 1000), (-80, -40, 400, 440), (900, 700, 1300, 1100), (5, 5, 205, 405)])
def test_a_box_of_any_place_and_shape_is_drawn(box: tuple[float, float, float, float]) -> None:
    """A box over the film's edge, a tall one, a whole film: beyond the film it is black, and nothing is stretched."""
    shown, _ = panels(drawn(Row(Finding(Laterality.RIGHT, "position", box, KLGrade.KL3, SHARES), heat())), 0, 1)
    assert shown.any()
    if box[0] < 0:
        assert not shown[:, : int(80 / 480 * draw.SINGLE) - 4].any()
    if box == (5, 5, 205, 405):
        assert not shown[:, : draw.SINGLE // 4 - 2].any()


def test_overlays_lie_on_the_grid_of_the_shown_film() -> None:
    """Same size, transparent outside the box, strongest where the map is, for a box over the edge too."""
    big = film(header(), rows=2400, columns=3200)
    shown = decoded(film_png(big))
    assert shown.shape == (1200, 1600)
    for box in (Box(1600, 800, 2400, 1600), Box(2800, -200, 3600, 600)):
        laid = decoded(overlay_png(big, box, heat()))
        assert laid.shape == (1200, 1600, 4)
        rows, columns = np.nonzero(laid[..., 3])
        assert columns.min() >= box.x0 / 2 - 1
        assert columns.max() <= box.x1 / 2
        assert rows.max() <= box.y1 / 2
        y, x = np.unravel_index(laid[..., 3].argmax(), laid.shape[:2])
        assert abs(x - (box.x0 + 0.36 * box.width) / 2) < 0.1 * box.width
        assert abs(y - (box.y0 + 0.56 * box.height) / 2) < 0.1 * box.height
        blue, _, red, _ = laid[y, x].astype(int)
        assert red > blue  # hot is yellow, not light blue: the channels are in order


def test_the_model_and_the_warning_are_on_every_picture() -> None:
    """Another model changes the foot of the picture; the warning stands at its head, in every reading."""
    one = picture(film(header()), [Row(RIGHT, heat())], card=CARD, made_at=MADE_AT)
    newer = type(CARD)(CARD.name, "2.0.0", "a" * 64)
    other = picture(film(header()), [Row(RIGHT, heat())], card=newer, made_at=MADE_AT)
    assert not np.array_equal(one[-draw.FOOT :], other[-draw.FOOT :])
    assert np.array_equal(one[: -draw.FOOT], other[: -draw.FOOT])
    heads = [drawn(Row(RIGHT, heat()))[:66], drawn(Row(CUT_OFF, None), Row(LEFT, heat()))[:66]]
    assert np.array_equal(heads[0], heads[1])
    assert heads[0][:, 900:].any()
    assert made_of(header(), reading(RIGHT))["SC"].dataset.ImageComments == draw.WARNING
