"""
The gate that every result passes before it is kept for sending: a wrong object is stopped here and never let out.

What is held against it: the modules of its IOD and the types of their attributes (PS3.3, as highdicom's tables have
them), the template of the report as viewers need it, the marks of lossy compression, and whose the source is. It is
no second look by other eyes (the tests have dciodvfy and PixelMed for that); it catches what a source that nobody has
thought of makes of a correct program.
"""

import gc
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

import highdicom._standard_utils as standard
from pydicom.dataset import Dataset
from pydicom.uid import UID

from node.errors import Permanent
from node.radiograph import SOP_CLASS_OF_KIND
from node.reasons import reason
from workers.report.identity import KEYS, text_of
from workers.report.source import ALWAYS_LOSSY
from workers.report.structured_report.template import template_faults

MANDATORY = "M"
DEEP = ("ContentSequence",)
"""Sequences that hold themselves; the template looks into them."""
BY_VALUE = ("sr-document-content",)
"""Modules whose tables list the attributes of every type of content item as if each had all."""
CHOICES = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
"""Their items hold some of many functional groups; which, the tables do not tell."""
SHOWN = 5
"""Faults that are named; a program that is wrong is often wrong in many places."""

Path = tuple[str, ...]


class Rules(NamedTuple):
    """Of an IOD: the type of each attribute by the sequences that lead to it, and what its root may hold."""

    types: Mapping[Path, Mapping[str, str]]
    known: frozenset[str]


def release(made: Dataset, header: Dataset) -> None:
    """
    Let the object out, made for the source of that header.

    Raises
    ------
    Permanent
        RESULT_FAULTY, with what is wrong; no value of the patient is in it.
    """
    faults = list(faults_of(made, header))
    if faults:
        more = f" and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        told = "; ".join(faults[:SHOWN]) + more
        raise Permanent(reason("RESULT_FAULTY"), f"{UID(made.SOPClassUID).name}: {told}")


def faults_of(made: Dataset, header: Dataset) -> Iterator[str]:
    """Everything that is wrong with an object, each in a sentence."""
    rules = _rules().get(str(made.get("SOPClassUID", "")))
    if rules is None:
        yield "no SOP class that Genu makes"
        return
    yield from _module_faults(made, rules, ())
    yield from (f"{name} does not belong to this object" for name in _names(made) if name not in rules.known)
    yield from _identity_faults(made, header)
    yield from _pixel_faults(made)
    yield from template_faults(made, header)


def _module_faults(made: Dataset, rules: Rules, within: Path) -> Iterator[str]:
    """Type 1 and 2 attributes, here and in the items of what is here (PS3.5 7.4)."""
    for keyword, kind in rules.types.get(within, {}).items():
        where = ".".join((*within, keyword))
        if keyword not in made:
            if kind in ("1", "2"):
                yield f"{where} is missing"
        elif kind == "1" and made[keyword].is_empty and made[keyword].VR != "SQ":
            yield f"{where} is empty"
        elif kind == "1" and made[keyword].VR == "SQ" and not made[keyword].value:
            yield f"{where} has no item"
    for element in made:
        if element.VR == "SQ" and element.keyword and element.keyword not in DEEP:
            for item in element.value:
                yield from _module_faults(item, rules, (*within, element.keyword))


def _names(made: Dataset) -> Iterator[str]:
    return (element.keyword for element in made if not element.tag.is_private)


def _identity_faults(made: Dataset, header: Dataset) -> Iterator[str]:
    for keyword in KEYS:
        if text_of(made, keyword) != text_of(header, keyword):
            yield f"{keyword} is not that of the source"
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID"):
        if not text_of(made, keyword) or text_of(made, keyword) == text_of(header, keyword):
            yield f"{keyword} is not its own"
    if made.file_meta.MediaStorageSOPInstanceUID != made.SOPInstanceUID:
        yield "the file is named by another UID"
    if text_of(header, "SOPInstanceUID") not in _mentioned(made):
        yield "it does not say of which radiograph it speaks"


def _mentioned(made: Dataset) -> set[str]:
    """Every SOP Instance UID that is referred to."""
    return {str(element.value) for element in made.iterall() if element.keyword == "ReferencedSOPInstanceUID"}


def _pixel_faults(made: Dataset) -> Iterator[str]:
    if made.file_meta.TransferSyntaxUID in ALWAYS_LOSSY and made.get("LossyImageCompression") != "01":
        yield "pixels compressed with loss are not marked so"
    if "PixelData" not in made:
        return
    bits = int(made.Rows) * int(made.Columns) * int(made.get("NumberOfFrames", 1) or 1)
    bits *= int(made.SamplesPerPixel) * int(made.BitsAllocated)
    length = -(-bits // 8)
    if not made.file_meta.TransferSyntaxUID.is_compressed and len(made.PixelData) != length + length % 2:
        yield "the pixels are more or fewer than rows, columns and frames say"
    if made.get("Modality") == "OT" and "PixelSpacing" in made:
        yield "a page that is not on the film's grid has a pixel spacing"


@cache
def _rules() -> Mapping[str, Rules]:
    """The rules of each SOP class that is made; highdicom's whole tables (65 MB) are let go again."""
    modules, attributes = standard.get_iod_module_map(), standard.get_module_attribute_map()
    iods = standard.get_sop_class_iod_map()
    told = {str(uid): _of_iod(modules[iods[str(uid)]], attributes) for uid in SOP_CLASS_OF_KIND.values()}
    for table in (standard.get_iod_module_map, standard.get_module_attribute_map):
        table.cache_clear()
    gc.collect()
    return told


def _of_iod(modules: list[dict[str, Any]], attributes: Mapping[str, list[dict[str, Any]]]) -> Rules:
    types: dict[Path, dict[str, str]] = {}
    known = set()
    for module in modules:
        for each in attributes[module["key"]]:
            path, keyword = tuple(each["path"]), each["keyword"]
            if not path:
                known.add(keyword)
            if path[-1:] in [(each,) for each in CHOICES] or (module["key"] in BY_VALUE and not path):
                continue
            if module["usage"] == MANDATORY or path:
                # Two modules disagree: both hold for the object itself, and the stricter wins. Of a sequence's items
                # no table tells which of the two is meant, and the milder one does.
                told = types.setdefault(path, {})
                told[keyword] = (max if path else min)(told.get(keyword, each["type"]), each["type"])
    return Rules(types, frozenset(known))
