"""The distance of a knee's features from those of the training knees, to detect what is out of distribution."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class FeatureDistance(nn.Module):
    """
    The Mahalanobis distance of a grader's mean features at several depths (Lee et al. 2018; Anthony & Kamnitsas 2023).

    Each depth has the mean (d,) of the training knees and a matrix (d, d) that whitens them and scales the distance
    of the median knee to 1. The output (n,) is the mean over the depths; it changes no grade.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        for depth, width in enumerate(widths):
            self.register_buffer(f"mean_{depth}", torch.zeros(width))
            self.register_buffer(f"white_{depth}", torch.eye(width))

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        distances = [
            ((layer - self.get_buffer(f"mean_{depth}")) @ self.get_buffer(f"white_{depth}")).square().sum(1).sqrt()
            for depth, layer in enumerate(features)
        ]
        return torch.stack(distances).mean(0)
