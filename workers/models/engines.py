"""
What computes a network's forward pass: OpenVINO on a CPU, torch on a GPU or as the reference.

An engine takes prepared knees, (n, 3, size, size) float32, and gives logits (n, 5) and signed maps
(n, 5, rows, columns), both float32, so that mean(map) + bias = logit; of an ensemble also logits by view
(n, views, 5), and of one that tells how familiar a knee is the distances (n,).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]


class Engine(Protocol):
    """Something that runs a loaded network."""

    name: str

    def __call__(self, images: Array) -> tuple[Array, ...]: ...


class OpenVinoEngine:
    """The exported graph on the CPU, in fp32: the fastest that was measured at equal output."""

    name = "openvino"

    def __init__(self, graph: Path, *, threads: int = 0) -> None:
        import openvino

        core = openvino.Core()
        # fp32 and no accuracy-for-speed trade: the answer must be the one that was evaluated.
        config = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        if threads:
            config["INFERENCE_NUM_THREADS"] = str(threads)
        self._compiled = core.compile_model(core.read_model(graph), "CPU", config)

    def __call__(self, images: Array) -> tuple[Array, ...]:
        answer = self._compiled(images)
        return tuple(np.array(answer[port]) for port in self._compiled.outputs)


class TorchEngine:
    """The network as it was trained: bf16 on a GPU, fp32 on a CPU."""

    name = "torch"

    def __init__(self, architecture: str, weights: Mapping[Path, str], *, threads: int = 0) -> None:
        """`weights` are files, each with what stands before its tensors' names in the network; "" for nothing."""
        import torch
        from safetensors.torch import load_file

        from workers.models.networks import build

        if threads:
            torch.set_num_threads(threads)
        self._torch = torch
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        network = build(architecture)
        network.load_state_dict(
            {prefix + key: held for path, prefix in weights.items() for key, held in load_file(path).items()}
        )
        self.network = network.eval().to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def __call__(self, images: Array) -> tuple[Array, ...]:
        torch = self._torch
        given = torch.from_numpy(images).to(self._device, memory_format=torch.channels_last)
        with torch.inference_mode(), torch.autocast(self._device, torch.bfloat16, enabled=self._device == "cuda"):
            answer = self.network(given)
        return tuple(part.float().cpu().numpy() for part in answer)
