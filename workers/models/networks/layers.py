"""The layers that the networks are made of."""

from torch import Tensor, nn


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
