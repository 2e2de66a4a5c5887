"""A model is what its card says, or it is not loaded."""

import errno
import hashlib
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tomlkit import dumps, parse

from node.errors import SettingsError
from workers.models.networks import build
from workers.models.registry import CARDS, WEIGHTS, Card, card_names, load, read_card
from workers.training.export import export_graph, file_entry

SHIPPED = ["finder", "kl-lite2", "letters", "look", "marks", "upright"]


@pytest.fixture
def copies(tmp_path: Path) -> tuple[Path, Path]:
    """The folders of cards and of weights, which may be spoilt."""
    shutil.copytree(CARDS, tmp_path / "cards")
    shutil.copytree(WEIGHTS, tmp_path / "weights")
    return tmp_path / "cards", tmp_path / "weights"


def test_every_card_has_its_model() -> None:
    """What is shipped can be loaded, and every card says what a result must carry."""
    assert card_names() == SHIPPED
    for name in card_names():
        card = load(name).card
        assert (card.name, len(card.identity.sha256)) == (name, 64)
        assert {"data", "use", "training"} <= card.contents.keys()
        assert "10.17632/56rmx5bjcr.1" in card.contents["data"]["attribution"]


@pytest.mark.parametrize("file", ["weights", "graph"])
@pytest.mark.parametrize("name", SHIPPED)
def test_one_changed_byte_keeps_a_model_from_being_used(copies: tuple[Path, Path], name: str, file: str) -> None:
    """The message names the file, the hash that was expected and the one that was found."""
    card = read_card(name, copies)
    named_file = card.graph if file == "graph" else card.weights[0]
    path = copies[1] / named_file.name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(SettingsError) as refused:
        load(name, within=copies)
    expected = named_file.sha256
    assert str(path) in str(refused.value)
    assert expected in str(refused.value)
    assert str(refused.value).count(expected) == 1
    assert "found" in str(refused.value)


def test_a_missing_file_is_named(copies: tuple[Path, Path]) -> None:
    """A model whose weights are gone is an error that names them."""
    (copies[1] / read_card("finder", copies).weights[0].name).unlink()
    with pytest.raises(SettingsError, match=r"finder\.safetensors is missing"):
        load("finder", within=copies)


def test_a_model_prepared_otherwise_is_refused(copies: tuple[Path, Path]) -> None:
    """A card of another preparation version would be given inputs that it was not trained on."""
    path = copies[0] / "kl-lite2.toml"
    path.write_text(path.read_text().replace("preparation = 2", "preparation = 99"))
    with pytest.raises(SettingsError, match="needs preparation 99"):
        load("kl-lite2", within=copies)


def test_a_key_that_a_card_lacks_is_named(copies: tuple[Path, Path]) -> None:
    """The error names the missing word of the card."""
    path = copies[0] / "finder.toml"
    path.write_text("\n".join(line for line in path.read_text().splitlines() if not line.startswith("architecture")))
    with pytest.raises(SettingsError, match="lacks the key 'architecture'"):
        read_card("finder", copies)


def test_an_unknown_model_or_engine_is_an_error_that_lists_the_known_ones() -> None:
    """A typing error in the settings is answered with what there is."""
    with pytest.raises(SettingsError, match="there are: finder, kl-lite2"):
        load("kl-lite9")
    with pytest.raises(SettingsError, match="there are: openvino, torch"):
        load("kl-lite2", engine="abacus")


@pytest.mark.parametrize("name", SHIPPED)
def test_the_cpu_engine_answers_as_torch_does(name: str) -> None:
    """On the same input no output differs by more than 1e-3 of its range, alone or in a batch."""
    fast, exact = load(name), load(name, engine="torch")
    card: Card = fast.card
    channels = 3 if card.kind == "grader" else 1
    images = np.random.default_rng(1).normal(0, 1, (3, channels, card.input_size, card.input_size)).astype(np.float32)
    for ours, theirs in zip(fast.run(images), exact.run(images), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-3 * max(1.0, float(np.abs(theirs).max())))
    np.testing.assert_allclose(fast.run(images[1:2])[0][0], fast.run(images)[0][1], atol=1e-4)


def sharded(folder: Path, prefixes: tuple[str, str]) -> None:
    """A model whose tensors lie in two files: those of the head in the second; and its graph and card."""
    torch.manual_seed(5)
    network = build("efficientnet_lite0").eval()
    head = {key: held for key, held in network.state_dict().items() if key.startswith("head.")}
    trunk = {key: held for key, held in network.state_dict().items() if key not in head}
    files = {folder / "one.safetensors": prefixes[0], folder / "two.safetensors": prefixes[1]}
    for (file, prefix), part in zip(files.items(), (trunk, head), strict=True):
        save_file({key.removeprefix(prefix): held.contiguous() for key, held in part.items()}, file)
    graph = export_graph(network, torch.zeros(1, 3, 256, 256), files, folder / "sharded.onnx")
    fields = parse((CARDS / "kl-lite2.toml").read_text())
    fields["name"], fields["graph"], fields["architecture"] = "sharded", graph, "efficientnet_lite0"
    fields["weights"] = [{**file_entry(file), "prefix": prefix} for file, prefix in files.items()]
    (folder / "sharded.toml").write_text(dumps(fields))


@pytest.mark.parametrize("prefixes", [("", ""), ("trunk.", "head.")], ids=["the same prefix", "a prefix each"])
def test_weights_may_lie_in_several_files(tmp_path: Path, prefixes: tuple[str, str]) -> None:
    """Both engines put the parts together to the same answers; a changed byte in the second part is found as well."""
    sharded(tmp_path, prefixes)
    images = np.random.default_rng(1).normal(0, 1, (2, 3, 256, 256)).astype(np.float32)
    fast, exact = (load("sharded", engine=engine, within=(tmp_path,)) for engine in ("openvino", "torch"))
    for ours, theirs in zip(fast.run(images), exact.run(images), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-3 * max(1.0, float(np.abs(theirs).max())))
    hashes = [file.sha256 for file in fast.card.weights]
    assert fast.card.identity.sha256 == hashlib.sha256("".join(hashes).encode()).hexdigest()
    content = bytearray((tmp_path / "two.safetensors").read_bytes())
    content[-1] ^= 1
    (tmp_path / "two.safetensors").write_bytes(content)
    with pytest.raises(SettingsError, match=r"two\.safetensors is not the file"):
        load("sharded", within=(tmp_path,))


def test_a_sites_files_do_not_replace_the_shipped_ones(copies: tuple[Path, Path], tmp_path: Path) -> None:
    """A file of the same name in the site's folder changes nothing: each model takes its own."""
    site = tmp_path / "models"
    site.mkdir()
    for kind in ("safetensors", "onnx"):
        (site / f"kl-lite2.{kind}").write_bytes(b"the site's own")
    assert load("kl-lite2", within=(site, *copies)).card.stem == "kl-lite2"


def test_files_in_different_folders_are_no_model(copies: tuple[Path, Path], tmp_path: Path) -> None:
    """A graph reads the weights beside it, so those that were checked have to lie there."""
    site = tmp_path / "models"
    site.mkdir()
    (copies[1] / "kl-lite2.onnx").rename(site / "kl-lite2.onnx")
    with pytest.raises(SettingsError, match="different folders"):
        load("kl-lite2", within=(site, *copies))


def test_a_model_whose_files_do_not_fit_is_one_clear_line(copies: tuple[Path, Path]) -> None:
    """Weights of another architecture, and a graph that is none, are told with the card and the engine."""
    path = copies[0] / "kl-lite2.toml"
    path.write_text(path.read_text().replace("efficientnet_lite2", "efficientnet_lite0"))
    with pytest.raises(SettingsError, match="kl-lite2 cannot be loaded by torch: RuntimeError"):
        load("kl-lite2", engine="torch", within=copies)
    (copies[1] / "kl-lite2.onnx").write_bytes(b"no graph")
    found = hashlib.sha256(b"no graph").hexdigest()
    path.write_text(re.sub(r'(onnx"\nsha256 = ")\w+', rf"\g<1>{found}", path.read_text()))
    with pytest.raises(SettingsError, match="kl-lite2 cannot be loaded by openvino"):
        load("kl-lite2", within=copies)


@pytest.mark.parametrize("text", ["weights = 3", "[weights]\nfile = 1", 'preparation = 2\nweights = "a"', "name"])
def test_a_card_that_is_none_is_an_error_and_not_a_crash(tmp_path: Path, text: str) -> None:
    """Whatever stands in it, the message names the file."""
    (tmp_path / "odd.toml").write_text(text)
    with pytest.raises(SettingsError, match=r"odd\.toml"):
        read_card("odd", (tmp_path,))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('file = "kl-lite2.safetensors"', "file = 3", "file = 3 is no str"),
        ("input_size = 256", 'input_size = "256"', "input_size = '256' is no int"),
        ("heat_scale = 20.459", "heat_scale = 0", "heat_scale = 0 has to be a number above 0"),
        ("temperature = 0.7048", 'temperature = "1"', "temperature = '1' has to be a number above 0"),
        ("temperature = 0.7048", "temperature = nan", "temperature = nan has to be a number above 0"),
        ("cost = 1.5", "cost = -1", "cost = -1 has to be a number of 0 or more"),
        ("level = 0.9", "level = 1", "level = 1 has to be a number between 0 and 1"),
        ("apart = 0.6", "apart = 0.4", "apart = 0.4 has to be a number from 0.5 to 1"),
        ("temperature = 0.7048", "thresholds = [0.9, 0.8]", "has to be five numbers"),
        ("temperature = 0.7048", "thresholds = [1, 1, 1, 1, 1.1]", "thresholds = 1.1 has to be a number from 0 to 1"),
    ],
)
def test_a_value_that_no_knee_can_be_graded_with_is_named(
    copies: tuple[Path, Path], old: str, new: str, message: str
) -> None:
    """The message names the card, the key, what stands there and what has to."""
    path = copies[0] / "kl-lite2.toml"
    text = re.sub(r"(?m)^thresholds = .*\n", "", path.read_text())
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(SettingsError, match=rf"kl-lite2\.toml .*{re.escape(message)}"):
        read_card("kl-lite2", copies)


@pytest.mark.parametrize(
    "asks", [card_names, lambda within: read_card("finder", within)], ids=["card_names", "read_card"]
)
def test_an_unreadable_folder_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asks: Callable[[tuple[Path, ...]], object]
) -> None:
    """Where the system denies it, the message says which folder and why; it is no absent card."""

    def denied(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    for way in ("is_file", "iterdir", "glob"):
        monkeypatch.setattr(Path, way, denied)
    with pytest.raises(SettingsError, match=f"{tmp_path}.* cannot be read: Permission denied"):
        asks((tmp_path,))
