"""How far a knee's features lie from those of the knees that a grader was trained on."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class FeatureDistance(nn.Module):
    """
    The Mahalanobis distance of a grader's mean features at several depths (Lee et al. 2018; Anthony & Kamnitsas 2023).

    Each depth has the mean (d,) of the training's knees and a matrix (d, d) that whitens them and makes the distance
    of the median knee 1. The answer (n,) is the mean over the depths; nothing of it changes a grade.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        for at, width in enumerate(widths):
            self.register_buffer(f"mean_{at}", torch.zeros(width))
            self.register_buffer(f"white_{at}", torch.eye(width))

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        far = [
            ((each - self.get_buffer(f"mean_{at}")) @ self.get_buffer(f"white_{at}")).square().sum(1).sqrt()
            for at, each in enumerate(features)
        ]
        return torch.stack(far).mean(0)
