"""The two tables of codes: they fit into a report, and the page for people shows them as they are."""

import re

import pytest
from pydicom.sr._concepts_dict import concepts

from node.evidence import Agreement, Evidence, KLGrade, LateralitySource
from node.finding import Finding, Laterality, ScaleSource
from node.reasons import FLAGS, REASONS, Flag, Reason, flag
from tests.paths import ROOT
from workers.report import codes

PAGE = ROOT / "deploy" / "CODES.md"
NEVER_REPORTED = {"ATTEMPTS_EXHAUSTED", "IDENTITY_MISSING"}
"""Of failures nothing is reported, so their codes may be longer than a code value."""


@pytest.mark.parametrize("entry", [*REASONS.values(), *FLAGS.values()], ids=lambda entry: entry.code)
def test_a_code_fits_into_a_report(entry: Reason | Flag) -> None:
    """At most 16 characters (PS3.5, SH), a meaning of at most 64 (LO), all of it ASCII, and something to do."""
    assert re.fullmatch(r"[A-Z][A-Z_]*", entry.code)
    assert len(entry.code) <= 16 or entry.code in NEVER_REPORTED
    assert 0 < len(entry.meaning) <= 64 or entry.code in NEVER_REPORTED
    assert not entry.meaning.endswith(".")
    assert entry.advice.endswith(".")
    assert (entry.meaning + entry.advice).isascii()


def test_no_code_means_two_things() -> None:
    """A reason and a flag never share a code, and a report knows them all."""
    assert not FLAGS.keys() & REASONS.keys()
    assert codes.FLAG_CODES.keys() == FLAGS.keys()
    assert REASONS.keys() - codes.REASON_CODES.keys() <= NEVER_REPORTED


@pytest.mark.parametrize(
    "entry", [entry for entry in REASONS.values() if entry.equivalent], ids=lambda entry: entry.code
)
def test_an_equivalent_is_a_code_of_the_standard(entry: Reason) -> None:
    """Value and meaning are those that PS3.16 lists."""
    assert entry.equivalent is not None
    value, scheme, meaning = entry.equivalent
    listed = [known for known in concepts[scheme].values() if value in known]
    assert any(known[value][0] == meaning for known in listed)


def row(entry: Reason | Flag) -> str:
    if isinstance(entry, Flag):
        return f"| {entry.code} | {'red' if entry.red else 'remark'} | {entry.meaning} | {entry.advice} |"
    same = "({}, {}, {})".format(*entry.equivalent) if entry.equivalent else ""
    return f"| {entry.code} | {entry.meaning} | {entry.advice} | {same} |"


def test_the_page_of_codes_shows_the_tables() -> None:
    """deploy/CODES.md has a line for each code, in the order of the tables, and no others."""
    shown = [
        line for line in PAGE.read_text().split("## What tells")[0].splitlines() if re.match(r"\| [A-Z_]+ \|", line)
    ]
    assert shown == [row(entry) for entry in (*REASONS.values(), *FLAGS.values())]


def test_flags_and_evidence_survive_json() -> None:
    """Also a flag that another version knows and this one does not, and a knee of before there were any."""
    finding = Finding(
        Laterality.LEFT,
        LateralitySource.IMAGE,
        (0.0, 0.0, 9.0, 9.0),
        KLGrade.KL1,
        (0.1, 0.6, 0.1, 0.1, 0.1),
        flags=(flag("SIDE_CONFLICT"), Flag("NEWER", "Something new", "Update.", red=True)),
        evidence=(
            Evidence(LateralitySource("ImageLaterality"), "R", 4.6),
            Evidence(LateralitySource("image"), "L", 5.5),
        ),
        agreement=Agreement.CONFLICT,
        field_of_view_mm=101.5,
        scale_source=ScaleSource.CALIBRATED,
    )
    fields = finding.as_json()
    assert Finding.from_json(fields) == finding
    assert fields["laterality_agreement"] == "conflict"
    assert [(item["witness"], item["says"]) for item in fields["laterality_evidence"]] == [
        ("ImageLaterality", "R"),
        ("image", "L"),
    ]
    assert [(item["code"], item["red"]) for item in fields["flags"]] == [("SIDE_CONFLICT", True), ("NEWER", True)]
    for key in ("flags", "laterality_evidence", "laterality_agreement", "field_of_view_mm", "scale_source"):
        del fields[key]
    older = Finding.from_json(fields)
    assert (older.flags, older.evidence, older.agreement) == ((), (), Agreement.NONE)
