"""A model is what its card says, or it is not loaded."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from node.errors import SettingsError
from workers.registry import CARDS, WEIGHTS, Card, load, names, read_card

SHIPPED = ["finder", "kl-lite0", "upright"]


@pytest.fixture
def copies(tmp_path: Path) -> tuple[Path, Path]:
    """The folders of cards and of weights, which may be spoilt."""
    shutil.copytree(CARDS, tmp_path / "cards")
    shutil.copytree(WEIGHTS, tmp_path / "weights")
    return tmp_path / "cards", tmp_path / "weights"


def test_every_card_has_its_model() -> None:
    """What is shipped can be loaded, and every card says what a result must carry."""
    assert names() == SHIPPED
    for name in names():
        card = load(name).card
        assert (card.name, len(card.identity.sha256)) == (name, 64)
        assert {"data", "use", "training"} <= card.told.keys()
        assert "10.17632/56rmx5bjcr.1" in card.told["data"]["attribution"]


@pytest.mark.parametrize("file", ["weights", "graph"])
@pytest.mark.parametrize("name", SHIPPED)
def test_one_changed_byte_keeps_a_model_from_being_used(copies: tuple[Path, Path], name: str, file: str) -> None:
    """The message names the file, the hash that was expected and the one that was found."""
    card = read_card(name, copies)
    told = card.graph if file == "graph" else card.weights[0]
    path = copies[1] / told.name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(SettingsError) as refused:
        load(name, within=copies)
    expected = told.sha256
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
    path = copies[0] / "kl-lite0.toml"
    path.write_text(path.read_text().replace("preparation = 1", "preparation = 99"))
    with pytest.raises(SettingsError, match="needs preparation 99"):
        load("kl-lite0", within=copies)


def test_a_card_that_lacks_something_says_what(copies: tuple[Path, Path]) -> None:
    """The error names the missing word of the card."""
    path = copies[0] / "finder.toml"
    path.write_text("\n".join(line for line in path.read_text().splitlines() if not line.startswith("architecture")))
    with pytest.raises(SettingsError, match="does not say 'architecture'"):
        read_card("finder", copies)


def test_an_unknown_model_or_engine_is_told_with_the_known_ones() -> None:
    """A typing error in the settings is answered with what there is."""
    with pytest.raises(SettingsError, match="there are: finder, kl-lite0"):
        load("kl-lite9")
    with pytest.raises(SettingsError, match="there are: openvino, torch"):
        load("kl-lite0", engine="abacus")


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
