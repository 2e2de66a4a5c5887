"""
Golden outputs: the outputs of Genu for fixed inputs, recorded once and compared after changes that must keep them.

`make golden` compares; `python -m bench.golden --record` replaces the record after an intended change of behaviour.
Everything runs through the command line, so that renaming in the code cannot hide a change of the outputs. The inputs
are rendered films and, if the folder exists, a fixed sample of real radiographs, which is read and not copied:
the record names each file by a hash of its path only.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
from pydicom import Dataset, dcmread
from rich.console import Console

from workers.phantom import samples

RECORD = Path(__file__).parent / "golden.json"
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"

SAMPLE = {
    "real/knee_*/*.jpg": 3, "real/other_*/*.jpg": 6, "real/long_leg/*": 1, "gornale/*/*.*": 31, "knees/val/*/*.jpg": 21,
    "not_knees/*.dcm": 1, "malformed/*/*.dcm": 9,
}  # fmt: skip
"""Patterns of files below the data folder; every n-th file of each is used."""

VERSIONED = frozenset(("SoftwareVersions",))
"""Attributes whose values depend on the release."""


def key_of(path: Path, root: Path) -> str:
    """The name of a file in the record."""
    return hashlib.sha256(path.relative_to(root).as_posix().encode()).hexdigest()[:16]


def rendered(folder: Path) -> list[Path]:
    """The rendered films as DICOM files in `folder`."""
    paths = []
    for seed in (0, 7):
        for number, ds in enumerate(samples(seed), start=1):
            paths.append(folder / f"rendered-{seed}-{number}.dcm")
            ds.save_as(paths[-1], enforce_file_format=True)
    return paths


def sampled(data: Path) -> list[Path]:
    """The fixed sample of the data folder; empty if it is absent."""
    return [path for pattern, step in SAMPLE.items() for path in sorted(data.glob(pattern))[::step]]


AT = "2026-01-01T00:00:00+00:00"
FROZEN = f"import time_machine; time_machine.travel({AT!r}, tick=False).start(); from node.__main__ import main; main()"
"""Results contain their creation time, in attributes and in pictures, so all are created at the same time."""


def genu(*arguments: str) -> str:
    """Standard output of `genu` with these arguments, without the settings of the working folder."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GENU_")}
    with tempfile.TemporaryDirectory(prefix="genu-golden-") as folder:
        environment |= {"PYTHONPATH": str(Path(__file__).resolve().parents[1]), "GENU__STORAGE__FOLDER": folder}
        done = subprocess.run(
            [sys.executable, "-c", FROZEN, *arguments],
            cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    return done.stdout


def graded(files: list[Path], root: Path) -> Iterator[tuple[str, Any]]:
    """The output of `genu grade --json` for each file, and the content of each object that it writes."""
    with tempfile.TemporaryDirectory(prefix="genu-golden-") as out:
        for line in genu("grade", *map(str, files), "--out", out, "--json").splitlines():
            if not line.startswith("{") or '"file"' not in line:
                continue
            answer = json.loads(line)
            path, objects = Path(answer.pop("file")), [Path(name) for name in answer.pop("objects")]
            answer["objects"] = {file.stem.rsplit("-", 1)[1]: digest_of(dcmread(file)) for file in objects}
            yield key_of(path, root), answer


def digest_of(ds: Dataset) -> dict[str, str]:
    """Hashes of an object's attributes and of its pixels: its content, independent of its encoding."""
    pixels = bytes(ds.PixelData) if "PixelData" in ds else None
    if pixels is not None:
        del ds.PixelData
    content = json.dumps(list(attributes(ds)), sort_keys=True, default=str)
    digests = {"attributes": hashlib.sha256(content.encode()).hexdigest()[:16]}
    if pixels is not None:
        digests["pixels"] = hashlib.sha256(pixels).hexdigest()[:16]
    return digests


def attributes(ds: Dataset, path: str = "") -> Iterator[tuple[str, str]]:
    """Path and value of each attribute that does not depend on the release."""
    for element in ds:
        name = f"{path}/{element.keyword or element.tag}"
        if element.keyword in VERSIONED:
            continue
        if element.VR == "SQ":
            for number, item in enumerate(element.value):
                yield from attributes(item, f"{name}[{number}]")
        else:
            yield name, str(element.value)


def outputs(data: Path, *, whole: bool) -> dict[str, Any]:
    """All golden outputs of the code as it is; with `whole` also the figures on the knees of the split val."""
    with tempfile.TemporaryDirectory(prefix="genu-golden-") as folder:
        films = dict(graded(rendered(Path(folder)), Path(folder)))
    answers: dict[str, Any] = {"rendered": films, "data": dict(graded(sampled(data), data)) if data.is_dir() else {}}
    if whole and data.is_dir():
        knees = str(data / "knees")
        answers["evaluate"] = json.loads(genu("evaluate", "--data", knees, "--json").splitlines()[-1])
        answers["gate"] = json.loads(genu("evaluate", "--data", knees, "--gate", "--json").splitlines()[-1])
    return answers


def differences(before: Any, now: Any, path: str = "", tolerance: float = 0.0) -> Iterator[str]:
    """Where the record and the present outputs differ; a key that was added is no difference."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in before:
            if key not in now:
                yield f"{path}/{key}: missing"
            else:
                yield from differences(before[key], now[key], f"{path}/{key}", tolerance)
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for number, (one, other) in enumerate(zip(before, now, strict=True)):
            yield from differences(one, other, f"{path}[{number}]", tolerance)
    elif isinstance(before, float) and isinstance(now, float | int):
        if abs(before - now) > tolerance:
            yield f"{path}: {before} is now {now}"
    elif before != now:
        yield f"{path}: {before!r} is now {now!r}"


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--record", is_flag=True, help="Write the present outputs as the record.")
@click.option("--quick", is_flag=True, help="Without `genu evaluate`: single films and their result objects only.")
@click.option("--data", type=click.Path(path_type=Path), default=DATA, help="Folder of real radiographs.")
@click.option(
    "--tolerance", default=0.0, type=click.FloatRange(0), help="Numbers may differ by so much: another processor."
)
def main(record: bool, quick: bool, data: Path, tolerance: float) -> None:
    """Compare what Genu answers now with the record; ends with 1 where they differ."""
    console = Console(stderr=True)
    now = outputs(data, whole=not quick)
    if record:
        RECORD.write_text(json.dumps(now, indent=0, sort_keys=True) + "\n")
        console.print(f"recorded: {counts(now)}")
        return
    before = json.loads(RECORD.read_text())
    compared = {part: before[part] for part in now if part in before and now[part]}
    found = list(differences(compared, now, tolerance=tolerance))
    for difference in found[:40]:
        click.echo(difference)
    click.echo(f"{counts(compared)}: {'equal' if not found else f'{len(found)} differences'}")
    raise SystemExit(1 if found else 0)


def counts(answers: Mapping[str, Any]) -> str:
    """What was compared."""
    films = {part: len(answers.get(part, {})) for part in ("rendered", "data")}
    objects = sum(len(answer["objects"]) for part in films for answer in answers.get(part, {}).values())
    figures = [part for part in ("evaluate", "gate") if part in answers]
    words = [f"{films['rendered']} rendered films", f"{films['data']} files of data", f"{objects} result objects"]
    return ", ".join([*words, *(f"genu evaluate ({part})" for part in figures)])


if __name__ == "__main__":
    main(prog_name="python -m bench.golden")
