"""The network that segments the artefacts beside the bones."""

from torch import Tensor, nn
from torch.nn import functional

from workers.models.labels import ARTEFACT_KINDS
from workers.models.networks.layers import convolution


class ArtefactSegmenter(nn.Module):
    """
    (n, 1, side, side) to logits (n, 5, side / 2, side / 2) of workers.models.labels.ARTEFACT_KINDS.

    A narrow U-Net (Ronneberger et al. 2015) down to an eighth of the resolution; levels are merged by addition.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(convolution(1, 16, 3, 2), convolution(16, 16, 3))
        self.second = nn.Sequential(convolution(16, 32, 3, 2), convolution(32, 32, 3))
        self.fourth = nn.Sequential(convolution(32, 48, 3, 2), convolution(48, 48, 3))
        self.last = nn.Sequential(convolution(48, 64, 3, 2), convolution(64, 64, 3), convolution(64, 64, 3))
        self.lateral = nn.ModuleList(nn.Conv2d(width, 24, 1) for width in (16, 32, 48, 64))
        self.smooth = convolution(24, 24, 3)
        self.head = nn.Conv2d(24, len(ARTEFACT_KINDS), 1)

    def forward(self, joints: Tensor) -> tuple[Tensor]:
        depths = [self.stem(joints)]
        for stage in (self.second, self.fourth, self.last):
            depths.append(stage(depths[-1]))
        merged = self.lateral[-1](depths[-1])
        for level in range(len(depths) - 2, -1, -1):
            merged = functional.interpolate(merged, scale_factor=2.0, mode="bilinear", align_corners=False)
            merged = merged + self.lateral[level](depths[level])
        return (self.head(self.smooth(merged)),)
