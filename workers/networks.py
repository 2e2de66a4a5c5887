"""
The networks that can grade a knee: a convolutional trunk, its pooled map and a linear head.

The head stays linear on a global average pool, so that the maps of all five grades come out of the
forward pass that gave the grade (Zhou et al. 2016, "Learning Deep Features for Discriminative
Localization"): logit_c = mean over the cells of map_c + bias_c, and Grad-CAM is relu(map_c) / cells.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

GRADES = 5


class Grader(nn.Module):
    """A trunk ending in a rectified map, and one weight for each of its channels and each grade."""

    def __init__(self, trunk: nn.Module, channels: int, dropout: float = 0.2) -> None:
        super().__init__()
        self.trunk = trunk
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(channels, GRADES)

    def features(self, images: Tensor) -> Tensor:
        """(n, 3, size, size) to the rectified map (n, channels, rows, columns)."""
        features: Tensor = self.trunk(images)
        return features

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(n, 3, size, size) to logits (n, 5) and signed maps (n, 5, rows, columns)."""
        features = self.features(images)
        logits = self.head(self.dropout(features.mean((2, 3))))
        return logits, functional.conv2d(features, self.head.weight[:, :, None, None])


class InvertedResidual(nn.Module):
    """Expand, filter each channel, project (Sandler et al. 2018), without squeeze-and-excitation."""

    def __init__(self, inside: int, outside: int, expand: int, kernel: int, stride: int, trailing: bool) -> None:
        super().__init__()
        middle = inside * expand
        self.expand = convolution(inside, middle, 1) if expand > 1 else nn.Identity()
        self.filter = convolution(middle, middle, kernel, stride, groups=middle, trailing=trailing)
        self.project = convolution(middle, outside, 1, act=False)
        self.skip = stride == 1 and inside == outside

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.project(self.filter(self.expand(images)))
        return out + images if self.skip else out


def convolution(
    inside: int, outside: int, kernel: int, stride: int = 1, groups: int = 1, act: bool = True, trailing: bool = False
) -> nn.Sequential:
    """
    A convolution with batch normalisation, and ReLU6 unless `act` is false.

    With stride 2 the window cannot lie in the middle of the two pixels that it stands for: it lies half
    a pixel before it (padding on both sides) or half a pixel behind it (`trailing`, padding at the end).
    """
    pad = kernel // 2
    layers: list[nn.Module] = [nn.ZeroPad2d((pad - 1, pad, pad - 1, pad))] if trailing else []
    layers += [
        nn.Conv2d(inside, outside, kernel, stride, 0 if trailing else pad, groups=groups, bias=False),
        nn.BatchNorm2d(outside, eps=1e-3, momentum=0.01),
    ]
    return nn.Sequential(*layers, *([nn.ReLU6()] if act else []))


LITE0_STAGES = (
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


def efficientnet_lite0() -> Grader:
    """
    EfficientNet-Lite0 (Tan & Le 2019, Lite edition 2020): no swish, no squeeze-and-excitation.

    The first four halvings trail, as in the original; the last does not. So the shifts of 0.5, 1, 2, 4
    and -8 pixels cancel out, and a cell of the map lies over the pixels that it stands for; in the
    original it lies half a cell (10 mm) beside them.
    """
    blocks: list[nn.Module] = [convolution(3, 32, 3, 2, trailing=True)]
    inside = 32
    for stage, (expand, outside, repeats, stride, kernel) in enumerate(LITE0_STAGES):
        for repeat in range(repeats):
            step = stride if repeat == 0 else 1
            blocks.append(InvertedResidual(inside, outside, expand, kernel, step, step == 2 and stage < LAST_HALVING))
            inside = outside
    blocks.append(convolution(inside, 1280, 1))
    return Grader(nn.Sequential(*blocks), 1280)


def densenet121() -> Grader:
    """DenseNet-121 (Huang et al. 2017); the last map is rectified, as torchvision's own forward does."""
    from torchvision.models import densenet121 as torchvision_densenet121

    return Grader(nn.Sequential(torchvision_densenet121(weights=None).features, nn.ReLU()), 1024)


class JointFinder(nn.Module):
    """
    Where on a whole film the knee joints are: a heat map of centres, and at each centre a size and a shift.

    (n, 1, 256, 256) to (n, 4, 32, 32): logit of a centre, log of the box's side in cells, and how far the
    centre lies right of and below the middle of its cell (Zhou et al. 2019, "Objects as Points").
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            convolution(1, 16, 3, 2), convolution(16, 32, 3, 2), convolution(32, 32, 3), convolution(32, width, 3, 2)
        )
        # Growing dilation lets every cell see the whole film: a knee is told from a look-alike by its leg.
        self.blocks = nn.ModuleList(DilatedBlock(width, dilation) for dilation in (1, 2, 4, 8, 2, 1))
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
    """A residual 3 x 3 convolution whose taps lie `dilation` cells apart, with the film's mean mixed in."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.filter = nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.whole = nn.Linear(width, width)

    def forward(self, images: Tensor) -> Tensor:
        whole = self.whole(images.mean((2, 3)))[:, :, None, None]
        return images + functional.relu(self.norm(self.filter(images)) + whole)


GRADERS: Mapping[str, Callable[[], Grader]] = {
    "efficientnet_lite0": efficientnet_lite0,
    "densenet121": densenet121,
}
ARCHITECTURES: Mapping[str, Callable[[], nn.Module]] = {**GRADERS, "joint_finder": JointFinder}


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
