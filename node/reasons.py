"""
Why a radiograph or a knee has no grade: one table, used in JSON, Structured Report, admin page and metrics.

The codes are Genu's own, of the coding scheme 99GENU. No public scheme codes them all; `equivalent`
names a standard code that means nearly the same, where there is one.
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


INSUFFICIENT_QUALITY = ("110531", "DCM", "Insufficient quality for interpretation")

REASONS = {
    reason.code: reason
    for reason in (
        # Not analysed: no fault, and trying again changes nothing.
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
        Reason("TOTAL_IMPLANT", "A total knee replacement", "No KL grade exists for a replaced joint."),
        Reason("PART_IMPLANT", "A partial knee replacement", "No KL grade exists for a replaced joint."),
        Reason("METAL", "Metal lies over the joint", "Grade by eye if the joint space can be seen."),
        Reason("CAST", "A cast or splint lies over the joint", "Repeat the film without it, or grade by eye."),
        Reason("NOT_AP", "A lateral view of a knee", "Send an AP or PA view."),
        Reason("SKYLINE", "A skyline view of a patella", "Send an AP or PA view."),
        Reason("CHILD", "The patient is younger than the settings allow", "KL is for adults; see [work] youngest."),
        Reason("WRONG_SIZE", "The joint's size in millimetres is not an adult knee's", "Check the pixel spacing."),
        Reason("TOO_DARK", "The joint is exposed too darkly to be seen", "Repeat the film.", INSUFFICIENT_QUALITY),
        Reason("TOO_BRIGHT", "The joint is exposed too brightly to be seen", "Repeat the film.", INSUFFICIENT_QUALITY),
        Reason("JOINT_CUT_OFF", "A knee joint is not wholly on the image", "Repeat the film, or grade by eye."),
        Reason("CONFLICTING_SIDE", "The header and the film say different sides", "Check the side marker and header."),
        # Failed: something broke; a person can ask again.
        Reason("DECODER_LIMIT", "Decoding took too much time or memory and was stopped", "Look at the file; retry."),
        Reason("ATTEMPTS_EXHAUSTED", "The work broke off as often as it may", "Read the journal, mend, then retry."),
        Reason("FILE_LOST", "The kept file is missing or damaged", "Check the disk; have the sender send it again."),
        Reason("IDENTITY_MISSING", "The source lacks what a result needs to be filed", "Correct the study; resend."),
        Reason("INTERNAL", "An error in Genu itself", "Report it with the journal; retry after an update."),
    )
}


def reason(code: str) -> Reason:
    """The reason of that code. Raises KeyError for a code that is not in the table."""
    return REASONS[code]
