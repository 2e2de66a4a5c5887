"""
Which models there are, and one of them loaded: a card, its weights checked against the card, an engine.

A card is a TOML file: shipped ones stand in workers/models/cards, a site's own in the folder `models` of its
storage. It names everything that a result has to carry, and says how the model is run. A model that is
not exactly what its card says is not loaded.
"""

import hashlib
import math
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from node.errors import SettingsError
from node.finding import ModelIdentity
from node.settings import Settings
from workers.models.calibration import AttentionLimits, Calibration, number
from workers.models.engines import Engine, OpenVinoEngine, TorchEngine
from workers.preprocessing import PREPARATION

CARDS = Path(__file__).parent / "cards"
WEIGHTS = Path(__file__).parent / "weights"
SHIPPED = (CARDS, WEIGHTS)
"""The folders that cards and their files are looked for in, where no site has its own."""

DETECTOR = "finder"
"""The card of the network that finds the joints."""
REFINER = "look"
"""The card of the network that looks at each joint."""
ORIENTATION = "upright"
"""The card of the network that tells how a joint hangs."""
ARTEFACTS = "marks"
"""The card of the network that names what lies beside the bones."""
LEAD_MARKERS = "letters"
"""The card of the network that reads lead letters."""

DEFAULT = "kl-lite2"
"""The card of the model that answers until another is promoted."""


@dataclass(frozen=True)
class ModelFile:
    """A file that a card names, and what it must hash to; `prefix` is put before the names of its tensors."""

    name: str
    sha256: str
    prefix: str = ""


@dataclass(frozen=True)
class Card:
    """
    What a model is. `told` is the whole card, for people: data, attribution, metrics, known failures.

    `stem` is what the settings and the command line call it: the name of its file, and `sha256` the hash of that.
    """

    stem: str
    sha256: str
    name: str
    version: str
    kind: str
    architecture: str
    engine: str
    input_size: int
    weights: tuple[ModelFile, ...]
    graph: ModelFile
    calibration: Calibration
    heat_scale: float
    thresholds: dict[str, float]
    limits: AttentionLimits
    told: dict[str, Any]

    @property
    def identity(self) -> ModelIdentity:
        return ModelIdentity(self.name, self.version, self.weights_sha256)

    @property
    def sees_both_sides(self) -> bool:
        """Whether the model looks at each knee and at its mirror image by itself, whatever its side is said to be."""
        return " from both sides" in self.architecture

    @property
    def unlike(self) -> float:
        """From which distance to the knees of its training on a joint is not graded; infinite if it tells none."""
        return self.thresholds.get("unlike", math.inf)

    @property
    def weights_sha256(self) -> str:
        """The hash of the weights; of several files, the hash of their hashes in the card's order."""
        if len(self.weights) == 1:
            return self.weights[0].sha256
        return hashlib.sha256("".join(file.sha256 for file in self.weights).encode()).hexdigest()


@dataclass(frozen=True)
class Model:
    """A model that is ready to answer."""

    card: Card
    run: Engine


def folders(settings: Settings) -> tuple[Path, ...]:
    """Where the models of a node are: the site's own folder, then what is shipped."""
    return (settings.storage.folder / "models", *SHIPPED)


@contextmanager
def _told() -> Iterator[None]:
    """A folder or a file that the system does not let us read is told as such."""
    try:
        yield
    except OSError as error:
        raise SettingsError(
            f"{error.filename} cannot be read: {error.strerror}", hint="let Genu's user read the models and their cards"
        ) from error


@_told()
def names(within: Sequence[Path] = SHIPPED) -> list[str]:
    """The names of all cards."""
    listed = (path for folder in within if folder.is_dir() for path in folder.iterdir())  # a glob hides what it may not
    return sorted({path.stem for path in listed if path.suffix == ".toml"})


@_told()
def read_card(name: str, within: Sequence[Path] = SHIPPED) -> Card:
    """
    The card of that name: the stem of its file, which need not be the name of the model.

    Raises
    ------
    SettingsError
        If there is none or more than one, or it cannot be read, lacks something or says it in another kind than it
        has to be, or its model expects its knees prepared otherwise.
    """
    found = [path for folder in within if (path := folder / f"{name}.toml").is_file()]
    if not found:
        known = ", ".join(names(within)) or "none"
        raise SettingsError(f"there is no model card {name!r}; there are: {known}", hint="see `genu models`")
    if len(found) > 1:
        raise SettingsError(f"there are two cards {name!r}: {found[0]} and {found[1]}", hint="rename the site's own")
    try:
        return _card(found[0])
    except KeyError as error:
        raise SettingsError(f"{found[0]} does not say {error.args[0]!r}", hint="compare it with other cards") from error
    except (TypeError, AttributeError, ValueError) as error:
        raise SettingsError(f"{found[0]} is no card: {error}", hint="compare it with other cards") from error


def _card(path: Path) -> Card:
    try:
        content = path.read_bytes()
        told = tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not TOML: {error}", hint="mend the card, or remove it") from error
    if told["preparation"] != PREPARATION:
        raise SettingsError(
            f"{path} needs preparation {told['preparation']}, this Genu prepares by {PREPARATION}",
            hint="use the model's own Genu version, or make it again with `genu train` or `genu calibrate`",
        )
    weights = told["weights"] if isinstance(told["weights"], list) else [told["weights"]]
    return Card(
        stem=path.stem,
        sha256=hashlib.sha256(content).hexdigest(),
        name=_said(told, "name", str),
        version=_said(told, "version", str),
        kind=_said(told, "kind", str),
        architecture=_said(told, "architecture", str),
        engine=_said(told, "engine", str),
        input_size=_said(told, "input_size", int),
        weights=tuple(_file(each) for each in weights),
        graph=_file(told["graph"]),
        calibration=Calibration.from_card(told.get("calibration", {})),
        heat_scale=number("heat_scale", told.get("heat_scale", 1.0), "above 0", lambda value: value > 0),
        thresholds=_said(told, "thresholds", dict) if "thresholds" in told else {},
        limits=AttentionLimits.from_card(told.get("attention", {})),
        told=told,
    )


Kind = TypeVar("Kind", str, int, dict[str, float])


def _said(told: dict[str, Any], key: str, kind: type[Kind]) -> Kind:
    value = told[key]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"{key} = {value!r} is no {kind.__name__}")
    return value


def _file(told: dict[str, Any]) -> ModelFile:
    return ModelFile(_said(told, "file", str), _said(told, "sha256", str), _said({"prefix": ""} | told, "prefix", str))


def load(name: str, *, engine: str = "", threads: int = 0, within: Sequence[Path] = SHIPPED) -> Model:
    """
    The model of that name, checked and loaded; `engine` overrides the card's.

    Raises
    ------
    SettingsError
        Naming the file, the expected and the found hash if a file is not the one the card describes.
    """
    card = read_card(name, within)
    engine = engine or card.engine
    open_with = _opener(engine)
    home = verified(card, engine, within)
    try:
        return Model(card, open_with(card, home, threads))
    except ModuleNotFoundError as error:
        extra = "worker" if engine == "torch" else "worker-cpu"
        raise SettingsError(
            f"the engine {engine} needs {error.name}, which is not installed",
            hint=f"pip install 'genu[{extra}]', or set another engine in [work] or in the card",
        ) from error
    except Exception as error:
        why = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:200]}"
        raise SettingsError(
            f"the model {name} cannot be loaded by {engine}: {why}", hint="do its files fit its architecture?"
        ) from error


Opener = Callable[[Card, Path, int], Engine]
"""From a card, the folder of its files and a number of threads to what runs it."""


def _opener(name: str) -> Opener:
    engines: dict[str, Opener] = {"openvino": _open_vino, "torch": _torch}
    if name not in engines:
        raise SettingsError(f"there is no engine {name!r}; there are: {', '.join(engines)}")
    return engines[name]


def _open_vino(card: Card, home: Path, threads: int) -> Engine:
    return OpenVinoEngine(home / card.graph.name, threads=threads)


def _torch(card: Card, home: Path, threads: int) -> Engine:
    weights = {home / file.name: file.prefix for file in card.weights}
    return TorchEngine(card.architecture, weights, threads=threads)


@_told()
def verified(card: Card, engine: str = "", within: Sequence[Path] = SHIPPED) -> Path:
    """
    The folder that holds the model's files, each known to be the one that the card describes.

    All lie in one, for a graph finds its weights beside it. The graph is asked for where the engine reads it.
    """
    files = card.weights if (engine or card.engine) == "torch" else (*card.weights, card.graph)
    homes = [folder for folder in within if all((folder / file.name).is_file() for file in files)]
    if not homes:
        raise _not_found(card, files, within)
    faults = []
    for home in homes:
        fault = _fault(home, files)
        if not fault:
            return home
        faults.append(fault)
    raise SettingsError(faults[0], hint="restore the file; a model that was changed is not used")


def _not_found(card: Card, files: Sequence[ModelFile], within: Sequence[Path]) -> SettingsError:
    looked = " or ".join(str(folder) for folder in within)
    for file in files:
        if not any((folder / file.name).is_file() for folder in within):
            return SettingsError(
                f"the model's file {file.name} is missing in {looked}", hint="install Genu again, or train the model"
            )
    names = ", ".join(file.name for file in files)
    return SettingsError(f"the files of the card {card.stem} ({names}) lie in different folders", hint="put all in one")


def _fault(home: Path, files: Sequence[ModelFile]) -> str:
    """Which of the files is not the one that the card describes; "" if all are."""
    for file in files:
        path = home / file.name
        try:
            with path.open("rb") as content:
                found = hashlib.file_digest(content, "sha256").hexdigest()
        except OSError as error:
            return f"the model's file {path} cannot be read: {error.strerror}"
        if found != file.sha256:
            return f"{path} is not the file that its card describes: expected sha256 {file.sha256}, found {found}"
    return ""
