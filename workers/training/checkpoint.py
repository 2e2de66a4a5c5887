"""A training's standing on disk, so that one that was cut off goes on from where it was."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


class Kept(Protocol):
    """Networks, optimizers and schedules."""

    def state_dict(self) -> Any: ...

    def load_state_dict(self, state_dict: Any, /) -> Any: ...


def resume(path: Path, recipe: "DataclassInstance", parts: Mapping[str, Kept]) -> int:
    """
    Fill `parts` from the checkpoint, if there is one; how much was done, 0 if there is none.

    Raises ValueError if it belongs to another recipe.
    """
    if not path.exists():
        return 0
    kept = torch.load(path, map_location="cpu", weights_only=True)
    if kept["recipe"] != json.dumps(asdict(recipe)):
        raise ValueError(f"{path} belongs to another recipe; choose another folder or remove it")
    for name, part in parts.items():
        part.load_state_dict(kept[name])
    return int(kept["done"])


def keep(path: Path, recipe: "DataclassInstance", parts: Mapping[str, Kept], done: int) -> None:
    """Write the checkpoint; the one before stays until this one is whole."""
    kept = {"recipe": json.dumps(asdict(recipe)), "done": done}
    torch.save({**kept, **{name: part.state_dict() for name, part in parts.items()}}, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)
