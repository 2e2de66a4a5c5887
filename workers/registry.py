"""
Which models there are, and one of them loaded: a card, its weights checked against the card, an engine.

A card is a TOML file in workers/cards. It names everything that a result has to carry, and says how the
model is run. A model that is not exactly what its card says is not loaded.
"""

import hashlib
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from node.errors import SettingsError
from node.finding import ModelIdentity
from node.settings import Settings
from workers.engines import Engine, OpenVinoEngine, TorchEngine
from workers.prepare import PREPARATION

CARDS = Path(__file__).parent / "cards"
WEIGHTS = Path(__file__).parent / "weights"

FINDER = "finder"
"""The card of the network that finds the joints."""


@dataclass(frozen=True)
class Card:
    """What a model is. `told` is the whole card, for people: data, attribution, metrics, known failures."""

    name: str
    version: str
    kind: str
    architecture: str
    engine: str
    input_size: int
    weights: str
    weights_sha256: str
    graph: str
    graph_sha256: str
    temperature: float
    heat_scale: float
    thresholds: dict[str, float]
    told: dict[str, Any]

    @property
    def identity(self) -> ModelIdentity:
        return ModelIdentity(self.name, self.version, self.weights_sha256)


@dataclass(frozen=True)
class Model:
    """A model that is ready to answer."""

    card: Card
    run: Engine


def names(folder: Path = CARDS) -> list[str]:
    """The names of all cards."""
    return sorted(path.stem for path in folder.glob("*.toml"))


def read_card(name: str, folder: Path = CARDS) -> Card:
    """
    The card of that name.

    Raises
    ------
    SettingsError
        If there is none, or it lacks something, or its model expects its knees prepared otherwise.
    """
    path = folder / f"{name}.toml"
    if not path.is_file():
        known = ", ".join(names(folder)) or "none"
        raise SettingsError(f"there is no model card {name!r}; there are: {known}", hint="set [work] model")
    told = tomllib.loads(path.read_text(encoding="utf-8"))
    try:
        if told["preparation"] != PREPARATION:
            raise SettingsError(
                f"{path} needs preparation {told['preparation']}, this Genu prepares by {PREPARATION}",
                hint="use the model's own Genu version, or train it again with `genu train`",
            )
        return Card(
            name=told["name"],
            version=told["version"],
            kind=told["kind"],
            architecture=told["architecture"],
            engine=told["engine"],
            input_size=told["input_size"],
            weights=told["weights"]["file"],
            weights_sha256=told["weights"]["sha256"],
            graph=told["graph"]["file"],
            graph_sha256=told["graph"]["sha256"],
            temperature=told.get("temperature", 1.0),
            heat_scale=told.get("heat_scale", 1.0),
            thresholds=told.get("thresholds", {}),
            told=told,
        )
    except KeyError as error:
        raise SettingsError(f"{path} does not say {error.args[0]!r}", hint="compare it with the other cards") from error


def load(name: str, *, engine: str = "", threads: int = 0, folder: Path = CARDS, weights: Path = WEIGHTS) -> Model:
    """
    The model of that name, checked and loaded; `engine` overrides the card's.

    Raises
    ------
    SettingsError
        Naming the file, the expected and the found hash if a file is not the one the card describes.
    """
    card = read_card(name, folder)
    _verify(weights / card.weights, card.weights_sha256)
    chosen = engine or card.engine
    return Model(card, _engine(chosen)(card, weights, threads))


def _engine(name: str) -> Callable[[Card, Path, int], Engine]:
    engines: dict[str, Callable[[Card, Path, int], Engine]] = {"openvino": _open_vino, "torch": _torch}
    if name not in engines:
        raise SettingsError(f"there is no engine {name!r}; there are: {', '.join(engines)}")
    return engines[name]


def _open_vino(card: Card, weights: Path, threads: int) -> Engine:
    _verify(weights / card.graph, card.graph_sha256)
    return OpenVinoEngine(weights / card.graph, threads=threads)


def _torch(card: Card, weights: Path, threads: int) -> Engine:
    try:
        return TorchEngine(card.architecture, weights / card.weights, threads=threads)
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"the engine torch needs {error.name}, which is not installed",
            hint="pip install 'genu[worker]', or set engine = \"openvino\" in the card",
        ) from error


def check(settings: Settings) -> str:
    """What `genu check` says of the models; raises what keeps a worker from starting."""
    work = settings.work
    loaded = [load(name, engine=work.engine, threads=work.threads) for name in (FINDER, work.model)]
    return ", ".join(f"{each.card.name} {each.card.version} on {each.run.name}" for each in loaded)


def _verify(path: Path, expected: str) -> None:
    if not path.is_file():
        raise SettingsError(f"the model's file {path} is missing", hint="install Genu again, or train the model")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise SettingsError(
            f"{path} is not the file that its card describes: expected sha256 {expected}, found {found}",
            hint="restore the file; a model that was changed is not used",
        )
