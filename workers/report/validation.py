"""
Validation of every result before it is stored for sending: an invalid object is never sent.

It checks the modules of the IOD and the types of their attributes (PS3.3, as highdicom's tables have them), the
template of the report as viewers need it, the attributes of lossy compression, and the identity of the source. It is
no independent validator (the tests use dciodvfy and PixelMed for that); it catches errors that a correct program makes
on unforeseen sources.
"""

import gc
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

import highdicom._standard_utils as standard_tables
from pydicom.dataset import Dataset
from pydicom.uid import UID

from node.errors import Permanent
from node.radiograph import SOP_CLASS_OF_KIND
from node.reasons import reason
from workers.report.identity import MATCHING_KEYS, text_of
from workers.report.source import ALWAYS_LOSSY
from workers.report.structured_report.template import template_faults

MANDATORY = "M"
RECURSIVE = ("ContentSequence",)
"""Sequences that contain themselves; the checks of the template cover them."""
TYPES_UNKNOWN = ("sr-document-content",)
"""Modules whose tables list the attributes of all types of content item together."""
FUNCTIONAL_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
"""Their items contain some of many functional groups; the tables do not define which."""
MAX_LISTED = 5
"""How many faults are listed; one error often causes many."""

Path = tuple[str, ...]


class IodRules(NamedTuple):
    """Of an IOD: the type of each attribute by the path of sequences to it, and the keywords that its root may have."""

    types: Mapping[Path, Mapping[str, str]]
    keywords: frozenset[str]


def validate(ds: Dataset, header: Dataset) -> None:
    """
    Check an object that was created for the source of that header.

    Raises
    ------
    Permanent
        RESULT_FAULTY, with the faults; it contains no value of the patient.
    """
    faults = list(faults_of(ds, header))
    if faults:
        rest = f" and {len(faults) - MAX_LISTED} more" if len(faults) > MAX_LISTED else ""
        detail = "; ".join(faults[:MAX_LISTED]) + rest
        raise Permanent(reason("RESULT_FAULTY"), f"{UID(ds.SOPClassUID).name}: {detail}")


def faults_of(ds: Dataset, header: Dataset) -> Iterator[str]:
    """Every fault of an object, each as a sentence."""
    rules = _iod_rules().get(str(ds.get("SOPClassUID", "")))
    if rules is None:
        yield "no SOP class that Genu creates"
        return
    yield from _module_faults(ds, rules, ())
    yield from (f"{name} does not belong to this object" for name in _keywords(ds) if name not in rules.keywords)
    yield from _identity_faults(ds, header)
    yield from _pixel_faults(ds)
    yield from template_faults(ds)


def _module_faults(ds: Dataset, rules: IodRules, path: Path) -> Iterator[str]:
    """Missing or empty type 1 and 2 attributes, here and in the items of sequences (PS3.5 7.4)."""
    for keyword, attribute_type in rules.types.get(path, {}).items():
        path_text = ".".join((*path, keyword))
        if keyword not in ds:
            if attribute_type in ("1", "2"):
                yield f"{path_text} is missing"
        elif attribute_type == "1" and ds[keyword].is_empty and ds[keyword].VR != "SQ":
            yield f"{path_text} is empty"
        elif attribute_type == "1" and ds[keyword].VR == "SQ" and not ds[keyword].value:
            yield f"{path_text} has no item"
    for element in ds:
        if element.VR == "SQ" and element.keyword and element.keyword not in RECURSIVE:
            for item in element.value:
                yield from _module_faults(item, rules, (*path, element.keyword))


def _keywords(ds: Dataset) -> Iterator[str]:
    return (element.keyword for element in ds if not element.tag.is_private)


def _identity_faults(ds: Dataset, header: Dataset) -> Iterator[str]:
    for keyword in MATCHING_KEYS:
        if text_of(ds, keyword) != text_of(header, keyword):
            yield f"{keyword} is not that of the source"
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID"):
        if not text_of(ds, keyword) or text_of(ds, keyword) == text_of(header, keyword):
            yield f"{keyword} is empty or that of the source"
    if ds.file_meta.MediaStorageSOPInstanceUID != ds.SOPInstanceUID:
        yield "Media Storage SOP Instance UID differs from SOP Instance UID"
    if text_of(header, "SOPInstanceUID") not in _referenced_uids(ds):
        yield "it does not refer to its source radiograph"


def _referenced_uids(ds: Dataset) -> set[str]:
    """Every SOP Instance UID that the object refers to."""
    return {str(element.value) for element in ds.iterall() if element.keyword == "ReferencedSOPInstanceUID"}


def _pixel_faults(ds: Dataset) -> Iterator[str]:
    if ds.file_meta.TransferSyntaxUID in ALWAYS_LOSSY and ds.get("LossyImageCompression") != "01":
        yield "pixels compressed with loss are not marked as such"
    if "PixelData" not in ds:
        return
    bits = int(ds.Rows) * int(ds.Columns) * int(ds.get("NumberOfFrames", 1) or 1)
    bits *= int(ds.SamplesPerPixel) * int(ds.BitsAllocated)
    length = -(-bits // 8)
    if not ds.file_meta.TransferSyntaxUID.is_compressed and len(ds.PixelData) != length + length % 2:
        yield "the pixels are more or fewer than those of rows, columns and frames"
    if ds.get("Modality") == "OT" and "PixelSpacing" in ds:
        yield "a page that is not on the film's grid has a pixel spacing"


@cache
def _iod_rules() -> Mapping[str, IodRules]:
    """The rules of each SOP class that Genu creates; highdicom's whole tables (65 MB) are then released."""
    modules, attributes = standard_tables.get_iod_module_map(), standard_tables.get_module_attribute_map()
    iods = standard_tables.get_sop_class_iod_map()
    rules = {str(uid): _rules_of_iod(modules[iods[str(uid)]], attributes) for uid in SOP_CLASS_OF_KIND.values()}
    for table in (standard_tables.get_iod_module_map, standard_tables.get_module_attribute_map):
        table.cache_clear()
    gc.collect()
    return rules


def _rules_of_iod(modules: list[dict[str, Any]], attributes: Mapping[str, list[dict[str, Any]]]) -> IodRules:
    types: dict[Path, dict[str, str]] = {}
    keywords = set()
    for module in modules:
        for attribute in attributes[module["key"]]:
            path, keyword = tuple(attribute["path"]), attribute["keyword"]
            if not path:
                keywords.add(keyword)
            if path[-1:] in [(group,) for group in FUNCTIONAL_GROUPS] or (module["key"] in TYPES_UNKNOWN and not path):
                continue
            if module["usage"] == MANDATORY or path:
                # Where two modules disagree, both apply to the object itself: the stricter type wins. For the items of
                # a sequence no table defines which module applies: the less strict type wins.
                at_path, attribute_type = types.setdefault(path, {}), attribute["type"]
                at_path[keyword] = (max if path else min)(at_path.get(keyword, attribute_type), attribute_type)
    return IodRules(types, frozenset(keywords))
