"""The network that classifies lead letters."""

from torch import Tensor, nn

from workers.models.labels import LEAD_LETTERS
from workers.models.networks.layers import convolution

SIDE = 32
"""The side of its input, in pixels."""


class LeadMarkerClassifier(nn.Module):
    """(n, 1, SIDE, SIDE) of possible letters to logits (n, 3) of workers.models.labels.LEAD_LETTERS."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            convolution(1, 16, 3),
            convolution(16, 24, 3, 2),
            convolution(24, 24, 3),
            convolution(24, 40, 3, 2),
            convolution(40, 40, 3),
            convolution(40, 12, 1),
        )
        self.head = nn.Sequential(nn.Flatten(), nn.Dropout(0.2), nn.Linear(12 * (SIDE // 4) ** 2, len(LEAD_LETTERS)))

    def forward(self, patches: Tensor) -> tuple[Tensor]:
        return (self.head(self.trunk(patches)),)
