"""
A trained network to the two files that are shipped: weights (safetensors) and graph (ONNX).

The graph holds no weights of its own: its initializers point into the safetensors file by offset, so
that torch and the CPU engine read the very same bytes, and one hash stands for the model.
"""

import hashlib
import json
import struct
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
    folder.mkdir(parents=True, exist_ok=True)
    weights, graph = folder / f"{name}.safetensors", folder / f"{name}.onnx"
    network = network.eval().to("cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    save_file({key: value.contiguous() for key, value in network.state_dict().items()}, weights)
    _write_graph(network, example, weights, graph)
    return {"weights": _named(weights), "graph": _named(graph)}


def _write_graph(network: nn.Module, example: torch.Tensor, weights: Path, path: Path) -> None:
    program = torch.onnx.export(
        network,
        (example,),
        dynamo=True,
        optimize=False,  # keeps the initializers under the names that they have in the weights
        input_names=["images"],
        dynamic_shapes=({0: torch.export.Dim("n")},),
        verbose=False,
    )
    assert program is not None  # it is only where the older exporter writes a file itself
    model = program.model_proto
    begin, entries = _safetensors_index(weights)
    for tensor in model.graph.initializer:
        if tensor.name not in entries or tensor.data_type != onnx.TensorProto.FLOAT:
            continue
        start, end = entries[tensor.name]["data_offsets"]
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", weights.name), ("offset", begin + start), ("length", end - start)):
            tensor.external_data.add(key=key, value=str(value))
    _forget_origins(model)
    onnx.save(model, path)


def _safetensors_index(path: Path) -> tuple[int, dict[str, dict[str, list[int]]]]:
    """Where the tensors' bytes begin, and each tensor's place among them."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        return 8 + length, json.loads(file.read(length))


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


def _named(path: Path) -> dict[str, str]:
    return {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
