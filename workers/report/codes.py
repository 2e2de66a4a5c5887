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


def own(value: str, meaning: str) -> Code:
    """A code of the scheme 99GENU."""
    return Code(value, SCHEME, meaning)


# What is said of a knee.
ASSESSMENT = own("KOAA", "Radiographic knee osteoarthritis assessment")
GRADE = own("KL", "Kellgren-Lawrence grade")
GRADES: Mapping[KLGrade, Code] = {grade: own(f"KL{grade}", f"Kellgren-Lawrence grade {grade}") for grade in KLGrade}
NOT_GRADABLE = own("KLNG", "Not gradable")
WHY_NOT = own("NGREASON", "Reason not gradable")
PROBABILITIES: Mapping[KLGrade, Code] = {
    grade: own(f"PKL{grade}", f"KL {grade} model probability") for grade in KLGrade
}
LOWEST = own("KLLOWEST", "Lowest Kellgren-Lawrence grade not ruled out")
HIGHEST = own("KLHIGHEST", "Highest Kellgren-Lawrence grade not ruled out")
LEVEL = own("SETLEVEL", "Level of the set of grades not ruled out")
UNDECIDED = own("UNDECIDED", "Grade that could not be told apart from its neighbour")
SPREAD = own("KLSPREAD", "Spread of the expected grade over the views")
GRADES_GIVEN = own("NGRADED", "Knee joints graded")
NOT_GRADED = own("NOTGRADED", "Not graded")
"""The one number of a refusal, one knee or one film: OHIF needs a number with coordinates in every group."""
HEAT_MAP = own("MAP", "Heat map of the grade")
MAP_SPEAKS = own("MAPPOS", "Positive evidence in the map")
MAP_EMPTY = own("MAPNONE", "No positive evidence in the map")
SIDE_SOURCE = own("SIDESRC", "Source of the laterality")
SIDE_AGREEMENT = own("SIDEAGREE", "Agreement of what tells the laterality")
AGREEMENTS: Mapping[Agreement, Code] = {
    Agreement.AGREED: own("AGREED", "Several sources agree"),
    Agreement.SINGLE: own("SINGLE", "One source alone"),
    Agreement.CONFLICT: own("CONFLICT", "Sources contradict each other"),
    Agreement.NONE: own("NOSOURCE", "No source"),
}
SIDE_EVIDENCE = own("SIDEEVID", "What tells the laterality")
FLAG = own("FLAG", "Flag on the result")
FIELD_OF_VIEW = own("FOVWIDTH", "Width of the joint's outline")
SCALE = own("SCALE", "What a millimetre on the image means")
SCALES: Mapping[str, Code] = {
    "calibrated": own("SCALECAL", "In the patient"),
    "detector plane": own("SCALEDET", "In the plane of the detector, magnified"),
}
READING_NOTE = own("READNOTE", "How the film was read")
ADVICE = own("ADVICE", "What to do")
PICTURES = own("PICTURES", "Pictures of this answer")
SEGMENTS = own("SEGMENTS", "Segments of this answer")
STRENGTHS = own("STRENGTHS", "Parametric map of this answer")
REASON_CODES: Mapping[str, Code] = {
    # A code value has at most 16 characters (PS3.5 SH); reasons of failures are longer and never reported.
    reason.code: own(reason.code, reason.meaning)
    for reason in REASONS.values()
    if len(reason.code) <= 16
}

FLAG_CODES: Mapping[str, Code] = {flag.code: own(flag.code, flag.meaning) for flag in FLAGS.values()}

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
SIDES: Mapping[Laterality, Code] = {
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
ALGORITHM_FAMILY = Code("111000", "DCM", "Algorithm Family")
ALGORITHM_MANUFACTURER = Code("122405", "DCM", "Algorithm Manufacturer")
REPLACED_REPORT = Code("121360", "DCM", "Replaced report")
COMMENT = Code("121106", "DCM", "Comment")
SOURCE_IMAGE = Code("121322", "DCM", "Source image for image processing operation")
SOURCE = Code("260753009", "SCT", "Source")
ACQUISITION_EQUIPMENT = Code("109101", "DCM", "Acquisition Equipment")
PROCESSING_EQUIPMENT = Code("109102", "DCM", "Processing Equipment")
PROCESSING_ALGORITHM = Code("Newcode1", "99IHE", "Processing Algorithm")
"""As IHE AIR 6.5.3.1 writes it: the code that waits for a number is theirs."""
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


def quality_of(reason: Reason) -> Code | None:
    """Non-diagnostic where the reason blames the image's quality; None where the image may be a fine one."""
    return NON_DIAGNOSTIC if reason.equivalent == INSUFFICIENT_QUALITY else None


def of_flag(flag: Flag) -> Code:
    """The code of a flag; one of another version's table keeps what it said."""
    return FLAG_CODES.get(flag.code) or own(flag.code, flag.meaning)
