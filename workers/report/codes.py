"""
Every coded concept that Genu writes, in one table.

No public scheme codes the Kellgren-Lawrence grade or its values (searched: SNOMED CT, RadLex, LOINC, the
DICOM context groups), so they are private codes of the scheme 99GENU, declared in each report's Coding
Scheme Identification Sequence (PS3.3 C.12.1.1). Mapping a code to a public one later is a change here only.
"""

from collections.abc import Mapping

from pydicom.sr.coding import Code

from node.evidence import Agreement, KLGrade
from node.finding import Laterality
from node.reasons import FLAGS, INSUFFICIENT_QUALITY, REASONS, Flag, Reason

SCHEME = "99GENU"
SCHEME_UID = "2.25.182352156670333766495578969189877750062"
SCHEME_NAME = "Genu private codes"
SCHEME_VERSION = "1"
SCHEME_ORGANISATION = "Genu"


def private_code(value: str, meaning: str) -> Code:
    """A code of the scheme 99GENU."""
    return Code(value, SCHEME, meaning)


# Content of a knee's measurement group.
ASSESSMENT = private_code("KOAA", "Radiographic knee osteoarthritis assessment")
GRADE = private_code("KL", "Kellgren-Lawrence grade")
GRADES: Mapping[KLGrade, Code] = {
    grade: private_code(f"KL{grade}", f"Kellgren-Lawrence grade {grade}") for grade in KLGrade
}
NOT_GRADABLE = private_code("KLNG", "Not gradable")
NOT_GRADABLE_REASON = private_code("NGREASON", "Reason not gradable")
PROBABILITIES: Mapping[KLGrade, Code] = {
    grade: private_code(f"PKL{grade}", f"KL {grade} model probability") for grade in KLGrade
}
LOWEST_GRADE = private_code("KLLOWEST", "Lowest Kellgren-Lawrence grade not ruled out")
HIGHEST_GRADE = private_code("KLHIGHEST", "Highest Kellgren-Lawrence grade not ruled out")
SET_LEVEL = private_code("SETLEVEL", "Level of the set of grades not ruled out")
UNDECIDED = private_code("UNDECIDED", "Grade that could not be told apart from its neighbour")
GRADE_SPREAD = private_code("KLSPREAD", "Spread of the expected grade over the views")
GRADED_KNEES = private_code("NGRADED", "Knee joints graded")
NOT_GRADED = private_code("NOTGRADED", "Not graded")
"""The only number of a refusal, one knee or one film: OHIF needs a number with coordinates in every group."""
HEAT_MAP = private_code("MAP", "Heat map of the grade")
MAP_POSITIVE = private_code("MAPPOS", "Positive evidence in the map")
MAP_EMPTY = private_code("MAPNONE", "No positive evidence in the map")
LATERALITY_SOURCE = private_code("SIDESRC", "Source of the laterality")
LATERALITY_AGREEMENT = private_code("SIDEAGREE", "Agreement of what tells the laterality")
AGREEMENTS: Mapping[Agreement, Code] = {
    Agreement.AGREED: private_code("AGREED", "Several sources agree"),
    Agreement.SINGLE: private_code("SINGLE", "One source alone"),
    Agreement.CONFLICT: private_code("CONFLICT", "Sources contradict each other"),
    Agreement.NONE: private_code("NOSOURCE", "No source"),
}
LATERALITY_EVIDENCE = private_code("SIDEEVID", "What tells the laterality")
FLAG = private_code("FLAG", "Flag on the result")
FIELD_OF_VIEW = private_code("FOVWIDTH", "Width of the joint's outline")
SCALE = private_code("SCALE", "What a millimetre on the image means")
SCALES: Mapping[str, Code] = {
    "calibrated": private_code("SCALECAL", "In the patient"),
    "detector plane": private_code("SCALEDET", "In the plane of the detector, magnified"),
}
READING_NOTE = private_code("READNOTE", "How the film was read")
ADVICE = private_code("ADVICE", "What to do")
PAGES = private_code("PICTURES", "Pictures of this answer")
SEGMENTS = private_code("SEGMENTS", "Segments of this answer")
PARAMETRIC_MAP = private_code("STRENGTHS", "Parametric map of this answer")
REASON_CODES: Mapping[str, Code] = {
    # A code value has at most 16 characters (PS3.5 SH); the codes of failures are longer and never reported.
    reason.code: private_code(reason.code, reason.meaning)
    for reason in REASONS.values()
    if len(reason.code) <= 16
}

FLAG_CODES: Mapping[str, Code] = {flag.code: private_code(flag.code, flag.meaning) for flag in FLAGS.values()}

GRADE_NAMES: Mapping[KLGrade, tuple[str, str]] = {
    KLGrade.KL0: ("none", "no features of osteoarthritis"),
    KLGrade.KL1: ("doubtful", "doubtful narrowing, possible osteophytic lipping"),
    KLGrade.KL2: ("minimal", "definite osteophytes, possible narrowing"),
    KLGrade.KL3: ("moderate", "multiple osteophytes, definite narrowing, some sclerosis"),
    KLGrade.KL4: ("severe", "large osteophytes, marked narrowing, severe sclerosis"),
}
"""Name and features of each grade (Kellgren & Lawrence 1957; Kohn et al. 2016, CORR 474:1886)."""

# Public codes (PS3.16; SNOMED CT as PS3.16 lists it; RadLex CID 7036).
IMAGING_PROCEDURE = Code("363679005", "SCT", "Imaging procedure")
FINDING_SITE = Code("363698007", "SCT", "Finding Site")
LATERALITY = Code("272741003", "SCT", "Laterality")
KNEE_JOINT = Code("49076000", "SCT", "Knee joint")
LATERALITIES: Mapping[Laterality, Code] = {
    Laterality.RIGHT: Code("24028007", "SCT", "Right"),
    Laterality.LEFT: Code("7771000", "SCT", "Left"),
}
PERCENT = Code("%", "UCUM", "Percent")
COUNT = Code("1", "UCUM", "no units")
KNEES, FILMS = Code("{knee}", "UCUM", "knees"), Code("{film}", "UCUM", "films")
GRADE_STEPS = Code("{grade}", "UCUM", "grades")
PIXELS = Code("{pixels}", "UCUM", "Pixels")
MILLIMETRE = Code("mm", "UCUM", "millimeter")
ARTIFICIAL_INTELLIGENCE = Code("123110", "DCM", "Artificial Intelligence")
QUALITY = Code("111050", "DCM", "Quality Assessment")
NON_DIAGNOSTIC = Code("RID14", "RADLEX", "Non-diagnostic quality")
GRAD_CAM = Code("130403", "DCM", "Gradient-weighted class activation")
SPATIAL_CONCEPT = Code("309825002", "SCT", "Spatial and Relational Concept")
OF_INTEREST = Code("113000", "DCM", "Of Interest")
REPORT_TITLE = Code("126000", "DCM", "Imaging Measurement Report")
MEASUREMENT_GROUP = Code("125007", "DCM", "Measurement Group")
TRACKING = Code("112039", "DCM", "Tracking Identifier")
TRACKING_UID = Code("112040", "DCM", "Tracking Unique Identifier")
FINDING = Code("121071", "DCM", "Finding")
DEVICE_UID = Code("121012", "DCM", "Device Observer UID")
ALGORITHM_NAME = Code("111001", "DCM", "Algorithm Name")
ALGORITHM_VERSION = Code("111003", "DCM", "Algorithm Version")
ALGORITHM_PARAMETERS = Code("111002", "DCM", "Algorithm Parameters")
ALGORITHM = (ALGORITHM_NAME, ALGORITHM_VERSION, ALGORITHM_PARAMETERS)
"""Items of TID 4019 (PS3.16) that identify the model."""
ALGORITHM_FAMILY = Code("111000", "DCM", "Algorithm Family")
ALGORITHM_MANUFACTURER = Code("122405", "DCM", "Algorithm Manufacturer")
REPLACED_REPORT = Code("121360", "DCM", "Replaced report")
COMMENT = Code("121106", "DCM", "Comment")
SOURCE_IMAGE = Code("121322", "DCM", "Source image for image processing operation")
SOURCE = Code("260753009", "SCT", "Source")
ACQUISITION_EQUIPMENT = Code("109101", "DCM", "Acquisition Equipment")
PROCESSING_EQUIPMENT = Code("109102", "DCM", "Processing Equipment")
PROCESSING_ALGORITHM = Code("Newcode1", "99IHE", "Processing Algorithm")
"""According to IHE AIR 6.5.3.1: IHE has not yet assigned the final code."""
IMAGE_LIBRARY = Code("111028", "DCM", "Image Library")
IMAGE_LIBRARY_GROUP = Code("126200", "DCM", "Image Library Group")
MODALITY = Code("121139", "DCM", "Modality")
PIXEL_ROWS = Code("110910", "DCM", "Pixel Data Rows")
PIXEL_COLUMNS = Code("110911", "DCM", "Pixel Data Columns")
ORIENTATION_ROW = Code("111044", "DCM", "Patient Orientation Row")
ORIENTATION_COLUMN = Code("111043", "DCM", "Patient Orientation Column")
HORIZONTAL_SPACING = Code("111026", "DCM", "Horizontal Pixel Spacing")
VERTICAL_SPACING = Code("111066", "DCM", "Vertical Pixel Spacing")
MODALITIES: Mapping[str, Code] = {
    "CR": Code("CR", "DCM", "Computed Radiography"),
    "DX": Code("DX", "DCM", "Digital Radiography"),
    "OT": Code("OT", "DCM", "Other"),
}


def quality_code(reason: Reason) -> Code | None:
    """Non-diagnostic where the reason is the image's quality; otherwise None."""
    return NON_DIAGNOSTIC if reason.equivalent == INSUFFICIENT_QUALITY else None


def flag_code(flag: Flag) -> Code:
    """The code of a flag; that of a flag which only another version knows has the flag's own code and meaning."""
    return FLAG_CODES.get(flag.code) or private_code(flag.code, flag.meaning)
