"""A black canvas for text and boxes. The font is Inter, which the package contains (fonts/LICENSE-Inter.txt)."""

import io
from bisect import bisect_right
from functools import lru_cache
from importlib.resources import files

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from workers.report.layout.colours import Bytes

Colour = tuple[int, int, int]
WHITE: Colour = (240, 240, 240)
GREY: Colour = (168, 168, 168)
DIM: Colour = (64, 64, 64)
AMBER: Colour = (255, 196, 84)
"""Of warnings and of the grade: nearly as light as white, so a grey-level monitor loses nothing."""


@lru_cache(maxsize=64)
def font(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Inter, Regular or SemiBold, `size` pixels."""
    name = "Inter-SemiBold.otf" if bold else "Inter-Regular.otf"
    content = (files("workers.report") / "fonts" / name).read_bytes()
    # The basic layout engine, so that no library of the machine changes a pixel.
    return ImageFont.truetype(io.BytesIO(content), size, layout_engine=ImageFont.Layout.BASIC)


@lru_cache(maxsize=4096)
def text_width(text: str, size: int, *, bold: bool = False) -> float:
    """Width of a line in pixels; cached, because most texts recur and measuring takes as long as drawing."""
    return font(size, bold=bold).getlength(text)


class Canvas:
    """An RGB image to draw on; `pixels` is (rows, columns, 3)."""

    def __init__(self, width: int, height: int) -> None:
        self._set_image(Image.new("RGB", (width, height), (0, 0, 0)))

    def _set_image(self, image: Image.Image) -> None:
        self.image = image
        self.draw = ImageDraw.Draw(image)

    def copy(self) -> "Canvas":
        """An independent copy."""
        other = Canvas.__new__(Canvas)
        other._set_image(self.image.copy())
        return other

    @property
    def pixels(self) -> Bytes:
        return np.asarray(self.image)

    def text(
        self,
        x: float,
        y: float,
        text: str,
        size: int,
        *,
        colour: Colour = WHITE,
        bold: bool = False,
        anchor: str = "ls",
    ) -> float:
        """Draw one line with its baseline at `y`; returns x of its end. `anchor` as in Pillow: "ls", "rs", "ms"."""
        typeface = font(size, bold=bold)
        self.draw.text((x, y), text, font=typeface, fill=colour, anchor=anchor)
        return x + text_width(text, size, bold=bold)

    def paragraph(
        self, x: float, y: float, text: str, size: int, *, width: float, colour: Colour = WHITE, bold: bool = False
    ) -> float:
        """Draw lines no wider than `width`, the first baseline at `y`; returns the baseline that would follow."""
        for line in wrap(text, size, width, bold=bold) if text else ():
            self.text(x, y, line, size, colour=colour, bold=bold)
            y += round(size * 1.35)
        return y

    def paste(self, picture: Bytes, x: int, y: int) -> None:
        """Paste a grey or RGB picture with its top left corner at (x, y)."""
        self.image.paste(Image.fromarray(picture), (x, y))

    def box(
        self, x0: float, y0: float, x1: float, y1: float, *, fill: Colour | None = None, line: Colour | None = None
    ) -> None:
        """A filled or outlined rectangle; x1 and y1 lie just outside it."""
        self.draw.rectangle((x0, y0, x1 - 1, y1 - 1), fill=fill, outline=line)


def wrap(text: str, size: int, width: float, *, bold: bool = False) -> list[str]:
    """`text` in lines no wider than `width`; a longer word is a line of its own."""
    lines, used, space_width = [""], 0.0, text_width(" ", size, bold=bold)
    for word in text.split():
        word_width = text_width(word, size, bold=bold)
        if not lines[-1]:
            lines[-1], used = word, word_width
        elif used + space_width + word_width <= width:
            lines[-1], used = f"{lines[-1]} {word}", used + space_width + word_width
        else:
            lines.append(word)
            used = word_width
    return lines


def shorten(text: str, size: int, width: float) -> str:
    """`text`, or as many of its characters as fit into `width`, followed by three dots."""
    if text_width(text, size) <= width:
        return text
    count = bisect_right(range(len(text)), width, key=lambda letters: text_width(text[:letters] + "...", size))
    return text[: max(count - 1, 0)].rstrip() + "..."
