"""The layers that the networks are made of."""

from torch import Tensor, nn


class InvertedResidual(nn.Module):
    """Expand, filter each channel, project (Sandler et al. 2018), without squeeze-and-excitation."""

    def __init__(
        self, channels_in: int, channels_out: int, expand: int, kernel: int, stride: int, trailing: bool
    ) -> None:
        super().__init__()
        expanded = channels_in * expand
        self.expand = convolution(channels_in, expanded, 1) if expand > 1 else nn.Identity()
        self.filter = convolution(expanded, expanded, kernel, stride, groups=expanded, trailing=trailing)
        self.project = convolution(expanded, channels_out, 1, act=False)
        self.skip = stride == 1 and channels_in == channels_out

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.project(self.filter(self.expand(images)))
        return out + images if self.skip else out


def convolution(
    channels_in: int,
    channels_out: int,
    kernel: int,
    stride: int = 1,
    groups: int = 1,
    act: bool = True,
    trailing: bool = False,
) -> nn.Sequential:
    """
    A convolution with batch normalisation, and ReLU6 unless `act` is false.

    With stride 2 the window cannot be centred on the two pixels that it represents: it lies half a pixel before their
    centre (padding on both sides) or half a pixel after it (`trailing`, padding at the end).
    """
    pad = kernel // 2
    layers: list[nn.Module] = [nn.ZeroPad2d((pad - 1, pad, pad - 1, pad))] if trailing else []
    layers += [
        nn.Conv2d(channels_in, channels_out, kernel, stride, 0 if trailing else pad, groups=groups, bias=False),
        nn.BatchNorm2d(channels_out, eps=1e-3, momentum=0.01),
    ]
    return nn.Sequential(*layers, *([nn.ReLU6()] if act else []))
