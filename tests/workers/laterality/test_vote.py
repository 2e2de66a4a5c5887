"""Every source of a side counts, agreement and conflict are told apart, and no side is guessed."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.sequence import Sequence

from node.evidence import Agreement, Evidence, LateralitySource
from node.finding import Laterality
from workers.laterality.descriptions import side_in
from workers.laterality.header_evidence import WEIGHTS, header_statement
from workers.laterality.vote import CLEAREST, MARKER, MARKERS, LateralityVote, LeadMarker, decide, vote
from workers.preprocessing import Box

R, L, U = Laterality.RIGHT, Laterality.LEFT, Laterality.UNKNOWN
AGREED, SINGLE, CONFLICT, NONE = Agreement.AGREED, Agreement.SINGLE, Agreement.CONFLICT, Agreement.NONE
FIRST, SECOND = Box(0, 0, 10, 10), Box(20, 0, 30, 10)
CLEAR, FAINT = 9.0, 3.0
"""Logits of a left knee: one that the network is sure of, and one that it is not so sure of."""


def header(**attributes: Any) -> Dataset:
    made = Dataset()
    for keyword, value in attributes.items():
        setattr(made, keyword, value)
    return made


def region(code: str) -> Sequence:
    return Sequence([header(AnatomicRegionModifierSequence=Sequence([header(CodeValue=code)]))])


def marker(side: str, x: float = 2.0, sure: float = 1.0) -> LeadMarker:
    return Box(x, 0, x + 1, 1), side, sure


def one(attributes: dict[str, Any], fibula: float = 0.0, *markers: LeadMarker) -> LateralityVote:
    (result,) = votes(attributes, [FIRST], fibulas=[fibula], markers=markers)
    return result


def two(
    attributes: dict[str, Any], fibulas: tuple[float, float] = (0.0, 0.0), *markers: LeadMarker
) -> list[LateralityVote]:
    return votes(attributes, [FIRST, SECOND], fibulas=fibulas, markers=markers)


def votes(attributes: dict[str, Any], boxes: list[Box], **evidence: Any) -> list[LateralityVote]:
    ds = header(**attributes)
    return vote(header_statement(ds), boxes, limit=2.5, **evidence)


def test_the_header_states_the_side_of_the_knee_that_is_wholly_on_the_film() -> None:
    """Though a part of the other one is seen beside it; that part's side is told by its place."""
    attributes = {"ImageLaterality": "L"}
    against, part = votes(attributes, [FIRST, SECOND], fibulas=[-6, 6], partial={1})
    assert (against.agreement, against.laterality) == (CONFLICT, R)
    assert part.laterality == L
    part, with_it = votes(attributes, [FIRST, SECOND], fibulas=[-6, 6], partial={0})
    assert (with_it.agreement, with_it.laterality, with_it.source) == (AGREED, L, "ImageLaterality")
    assert (part.agreement, part.laterality) == (AGREED, R)


ONE_KNEE: list[tuple[str, dict[str, Any], float, tuple[LeadMarker, ...], Laterality, str, Agreement]] = [
    ("image laterality", {"ImageLaterality": "R"}, 0, (), R, "ImageLaterality", SINGLE),
    ("in small letters", {"ImageLaterality": " l "}, 0, (), L, "ImageLaterality", SINGLE),
    ("laterality", {"Laterality": "L"}, 0, (), L, "Laterality", SINGLE),
    ("frame laterality", {"FrameLaterality": "L"}, 0, (), L, "FrameLaterality", SINGLE),
    ("unknown image", {"ImageLaterality": "U", "Laterality": "R"}, 0, (), R, "Laterality", SINGLE),
    ("empty image", {"ImageLaterality": "", "Laterality": "R"}, 0, (), R, "Laterality", SINGLE),
    ("region SCT", {"AnatomicRegionSequence": region("7771000")}, 0, (), L, "AnatomicRegionSequence", SINGLE),
    ("region SRT", {"AnatomicRegionSequence": region("G-A100")}, 0, (), R, "AnatomicRegionSequence", SINGLE),
    ("both", {"ImageLaterality": "B"}, 0, (), U, "none", NONE),
    ("region both", {"AnatomicRegionSequence": region("51440002")}, 0, (), U, "none", NONE),
    ("nonsense", {"ImageLaterality": "X"}, 0, (), U, "none", NONE),
    ("written out", {"ImageLaterality": "LEFT"}, 0, (), L, "ImageLaterality", SINGLE),
    ("written out, small", {"Laterality": "left"}, 0, (), L, "Laterality", SINGLE),
    ("in German", {"ImageLaterality": "rechts"}, 0, (), R, "ImageLaterality", SINGLE),
    ("also in German", {"ImageLaterality": "Links"}, 0, (), L, "ImageLaterality", SINGLE),
    ("with the part", {"ImageLaterality": "RIGHT KNEE"}, 0, (), R, "ImageLaterality", SINGLE),
    ("both, written out", {"Laterality": "BILATERAL"}, 0, (), U, "none", NONE),
    ("written out against the fibula", {"ImageLaterality": "LEFT"}, -CLEAR, (), R, "image", CONFLICT),
    ("nonsense and fibula", {"ImageLaterality": "X"}, CLEAR, (), L, "image", SINGLE),
    ("nothing", {}, 0, (), U, "none", NONE),
    ("fibula alone", {}, CLEAR, (), L, "image", SINGLE),
    ("unclear fibula", {}, 2.4, (), U, "none", NONE),
    ("fibula on a mirrored film", {"PatientOrientation": ["R", "F"]}, CLEAR, (), R, "image", SINGLE),
    ("header and fibula", {"ImageLaterality": "L"}, CLEAR, (), L, "ImageLaterality", AGREED),
    ("both and fibula", {"ImageLaterality": "B"}, -CLEAR, (), R, "image", SINGLE),
    ("header against clear fibula", {"ImageLaterality": "R"}, CLEAR, (), L, "image", CONFLICT),
    ("header against faint fibula", {"ImageLaterality": "R"}, FAINT, (), R, "ImageLaterality", CONFLICT),
    (
        "a console that says it often",
        {"ImageLaterality": "R", "SeriesDescription": "Knee R"},
        CLEAR,
        (),
        L,
        "image",
        CONFLICT,
    ),
    ("header against itself", {"ImageLaterality": "R", "Laterality": "L"}, 0, (), R, "ImageLaterality", CONFLICT),
    ("marker alone", {}, 0, (marker("R"),), R, "marker", SINGLE),
    ("marker against header", {"ImageLaterality": "L"}, 0, (marker("R"),), R, "marker", CONFLICT),
    ("marker and header, mirrored", {"ImageLaterality": "R"}, CLEAR, (marker("R"),), R, "ImageLaterality", CONFLICT),
    ("unsure marker", {"ImageLaterality": "L"}, 0, (marker("R", sure=0.4),), L, "ImageLaterality", CONFLICT),
    ("two markers", {}, 0, (marker("R"), marker("L")), U, "none", CONFLICT),
    ("words", {"SeriesDescription": "Knie li. a.p."}, 0, (), L, "SeriesDescription", SINGLE),
    ("words of the protocol", {"ProtocolName": "KNEE_R"}, -CLEAR, (), R, "image", AGREED),
    ("words of the order", {"StudyDescription": "XR knee right"}, 0, (), R, "StudyDescription", SINGLE),
    (
        "an order for the other knee",
        {"StudyDescription": "XR knee right", "ImageLaterality": "L"},
        CLEAR,
        (),
        L,
        "ImageLaterality",
        AGREED,
    ),
    ("an order against the fibula", {"StudyDescription": "XR knee right"}, CLEAR, (), L, "image", CONFLICT),
    (
        "series against both",
        {"SeriesDescription": "Knee R", "ImageLaterality": "L"},
        CLEAR,
        (),
        L,
        "ImageLaterality",
        CONFLICT,
    ),
]


@pytest.mark.parametrize(
    ("attributes", "fibula", "markers", "side", "source", "agreement"),
    [c[1:] for c in ONE_KNEE],
    ids=[c[0] for c in ONE_KNEE],
)
def test_one_knee_has_the_side_that_the_heavier_evidence_says(
    attributes: dict[str, Any],
    fibula: float,
    markers: tuple[LeadMarker, ...],
    side: Laterality,
    source: str,
    agreement: Agreement,
) -> None:
    """With what told it, and how the witnesses stand to each other."""
    told = one(attributes, fibula, *markers)
    assert (told.laterality, told.source, told.agreement) == (side, source, agreement)


@pytest.mark.parametrize(("value", "trace"), [("X", True), ("DOE^JOHN", True), ("U", False), ("", False), ("R", False)])
def test_a_coded_value_that_cannot_be_understood_leaves_a_trace(value: str, trace: bool) -> None:
    """It weighs nothing, and what it was is not passed on: it could be anything. "U", an unpaired part, is a code."""
    evidence = one({"ImageLaterality": value}).evidence
    assert (Evidence(LateralitySource.IMAGE_LATERALITY, "?", 0.0) in evidence) == trace
    assert all(item.value in ("R", "L", "B", "?") for item in evidence)


TWO_KNEES: list[
    tuple[str, dict[str, Any], tuple[float, float], tuple[LeadMarker, ...], str, tuple[Agreement, Agreement]]
] = [
    ("by custom", {}, (0, 0), (), "RL", (SINGLE, SINGLE)),
    ("stated", {"PatientOrientation": ["L", "F"]}, (0, 0), (), "RL", (SINGLE, SINGLE)),
    ("empty orientation", {"PatientOrientation": ["", ""]}, (0, 0), (), "RL", (SINGLE, SINGLE)),
    ("mirrored and stated", {"PatientOrientation": ["R", "F"]}, (0, 0), (), "LR", (SINGLE, SINGLE)),
    ("with fibulas", {"ImageLaterality": "B"}, (-CLEAR, CLEAR), (), "RL", (AGREED, AGREED)),
    ("mirrored with fibulas", {"PatientOrientation": ["R", "F"]}, (-CLEAR, CLEAR), (), "LR", (AGREED, AGREED)),
    ("pasted the wrong way round", {}, (CLEAR, -CLEAR), (), "LR", (CONFLICT, CONFLICT)),
    ("one knee twice", {}, (-CLEAR, -CLEAR), (), "RR", (AGREED, CONFLICT)),
    ("one faint fibula", {}, (-CLEAR, -2.6), (), "RL", (AGREED, CONFLICT)),
    ("a header that names one", {"ImageLaterality": "R"}, (-CLEAR, CLEAR), (), "RL", (AGREED, AGREED)),
    ("both markers", {}, (0, 0), (marker("R", 2), marker("L", 25)), "RL", (AGREED, AGREED)),
    ("one marker", {}, (0, 0), (marker("R", 2),), "RL", (AGREED, AGREED)),
    ("one marker says mirrored", {}, (-CLEAR, CLEAR), (marker("R", 25),), "RL", (CONFLICT, CONFLICT)),
    ("two markers say mirrored", {}, (-9, 9), (marker("L", 2), marker("R", 25)), "LR", (CONFLICT, CONFLICT)),
    ("an unsure marker", {}, (-CLEAR, CLEAR), (marker("R", 25, 0.5),), "RL", (CONFLICT, CONFLICT)),
]


@pytest.mark.parametrize(
    ("attributes", "fibulas", "markers", "sides", "agreements"),
    [c[1:] for c in TWO_KNEES],
    ids=[c[0] for c in TWO_KNEES],
)
def test_two_knees_have_their_sides_by_place_fibulas_and_markers(
    attributes: dict[str, Any],
    fibulas: tuple[float, float],
    markers: tuple[LeadMarker, ...],
    sides: str,
    agreements: tuple[Agreement, Agreement],
) -> None:
    """As hung, unless something says otherwise; then nothing is silent."""
    told = two(attributes, fibulas, *markers)
    assert "".join(each.laterality.value for each in told) == sides
    assert tuple(each.agreement for each in told) == agreements


SOURCES = st.sampled_from([source for source in LateralitySource if source is not LateralitySource.NONE])
EVIDENCE = st.builds(Evidence, SOURCES, st.sampled_from(["R", "L", "B"]), st.floats(0.5, 6))


@given(st.lists(EVIDENCE, max_size=8))
def test_no_side_is_silent_and_none_is_favoured(evidence: list[Evidence]) -> None:
    """Turn every R into an L and the answer turns too; what contradicts a side of film and header is a conflict."""
    told = decide(evidence)
    turned = decide(
        [Evidence(each.source, {"R": "L", "L": "R"}.get(each.value, "B"), each.weight) for each in evidence]
    )
    assert turned.laterality == {R: L, L: R, U: U}[told.laterality]
    assert turned.agreement == told.agreement
    assert told.evidence == tuple(evidence)
    sides = {each.value for each in evidence if each.value != "B"}
    assert (told.agreement is NONE) == (not sides)
    if len(sides) == 2 and not any("Description" in each.source for each in evidence):
        assert told.agreement is CONFLICT
    if len(sides) == 1:
        assert told.laterality.value in sides


def test_the_weights_are_in_the_order_that_is_argued_for() -> None:
    """Two markers, clear fibula, marker, attribute, words; a marker with an attribute outweighs the fibula."""
    assert (
        MARKERS
        > CLEAREST
        > MARKER
        > WEIGHTS[LateralitySource("ImageLaterality")]
        > WEIGHTS[LateralitySource("SeriesDescription")]
        > WEIGHTS[LateralitySource("StudyDescription")]
    )


WORDS = {
    "": ["", "Knee AP standing", "upright knee", "knee PA", "P.A. knee", "Knee kneeling", "genu valgum", "R", "L"],
    "no side": [
        "DX Knee 2V",
        "RT planning knee",
        "L SPINE AP",
        "LUMBAR L4/L5",
        "AP/LAT KNEE",
        "SAG KNEE",
        "PATELLA LR",
    ],
    "other tongues": ["Genou de l'enfant", "radio de l'articulation du genou", "rodilla sin carga", "Re: knee", "sol"],
    "R": ["XR KNEE RIGHT 2 VIEWS", "RT KNEE", "knee RT", "KNEE_AP_R", "RKNEE AP", "KneeRight", "R knee", "Knee ap R"],
    "R too": ["Kniegelenk re. ap", "Knie rechts", "Genou D face", "genou droit", "ginocchio dx", "Ginocchio destro"],
    "R further": ["rodilla D", "rodilla derecha", "joelho direito", "Sa\u011f diz AP", "Kolano P", "genu dextrum"],
    "R far": [
        "kn\u00e4 h\u00f6ger",
        "\u53f3\u819d\u95a2\u7bc0",
        "\uc624\ub978\ucabd \ubb34\ub98e",
        "\u043f\u0440\u0430\u0432\u044b\u0439 \u0441\u0443\u0441\u0442\u0430\u0432",
    ],
    "L": ["XR Knee Lt AP/LAT", "Knie li. a.p.", "Knie L stehend", "L Knie ap", "Genou gauche", "genou G", "knee left"],
    "L too": ["Ginocchio SX in carico", "rodilla izquierda", "sol diz", "kolano lewe", "venstre kn\u00e6", "kne sin"],
    "L far": [
        "Joelho E",
        "t\u00e9rd bal",
        "genunchi st\u00e2ng",
        "\u043a\u043e\u043b\u0435\u043d\u043e \u043b\u0435\u0432\u043e\u0435",
    ],
    "B": ["Knees AP standing", "R/L knee", "Knie beidseits", "bilateral knee", "Knie rechts und links", "both knees"],
    "B far": ["genoux face", "ambas rodillas", "\u4e21\u819d"],
}


@pytest.mark.parametrize(("kind", "said"), [(kind, words) for kind, all_ in WORDS.items() for words in all_])
def test_a_side_in_words_is_read_in_many_tongues_and_not_where_there_is_none(kind: str, said: str) -> None:
    """Short words count beside a knee of their own language, letters next to it, and both sides are both."""
    wanted = kind.split()[0] if kind.split() and kind.split()[0] in ("R", "L", "B") else ""
    assert side_in(said) == wanted


@given(st.text(max_size=64))
def test_any_text_is_read(words: str) -> None:
    """Descriptions come from outside."""
    assert side_in(words) in ("R", "L", "B", "")


def test_the_request_s_words_are_found_where_they_stand() -> None:
    """Requested Procedure Description is mostly an item's of Request Attributes Sequence."""
    request = Sequence([header(RequestedProcedureDescription="Knee left")])
    told = one({"RequestAttributesSequence": request})
    assert (told.laterality, told.source) == (L, "RequestedProcedureDescription")


@pytest.mark.parametrize("source", list(LateralitySource))
def test_every_source_has_its_words(source: LateralitySource) -> None:
    """One table for pages and reports; a value that this release does not know is read as none."""
    assert source.text
    assert LateralitySource.parse(source.value) is source
    assert LateralitySource.parse("of a later release") is LateralitySource.NONE
