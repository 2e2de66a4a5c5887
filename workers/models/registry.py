"""
The model registry: model cards, their weights verified against them, and models loaded from both.

A card is a TOML file. The shipped ones lie in workers/models/cards, a site's own in the folder `models` of its
storage. A card holds all that results have to state of a model, and how it is run. A model whose files are not
exactly those of its card is not loaded.
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
"""The folders of the shipped cards and their files."""

DETECTOR = "finder"
"""The card of the network that detects the joints on a film."""
REFINER = "look"
"""The card of the network that refines a joint's box, classifies its kind and localises its landmarks."""
ORIENTATION = "upright"
"""The card of the network that classifies polarity and side of a joint."""
ARTEFACTS = "marks"
"""The card of the network that segments the artefacts beside the bones."""
LEAD_MARKERS = "letters"
"""The card of the network that classifies lead letters."""

DEFAULT = "kl-lite2"
"""The card of the grader that is active until another is promoted."""


@dataclass(frozen=True)
class ModelFile:
    """A file that a card names and its SHA-256; `prefix` is prepended to the names of its tensors."""

    name: str
    sha256: str
    prefix: str = ""


@dataclass(frozen=True)
class Card:
    """
    A model card. `stem` is the name of its file, by which settings and commands name it; `sha256` is the file's hash.

    `contents` is the whole card as parsed from TOML: data, attribution, metrics, known failures.
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
    contents: dict[str, Any]

    @property
    def identity(self) -> ModelIdentity:
        return ModelIdentity(self.name, self.version, self.weights_sha256)

    @property
    def sees_both_sides(self) -> bool:
        """Whether the model itself averages over each knee and its mirror image, whatever the stated side."""
        return " from both sides" in self.architecture

    @property
    def unlike(self) -> float:
        """The distance to the training knees beyond which a joint is not graded; infinite if the card has none."""
        return self.thresholds.get("unlike", math.inf)

    @property
    def weights_sha256(self) -> str:
        """The hash of the weights; of several files, the hash of their hashes in the card's order."""
        if len(self.weights) == 1:
            return self.weights[0].sha256
        return hashlib.sha256("".join(file.sha256 for file in self.weights).encode()).hexdigest()


@dataclass(frozen=True)
class Model:
    """A loaded model: its card, and the engine that runs it."""

    card: Card
    run: Engine


def folders(settings: Settings) -> tuple[Path, ...]:
    """The folders of a node's cards and their files: the site's own, then the shipped ones."""
    return (settings.storage.folder / "models", *SHIPPED)


@contextmanager
def _readable() -> Iterator[None]:
    """Raises SettingsError where a file or folder cannot be read."""
    try:
        yield
    except OSError as error:
        raise SettingsError(
            f"{error.filename} cannot be read: {error.strerror}", hint="let Genu's user read the models and their cards"
        ) from error


@_readable()
def card_names(within: Sequence[Path] = SHIPPED) -> list[str]:
    """The names of all cards, sorted."""
    # Not a glob: it skips what it may not read.
    paths = (path for folder in within if folder.is_dir() for path in folder.iterdir())
    return sorted({path.stem for path in paths if path.suffix == ".toml"})


@_readable()
def read_card(name: str, within: Sequence[Path] = SHIPPED) -> Card:
    """
    The card of that name: the stem of its file, which need not be the name of the model.

    Raises
    ------
    SettingsError
        If there is none or more than one, if it cannot be read, lacks a key or has a value of the wrong type or
        range, or if its model needs another version of the preprocessing.
    """
    paths = [path for folder in within if (path := folder / f"{name}.toml").is_file()]
    if not paths:
        known = ", ".join(card_names(within)) or "none"
        raise SettingsError(f"there is no model card {name!r}; there are: {known}", hint="see `genu models`")
    if len(paths) > 1:
        raise SettingsError(f"there are two cards {name!r}: {paths[0]} and {paths[1]}", hint="rename the site's own")
    try:
        return _parse_card(paths[0])
    except KeyError as error:
        raise SettingsError(
            f"{paths[0]} lacks the key {error.args[0]!r}", hint="compare it with other cards"
        ) from error
    except (TypeError, AttributeError, ValueError) as error:
        raise SettingsError(f"{paths[0]} is no valid card: {error}", hint="compare it with other cards") from error


def _parse_card(path: Path) -> Card:
    try:
        content = path.read_bytes()
        fields = tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not TOML: {error}", hint="correct the card, or remove it") from error
    if fields["preparation"] != PREPARATION:
        raise SettingsError(
            f"{path} needs preparation {fields['preparation']}, this Genu has preparation {PREPARATION}",
            hint="use the model's own Genu version, or make it again with `genu train` or `genu calibrate`",
        )
    weights = fields["weights"] if isinstance(fields["weights"], list) else [fields["weights"]]
    return Card(
        stem=path.stem,
        sha256=hashlib.sha256(content).hexdigest(),
        name=_typed(fields, "name", str),
        version=_typed(fields, "version", str),
        kind=_typed(fields, "kind", str),
        architecture=_typed(fields, "architecture", str),
        engine=_typed(fields, "engine", str),
        input_size=_typed(fields, "input_size", int),
        weights=tuple(_model_file(table) for table in weights),
        graph=_model_file(fields["graph"]),
        calibration=Calibration.from_card(fields.get("calibration", {})),
        heat_scale=number("heat_scale", fields.get("heat_scale", 1.0), "above 0", lambda value: value > 0),
        thresholds=_typed(fields, "thresholds", dict) if "thresholds" in fields else {},
        limits=AttentionLimits.from_card(fields.get("attention", {})),
        contents=fields,
    )


Kind = TypeVar("Kind", str, int, dict[str, float])


def _typed(fields: dict[str, Any], key: str, kind: type[Kind]) -> Kind:
    value = fields[key]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"{key} = {value!r} is no {kind.__name__}")
    return value


def _model_file(table: dict[str, Any]) -> ModelFile:
    prefix = _typed({"prefix": ""} | table, "prefix", str)
    return ModelFile(_typed(table, "file", str), _typed(table, "sha256", str), prefix)


def load(name: str, *, engine: str = "", threads: int = 0, within: Sequence[Path] = SHIPPED) -> Model:
    """
    The model of that name, verified and loaded; `engine` overrides the card's.

    Raises
    ------
    SettingsError
        Naming the file, the expected and the found hash if a file is not the one that the card describes.
    """
    card = read_card(name, within)
    engine = engine or card.engine
    open_engine = _opener(engine)
    folder = verified_folder(card, engine, within)
    try:
        return Model(card, open_engine(card, folder, threads))
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
"""From a card, the folder of its files and a number of threads to an engine."""


def _opener(engine: str) -> Opener:
    openers: dict[str, Opener] = {"openvino": _open_openvino, "torch": _open_torch}
    if engine not in openers:
        raise SettingsError(f"there is no engine {engine!r}; there are: {', '.join(openers)}")
    return openers[engine]


def _open_openvino(card: Card, folder: Path, threads: int) -> Engine:
    return OpenVinoEngine(folder / card.graph.name, threads=threads)


def _open_torch(card: Card, folder: Path, threads: int) -> Engine:
    weights = {folder / file.name: file.prefix for file in card.weights}
    return TorchEngine(card.architecture, weights, threads=threads)


@_readable()
def verified_folder(card: Card, engine: str = "", within: Sequence[Path] = SHIPPED) -> Path:
    """
    The folder that holds the model's files, each verified against the card's hash.

    All have to lie in one folder, because a graph loads its weights from its own. The graph is needed only by an
    engine that reads it. Raises SettingsError if a file is missing, cannot be read or is not that of the card.
    """
    files = card.weights if (engine or card.engine) == "torch" else (*card.weights, card.graph)
    complete = [folder for folder in within if all((folder / file.name).is_file() for file in files)]
    if not complete:
        raise _not_found(card, files, within)
    faults = []
    for folder in complete:
        fault = _fault(folder, files)
        if not fault:
            return folder
        faults.append(fault)
    raise SettingsError(faults[0], hint="restore the file; a changed model is not used")


def _not_found(card: Card, files: Sequence[ModelFile], within: Sequence[Path]) -> SettingsError:
    searched = " or ".join(str(folder) for folder in within)
    for file in files:
        if not any((folder / file.name).is_file() for folder in within):
            return SettingsError(
                f"the model's file {file.name} is missing in {searched}", hint="install Genu again, or train the model"
            )
    names = ", ".join(file.name for file in files)
    return SettingsError(f"the files of the card {card.stem} ({names}) lie in different folders", hint="put all in one")


def _fault(folder: Path, files: Sequence[ModelFile]) -> str:
    """Why one of the files is not that of the card; "" if all are."""
    for file in files:
        path = folder / file.name
        try:
            with path.open("rb") as content:
                found = hashlib.file_digest(content, "sha256").hexdigest()
        except OSError as error:
            return f"the model's file {path} cannot be read: {error.strerror}"
        if found != file.sha256:
            return f"{path} is not the file that its card describes: expected sha256 {file.sha256}, found {found}"
    return ""
