"""The content of the result objects: a film, its reading and heat maps, the model, and the time of receipt."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pydicom.dataset import Dataset
from pydicom.uid import UID

from node.finding import ModelIdentity, Reading
from workers.read import Film
from workers.report.layout.wording import DrawableHeatMap, KneeContent, attention_facts
from workers.report.provenance import new_result


@dataclass(frozen=True)
class ResultContent:
    """Everything that the result objects of one film show."""

    film: Film
    reading: Reading
    heat_maps: Sequence[DrawableHeatMap | None]
    """Of reading.knees, in their order; None for a knee that was not graded."""
    card: ModelIdentity
    made_at: datetime
    """Fixed by the caller (not "now"), so that a second attempt creates the same objects."""

    @property
    def header(self) -> Dataset:
        return self.film.header

    @property
    def knees(self) -> list[KneeContent]:
        """Each knee with its heat map; a refused film has no maps, and a refused knee none of its own."""
        maps = list(self.heat_maps) or [None] * len(self.reading.knees)
        return [
            KneeContent(knee, heat_map, attention_facts(knee))
            for knee, heat_map in zip(self.reading.knees, maps, strict=True)
        ]

    @property
    def has_grade(self) -> bool:
        return any(knee.grade is not None for knee in self.reading.knees)

    def new_data_set(
        self, sop_class: str, uid: UID, series_number: int, series_description: str, *, utf8: bool = False
    ) -> Dataset:
        """A data set of the film's patient and study in a series of its own; `utf8` as of copy_identity."""
        ds = new_result(
            self.header, self.card, sop_class=sop_class, sop_instance_uid=uid, made_at=self.made_at, utf8=utf8
        )
        ds.SeriesNumber, ds.SeriesDescription = series_number, series_description
        return ds
