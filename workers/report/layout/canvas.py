"""A black sheet to set type and bars on. The type is Inter, which ships with the package (fonts/LICENSE-Inter.txt)."""

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
"""Of warnings and of the answer: nearly as light as white, so a grey-level monitor loses nothing."""


@lru_cache(maxsize=64)
def font(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Inter, Regular or SemiBold, `size` pixels."""
    name = "Inter-SemiBold.otf" if bold else "Inter-Regular.otf"
    content = (files("workers.report") / "fonts" / name).read_bytes()
    # The plain layout engine, so that no library of the machine changes a pixel.
    return ImageFont.truetype(io.BytesIO(content), size, layout_engine=ImageFont.Layout.BASIC)


@lru_cache(maxsize=4096)
def length(words: str, size: int, *, bold: bool = False) -> float:
    """Pixels that a line takes. Most words come again with every film, and measuring takes as long as setting."""
    return font(size, bold=bold).getlength(words)


class Canvas:
    """A picture that grows by pasting, type and bars; `pixels` is what it looks like."""

    def __init__(self, width: int, height: int) -> None:
        self._begin(Image.new("RGB", (width, height), (0, 0, 0)))

    def _begin(self, image: Image.Image) -> None:
        self.image = image
        self.pen = ImageDraw.Draw(image)

    def copy(self) -> "Canvas":
        """Another sheet with the same on it."""
        other = Canvas.__new__(Canvas)
        other._begin(self.image.copy())
        return other

    @property
    def pixels(self) -> Bytes:
        return np.asarray(self.image)

    def text(
        self,
        x: float,
        y: float,
        words: str,
        size: int,
        *,
        colour: Colour = WHITE,
        bold: bool = False,
        anchor: str = "ls",
    ) -> float:
        """Set one line with its baseline at `y`; returns where it ends. `anchor` as in Pillow: "ls", "rs", "ms"."""
        letters = font(size, bold=bold)
        self.pen.text((x, y), words, font=letters, fill=colour, anchor=anchor)
        return x + length(words, size, bold=bold)

    def paragraph(
        self, x: float, y: float, words: str, size: int, *, width: float, colour: Colour = WHITE, bold: bool = False
    ) -> float:
        """Set lines no wider than `width`, the first baseline at `y`; returns the baseline that would follow."""
        for line in wrapped(words, size, width, bold=bold) if words else ():
            self.text(x, y, line, size, colour=colour, bold=bold)
            y += round(size * 1.35)
        return y

    def paste(self, picture: Bytes, x: int, y: int) -> None:
        """Lay a grey or RGB picture down with its corner at (x, y)."""
        self.image.paste(Image.fromarray(picture), (x, y))

    def box(
        self, x0: float, y0: float, x1: float, y1: float, *, fill: Colour | None = None, line: Colour | None = None
    ) -> None:
        """A filled or outlined rectangle; x1 and y1 lie just outside it."""
        self.pen.rectangle((x0, y0, x1 - 1, y1 - 1), fill=fill, outline=line)


def wrapped(words: str, size: int, width: float, *, bold: bool = False) -> list[str]:
    """`words` in lines no wider than `width`; a word longer than a line stands alone on one."""
    lines, taken, space = [""], 0.0, length(" ", size, bold=bold)
    for word in words.split():
        long = length(word, size, bold=bold)
        if not lines[-1]:
            lines[-1], taken = word, long
        elif taken + space + long <= width:
            lines[-1], taken = f"{lines[-1]} {word}", taken + space + long
        else:
            lines.append(word)
            taken = long
    return lines


def shortened(words: str, size: int, width: float) -> str:
    """`words`, or as many of their letters as fit into `width` with three dots behind them."""
    if length(words, size) <= width:
        return words
    fits = bisect_right(range(len(words)), width, key=lambda letters: length(words[:letters] + "...", size))
    return words[: max(fits - 1, 0)].rstrip() + "..."
