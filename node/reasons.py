"""
The coded reasons why a radiograph or a knee has no grade, and the flags of a knee: two tables, used in JSON,
Structured Report, Secondary Capture, admin page and metrics. deploy/CODES.md shows them.

The codes are Genu's own, of the coding scheme 99GENU. No public scheme codes them all; `equivalent` is a standard
code of nearly the same meaning, where there is one. Codes of a knee have at most 16 characters, the limit of a code
value in a report (PS3.5 6.2, SH).
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Reason:
    """A coded reason: what it means, and what the reader should do."""

    code: str
    meaning: str
    advice: str
    equivalent: tuple[str, str, str] | None = None
    """(code value, coding scheme designator, code meaning) of a standard code close to it."""


@dataclass(frozen=True)
class Flag:
    """A coded remark or warning on a knee, graded or not: its meaning, what to do, and whether it is a warning."""

    code: str
    meaning: str
    advice: str
    red: bool = False
    """Shown as a prominent warning. A flag that is not red is a remark."""


INSUFFICIENT_QUALITY = ("110531", "DCM", "Insufficient quality for interpretation")
POSITIONING = ("111209", "DCM", "Positioning")
CAST = ("130114", "DCM", "Cast")
LATERAL_PROJECTION = ("399067008", "SCT", "lateral")

REASONS = {
    reason.code: reason
    for reason in (
        # Not analysed: no fault, and a retry changes nothing.
        Reason("OWN_OBJECT", "Made by Genu itself and routed back", "Exclude series of Genu from the routing rule."),
        Reason("NOT_AN_IMAGE", "An object without an image", "Route only radiographs to Genu."),
        Reason("NOT_A_RADIOGRAPH", "An image of another kind than a projection radiograph", "Route only CR and DX."),
        Reason("FOR_PROCESSING", "Raw detector data, not meant for presentation", "Route the image for presentation."),
        Reason("NO_PIXELS", "The object holds no pixel data", "Ask the sender to send the complete image."),
        Reason("MANY_FRAMES", "More frames than one radiograph has", "Send each radiograph as an image of its own."),
        Reason(
            "UNREADABLE",
            "The image cannot be decoded",
            "Look at it in a viewer; if it opens there, report the file's transfer syntax.",
            INSUFFICIENT_QUALITY,
        ),
        Reason(
            "BLANK",
            "The image holds no picture: one grey level throughout",
            "Check the exposure and send again.",
            INSUFFICIENT_QUALITY,
        ),
        Reason("TOO_SMALL", "Too few pixels to grade a joint", "Send the original image, not a preview."),
        Reason("TOO_LARGE", "More pixels than the settings allow", "Raise [work] max_megapixels if it is a real film."),
        Reason("NOT_A_KNEE", "No AP or PA knee joint was found on the image", "Grade by eye if it is a knee."),
        Reason(
            "JOINT_CUT_OFF",
            "A knee joint is cut off by the image's edge or by a shutter",
            "Send it without a shutter; else grade by eye, or repeat the film.",
            POSITIONING,
        ),
        Reason(
            "JOINT_TOO_SMALL",
            "Too few pixels over the joint to grade it",
            "Send the original image, or a film of the knee alone.",
        ),
        Reason(
            "WRONG_SIZE",
            "By the header's millimetres no adult knee joint",
            "Check the pixel spacing in the header; grade by eye.",
        ),
        Reason("TOTAL_REPLACED", "The knee has a total replacement", "No grade applies; judge the implant by eye."),
        Reason("PART_REPLACED", "The knee has a partial replacement", "Grade what is left of the joint by eye."),
        Reason(
            "METAL", "Metal lies over the joint", "Grade by eye, or repeat the film without it if it can be removed."
        ),
        Reason("CAST", "A cast or splint lies over the joint", "Repeat the film without it, or grade by eye.", CAST),
        Reason(
            "NOT_AP",
            "A knee that is not seen from the front or back",
            "Send the AP or PA film; this view is not graded.",
            LATERAL_PROJECTION,
        ),
        Reason("SKYLINE", "A skyline view of the patella", "Send the AP or PA film; this view is not graded."),
        Reason(
            "OTHER_PART", "Another part of the body than the knee", "Check what was sent; route only knees to Genu."
        ),
        Reason(
            "NOT_LIKE_TRAINED",
            "The joint looks unlike all that the grader was trained on",
            "Grade by eye: a grade of Genu would mean nothing here.",
        ),
        Reason(
            "TOO_DARK",
            "Most of the joint is black",
            "Adjust the window and send again, or repeat the film.",
            INSUFFICIENT_QUALITY,
        ),
        Reason(
            "TOO_BRIGHT",
            "Most of the joint is white",
            "Adjust the window and send again, or repeat the film.",
            INSUFFICIENT_QUALITY,
        ),
        Reason(
            "TOO_FLAT",
            "Hardly any contrast at the joint",
            "Adjust the window and send again, or repeat the film.",
            INSUFFICIENT_QUALITY,
        ),
        Reason(
            "CHILD", "The patient is younger than the grader is meant for", "Grade by eye; Genu knows adults alone."
        ),
        Reason("CONFLICTING_SIDE", "Header and film say different sides", "Check marker, header and patient; resend."),
        Reason(
            "WITHHELD",
            "The grade may hang on what lies beside the joint: withheld",
            "Grade by eye; the flags say what it may hang on.",
        ),
        # Failed: a fault; a person can retry.
        Reason("DECODER_LIMIT", "Decoding took too much time or memory and was stopped", "Look at the file; retry."),
        Reason("ATTEMPTS_EXHAUSTED", "The work broke off as often as it may", "Read the journal, mend, then retry."),
        Reason("FILE_LOST", "The kept file is missing or damaged", "Check the disk; have the sender send it again."),
        Reason("IDENTITY_MISSING", "The source lacks what a result needs to be filed", "Correct the study; resend."),
        Reason(
            "RESULT_FAULTY",
            "A result broke a rule of DICOM and was held back",
            "Report it with the journal; nothing was sent. Retry after an update.",
        ),
        Reason("INTERNAL", "An error in Genu itself", "Report it with the journal; retry after an update."),
    )
}


def reason(code: str) -> Reason:
    """The reason of that code. Raises KeyError for a code that is not in the table."""
    return REASONS[code]


FLAGS = {
    flag.code: flag
    for flag in (
        Flag(
            "SIDE_CONFLICT",
            "What tells the side of this knee contradicts itself",
            "Check marker, header and patient before the side is believed.",
            red=True,
        ),
        Flag(
            "AGE_UNKNOWN", "The header does not tell the age", "Genu is meant for adults: make sure that this is one."
        ),
        Flag("POLARITY", "The film was a negative and was turned before grading", "Compare with the film as it hangs."),
        Flag("HARDWARE_NEAR", "Metal or another device lies near the joint", "Look whether it disturbs the grade."),
        Flag("MARKER", "The grade may hang on a marker", "Do not use the grade; grade by eye.", red=True),
        Flag("TEXT", "The grade may hang on burned-in text", "Do not use the grade; grade by eye.", red=True),
        Flag("HARDWARE", "The grade may hang on metal near the joint", "Do not use the grade; grade by eye.", red=True),
        Flag("BORDER", "The grade may hang on the film's border", "Do not use the grade; grade by eye.", red=True),
        Flag(
            "SOFT_TISSUE",
            "The grade may hang on what lies beside the joint",
            "Look at the map before the grade is believed.",
            red=True,
        ),
        Flag(
            "DIFFUSE",
            "The heat map is faint or spread over everything",
            "It shows no reason for the grade; grade by eye.",
            red=True,
        ),
    )
}
"""Code of a flag -> the flag. A new flag needs no more than an entry here."""


def flag(code: str) -> Flag:
    """The flag of that code. Raises KeyError for a code that is not in the table."""
    return FLAGS[code]
