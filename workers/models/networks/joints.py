"""The networks before the grader: joint detection, refinement (kind, box, landmarks), polarity and side."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from workers.models.labels import JOINT_KINDS
from workers.models.networks.layers import InvertedResidual, convolution

LANDMARKS = 16


class JointDetector(nn.Module):
    """
    Detects the knee joints on a whole film: a heat map of centres, with a size and an offset at each.

    (n, 1, side, side) to (n, 4, side / 8, side / 8): logit of a centre, log of the box's side in cells, and the
    centre's offset right of and below the middle of its cell (Zhou et al. 2019, "Objects as Points").
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            convolution(1, 16, 3, 2), convolution(16, 32, 3, 2), convolution(32, 32, 3), convolution(32, width, 3, 2)
        )
        # Growing dilation gives every cell the whole film as context: the leg distinguishes a knee from a look-alike.
        self.blocks = nn.ModuleList(DilatedBlock(width, dilation) for dilation in (1, 2, 4, 8, 4, 2, 1))
        self.head = nn.Conv2d(width, 4, 1)
        bias = self.head.bias
        assert bias is not None
        nn.init.constant_(bias, 0.0)
        with torch.no_grad():
            bias[0] = -4.0  # centres are rare

    def forward(self, films: Tensor) -> tuple[Tensor]:
        out = self.stem(films)
        for block in self.blocks:
            out = block(out)
        return (self.head(out),)


class DilatedBlock(nn.Module):
    """A residual 3 x 3 convolution with `dilation`, to which a projection of the film's mean is added."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.filter = nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.whole = nn.Linear(width, width)

    def forward(self, images: Tensor) -> Tensor:
        whole = self.whole(images.mean((2, 3)))[:, :, None, None]
        return images + functional.relu(self.norm(self.filter(images)) + whole)


class JointRefiner(nn.Module):
    """
    Refines one joint: (n, 1, side, side) to its kind, its box and its landmarks.

    Returns logits (n, 8) of workers.models.labels.JOINT_KINDS; (n, 3) the offset of the box's middle right of and
    below the view's, and the log of its side, all in sides of the box that the view was cut about; landmarks
    (n, 16, 3), x and y from 0 at the view's left and top to 1, each the mean of a heat map (Nibali et al. 2018), and
    the map's standard deviation.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(convolution(1, 24, 3, 2), InvertedResidual(24, 32, 3, 3, 2, False))
        stages = ((32, 32, 3, 1, 1), (32, 64, 5, 2, 3), (64, 112, 5, 2, 4), (112, 192, 5, 2, 2))
        self.stages = nn.ModuleList(_stage(*stage) for stage in stages)
        widths = (32, 64, 112, 192)
        self.lateral = nn.ModuleList(nn.Conv2d(width, 48, 1) for width in widths)
        self.smooth = nn.Sequential(InvertedResidual(48, 48, 2, 5, 1, False), InvertedResidual(48, 48, 2, 5, 1, False))
        self.heat = nn.Conv2d(48, LANDMARKS, 1)
        # The head of the kinds; the weights' files name it so.
        self.add_module("gate", nn.Sequential(nn.Dropout(0.2), nn.Linear(sum(widths), len(JOINT_KINDS))))
        self.box = nn.Sequential(
            nn.AdaptiveAvgPool2d(5), nn.Conv2d(192, 48, 1), nn.ReLU(), nn.Flatten(), nn.Linear(1200, 3)
        )

    def forward(self, views: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        depths = []
        out = self.stem(views)
        for stage in self.stages:
            out = stage(out)
            depths.append(out)
        kinds = self.get_submodule("gate")(torch.cat([depth.mean((2, 3)) for depth in depths], 1))
        merged = self.lateral[-1](depths[-1])
        for level in range(len(depths) - 2, -1, -1):
            merged = functional.interpolate(merged, scale_factor=2.0, mode="bilinear", align_corners=False)
            merged = merged + self.lateral[level](depths[level])
        return kinds, self.box(depths[-1]), spatial_mean(self.heat(self.smooth(merged)))


def spatial_mean(heat: Tensor) -> Tensor:
    """(n, k, rows, columns) of logits to (n, k, 3): mean x and y, from 0 to 1, and the standard deviation."""
    n, k, rows, columns = heat.shape
    probability = heat.reshape(n, k, rows * columns).softmax(-1).reshape(n, k, rows, columns)
    x = (torch.arange(columns, device=heat.device, dtype=probability.dtype) + 0.5) / columns
    y = (torch.arange(rows, device=heat.device, dtype=probability.dtype) + 0.5) / rows
    by_column, by_row = probability.sum(2), probability.sum(3)
    mean_x, mean_y = (by_column * x).sum(-1), (by_row * y).sum(-1)
    variance = (by_column * x**2).sum(-1) - mean_x**2 + (by_row * y**2).sum(-1) - mean_y**2
    return torch.stack([mean_x, mean_y, variance.clamp(min=0).sqrt()], -1)


def _stage(channels_in: int, channels_out: int, kernel: int, stride: int, blocks: int) -> nn.Sequential:
    first = InvertedResidual(channels_in, channels_out, 4, kernel, stride, False)
    others = (InvertedResidual(channels_out, channels_out, 4, kernel, 1, False) for _ in range(blocks - 1))
    return nn.Sequential(first, *others)


class OrientationClassifier(nn.Module):
    """
    Polarity and side of a crop of one joint: (n, 1, 96, 96) to logits (n, 2), of dark bones and of a left knee.

    The fibula, which is lateral, shows the side.
    """

    def __init__(self) -> None:
        super().__init__()
        widths = (1, 24, 48, 96, 128)
        layers = [convolution(widths[0], widths[1], 3, 2)]
        for narrow, wide in pairwise(widths[1:]):
            layers += [convolution(narrow, wide, 3, 2), convolution(wide, wide, 3)]
        self.trunk = nn.Sequential(*layers)
        self.head = nn.Linear(widths[-1], 2)

    def forward(self, knees: Tensor) -> tuple[Tensor]:
        return (self.head(self.trunk(knees).mean((2, 3))),)
