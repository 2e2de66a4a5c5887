"""
The networks that grade a knee: a convolutional trunk, global average pooling and a linear head.

Because the head is linear, the forward pass also returns the maps of all five grades (Zhou et al. 2016, "Learning
Deep Features for Discriminative Localization"): logit_c = mean over the cells of map_c + bias_c, and Grad-CAM is
relu(map_c) / cells.
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
    """A trunk that ends in a rectified map, and a linear head with one weight for each channel and grade."""

    def __init__(self, trunk: nn.Module, channels: int, dropout: float = 0.2, widths: Sequence[int] = ()) -> None:
        """`widths` are the channels of the last layers before the trunk's final one: those of the feature distance."""
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
        return self._head_of(self.features(images))

    def with_depths(self, images: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """As `forward`, and the mean features (n, width) of the layers of `widths`."""
        assert isinstance(self.trunk, nn.Sequential)
        first, depths = len(self.trunk) - 1 - len(self.widths), []
        for at, layer in enumerate(self.trunk):
            images = layer(images)
            if first <= at < len(self.trunk) - 1:
                depths.append(images.mean((2, 3)))
        return *self._head_of(images), depths

    def _head_of(self, features: Tensor) -> tuple[Tensor, Tensor]:
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

LAST_STRIDED = 5
"""The index of the stage that makes the map's cells 32 pixels wide."""


def efficientnet_lite(width: float = 1.0, depth: float = 1.0) -> Grader:
    """
    EfficientNet-Lite (Tan & Le 2019, Lite edition 2020): no swish, no squeeze-and-excitation.

    `width` and `depth` scale the stages; as in the original, stem and last layer are not scaled, and the
    first and last stage are not deepened.

    The first four strided convolutions have trailing padding, as in the original; the last does not. So the shifts
    of 0.5, 1, 2, 4 and -8 pixels cancel out, and a cell of the map lies over the pixels that it represents; in the
    original it lies half a cell (10 mm) beside them.
    """
    blocks: list[nn.Module] = [convolution(3, 32, 3, 2, trailing=True)]
    channels_in, second_last = 32, 0
    for stage, (expand, channels, repeats, stride, kernel) in enumerate(LITE_STAGES):
        second_last, channels_out = channels_in, _round_to_eight(channels * width)
        count = repeats if stage in (0, len(LITE_STAGES) - 1) else math.ceil(repeats * depth)
        for repeat in range(count):
            step = stride if repeat == 0 else 1
            trailing = step == 2 and stage < LAST_STRIDED
            blocks.append(InvertedResidual(channels_in, channels_out, expand, kernel, step, trailing))
            channels_in = channels_out
    blocks.append(convolution(channels_in, 1280, 1))
    # The last stage is one block: the two layers before the map are the ends of the last two stages.
    return Grader(nn.Sequential(*blocks), 1280, widths=(second_last, channels_in))


def _round_to_eight(channels: float) -> int:
    """The multiple of eight nearest to `channels`, but never more than a tenth below it."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * channels else nearest + 8


def densenet121() -> Grader:
    """DenseNet-121 (Huang et al. 2017); the last map is rectified, as torchvision's own forward does."""
    from torchvision.models import densenet121 as torchvision_densenet121

    return Grader(nn.Sequential(torchvision_densenet121(weights=None).features, nn.ReLU()), 1024)


class MirroredGrader(nn.Module):
    """
    A grader that averages over a knee and its mirror image, so that the grade does not depend on the stated side.

    Means are linear: the mean of the averaged map plus the bias is the averaged logit, as of one view.

    With `with_distance` it also returns how far a knee's features lie from those of the training knees. Raises
    ValueError if the grader has no named depths (`Grader.widths`).

    State dicts have the prefix GRADER_PREFIX before the grader's tensors and DISTANCE_PREFIX before the distance's:
    the cards and the graphs that are in use name them so.
    """

    def __init__(self, grader: Grader, *, with_distance: bool = False) -> None:
        super().__init__()
        self.members = nn.ModuleList([grader])
        if with_distance and not grader.widths:
            raise ValueError("this grader has no layers for a feature distance")
        self.familiar = FeatureDistance(grader.widths) if with_distance else None

    @property
    def grader(self) -> Grader:
        """The grader that averages over both views."""
        grader = self.members[0]
        assert isinstance(grader, Grader)
        return grader

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """
        (n, 3, size, size) to logits (n, 5), signed maps (n, 5, rows, columns) and logits by view (n, 2, 5).

        With a distance also to distances (n,).
        """
        n = images.shape[0]
        logits, maps, features = self.grader.with_depths(torch.cat([images, images.flip(3)]))
        views = torch.stack([logits[:n], logits[n:]], 1)
        outputs = views.mean(1), (maps[:n] + maps[n:].flip(3)) / 2, views
        if self.familiar is None:
            return outputs
        return (*outputs, self.familiar([_mean_of_halves(layer, n) for layer in features]))

    def depths_of(self, images: Tensor) -> list[Tensor]:
        """The inputs of the feature distance: features (n, width) of each depth, averaged over both views."""
        both = torch.cat([images, images.flip(3)])
        return [_mean_of_halves(features, images.shape[0]) for features in self.grader.with_depths(both)[2]]


GRADER_PREFIX, DISTANCE_PREFIX = "members.0.", "familiar."


def _mean_of_halves(features: Tensor, n: int) -> Tensor:
    """The mean of the first n rows and of the next n."""
    return (features[:n] + features[n:]) / 2


def refine_map(network: Grader) -> Grader:
    """
    An EfficientNet-Lite changed in place to four times as many cells in its map, with the same weights.

    The last stride becomes 1 and the convolutions after it are dilated by 2 (Chen et al. 2017, "atrous"), so every
    old cell keeps its value and new ones lie between them.
    """
    convolutions = [layer for layer in network.trunk.modules() if isinstance(layer, nn.Conv2d)]
    last = max(number for number, layer in enumerate(convolutions) if layer.stride == (2, 2))
    convolutions[last].stride = (1, 1)
    for layer in convolutions[last + 1 :]:
        if layer.kernel_size != (1, 1):
            layer.dilation = (2, 2)
            layer.padding = (layer.kernel_size[0] - 1, layer.kernel_size[1] - 1)
    return network


def load_imagenet_weights(network: Grader, state: Path) -> None:
    """
    Load ImageNet weights into the trunk of an EfficientNet-Lite, without the classifier.

    The state dict has other names; both list the layers in the order of the forward pass. Raises ValueError if the
    shapes differ.
    """
    loaded = torch.load(state, map_location="cpu", weights_only=True)
    values = [value for key, value in loaded.items() if not key.startswith("_fc.")]
    trunk = network.trunk.state_dict()
    if [value.shape for value in trunk.values()] != [value.shape for value in values]:
        raise ValueError(f"{state} does not hold the weights of this trunk")
    network.trunk.load_state_dict(dict(zip(trunk, values, strict=True)))


GRADERS: Mapping[str, Callable[[], Grader]] = {
    "efficientnet_lite0": efficientnet_lite,
    "efficientnet_lite2": partial(efficientnet_lite, width=1.1, depth=1.2),
    "densenet121": densenet121,
}
