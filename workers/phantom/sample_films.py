"""Six rendered radiographs like those of clinics, one of them no knee: `make run` sends them to itself."""

import cv2
import numpy as np
from pydicom.dataset import Dataset

from node.finding import Laterality
from workers.phantom.dicom import Header, as_cr, as_dx
from workers.phantom.film import render
from workers.phantom.shape import KneeShape, RenderedFilm


def samples(seed: int = 0) -> list[Dataset]:
    """Right, left and both knees, one without its side in the header, one MONOCHROME1 with 8 bits, and no knee."""
    right, left = Laterality.RIGHT, Laterality.LEFT
    worn = KneeShape(left, medial_mm=1.2, lateral_mm=6.2, osteophytes=0.8, tilt_degrees=5.0, scale=1.03)
    both = [KneeShape(right, 3.2, 5.8, osteophytes=0.35, tilt_degrees=2.0), KneeShape(left, 4.8, 5.4)]
    unnamed = KneeShape(right, medial_mm=5.6, lateral_mm=2.0, osteophytes=0.5, tilt_degrees=-4.0, scale=0.95)
    return [
        as_dx(render([KneeShape(right, 4.9, 5.6)], rows=2010, columns=1670, seed=seed), Header(patient_id="PHANTOM-1")),
        as_dx(
            render([worn], rows=2010, columns=1670, seed=seed + 1),
            Header(patient_id="PHANTOM-2", bits=14, view_position="PA"),
        ),
        as_dx(render(both, seed=seed + 2, columns=2800, rows=2400), Header(patient_id="PHANTOM-3")),
        as_cr(
            render([unnamed], seed=seed + 3, spacing_mm=0.175, rows=1760, columns=1440, marker=False),
            Header(patient_id="PHANTOM-4", side=None, bits=10),
        ),
        as_cr(
            render([KneeShape(left, 4.4, 5.0, scale=0.92)], seed=seed + 4, spacing_mm=0.2, rows=1500, columns=1240),
            Header(patient_id="PHANTOM-5", bits=8, photometric="MONOCHROME1"),
        ),
        as_cr(
            step_wedge(seed=seed + 5),
            Header("PHANTOM^STEP WEDGE", "PHANTOM-6", None, body_part="", view_position="", description="Step wedge"),
        ),
    ]


def step_wedge(*, rows: int = 1500, columns: int = 1240, spacing_mm: float = 0.2, seed: int = 0) -> RenderedFilm:
    """A film for constancy tests: an aluminium wedge of eleven steps and balls of several sizes, and no patient."""
    random = np.random.default_rng([seed, 9])
    attenuation = np.zeros((rows, columns), np.float32)
    left, right, top, step = columns // 4, columns // 2, rows // 8, rows // 15
    for index in range(11):
        # Aluminium at 45 keV: about 0.12 per millimetre, 2 mm a step.
        attenuation[top + index * step : top + (index + 1) * step, left:right] = 0.24 * (index + 1)
    x, y = np.arange(columns, dtype=np.float32)[None, :], np.arange(rows, dtype=np.float32)[:, None]
    for index, radius_mm in enumerate((4.0, 6.0, 9.0, 13.0)):
        radius, row = radius_mm / spacing_mm, rows * (0.22 + 0.18 * index)
        inside = np.maximum(radius**2 - (x - columns * 0.7) ** 2 - (y - row) ** 2, 0)
        attenuation += np.float32(0.12 * spacing_mm) * 2 * np.sqrt(inside)
    arrived = np.asarray(cv2.GaussianBlur(np.exp(-attenuation), (0, 0), 0.8), np.float32) + np.float32(0.02)
    arrived += np.sqrt(arrived / 6e4) * random.standard_normal(arrived.shape, np.float32)
    grey = -np.log(np.maximum(arrived, 1e-3)) / 3.2 + 0.08
    return RenderedFilm(np.rint(np.clip(grey, 0, 1) * 4095).astype(np.uint16), spacing_mm)
