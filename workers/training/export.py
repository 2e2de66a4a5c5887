"""
A trained network to the files that are shipped: weights (safetensors) and graph (ONNX).

The graph holds no weights of its own: its initializers point into the safetensors files by offset, so
that torch and the CPU engine read the very same bytes, and the same hash stands for the model.
"""

import hashlib
import json
import struct
from collections.abc import Mapping
from pathlib import Path

import onnx
import torch
from safetensors.torch import save_file
from torch import nn


def export(network: nn.Module, example: torch.Tensor, folder: Path, name: str) -> dict[str, dict[str, str]]:
    """
    Write folder/name.safetensors and folder/name.onnx; return both names and hashes for the card.

    `example` (1, channels, size, size) gives the input's shape; the graph takes any number of images.
    """
    weights = folder / f"{name}.safetensors"
    save(network, weights)
    return {"weights": named(weights), "graph": export_graph(network, example, {weights: ""}, folder / f"{name}.onnx")}


def save(network: nn.Module, path: Path) -> None:
    """Write the weights of a network."""
    path.parent.mkdir(parents=True, exist_ok=True)
    network.to("cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    save_file({key: value.contiguous() for key, value in network.state_dict().items()}, path)


def export_graph(network: nn.Module, example: torch.Tensor, weights: Mapping[Path, str], path: Path) -> dict[str, str]:
    """
    Write the graph of a network whose parameters lie in the files `weights`; its name and hash for the card.

    Each file comes with what stands before its tensors' names in the network; several may share a prefix.
    """
    program = torch.onnx.export(
        network.eval(),
        (example,),
        dynamo=True,
        optimize=False,  # keeps the initializers under the names that they have in the weights
        input_names=["images"],
        dynamic_shapes=({0: torch.export.Dim("n")},),
        verbose=False,
    )
    assert program is not None  # it is only where the older exporter writes a file itself
    model = program.model_proto
    places = {prefix + key: place for file, prefix in weights.items() for key, place in _places(file).items()}
    for tensor in model.graph.initializer:
        if tensor.name not in places or tensor.data_type != onnx.TensorProto.FLOAT:
            continue
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in places[tensor.name].items():
            tensor.external_data.add(key=key, value=str(value))
    _forget_origins(model)
    onnx.save(model, path)
    return named(path)


def _places(path: Path) -> dict[str, dict[str, str | int]]:
    """Where each tensor's bytes lie, in the words of ONNX."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        entries = json.loads(file.read(length))
    spans = {key: entry["data_offsets"] for key, entry in entries.items() if key != "__metadata__"}
    return {
        key: {"location": path.name, "offset": 8 + length + start, "length": end - start}
        for key, (start, end) in spans.items()
    }


def _forget_origins(model: onnx.ModelProto) -> None:
    """Leave out what the exporter notes of source files and stacks: paths of the machine that it ran on."""
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    for value in [*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer]:
        value.doc_string = ""
        del value.metadata_props[:]
    for function in model.functions:
        del function.metadata_props[:]


def named(path: Path) -> dict[str, str]:
    """A file as a card names it."""
    return {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
