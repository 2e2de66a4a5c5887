"""Steps of a training: mixup, loss, gradient step, and the moving average of the weights."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import pairwise
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from workers.models.networks import Grader


def soft_labels(sigma: float) -> npt.NDArray[np.float32]:
    """Row y is the target of grade y: a Gaussian over the grades, because KL 1 is nearer to 2 than to 4."""
    grades = np.arange(5)
    weights = np.exp(-((grades[:, None] - grades) ** 2) / (2 * sigma**2))
    return np.asarray(weights / weights.sum(1, keepdims=True), np.float32)


def in_bf16(device: str) -> torch.autocast:
    """bfloat16 where the hardware has it; a processor that emulates it takes five times as long."""
    emulated = device == "cpu" and not torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    return torch.autocast(device, torch.bfloat16, enabled=not emulated)


def keep_slow_kernels_in_fp32(network: nn.Module) -> None:
    """
    Keep the depthwise convolutions that are wide or strided in fp32 while all else runs in bf16.

    On a CPU their backward pass in bf16 takes up to eighteen times as long as in fp32, and all others half
    as long: a step of EfficientNet-Lite0 (32 knees, 224 pixels, 2 cores) took 1.7 s in bf16, 1.2 s in fp32
    and 0.85 s so.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d) and layer.groups > 1 and (layer.kernel_size[0] > 3 or layer.stride[0] > 1):
            layer.forward = partial(_in_fp32, layer)  # type: ignore[method-assign]


def _in_fp32(layer: nn.Conv2d, images: torch.Tensor) -> torch.Tensor:
    dtype = images.dtype
    with torch.autocast("cpu", enabled=False):
        return nn.Conv2d.forward(layer, images.float()).to(dtype)


def fold_batch_norm(network: nn.Module) -> None:
    """
    Fold each batch normalisation, with fixed statistics, into the convolution before it at every pass.

    The parameters stay as they are, so that the network is saved and averaged as before; a step takes half the time.
    """
    for block in network.modules():
        for layer, norm in pairwise(block.children()):
            if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                layer.forward = partial(_folded, layer, norm)  # type: ignore[method-assign]
                norm.forward = nn.Identity().forward  # type: ignore[method-assign]


def _folded(layer: nn.Conv2d, norm: nn.BatchNorm2d, images: torch.Tensor) -> torch.Tensor:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    weight, bias = layer.weight * scale[:, None, None, None], norm.bias - norm.running_mean * scale
    return functional.conv2d(images, weight, bias, layer.stride, layer.padding, layer.dilation, layer.groups)


def mixup(
    images: torch.Tensor, targets: torch.Tensor, alpha: float, random: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mixup (Zhang et al. 2018) of the batch with its reverse, images and targets; with an alpha of 0 unchanged."""
    if not alpha:
        return images, targets
    part = float(random.beta(alpha, alpha))
    return images * part + images.flip(0) * (1 - part), targets * part + targets.flip(0) * (1 - part)


def training_step(
    network: Grader, optimizer: torch.optim.Optimizer, images: torch.Tensor, targets: torch.Tensor, ordinal: float
) -> float:
    """A step on cross-entropy plus `ordinal` times the squared distance of the cumulated probabilities; the loss."""
    with in_bf16(images.device.type):
        logits, _ = network(images)
    loss = functional.cross_entropy(logits.float(), targets)
    if ordinal:
        beyond = (logits.float().softmax(1) - targets).cumsum(1)
        loss = loss + ordinal * (beyond**2).sum(1).mean()
    return apply_gradients(loss, optimizer, network)


def apply_gradients(loss: torch.Tensor, optimizer: torch.optim.Optimizer, *clipped: nn.Module) -> float:
    """One step of the optimizer down the gradient of `loss`, whose norm is at most 5 in each `clipped` network."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    for network in clipped:
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
    optimizer.step()
    return float(loss.detach())


class SmallRecipe(Protocol):
    """What the recipes of the small networks have in common."""

    @property
    def steps(self) -> int: ...

    @property
    def learning_rate(self) -> float: ...


def train_small_network(
    network: nn.Module,
    recipe: SmallRecipe,
    batches: Iterable[tuple[torch.Tensor, torch.Tensor]],
    loss_of: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    *,
    on_step: Callable[[int, float], None],
    weight_decay: float = 0.01,
) -> None:
    """Train a small network with AdamW and a one-cycle rate; `loss_of` compares its first output with the truth."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.learning_rate, recipe.steps)
    network.train()
    for step, (views, truth) in enumerate(batches, start=1):
        loss = loss_of(network(views)[0], truth)
        value = apply_gradients(loss, optimizer)
        schedule.step()
        on_step(step, value)


def size_at(sizes: Sequence[tuple[int, int]], at: int) -> int:
    """The pixels of epoch or step `at`, counted from 0, where `sizes` are (how many, pixels) in turn."""
    for many, pixels in sizes:
        if at < many:
            return pixels
        at -= many
    return sizes[-1][1]


@torch.no_grad()
def update_average(averaged: nn.Module, network: nn.Module, decay: float) -> None:
    """
    Exponential moving average of weights and batch statistics (Polyak & Juditsky 1992).

    Not torch's AveragedModel: its decay is fixed, its first update copies the weights, and its keys begin with
    "module.", so that neither results nor checkpoints would stay as they are.
    """
    for mean, now in zip(averaged.state_dict().values(), network.state_dict().values(), strict=True):
        mean.lerp_(now, 1 - decay) if mean.is_floating_point() else mean.copy_(now)
