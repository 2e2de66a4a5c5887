"""
The networks that can grade a knee: a convolutional trunk, its pooled map and a linear head.

The head stays linear on a global average pool, so that the maps of all five grades come out of the
forward pass that gave the grade (Zhou et al. 2016, "Learning Deep Features for Discriminative
Localization"): logit_c = mean over the cells of map_c + bias_c, and Grad-CAM is relu(map_c) / cells.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from workers.models.networks.feature_distance import FeatureDistance
from workers.models.networks.layers import InvertedResidual, convolution

GRADES = 5


class Grader(nn.Module):
    """A trunk ending in a rectified map, and one weight for each of its channels and each grade."""

    def __init__(self, trunk: nn.Module, channels: int, dropout: float = 0.2, widths: Sequence[int] = ()) -> None:
        """`widths` are the channels of the trunk's layers before its last, of those that tell what is familiar."""
        super().__init__()
        self.trunk = trunk
        self.widths = tuple(widths)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(channels, GRADES)

    def features(self, images: Tensor) -> Tensor:
        """(n, 3, size, size) to the rectified map (n, channels, rows, columns)."""
        features: Tensor = self.trunk(images)
        return features

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(n, 3, size, size) to logits (n, 5) and signed maps (n, 5, rows, columns)."""
        return self._answer(self.features(images))

    def with_depths(self, images: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """As `forward`, and the mean features (n, width) of the layers before the last, one for each of `widths`."""
        assert isinstance(self.trunk, nn.Sequential)
        first, depths = len(self.trunk) - 1 - len(self.widths), []
        for at, layer in enumerate(self.trunk):
            images = layer(images)
            if first <= at < len(self.trunk) - 1:
                depths.append(images.mean((2, 3)))
        return *self._answer(images), depths

    def _answer(self, features: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.head(self.dropout(features.mean((2, 3))))
        return logits, functional.conv2d(features, self.head.weight[:, :, None, None])


LITE_STAGES = (
    # expand, channels, blocks, stride, kernel
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)

LAST_HALVING = 5
"""The index of the stage that makes the map's cells 32 pixels wide."""


def efficientnet_lite(width: float = 1.0, depth: float = 1.0) -> Grader:
    """
    EfficientNet-Lite (Tan & Le 2019, Lite edition 2020): no swish, no squeeze-and-excitation.

    `width` and `depth` scale the stages; as in the original, stem and last layer are not scaled, and the
    first and last stage are not deepened.

    The first four halvings trail, as in the original; the last does not. So the shifts of 0.5, 1, 2, 4
    and -8 pixels cancel out, and a cell of the map lies over the pixels that it stands for; in the
    original it lies half a cell (10 mm) beside them.
    """
    blocks: list[nn.Module] = [convolution(3, 32, 3, 2, trailing=True)]
    inside, before = 32, 0
    for stage, (expand, channels, repeats, stride, kernel) in enumerate(LITE_STAGES):
        before, outside = inside, _in_eights(channels * width)
        deep = repeats if stage in (0, len(LITE_STAGES) - 1) else math.ceil(repeats * depth)
        for repeat in range(deep):
            step = stride if repeat == 0 else 1
            blocks.append(InvertedResidual(inside, outside, expand, kernel, step, step == 2 and stage < LAST_HALVING))
            inside = outside
    blocks.append(convolution(inside, 1280, 1))
    # The last stage is one block: the two layers before the map are the ends of the last two stages.
    return Grader(nn.Sequential(*blocks), 1280, widths=(before, inside))


def _in_eights(channels: float) -> int:
    """The multiple of eight nearest to `channels`, but never more than a tenth below it."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * channels else nearest + 8


def densenet121() -> Grader:
    """DenseNet-121 (Huang et al. 2017); the last map is rectified, as torchvision's own forward does."""
    from torchvision.models import densenet121 as torchvision_densenet121

    return Grader(nn.Sequential(torchvision_densenet121(weights=None).features, nn.ReLU()), 1024)


class Ensemble(nn.Module):
    """
    One grader or several that answer as one: the mean of their logits and of their maps.

    Each sees the knee and its mirror image, so that the answer does not hang on which side the knee is
    said to be. Means are linear: the mean of an ensemble's map and the mean of its members' biases is its
    logit, as with one network. All maps must have the same number of cells.

    With `familiar` it also tells how far a knee lies from those that it was trained on, by its first member's
    features. Raises ValueError if that is a network whose features nobody tells apart by depth.
    """

    def __init__(self, members: Sequence[Grader], *, familiar: bool = False) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        if familiar and not members[0].widths:
            raise ValueError("this network does not tell how familiar a knee is")
        self.familiar = FeatureDistance(members[0].widths) if familiar else None

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """
        (n, 3, size, size) to logits (n, 5), signed maps (n, 5, rows, columns) and logits by view (n, views, 5).

        With `familiar` also to distances (n,).
        """
        n = images.shape[0]
        both = torch.cat([images, images.flip(3)])
        *answer, depths = self._first.with_depths(both)
        logits, maps = zip(answer, *(member(both) for member in self.members[1:]), strict=True)
        views = torch.stack([each for pair in logits for each in (pair[:n], pair[n:])], 1)
        whole = torch.stack(maps).mean(0)
        told = views.mean(1), (whole[:n] + whole[n:].flip(3)) / 2, views
        return told if self.familiar is None else (*told, self.familiar([_mean_of_halves(each, n) for each in depths]))

    def depths_of(self, images: Tensor) -> list[Tensor]:
        """What `familiar` is asked about: mean features (n, width) of each knee and its mirror image together."""
        both = torch.cat([images, images.flip(3)])
        return [_mean_of_halves(each, images.shape[0]) for each in self._first.with_depths(both)[2]]

    @property
    def _first(self) -> Grader:
        first = self.members[0]
        assert isinstance(first, Grader)
        return first


def _mean_of_halves(features: Tensor, n: int) -> Tensor:
    """The mean of the first n rows and of the next n."""
    return (features[:n] + features[n:]) / 2


def refine(network: Grader) -> Grader:
    """
    Four times as many cells in the map of an EfficientNet-Lite, from the same weights.

    The last halving is left out and the convolutions behind it reach twice as far (Chen et al. 2017, "atrous"),
    so every old cell keeps its value and new ones come between.
    """
    convolutions = [layer for layer in network.trunk.modules() if isinstance(layer, nn.Conv2d)]
    last = max(at for at, layer in enumerate(convolutions) if layer.stride == (2, 2))
    convolutions[last].stride = (1, 1)
    for layer in convolutions[last + 1 :]:
        if layer.kernel_size != (1, 1):
            layer.dilation = (2, 2)
            layer.padding = (layer.kernel_size[0] - 1, layer.kernel_size[1] - 1)
    return network


def start_from_imagenet(network: Grader, state: Path) -> None:
    """
    Fill an EfficientNet-Lite trunk from a state dict trained on ImageNet, its classifier left out.

    The state dict names its layers otherwise; both list them in the order of the forward pass.
    """
    given = torch.load(state, map_location="cpu", weights_only=True)
    theirs = [value for key, value in given.items() if not key.startswith("_fc.")]
    ours = network.trunk.state_dict()
    if [value.shape for value in ours.values()] != [value.shape for value in theirs]:
        raise ValueError(f"{state} does not hold the weights of this trunk")
    network.trunk.load_state_dict(dict(zip(ours, theirs, strict=True)))


GRADERS: Mapping[str, Callable[[], Grader]] = {
    "efficientnet_lite0": efficientnet_lite,
    "efficientnet_lite1": partial(efficientnet_lite, depth=1.1),
    "efficientnet_lite2": partial(efficientnet_lite, width=1.1, depth=1.2),
    "densenet121": densenet121,
}
