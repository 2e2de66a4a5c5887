"""What the result objects are made of: a film, what was said of it, the model that said it, and when it came."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pydicom.dataset import Dataset

from node.finding import ModelIdentity, Reading
from workers.read import Film
from workers.report.layout.wording import Heat, Row, where


@dataclass(frozen=True)
class Answer:
    """`heat_maps` are those of reading.knees, in their order, None for a knee that was not graded."""

    film: Film
    reading: Reading
    heat_maps: Sequence[Heat | None]
    card: ModelIdentity
    made_at: datetime
    """Fixed by the caller (not "now"), so that a second attempt makes the same objects."""

    @property
    def header(self) -> Dataset:
        return self.film.header

    @property
    def rows(self) -> list[Row]:
        """Each knee with its map; a refused film has none, a refused knee on a graded film has none of its own."""
        maps = list(self.heat_maps) or [None] * len(self.reading.knees)
        return [Row(knee, heat_map, where(knee)) for knee, heat_map in zip(self.reading.knees, maps, strict=True)]

    @property
    def graded(self) -> bool:
        return any(knee.grade is not None for knee in self.reading.knees)
