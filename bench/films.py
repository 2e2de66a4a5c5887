"""Films to send: noise of a film's size for the receivers, rendered films of both knees for the node."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from node.finding import Laterality
from workers.phantom import Header, KneeShape, RenderedFilm, as_dx, render

BIG, SMALL = (2500, 2048), (512, 512)
"""Rows and columns of 16 bits: 10.2 MB, a typical DX image of a knee, and 0.5 MB."""

ROWS, COLUMNS = 2400, 2800
"""Of a film of both knees: 13.4 MB."""

KNEE_SHAPES = (
    ((3.2, 5.8, 0.35), (4.8, 5.4, 0.0)),
    ((4.9, 5.6, 0.0), (1.2, 6.2, 0.8)),
    ((2.1, 5.0, 0.6), (5.2, 3.0, 0.3)),
)
"""Medial and lateral joint space in mm and osteophytes, of the right knee and of the left."""


def noise(path: Path, size: tuple[int, int]) -> Path:
    """A DX object of that size that cannot be compressed."""
    pixels = np.random.default_rng(1).integers(0, 2**16, size, dtype=np.uint16)
    as_dx(RenderedFilm(pixels, 0.15, bits=16), Header(side="R", bits=16)).save_as(path, enforce_file_format=True)
    return path


class Films:
    """DX objects of both knees, each with UIDs of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0
        self._rendered: dict[int, RenderedFilm] = {}

    def files(self, count: int) -> Iterator[tuple[str, Path]]:
        """`count` new films: SOP Instance UID and file. A file is deleted when the next film is requested."""
        for _ in range(count):
            uid, path = self.file()
            yield uid, path
            path.unlink()

    def file(self) -> tuple[str, Path]:
        """SOP Instance UID and file of one new film."""
        self._count += 1
        film = as_dx(self._film(self._count % len(KNEE_SHAPES)), Header(patient_id=f"BENCH-{self._count}"))
        path = self._folder / f"film-{self._count}.dcm"
        film.save_as(path, enforce_file_format=True)
        return str(film.SOPInstanceUID), path

    def _film(self, index: int) -> RenderedFilm:
        """Rendered once, because it takes seconds."""
        if index not in self._rendered:
            right, left = KNEE_SHAPES[index]
            knees = [_knee(Laterality.RIGHT, right), _knee(Laterality.LEFT, left)]
            self._rendered[index] = render(knees, rows=ROWS, columns=COLUMNS, seed=index)
        return self._rendered[index]


def _knee(side: Laterality, shape: tuple[float, float, float]) -> KneeShape:
    medial, lateral, osteophytes = shape
    return KneeShape(side, medial, lateral, osteophytes=osteophytes)
