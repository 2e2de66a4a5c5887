"""`make bench` with the smallest counts: it measures everything that is installed, and says what is not."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from bench import contestants, endurance, machine, memory, receiving
from bench.tables import Spread, Table, as_json, short, show
from tests.paths import ROOT
from tests.peers.archives import needs

SMALLEST = ("--seconds", "0.01", "--rounds", "1", "--films", "1", "--bursts", "1")


def bench(*words: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    """Run `python -m bench` in the checkout, as make does; what it leaves behind would lie in `folder`."""
    command = [sys.executable, "-m", "bench", "--folder", str(folder), *words]
    return subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env={**os.environ, "COLUMNS": "160"},
    )


def printed(*tables: Table) -> str:
    console = Console(width=120, file=io.StringIO(), record=True)
    for table in tables:
        show(table, console)
    return console.export_text()


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict, list[str]]:  # type: ignore[type-arg]
    """What the whole bench printed with the smallest counts, what it wrote as JSON, and what it left in its folder."""
    folder, file = tmp_path_factory.mktemp("room"), tmp_path_factory.mktemp("json") / "figures.json"
    done = bench(*SMALLEST, "--json", str(file), folder=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, json.loads(file.read_text()), [path.name for path in folder.iterdir()]


def test_the_whole_bench_prints_every_table_and_leaves_nothing(told) -> None:  # type: ignore[no-untyped-def]
    """One run tells of the machine, receiving, turnaround, burst, memory and network, and cleans up after itself."""
    text, figures, left = told
    assert list(figures) == ["machine", "receiving", "turnaround", "burst", "memory", "forward", "stages", "objects"]
    for table in figures.values():
        assert table["title"].split(":")[0] in text
    assert left == []


def test_the_machine_is_named(told) -> None:  # type: ignore[no-untyped-def]
    """A figure without its processor, cores and memory says nothing."""
    facts = {row["what"]: row["is"] for row in told[1]["machine"]["rows"]}
    assert facts["processor"]
    assert int(facts["cores"]) == len(os.sched_getaffinity(0))
    assert "GiB" in facts["memory"]


@needs("storescu")
def test_every_installed_receiver_takes_both_sizes_from_one_and_four_senders(told) -> None:  # type: ignore[no-untyped-def]
    """Genu stands beside each of the others, in every load, with how often it was measured and how it spread."""
    rows = told[1]["receiving"]["rows"]
    here, _ = contestants.installed()
    loads = {(row["object"], row["senders"], row["receiver"]) for row in rows}
    assert loads == {(size, n, each.name) for size in ("10 MB", "0.5 MB") for n in (1, 4) for each in here}
    for row in rows:
        assert row["n"] == row["MB/s"]["n"] == 1
        assert 0 < row["MB/s"]["least"] <= row["MB/s"]["median"] <= row["MB/s"]["most"]


def test_turnaround_and_burst_count_films_that_came_back(told) -> None:  # type: ignore[no-untyped-def]
    """The journal's times of real journeys: a whole and its stages, and a rate for each number of workers."""
    whole, *stages = told[1]["turnaround"]["rows"]
    assert whole["n"] == 1
    assert 0 < whole["p50"] <= whole["p95"]
    assert len(stages) == 4
    assert [row["workers"] for row in told[1]["burst"]["rows"]] == [1, 2]
    assert all(row["films/s"]["least"] > 0 for row in told[1]["burst"]["rows"])


def test_the_memory_of_every_part_is_told(told) -> None:  # type: ignore[no-untyped-def]
    """Each door, both workers with their decoders, and the broker have a peak of their own."""
    peaks = {row["part"]: row["MB"] for row in told[1]["memory"]["rows"]}
    workers = {f"work (worker-{n})" for n in (1, 2)}
    expected = {"run", "receive", "deliver", "sweep", "admin", "broker", "broker's watchdog", *workers}
    assert peaks.keys() >= expected | {f"decoder of {each}" for each in workers}
    assert all(peak > 0 for peak in peaks.values())
    assert peaks["work (worker-1)"] > peaks["broker's watchdog"]


def test_memory_is_read_after_every_tenth_of_the_knees(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that kept every knee would be told by how much it grows."""
    monkeypatch.setattr(endurance, "FILMS", 2)
    kept: list[bytes] = []
    explain = endurance.explain
    monkeypatch.setattr(endurance, "explain", lambda *a: kept.append(os.urandom(10_000_000)) or explain(*a))
    table = endurance.measure(knees=20)
    assert [row["knees"] for row in table.rows] == list(range(2, 21, 2))
    held = [float(str(row["MB held"])) for row in table.rows]
    assert held[-1] - held[0] > 120
    assert f"{held[-1] - held[0]:+.1f} MB" in table.notes[1]


def test_the_shipped_engine_is_measured(told) -> None:  # type: ignore[no-untyped-def]
    """One knee and eight at a time; torch beside it where torch is installed, else it is said to be absent."""
    table = told[1]["forward"]
    assert {(row["knees at once"], row["engine"]) for row in table["rows"]} >= {(1, "openvino"), (8, "openvino")}
    assert any("torch" in row["engine"] for row in table["rows"]) or any("torch" in note for note in table["notes"])


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without Orthanc and DCMTK the bench says so, instead of leaving them out in silence."""
    for module in (contestants, machine, receiving):
        monkeypatch.setattr(module, "have", lambda program: None)
    here, missing = contestants.installed()
    assert [each.name for each in here] == ["Genu"]
    assert missing == ["Orthanc", "storescp"]
    table = receiving.measure(tmp_path, seconds=0.01, rounds=1)
    assert "storescu" in printed(table)
    versions = {row["what"]: row["is"] for row in machine.describe(tmp_path).rows}
    assert versions["Orthanc"] == "not installed"


@needs("storescu")
def test_a_receiver_that_loses_an_object_has_no_figure(tmp_path: Path) -> None:
    """What was acknowledged and is not there makes the measurement fail: it would be the fastest of all."""
    with contestants.storescp("--ignore")(tmp_path) as peer:
        load = receiving.Load("small", receiving.noise(tmp_path / "small.dcm", (8, 8)), 1)
        with pytest.raises(RuntimeError, match="has 0 of 3 objects"):
            receiving._objects_a_second(peer, load, 3)


def test_the_steps_of_a_film_are_measured_one_by_one(tmp_path: Path) -> None:
    """Finding, grading and explaining, and what explaining costs in plain forwards."""
    done = bench("--only", "stages", "--rounds", "2", "--json", str(tmp_path / "f.json"), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    stages = json.loads((tmp_path / "f.json").read_text())["stages"]
    assert [row["n"] for row in stages["rows"]] == [2, 2, 2]
    assert "times a plain forward" in " ".join(stages["notes"])


def test_only_what_is_asked_for_is_measured(tmp_path: Path) -> None:
    """`--only` picks; `--help` tells of every option."""
    done = bench("--only", "forward", "--rounds", "1", "--json", str(tmp_path / "f.json"), folder=tmp_path)
    assert list(json.loads((tmp_path / "f.json").read_text())) == ["machine", "forward"], done.stderr
    told = bench("--help", folder=tmp_path).stdout
    for option in ("--only", "--seconds", "--rounds", "--films", "--bursts", "--json", "--folder"):
        assert option in told


def test_a_spread_is_its_median_between_its_ends() -> None:
    """Three measurements are told as median (least–most), and as numbers in JSON."""
    spread = Spread.of([3.0, 1.0, 20.0])
    assert (spread.n, spread.least, spread.median, spread.most) == (3, 1.0, 3.0, 20.0)
    assert str(spread) == "3.00 (1.00–20.0)"
    assert short(1234.5) == "1234"
    table = Table("t", "T", ({"who": "Genu", "MB/s": spread},), ("a [note] in brackets",))
    assert "3.00 (1.00–20.0)" in printed(table)
    assert "a [note] in brackets" in printed(table)
    assert json.loads(as_json([table]))["t"]["rows"][0]["MB/s"]["most"] == 20.0


def test_a_process_that_is_gone_has_no_peak() -> None:
    """A part that ended while it was looked at is left out."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert memory.peak_mb(process.pid) is None
    assert (memory.peak_mb(os.getpid()) or 0) > 10


def test_make_bench_runs_it() -> None:
    """The Makefile's target is this package."""
    lines = (ROOT / "Makefile").read_text().splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("bench:"))
    assert lines[at + 1].strip().endswith("python -m bench")
