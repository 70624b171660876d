"""Processes that read images: whatever happens to one costs the image that it had in hand, and no other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from typer.testing import CliRunner

from support import decoders
from support.fakes import FakeModel
from support.fixtures import SaveImage
from zeroshot.cli.main import app
from zeroshot.errors import ImageError, ZeroshotError
from zeroshot.features import pipeline
from zeroshot.features.pipeline import Pipeline, encode_batches
from zeroshot.images import isolate
from zeroshot.images.isolate import Isolation, isolated

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs file descriptors that can be passed on")


class Reader:
    """Has files read by `decoders.obey` in a process, each holding one order."""

    def __init__(self, folder: Path, how: Isolation) -> None:
        self._path = folder / "order"
        self._context = isolated(decoders.obey, how)

    def __enter__(self) -> Reader:
        self._read = self._context.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._context.__exit__(None, None, None)

    def __call__(self, order: str = "pid") -> object:
        self._path.write_text(order)
        with self._path.open("rb") as file:
            return self._read(file)

    def fails(self, order: str) -> str:
        with pytest.raises(ImageError) as caught:
            self(order)
        return caught.value.message


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    with Reader(tmp_path, Isolation(seconds=0.2)) as made:
        yield made


def is_running(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not (status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z")


def assert_ends(pid: int) -> None:
    until = time.monotonic() + 20
    while is_running(pid):
        assert time.monotonic() < until, f"{pid} is still running"
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("order", "reason"),
    [
        ("signal SIGSEGV", "its decoder crashed (SIGSEGV)"),
        ("signal SIGABRT", "its decoder crashed (SIGABRT)"),
        ("signal SIGKILL", "its decoder was killed (SIGKILL), as happens when memory runs out"),
        ("exit 0", "its decoder ended its process (exit code 0)"),
        ("exit 3", "its decoder ended its process (exit code 3)"),
        ("close", "its decoder stopped answering"),
        ("hang /dev/null", "took longer than 0.2 s (--image-timeout raises the limit)"),
        ("hang-locked /dev/null", "took longer than 0.2 s (--image-timeout raises the limit)"),
    ],
)
def test_a_fault_costs_one_image(reader: Reader, order: str, reason: str) -> None:
    """The image in hand fails with what happened; those before and after it are read."""
    before = reader()
    assert reader() == before != os.getpid()
    assert reader.fails(order) == reason
    assert reader() not in (before, os.getpid())


def test_faults_among_many(tmp_path: Path) -> None:
    """With several workers at once each fault hits its own image, and answers come to where they were asked for."""
    orders = [["signal SIGSEGV", "exit 0", "pid", "pid", "hang /dev/null", "pid", "raise x"][i % 7] for i in range(14)]
    for number, order in enumerate(orders):
        (tmp_path / str(number)).write_text(order)
    with isolated(decoders.obey, Isolation(seconds=0.2)) as read, ThreadPoolExecutor(3) as pool:

        def outcome(number: int) -> str:
            try:
                with (tmp_path / str(number)).open("rb") as file:
                    return type(read(file)).__name__
            except (ImageError, ZeroDivisionError) as error:
                return str(error)

        found = list(pool.map(outcome, range(len(orders))))
    expected = {
        "signal SIGSEGV": "its decoder crashed (SIGSEGV)",
        "exit 0": "its decoder ended its process (exit code 0)",
        "pid": "int",
        "hang /dev/null": "took longer than 0.2 s (--image-timeout raises the limit)",
        "raise x": "x",
    }
    assert found == [expected[order] for order in orders]


def test_a_child_that_dies_idle_is_nobodys_fault(reader: Reader) -> None:
    """A process that is killed between two images is started anew, and no image is blamed."""
    pid = reader()
    assert isinstance(pid, int)
    os.kill(pid, signal.SIGKILL)
    assert_ends(pid)
    assert reader() != pid


def test_what_the_reader_raises_is_raised(reader: Reader) -> None:
    """A bug keeps its type and traceback, and the process goes on."""
    before = reader()
    with pytest.raises(ZeroDivisionError, match="by hand") as caught:
        reader("raise by hand")
    assert "decoders.py" in caught.value.__notes__[0]
    assert reader() == before


@pytest.mark.skipif(sys.platform != "linux", reason="other kernels do not count it")
def test_memory_is_limited(tmp_path: Path) -> None:
    """A decoder that takes more memory than its image may is refused it."""
    with Reader(tmp_path, Isolation(memory=1 << 20)) as reader:
        assert reader(f"allocate {1 << 26}") == 1 << 26
        with pytest.raises(MemoryError):
            reader(f"allocate {2 << 30}")


def test_memory_beyond_all_bounds(tmp_path: Path) -> None:
    """A limit that is more than the system can count to is none."""
    with Reader(tmp_path, Isolation(memory=1 << 80)) as reader:
        assert reader() != os.getpid()


def test_nothing_reaches_stdout(reader: Reader, capfd: pytest.CaptureFixture[str]) -> None:
    """What a decoder prints does not come among the records."""
    reader("print")
    assert capfd.readouterr().out == ""


def test_no_child_outlives_the_run(tmp_path: Path) -> None:
    """Leaving ends the idle and the hanging alike, at once."""
    with Reader(tmp_path, Isolation()) as reader, ThreadPoolExecutor(1) as pool:
        idle = reader()
        (tmp_path / "hanging").write_text(f"hang {tmp_path / 'pid'}")
        with (tmp_path / "hanging").open("rb") as file:
            answer = pool.submit(reader._read, file)
            while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
                time.sleep(0.01)
            reader.__exit__()
            assert isinstance(answer.exception(timeout=20), ImageError)
        assert isinstance(idle, int)
        for pid in (idle, int((tmp_path / "pid").read_text())):
            assert_ends(pid)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a child that hangs ends when its time is up")
@pytest.mark.parametrize("order", ["hang", "hang-locked"])
def test_children_die_with_a_killed_parent(tmp_path: Path, order: str) -> None:
    """SIGKILL to the parent ends a child in the middle of a decoder that never lets go."""
    (tmp_path / "order").write_text(f"{order} {tmp_path / 'pid'}")
    program = (
        f"import sys; sys.path[:] = {sys.path!r}\n"
        "from support import decoders; from zeroshot.images.isolate import *\n"
        f"with isolated(decoders.obey, Isolation()) as read: read(open({str(tmp_path / 'order')!r}, 'rb'))"
    )
    with subprocess.Popen([sys.executable, "-c", program]) as parent:
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            assert parent.poll() is None
            time.sleep(0.01)
        parent.kill()
    assert_ends(int((tmp_path / "pid").read_text()))


def test_processes_that_cannot_be_started(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    """That is an error of the run, which no image is blamed for."""
    monkeypatch.setattr(isolate, "_BOOT", "raise SystemExit(1)")
    with pytest.raises(ZeroshotError, match="cannot be started") as caught:
        reader()
    assert not isinstance(caught.value, ImageError)
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(ZeroshotError, match="No such file"):
        reader()


def run(*arguments: object) -> tuple[int, bytes, str]:
    result = CliRunner().invoke(app, ["classify", *map(str, arguments), "--labels", "red,green,blue"])
    return result.exit_code, result.stdout_bytes, result.stderr


@pytest.fixture
def folder(images: SaveImage, tmp_path: Path) -> Path:
    """Twenty images, some of which cannot be read."""
    for number in range(20):
        path = images(f"in/{number}.png", ("red", "green", "blue")[number % 3], (9 + number, 20))
        if number % 6 == 5:
            path.write_bytes(path.read_bytes()[:50])
    return tmp_path / "in"


@pytest.mark.parametrize("fixed_batches", [[], ["--resume"]])
def test_the_same_bytes_as_with_threads(
    fake_model: FakeModel, folder: Path, tmp_path: Path, fixed_batches: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records are byte for byte those of threads; what the cache knows needs no process."""
    outputs = [tmp_path / name for name in ("threads", "processes", "cached")]
    common = [folder, "--batch-size", 4, "--workers", 2, *fixed_batches, "--format", "jsonl"]
    assert run(*common, "--no-cache", "--output", outputs[0])[0] == 3
    assert run(*common, "--isolate", "--output", outputs[1])[0] == 3
    for path in folder.iterdir():  # those that failed are not in the cache
        if int(path.stem) % 6 == 5:
            path.unlink()
    monkeypatch.setattr(subprocess, "Popen", None)  # no process can be started now
    assert run(*common, "--isolate", "--output", outputs[2])[0] == 0
    threads, processes, cached = (path.read_bytes() for path in outputs)
    assert threads == processes
    assert cached.splitlines() == [line for line in threads.splitlines() if b'"error"' not in line]


def test_a_run_over_images_that_crash_and_hang(
    fake_model: FakeModel, folder: Path, images: SaveImage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each is one failed record in its place that says what happened; the report leaves them out; exit code 3."""
    monkeypatch.setattr(pipeline, "read_pixels", decoders.read_pixels)
    whole = run(folder, "--isolate")[1].splitlines()
    images("in/7a.png", "red", (1, 5))
    images("in/9a.png", "red", (5, 1))
    images("in/9b.png", "red", (1, 6))
    command = [folder, "--isolate", "--image-timeout", 0.2, "--workers", 2, "--report", tmp_path / "page.html"]
    code, stdout, stderr = run(*command)
    assert code == 3
    lines = stdout.splitlines()
    (crashed, hung, again) = (lines.pop(8), lines.pop(10), lines.pop(10))
    assert lines == whole
    assert b'7a.png", "status": "failed", "error": "its decoder crashed (SIGSEGV)"}' in crashed
    assert b'9a.png", "status": "failed", "error": "took longer than 0.2 s (--image-timeout raises the limit)"}' in hung
    assert b'9b.png", "status": "failed", "error": "its decoder crashed (SIGSEGV)"}' in again
    assert "6 of 23 inputs could not be read" in stderr


def test_a_time_limit_needs_processes(fake_model: FakeModel, folder: Path) -> None:
    """Asked of threads, it is a usage error that says so, before a model is loaded."""
    code, _, stderr = run(folder, "--image-timeout", 5)
    assert code == 2
    assert "--image-timeout needs --isolate" in stderr
    assert fake_model.calls == []


def test_a_run_that_is_left_early(fake_model: FakeModel, images: SaveImage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing the run does not wait for a decoder that hangs."""
    monkeypatch.setattr(pipeline, "read_pixels", decoders.read_pixels)
    paths = [str(images("1.png", "red")), *[str(images("2.png", "red", (5, 1)))] * 5]
    batches = encode_batches(fake_model.encoder, paths, Pipeline(1, 2, isolation=Isolation()))
    assert next(batches)[0].features is not None
    begun = time.monotonic()
    batches.close()  # type: ignore[attr-defined]
    assert time.monotonic() - begun < 10
