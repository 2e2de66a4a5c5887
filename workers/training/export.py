"""
Export of a trained network to the files that are shipped: weights (safetensors) and graph (ONNX).

The graph contains no weights: its initializers refer to the safetensors files by offset, so that torch and the CPU
engine read the same bytes, and one hash identifies the model.
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
    save_weights(network, weights)
    return {
        "weights": file_entry(weights),
        "graph": export_graph(network, example, {weights: ""}, folder / f"{name}.onnx"),
    }


def save_weights(network: nn.Module, path: Path) -> None:
    """Write the weights of a network."""
    path.parent.mkdir(parents=True, exist_ok=True)
    network.to("cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    save_file({key: value.contiguous() for key, value in network.state_dict().items()}, path)


def export_graph(network: nn.Module, example: torch.Tensor, weights: Mapping[Path, str], path: Path) -> dict[str, str]:
    """
    Write the graph of a network whose parameters lie in the files `weights`; its name and hash for the card.

    `weights` maps each file to the prefix of its tensors' names in the network; several files may share one.
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
    assert program is not None  # only the older exporter returns None
    model = program.model_proto
    locations = {
        prefix + key: location for file, prefix in weights.items() for key, location in _tensor_locations(file).items()
    }
    for tensor in model.graph.initializer:
        if tensor.name not in locations or tensor.data_type != onnx.TensorProto.FLOAT:
            continue
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in locations[tensor.name].items():
            tensor.external_data.add(key=key, value=str(value))
    _strip_source_info(model)
    onnx.save(model, path)
    return file_entry(path)


def _tensor_locations(path: Path) -> dict[str, dict[str, str | int]]:
    """The location of each tensor's bytes, as the external data of ONNX."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        entries = json.loads(file.read(length))
    spans = {key: entry["data_offsets"] for key, entry in entries.items() if key != "__metadata__"}
    return {
        key: {"location": path.name, "offset": 8 + length + start, "length": end - start}
        for key, (start, end) in spans.items()
    }


def _strip_source_info(model: onnx.ModelProto) -> None:
    """Remove source files and stack traces that the exporter adds: paths of the machine that it ran on."""
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


def file_entry(path: Path) -> dict[str, str]:
    """A file's entry in a card: name and SHA-256."""
    return {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
