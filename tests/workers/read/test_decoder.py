"""Whatever a file does to the process that reads it, the node gets a code, keeps its memory, and reads on."""

import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from struct import pack

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    RLELossless,
)

from node.errors import Permanent, Ungradable
from tests.paths import ROOT
from tests.peers.archives import wait_until
from tests.samples.radiograph_files import Encoding, dataset, full_window, radiograph, save, truth, write
from workers.read import Reader

MEGAPIXELS = 40
MEMORY_MB = 1024


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    """One warm reader for all tests that do not kill it."""
    made = Reader(seconds=20, memory_mb=MEMORY_MB, max_megapixels=MEGAPIXELS)
    yield made
    made.close()


@pytest.fixture
def hasty() -> Iterator[Reader]:
    """A reader of its own, with little patience."""
    made = Reader(seconds=1, memory_mb=MEMORY_MB, max_megapixels=MEGAPIXELS)
    yield made
    made.close()


@pytest.fixture
def endless(tmp_path: Path) -> Path:
    """A file that never comes to an end: reading it hangs, as a codec might."""
    path = tmp_path / "endless.dcm"
    os.mkfifo(path)
    return path


def header_of(rows: int, columns: int, **attributes: object) -> pydicom.Dataset:
    made = dataset(rows=rows, columns=columns, BitsAllocated=16, BitsStored=12, HighBit=11, PixelRepresentation=0)
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    for keyword, value in attributes.items():
        setattr(made, keyword, value)
    return made


def compressed(path: Path, made: pydicom.Dataset, frame: bytes, syntax: UID) -> Path:
    """The data set with that frame, whatever it holds."""
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = syntax
    made.PixelData = encapsulate([frame])
    made["PixelData"].is_undefined_length = True
    made["PixelData"].VR = "OB"
    made.save_as(path, enforce_file_format=True)
    return path


def with_meta(path: Path, syntax: UID, content: bytes) -> Path:
    """File meta information, then the bytes as they are."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    stream = DicomBytesIO()
    stream.is_little_endian, stream.is_implicit_VR = True, False
    stream.write(bytes(128) + b"DICM")
    write_file_meta_info(stream, meta, enforce_standard=False)
    path.write_bytes(stream.getvalue() + content)
    return path


def deflate_bomb(path: Path) -> Path:
    """Some hundred kilobytes that inflate to half a gigabyte of a private element."""
    packer = zlib.compressobj(4, zlib.DEFLATED, -zlib.MAX_WBITS)
    parts = [packer.compress(pack("<HH2sHL", 0x0009, 0x1001, b"OB", 0, 1 << 29))]
    parts += [packer.compress(bytes(1 << 24)) for _ in range(32)]
    return with_meta(path, DeflatedExplicitVRLittleEndian, b"".join([*parts, packer.flush()]))


def million_elements(path: Path) -> Path:
    """Eight megabytes of empty private elements."""
    elements = np.zeros(1_000_000, np.dtype([("group", "<u2"), ("element", "<u2"), ("vr", "S2"), ("length", "<u2")]))
    number = np.arange(len(elements))
    elements["group"], elements["element"], elements["vr"] = 0x0011 + 2 * (number >> 15), number & 0x7FFF, b"LO"
    return with_meta(path, ExplicitVRLittleEndian, elements.tobytes())


def million_items(path: Path) -> Path:
    """Eight megabytes of empty items in one sequence."""
    item = pack("<HHL", 0xFFFE, 0xE000, 0)
    head = pack("<HH2sHL", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF)
    return with_meta(path, ExplicitVRLittleEndian, head + item * 1_000_000)


def deep_nesting(path: Path) -> Path:
    """A hundred thousand sequences in one another."""
    level = pack("<HH2sHL", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF) + pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
    return with_meta(path, ExplicitVRLittleEndian, level * 100_000)


def huge_element(path: Path) -> Path:
    """A sparse file whose first element says that it has four gigabytes."""
    with_meta(path, ExplicitVRLittleEndian, pack("<HH2sHL", 0x0009, 0x1001, b"OB", 0, 0xFFFFFFF0))
    os.truncate(path, 5 << 30)
    return path


def lying_j2k(path: Path) -> Path:
    """A codestream of 60000 x 60000 in a header of 200 x 240."""
    good = pydicom.dcmread(write(full_window(Encoding("j2k", syntax=JPEG2000Lossless)), path))
    frame = bytearray(pydicom.encaps.get_frame(good.PixelData, 0, number_of_frames=1))
    at = frame.find(b"\xff\x51") + 6
    frame[at : at + 8] = pack(">LL", 60_000, 60_000)
    return compressed(path, header_of(*truth().shape), bytes(frame), JPEG2000)


def rle_bomb(path: Path) -> Path:
    """Eight megabytes of runs for a frame of 64 x 64: half a gigabyte if they were all unpacked."""
    runs = b"\x81\x00" * (4 << 20)
    frame = pack("<16L", 2, 64, 64 + 10, *[0] * 13) + runs
    return compressed(path, header_of(64, 64), frame, RLELossless)


def huge_frame(path: Path) -> Path:
    """Rows and columns that multiply to four gigapixels."""
    return save(header_of(65535, 65535, PixelData=bytes(8192)), path)


def many_frames(path: Path) -> Path:
    return save(header_of(64, 64, NumberOfFrames=2_000_000_000, PixelData=bytes(8192)), path)


BOMBS = {
    "deflate": (deflate_bomb, "DECODER_LIMIT"),
    "a million elements": (million_elements, "UNREADABLE"),
    "a million items": (million_items, "UNREADABLE"),
    "nesting": (deep_nesting, "UNREADABLE"),
    "an element of 4 GB": (huge_element, "UNREADABLE"),
    "JPEG 2000 that lies": (lying_j2k, "TOO_LARGE"),
    "RLE": (rle_bomb, "UNREADABLE"),
    "four gigapixels": (huge_frame, "TOO_LARGE"),
    "two billion frames": (many_frames, "MANY_FRAMES"),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_ends_in_a_code(bomb: str, reader: Reader, tmp_path: Path) -> None:
    """It is refused with the code that fits, the node's memory does not grow, and the next film is read."""
    make, code = BOMBS[bomb]
    path = make(tmp_path / "bomb.dcm")
    reader.process_id()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert refusal(reader, path) == code
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 16 * 1024
    assert len(reader.read(radiograph(tmp_path / "film.dcm"))) == 1


def refusal(reader: Reader, path: Path) -> str:
    with pytest.raises((Ungradable, Permanent)) as refused:
        reader.read(path)
    return refused.value.reason.code


def test_decoding_has_no_more_memory_than_it_may(tmp_path: Path) -> None:
    """An honest film that needs more than the limit is DECODER_LIMIT, and read where the limit is higher."""
    way = full_window(Encoding("large", syntax=JPEG2000Lossless))
    path = write(way, tmp_path / "large.dcm", np.kron(truth(), np.ones((10, 10))))
    for memory_mb, readable in ((24, False), (1024, True)):
        reader = Reader(seconds=30, memory_mb=memory_mb, max_megapixels=MEGAPIXELS)
        try:
            if readable:
                assert reader.read(path)[0].pixels.shape == (2000, 2400)
            else:
                assert refusal(reader, path) == "DECODER_LIMIT"
                assert len(reader.read(radiograph(tmp_path / "film.dcm"))) == 1
        finally:
            reader.close()


def test_the_process_is_killed_when_time_is_up(hasty: Reader, endless: Path, tmp_path: Path) -> None:
    """A file that hangs is DECODER_LIMIT; the process is gone, and another reads the next film."""
    hung = hasty.process_id()
    assert refusal(hasty, endless) == "DECODER_LIMIT"
    assert not alive(hung)
    assert len(hasty.read(radiograph(tmp_path / "film.dcm"))) == 1
    assert hasty.process_id() != hung


@pytest.mark.parametrize(
    ("how", "code"),
    [(signal.SIGKILL, "DECODER_LIMIT"), (signal.SIGXCPU, "DECODER_LIMIT"), (signal.SIGSEGV, "UNREADABLE")],
)
def test_a_process_that_dies_is_a_code(how: signal.Signals, code: str, endless: Path, tmp_path: Path) -> None:
    """Killed by the kernel is a limit; a crash is a file that cannot be read. Either way the next film is read."""
    reader = Reader(seconds=60, memory_mb=MEMORY_MB, max_megapixels=MEGAPIXELS)
    done = threading.Event()
    killer = threading.Thread(target=kill_whoever_reads, args=(reader, endless, how, done))
    killer.start()
    assert refusal(reader, endless) == code
    done.set()
    killer.join()
    assert len(reader.read(radiograph(tmp_path / "film.dcm"))) == 1
    reader.close()


def kill_whoever_reads(reader: Reader, endless: Path, how: signal.Signals, done: threading.Event) -> None:
    """Each process that opens the endless file dies of that signal."""
    while not done.wait(0.05):
        try:
            writer = os.open(endless, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:  # nobody reads yet
            continue
        assert reader._decoder is not None
        os.kill(reader._decoder.pid, how)
        done.wait(0.2)
        os.close(writer)


def test_a_process_that_died_while_idle_costs_no_film(tmp_path: Path) -> None:
    """The kernel may take the decoder between two films; the next one knows nothing of it."""
    reader = Reader(seconds=20, memory_mb=MEMORY_MB, max_megapixels=MEGAPIXELS)
    path = radiograph(tmp_path / "film.dcm")
    os.kill(reader.process_id(), signal.SIGSEGV)
    assert len(reader.read(path)) == 1
    reader.close()


def test_a_codec_that_crashes_is_left_out(tmp_path: Path) -> None:
    """The process says which codec it tries; the file is read by the next one, in the next process."""
    broken = tmp_path / "site"
    broken.mkdir()
    crash = "import os, signal\nclass Version:\n    GetVersion = staticmethod(lambda: '3.2.6')\n"
    crash += "def Fragment():\n    os.kill(os.getpid(), signal.SIGSEGV)\n"
    (broken / "gdcm.py").write_text(crash)
    path = write(full_window(Encoding("jpeg", syntax=JPEGLosslessSV1)), tmp_path / "film.dcm")
    sys.path.insert(0, str(broken))  # the decoder process looks where its parent does
    try:
        reader = Reader(seconds=20, memory_mb=MEMORY_MB, max_megapixels=MEGAPIXELS)
        first = reader.process_id()
        (film,) = reader.read(path)
        assert np.abs(film.pixels - truth()).max() < 0.01
        assert reader.process_id() != first
        reader.close()
    finally:
        sys.path.remove(str(broken))


def test_the_process_inherits_nothing_it_does_not_need(monkeypatch: pytest.MonkeyPatch) -> None:
    """No listening socket, no settings with passwords, no GPU; no file may be written, and memory is bounded."""
    monkeypatch.setenv("GENU__ADMIN__PASSWORD", "secret")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.set_inheritable(True)
        reader = Reader(seconds=5, memory_mb=MEMORY_MB, max_megapixels=MEGAPIXELS)
        process = Path(f"/proc/{reader.process_id()}")
        opened = [str(each.readlink()) for each in (process / "fd").iterdir()]
        assert sum(each.startswith("socket:") for each in opened) == 1
        assert f"socket:[{os.fstat(listening.fileno()).st_ino}]" not in opened
        variables = (process / "environ").read_bytes().split(b"\0")
        assert not any(each.startswith(b"GENU__") for each in variables)
        assert b"CUDA_VISIBLE_DEVICES=" in variables
        told = {line[:25].strip(): line[26:46].strip() for line in (process / "limits").read_text().splitlines()}
        assert (told["Max file size"], told["Max core file size"]) == ("0", "0")
        assert MEMORY_MB << 20 < int(told["Max address space"]) < (MEMORY_MB + 2048) << 20
        reader.close()


@pytest.mark.parametrize("busy", [False, True])
def test_the_process_dies_with_its_parent(busy: bool, endless: Path) -> None:
    """A worker that is killed leaves no decoder behind, idle or in the middle of a file."""
    code = (
        "import sys, pathlib; from workers.read import Reader\n"
        "reader = Reader(seconds=600, memory_mb=512, max_megapixels=9)\n"
        "print(reader.process_id(), flush=True)\n"
        f"reader.read(pathlib.Path({str(endless)!r})) if {busy} else sys.stdin.read()\n"
    )
    root = ROOT
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root, text=True
    ) as parent:
        assert parent.stdout is not None
        decoder = int(parent.stdout.readline())
        assert alive(decoder)
        if busy:
            assert wait_until(lambda: Path(f"/proc/{decoder}/wchan").read_text() != "" and alive(decoder))
        parent.kill()
    assert wait_until(lambda: not alive(decoder))


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_threads_take_turns(reader: Reader, tmp_path: Path) -> None:
    """Two threads that read at once each get their own film."""
    paths = [radiograph(tmp_path / f"{each}.dcm", PatientID=str(each)) for each in range(4)]
    got: dict[int, str] = {}

    def read(number: int) -> None:
        for _ in range(10):
            got[number] = str(reader.read(paths[number])[0].header.PatientID)
            assert got[number] == str(number)

    threads = [threading.Thread(target=read, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == {number: str(number) for number in range(4)}


def test_a_fork_reads_with_a_process_of_its_own(reader: Reader, tmp_path: Path) -> None:
    """A forked worker does not talk into its parent's decoder."""
    path, ours = radiograph(tmp_path / "film.dcm"), reader.process_id()
    child = os.fork()
    if child == 0:
        well = False
        try:
            well = len(reader.read(path)) == 1 and reader.process_id() != ours
            reader.close()
        finally:
            os._exit(0 if well else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert reader.process_id() == ours
    assert len(reader.read(path)) == 1


def test_a_process_that_keeps_memory_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Codecs leak; a process that has grown too much makes way for a fresh one, and nobody notices."""
    reader = Reader(seconds=20, memory_mb=MEMORY_MB, max_megapixels=MEGAPIXELS)
    path, first = radiograph(tmp_path / "film.dcm"), reader.process_id()
    assert len(reader.read(path)) == 1
    assert reader.process_id() == first
    monkeypatch.setattr("workers.read.decoder.LEAK_MB", -1000)
    assert len(reader.read(path)) == 1
    assert reader.process_id() != first
    reader.close()


def test_a_closed_reader_reads_again(tmp_path: Path) -> None:
    """Closing ends the process; reading starts another."""
    reader = Reader(seconds=20, memory_mb=MEMORY_MB, max_megapixels=MEGAPIXELS)
    first = reader.process_id()
    reader.close()
    assert not alive(first)
    assert len(reader.read(radiograph(tmp_path / "film.dcm"))) == 1
    reader.close()


def test_a_missing_file_is_file_lost(reader: Reader, tmp_path: Path) -> None:
    """The vault's file may be gone: that is the node's fault, not the film's."""
    assert refusal(reader, tmp_path / "nowhere.dcm") == "FILE_LOST"


def test_a_refused_object_still_has_a_header(reader: Reader, tmp_path: Path) -> None:
    """A refusal is reported beside its source, so the source's header can be had."""
    path = radiograph(tmp_path / "mr.dcm", Modality="MR")
    assert refusal(reader, path) == "NOT_A_RADIOGRAPH"
    assert reader.header(path).PatientID == "P1"
