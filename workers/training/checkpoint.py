"""Checkpoint of a training on disk, so that an interrupted training resumes where it was."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


class Stateful(Protocol):
    """Networks, optimizers and schedules."""

    def state_dict(self) -> Any: ...

    def load_state_dict(self, state_dict: Any, /) -> Any: ...


def load_checkpoint(path: Path, recipe: "DataclassInstance", stateful: Mapping[str, Stateful]) -> int:
    """
    Load the states of `stateful` from the checkpoint, if there is one; how much was done, 0 if there is none.

    Raises ValueError if it belongs to another recipe.
    """
    if not path.exists():
        return 0
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    if checkpoint["recipe"] != json.dumps(asdict(recipe)):
        raise ValueError(f"{path} belongs to another recipe; choose another folder or remove it")
    for name, one in stateful.items():
        one.load_state_dict(checkpoint[name])
    return int(checkpoint["done"])


def save_checkpoint(path: Path, recipe: "DataclassInstance", stateful: Mapping[str, Stateful], done: int) -> None:
    """Write the checkpoint by renaming a complete file, so that an interruption leaves the one before."""
    checkpoint = {"recipe": json.dumps(asdict(recipe)), "done": done}
    states = {name: one.state_dict() for name, one in stateful.items()}
    torch.save({**checkpoint, **states}, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)
