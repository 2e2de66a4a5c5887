"""Above a knee's pictures: its grave flags on red, and under them what else should be known, each on one line."""

from collections.abc import Sequence

from node.reasons import Flag
from workers.report.canvas import GREY, Canvas, Colour, shortened

RED: Colour = (176, 28, 28)
"""Dark enough that white type stands out on it, on a grey-level monitor too."""
PAPER: Colour = (255, 255, 255)
WARNED, REMARKED = 44, 32
"""Height of a red line and of a remark."""


def height(flags: Sequence[Flag]) -> int:
    """Pixels that the flags of a knee take."""
    return sum(WARNED if flag.red else REMARKED for flag in flags)


def strip(sheet: Canvas, flags: Sequence[Flag], x: int, top: int, width: int) -> None:
    """The flags, the grave ones first; nothing of it lies on a knee."""
    for flag in sorted(flags, key=lambda each: not each.red):
        words = f"{flag.meaning}. {flag.advice}"
        if flag.red:
            sheet.box(x, top, x + width, top + WARNED - 6, fill=RED)
            name = flag.code.replace("_", " ")
            end = sheet.text(x + 14, top + 27, name, 22, colour=PAPER, bold=True) + 16
            sheet.text(end, top + 27, shortened(words, 20, x + width - 14 - end), 20, colour=PAPER)
        else:
            sheet.text(x, top + 21, shortened(words, 20, width), 20, colour=GREY)
        top += WARNED if flag.red else REMARKED
