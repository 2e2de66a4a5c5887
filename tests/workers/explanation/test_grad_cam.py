"""The heat map is Grad-CAM, exactly, for every grade, out of the forward pass that gave the grade."""

import numpy as np
import pytest
import torch
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.image import scale_cam_image
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from safetensors.torch import load_file

from node.evidence import Certainty, KLGrade
from node.finding import Laterality
from tests.samples.knees import knee as knee_in
from workers.explanation.grad_cam import explain, grad_cam
from workers.grading.grader import Graded
from workers.models.networks import GRADERS, Grader, build
from workers.models.registry import WEIGHTS, load, read_card
from workers.phantom import KneeShape, render
from workers.preprocessing import Box, crop, grader_input


class LogitsOnly(torch.nn.Module):
    """pytorch-grad-cam takes networks that answer with logits alone."""

    def __init__(self, network: Grader) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.network(images)[0]
        return logits


TRAINED = {"efficientnet_lite2": "kl-lite2"}
"""The card of the shipped network."""


def network(name: str) -> Grader:
    """The shipped network with its weights; one that is not shipped with random weights."""
    torch.manual_seed(5)
    made = GRADERS[name]()
    if name in TRAINED:
        card = read_card(TRAINED[name])
        shipped = build(card.architecture)
        made = next(each for each in shipped.modules() if isinstance(each, Grader))
        made.load_state_dict(load_file(WEIGHTS / card.weights[0].name))
    return made.double().eval()  # what is compared is a formula with a gradient, not the rounding of either


def knee(size: int = 256) -> np.ndarray:
    rendered = render(
        [KneeShape(Laterality.RIGHT, medial_mm=1.5, osteophytes=0.8)], rows=400, columns=400, spacing_mm=0.4
    )
    return grader_input(crop(rendered.pixels.astype(np.float32) / 4095, rendered.boxes[0], size), size)


@pytest.mark.parametrize("name", sorted(GRADERS))
@pytest.mark.parametrize("grade", range(5))
def test_the_map_equals_pytorch_grad_cam(name: str, grade: int) -> None:
    """On every grade, scaled alike, no cell differs from the library's gradient by more than 1e-4."""
    grader = network(name)
    image = torch.from_numpy(knee()[None]).double()
    with torch.no_grad():
        ours = grad_cam(grader(image)[1].numpy()[0])[grade]
    layer = grader.trunk[-1]
    with GradCAM(model=LogitsOnly(grader), target_layers=[layer]) as reference:
        scaled = reference(input_tensor=image, targets=[ClassifierOutputTarget(grade)])[0]
        activations = reference.activations_and_grads.activations[0].numpy()
        gradients = reference.activations_and_grads.gradients[0].numpy()
    theirs = np.maximum((gradients.mean((2, 3))[:, :, None, None] * activations).sum(1)[0], 0)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    # What the library returns is stretched, resized and stretched again; ours, treated alike, is the same picture.
    np.testing.assert_allclose(scale_cam_image(scale_cam_image(ours[None], (256, 256)))[0], scaled, atol=1e-4)


def test_the_shipped_engine_gives_the_same_map_as_torch() -> None:
    """The map that is shown comes from the CPU engine; it is torch's to 1e-3, and so are the logits."""
    image = knee()[None]
    fast, exact = load("kl-lite2").run(image), load("kl-lite2", engine="torch").run(image)
    np.testing.assert_allclose(fast[0], exact[0], atol=1e-3)
    np.testing.assert_allclose(fast[1], exact[1], atol=1e-3 * max(1.0, float(np.abs(exact[1]).max())))


def graded(maps: np.ndarray, grade: int) -> Graded:
    where = knee_in(Box(0, 0, 10, 10))
    sure = Certainty(KLGrade(grade), KLGrade(grade), 0.9)
    flat = np.full(5, 0.2, np.float32)
    return Graded(where, np.zeros(5, np.float32), flat, KLGrade(grade), sure, maps.astype(np.float32), 0.0)


def test_a_map_without_positive_evidence_is_said_to_be_empty() -> None:
    """Where no cell speaks for the grade there is nothing to show, and it is not made up by scaling."""
    maps = np.full((5, 8, 8), -0.5)
    heat = explain(graded(maps, 2), 10.0)
    assert heat.empty
    assert not heat.values.any()
    assert not heat.strength.any()


def test_a_faint_map_stays_faint() -> None:
    """The scale is the model's, not the film's: half the evidence is drawn at half the strength."""
    maps = np.zeros((5, 8, 8))
    maps[3, 2, 5] = 4.0
    strong, faint = explain(graded(maps, 3), 8.0), explain(graded(maps / 2, 3), 8.0)
    assert strong.strength.max() == pytest.approx(0.5)
    assert faint.strength.max() == pytest.approx(0.25)
    assert np.unravel_index(strong.strength.argmax(), (8, 8)) == (2, 5)


def test_a_cell_lies_over_the_pixels_that_it_stands_for() -> None:
    """The map of a small bright spot has its centre of mass at the spot, not half a cell beside it."""
    torch.manual_seed(0)
    grader = GRADERS["efficientnet_lite0"]().eval()
    offsets = []
    for x, y in ((80, 144), (144, 80), (112, 176), (176, 112)):
        image = torch.zeros(1, 3, 256, 256)
        spot = image.clone()
        spot[:, :, y - 2 : y + 2, x - 2 : x + 2] = 1
        with torch.no_grad():
            change = (grader.features(spot) - grader.features(image)).abs().sum(1)[0].numpy()
        rows, columns = np.mgrid[0:8, 0:8]
        offsets.append(
            ((columns * change).sum() / change.sum() * 32 + 16 - x, (rows * change).sum() / change.sum() * 32 + 16 - y)
        )
    assert np.abs(np.mean(offsets, axis=0)).max() < 4
