"""Figures of joint detection, boxes, kinds and landmarks on films whose truth is known."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from workers.detection.detector import peaks
from workers.detection.landmarks import WIDE, whole_film
from workers.models.labels import KNEE
from workers.preprocessing import Box, box_inputs, film_input
from workers.training.films import LabelledFilm
from workers.training.joint_films import DETECTOR_SIZE, REFINER_SIZE

LIMIT = 0.4
"""Least confidence of a joint during training; the limit of the card is set afterwards."""


@torch.no_grad()
def evaluate_joint_networks(
    detector: Any, refiner: Any, held_out: dict[str, list[LabelledFilm]], device: str
) -> dict[str, float]:
    """Figures by how the films were made, and one score for each network."""
    figures: dict[str, float] = {}
    for name, films in held_out.items():
        figures[f"{name}_right"] = float(np.mean([_all_found(detector, film, device) for film in films]))
    figures |= _refiner_figures(refiner, held_out, device)
    figures["finder_score"] = float(np.mean([figures[f"{name}_right"] for name in held_out]))
    figures["look_score"] = figures["knee"] + figures["no_knee"] - figures["size_off"] - 10 * figures["point_off"]
    return {name: round(value, 4) for name, value in figures.items()}


def _all_found(detector: Any, film: LabelledFilm, device: str) -> bool:
    """Whether exactly the true joints are found, their middle within 10 % of the side and their side within 20 %."""
    view, scale = film_input(film.pixels, DETECTOR_SIZE)
    answer = detector(torch.from_numpy(view)[None, None].to(device))[0][0].float().cpu().numpy()
    boxes = [box for box, _ in peaks(answer, LIMIT)][: len(film.boxes) + 1]
    matched = sum(any(_close(box, true, scale) for box in boxes) for true in film.boxes)
    return matched == len(film.boxes) == len(boxes)


def _close(box: Box, true: Box, scale: float) -> bool:
    side = true.width * scale
    apart = np.hypot(box.x0 + box.x1 - (true.x0 + true.x1) * scale, box.y0 + box.y1 - (true.y0 + true.y1) * scale) / 2
    return bool(apart < 0.1 * side and abs(box.width / side - 1) < 0.2)


def _refiner_figures(refiner: Any, held_out: dict[str, list[LabelledFilm]], device: str) -> dict[str, float]:
    """The parts of knees and of others that are classified right; 95th percentiles of the errors of boxes."""
    joints = [(film, joint) for film in held_out["composed"] for joint in film.joints]
    detected = [_with_detection_error(joint.box, at) for at, (_, joint) in enumerate(joints)]
    views = [
        box_inputs(film.pixels, [box.enlarged(WIDE)], REFINER_SIZE)[0]
        for (film, _), box in zip(joints, detected, strict=True)
    ]
    others = [
        box_inputs(film.pixels, [whole_film(film.pixels.shape).enlarged(WIDE)], REFINER_SIZE)[0]
        for film in held_out["none"]
    ]
    kinds, shifts, placed = _run(refiner, views, device)
    not_knees, _, _ = _run(refiner, others, device)
    sizes, middles, off = [], [], []
    for (_, joint), box, shift, points in zip(joints, detected, shifts, placed, strict=True):
        true, side = joint.box, joint.box.width
        sizes.append(abs(box.width * np.exp(shift[2]) / side - 1))
        x, y = np.array(box.middle) + shift[:2] * box.width - true.middle
        middles.append(np.hypot(x, y) / side)
        if joint.points is not None:
            view = box.enlarged(WIDE)
            found = points[:, :2] * view.width + np.array([view.x0, view.y0], np.float32)
            off.append(np.linalg.norm(found - joint.points, axis=1).mean() / side)
    return {
        "knee": float((kinds.argmax(1) == KNEE).mean()),
        "no_knee": float((not_knees.argmax(1) != KNEE).mean()),
        "size_off": float(np.percentile(sizes, 95)),
        "middle_off": float(np.percentile(middles, 95)),
        "point_off": float(np.mean(off)) if off else 0.0,
    }


def _with_detection_error(box: Box, at: int) -> Box:
    """The box with a detection error: shifted, too large or too small."""
    random = np.random.default_rng(at)
    side = box.width * float(np.exp(random.uniform(-0.1, 0.1)))
    x, y = np.array(box.middle) + random.uniform(-0.06, 0.06, 2) * box.width
    return Box.about((float(x), float(y)), side)


def _run(refiner: Any, views: Sequence[Any], device: str) -> list[Any]:
    answers = [
        refiner(torch.from_numpy(np.stack(views[at : at + 64]))[:, None].to(device)) for at in range(0, len(views), 64)
    ]
    return [torch.cat(parts).float().cpu().numpy() for parts in zip(*answers, strict=True)]
