"""
The inference engines: OpenVINO on a CPU, torch on a GPU or as the reference.

Of a grader an engine takes preprocessed knees, (n, 3, size, size) float32, and returns logits (n, 5) and signed maps
(n, 5, rows, columns), both float32, so that mean(map) + bias = logit; of a mirrored grader also logits by view
(n, 2, 5), and with a feature distance also the distances (n,).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]


class Engine(Protocol):
    """A loaded network: from a batch of images to the network's outputs."""

    name: str

    def __call__(self, images: Array) -> tuple[Array, ...]: ...


class OpenVinoEngine:
    """The exported graph on the CPU, in fp32: the fastest engine measured at equal output."""

    name = "openvino"

    def __init__(self, graph: Path, *, threads: int = 0) -> None:
        import openvino

        core = openvino.Core()
        # fp32, no accuracy traded for speed: the output must be the one that was evaluated.
        config = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        if threads:
            config["INFERENCE_NUM_THREADS"] = str(threads)
        self._compiled = core.compile_model(core.read_model(graph), "CPU", config)

    def __call__(self, images: Array) -> tuple[Array, ...]:
        outputs = self._compiled(images)
        return tuple(np.array(outputs[port]) for port in self._compiled.outputs)


class TorchEngine:
    """The network as it was trained: bf16 on a GPU, fp32 on a CPU."""

    name = "torch"

    def __init__(self, architecture: str, weights: Mapping[Path, str], *, threads: int = 0) -> None:
        """`weights` are files, each with the prefix of its tensors' names in the network."""
        import torch
        from safetensors.torch import load_file

        from workers.models.networks import build

        if threads:
            torch.set_num_threads(threads)
        self._torch = torch
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        network = build(architecture)
        network.load_state_dict(
            {prefix + key: tensor for path, prefix in weights.items() for key, tensor in load_file(path).items()}
        )
        self.network = network.eval().to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def __call__(self, images: Array) -> tuple[Array, ...]:
        torch = self._torch
        batch = torch.from_numpy(images).to(self._device, memory_format=torch.channels_last)
        with torch.inference_mode(), torch.autocast(self._device, torch.bfloat16, enabled=self._device == "cuda"):
            outputs = self.network(batch)
        return tuple(output.float().cpu().numpy() for output in outputs)
