"""`make bench` with the smallest counts: it measures everything that is installed, and names what is not."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from bench import endurance, machine, memory, receivers, receiving
from bench.tables import Spread, Table, as_json, short, show
from tests.paths import ROOT
from tests.peers.archives import needs

SMALLEST = ("--seconds", "0.01", "--rounds", "1", "--films", "1", "--bursts", "1")


def bench(*arguments: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    """Run `python -m bench` in the checkout, as make does, with `folder` for its files."""
    command = [sys.executable, "-m", "bench", "--folder", str(folder), *arguments]
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
def output(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict, list[str]]:  # type: ignore[type-arg]
    """Text, JSON and remaining files of the whole benchmark with the smallest counts."""
    folder, file = tmp_path_factory.mktemp("workspace"), tmp_path_factory.mktemp("json") / "figures.json"
    done = bench(*SMALLEST, "--json", str(file), folder=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, json.loads(file.read_text()), [path.name for path in folder.iterdir()]


def test_the_whole_bench_prints_every_table_and_leaves_nothing(output) -> None:  # type: ignore[no-untyped-def]
    """One run has tables of machine, receiving, turnaround, burst, memory and network, and deletes its files."""
    text, figures, left = output
    assert list(figures) == ["machine", "receiving", "turnaround", "burst", "memory", "forward", "stages", "objects"]
    for table in figures.values():
        assert table["title"].split(":")[0] in text
    assert left == []


def test_the_machine_is_described(output) -> None:  # type: ignore[no-untyped-def]
    """Processor, cores and memory are in the table."""
    facts = {row["what"]: row["is"] for row in output[1]["machine"]["rows"]}
    assert facts["processor"]
    assert int(facts["cores"]) == len(os.sched_getaffinity(0))
    assert "GiB" in facts["memory"]


@needs("storescu")
def test_every_installed_receiver_is_measured_with_both_sizes_and_sender_counts(output) -> None:  # type: ignore[no-untyped-def]
    """Every receiver has a row for every load, with number of measurements and spread."""
    rows = output[1]["receiving"]["rows"]
    found, _ = receivers.installed()
    loads = {(row["object"], row["senders"], row["receiver"]) for row in rows}
    assert loads == {(size, n, receiver.name) for size in ("10 MB", "0.5 MB") for n in (1, 4) for receiver in found}
    for row in rows:
        assert row["n"] == row["MB/s"]["n"] == 1
        assert 0 < row["MB/s"]["least"] <= row["MB/s"]["median"] <= row["MB/s"]["most"]


def test_turnaround_and_burst_count_delivered_films(output) -> None:  # type: ignore[no-untyped-def]
    """Turnaround has a total and its stages from the journal, burst a rate for each number of workers."""
    whole, *stages = output[1]["turnaround"]["rows"]
    assert whole["n"] == 1
    assert 0 < whole["p50"] <= whole["p95"]
    assert len(stages) == 4
    assert [row["workers"] for row in output[1]["burst"]["rows"]] == [1, 2]
    assert all(row["films/s"]["least"] > 0 for row in output[1]["burst"]["rows"])


def test_the_peak_memory_of_every_process_is_reported(output) -> None:  # type: ignore[no-untyped-def]
    """The node's processes, both workers with their decoders, and the broker have a peak each."""
    peaks = {row["part"]: row["MB"] for row in output[1]["memory"]["rows"]}
    workers = {f"work (worker-{n})" for n in (1, 2)}
    expected = {"run", "receive", "deliver", "sweep", "admin", "broker", "broker's watchdog", *workers}
    assert peaks.keys() >= expected | {f"decoder of {worker}" for worker in workers}
    assert all(peak > 0 for peak in peaks.values())
    assert peaks["work (worker-1)"] > peaks["broker's watchdog"]


def test_memory_is_read_after_every_tenth_of_the_knees(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that leaks memory is visible in the growth."""
    monkeypatch.setattr(endurance, "FILMS", 2)
    leaked: list[bytes] = []
    grade_knees = endurance.grade_knees
    monkeypatch.setattr(endurance, "grade_knees", lambda *a: leaked.append(os.urandom(20_000_000)) or grade_knees(*a))
    table = endurance.measure(knees=20)
    assert [row["knees"] for row in table.rows] == list(range(2, 21, 2))
    resident = [float(str(row["MB held"])) for row in table.rows]
    assert resident[-1] - resident[0] > 120
    assert f"{resident[-1] - resident[0]:+.1f} MB" in table.notes[1]


def test_the_shipped_engine_is_measured(output) -> None:  # type: ignore[no-untyped-def]
    """Batches of one and eight; torch too if it is installed, otherwise a note says that it is not."""
    table = output[1]["forward"]
    assert {(row["knees at once"], row["engine"]) for row in table["rows"]} >= {(1, "openvino"), (8, "openvino")}
    assert any("torch" in row["engine"] for row in table["rows"]) or any("torch" in note for note in table["notes"])


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without Orthanc and DCMTK the tables name them as not installed."""
    for module in (receivers, machine, receiving):
        monkeypatch.setattr(module, "program_path", lambda program: None)
    found, missing = receivers.installed()
    assert [receiver.name for receiver in found] == ["Genu"]
    assert missing == ["Orthanc", "storescp"]
    table = receiving.measure(tmp_path, seconds=0.01, rounds=1)
    assert "storescu" in printed(table)
    versions = {row["what"]: row["is"] for row in machine.describe(tmp_path).rows}
    assert versions["Orthanc"] == "not installed"


@needs("storescu")
def test_a_receiver_that_loses_an_object_has_no_figure(tmp_path: Path) -> None:
    """Objects that were acknowledged but are not stored make the measurement fail."""
    with receivers.storescp("--ignore")(tmp_path) as peer:
        load = receiving.Load("small", receiving.noise(tmp_path / "small.dcm", (8, 8)), 1)
        with pytest.raises(RuntimeError, match="has 0 of 3 objects"):
            receiving._objects_per_second(peer, load, 3)


def test_the_steps_of_a_film_are_measured_one_by_one(tmp_path: Path) -> None:
    """Detection, grading and explanation, and the cost of explaining in forward passes."""
    done = bench("--only", "stages", "--rounds", "2", "--json", str(tmp_path / "f.json"), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    stages = json.loads((tmp_path / "f.json").read_text())["stages"]
    assert [row["n"] for row in stages["rows"]] == [2, 2, 2]
    assert "times a plain forward" in " ".join(stages["notes"])


def test_only_selected_benchmarks_run(tmp_path: Path) -> None:
    """`--only` selects; `--help` lists every option."""
    done = bench("--only", "forward", "--rounds", "1", "--json", str(tmp_path / "f.json"), folder=tmp_path)
    assert list(json.loads((tmp_path / "f.json").read_text())) == ["machine", "forward"], done.stderr
    text = bench("--help", folder=tmp_path).stdout
    for option in ("--only", "--seconds", "--rounds", "--films", "--bursts", "--json", "--folder"):
        assert option in text


def test_a_spread_is_its_median_between_its_ends() -> None:
    """Three measurements are printed as median (least–most), and as numbers in JSON."""
    spread = Spread.of([3.0, 1.0, 20.0])
    assert (spread.n, spread.least, spread.median, spread.most) == (3, 1.0, 3.0, 20.0)
    assert str(spread) == "3.00 (1.00–20.0)"
    assert short(1234.5) == "1234"
    table = Table("t", "T", ({"receiver": "Genu", "MB/s": spread},), ("a [note] in brackets",))
    assert "3.00 (1.00–20.0)" in printed(table)
    assert "a [note] in brackets" in printed(table)
    assert json.loads(as_json([table]))["t"]["rows"][0]["MB/s"]["most"] == 20.0


def test_a_process_that_has_ended_has_no_peak() -> None:
    """A process that ended while it was measured is left out."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert memory.peak_mb(process.pid) is None
    assert (memory.peak_mb(os.getpid()) or 0) > 10


def test_make_bench_runs_it() -> None:
    """The Makefile's target is this package."""
    lines = (ROOT / "Makefile").read_text().splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("bench:"))
    assert lines[at + 1].strip().endswith("python -m bench")
