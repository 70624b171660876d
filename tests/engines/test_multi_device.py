"""One model on several devices: what comes out is what one gives, and what goes wrong on one of them is told."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from support.commands import run
from support.fakes import FakeEncoder, load_in_process
from support.fixtures import SaveImage
from zeroshot.encoder import ParallelEncoder
from zeroshot.engines.multi_device import SeveralDevices
from zeroshot.errors import ModelError, ResourceError
from zeroshot.features.pipeline import Encoded, Pipeline, encode_batches

LABELS = ("--labels", "red,green,blue", "--model", "tiny", "--no-cache")


@contextmanager
def several(*how: str) -> Iterator[tuple[SeveralDevices, list[str]]]:
    """Start a process a device, each of which behaves in a way of `load_in_process`."""
    warnings: list[str] = []
    loads = [(f"cpu:{number}", partial(load_in_process, one)) for number, one in enumerate(how)]
    try:
        yield SeveralDevices(loads, warnings.append), warnings
    finally:
        for process in multiprocessing.active_children():
            process.kill()


@pytest.fixture
def paths(images: SaveImage, tmp_path: Path) -> list[str]:
    made = [str(images(f"all/{number}.png", (5 * number, 250 - 5 * number, 128))) for number in range(50)]
    (tmp_path / "all" / "bad.png").write_bytes(b"bad")
    return [*made[:17], str(tmp_path / "all" / "bad.png"), *made[17:]]


def rows(batches: Iterator[list[Encoded]]) -> list[tuple[str, bytes | None, str]]:
    return [
        (item.path, None if item.features is None else item.features.tobytes(), item.error)
        for batch in batches
        for item in batch
    ]


def test_several_devices_give_what_one_gives(paths: list[str]) -> None:
    """Whichever device takes a batch, the same features come in the same order; a warning is told once."""
    pipeline = Pipeline(4, 2, fixed_batches=True)
    with several("well", "well", "well") as (encoder, warnings):
        assert isinstance(encoder, ParallelEncoder) and not isinstance(FakeEncoder(), ParallelEncoder)
        assert warnings == ["a warning of every device"]
        assert encoder.spec == FakeEncoder().spec
        assert rows(encode_batches(encoder, paths, pipeline)) == rows(encode_batches(FakeEncoder(), paths, pipeline))
        assert (encoder.encode_texts(["red"]) == FakeEncoder().encode_texts(["red"])).all()
        assert encoder.count_tokens(["a b"]) == [4]
        assert (
            encoder.encode_images(np.zeros((2, 8, 8, 3), np.uint8))
            == FakeEncoder().encode_images(np.zeros((2, 8, 8, 3), np.uint8))
        ).all()


@pytest.mark.parametrize(("how", "said"), [("dies", r"on cpu:1 ended \(SIGKILL\)"), ("fails", "memory of the device")])
def test_what_goes_wrong_on_one_device_is_told(how: str, said: str, paths: list[str]) -> None:
    """A process that is killed, and an engine that gives up, are errors that a user can act on; no batch is skipped."""
    with several("well", how) as (encoder, _):
        read = 0
        with pytest.raises(ResourceError, match=said) as told:
            for batch in encode_batches(encoder, paths, Pipeline(2, 2)):
                assert [item.path for item in batch] == paths[read : read + len(batch)]
                read += len(batch)
        assert told.value.hint and read < len(paths)


def test_a_model_that_cannot_be_loaded_is_told(paths: list[str]) -> None:
    """As on one device."""
    with pytest.raises(ModelError, match="there is no such model"), several("well", "no model"):
        pass


def test_answers_do_not_wait_for_later_images(images: SaveImage) -> None:
    """Where paths trickle in, each is answered before the next one comes."""
    answered: list[str] = []

    def slowly() -> Iterator[str]:
        for number in range(4):
            yield str(images(f"{number}.png", "red"))
            deadline = time.monotonic() + 60
            while len(answered) <= number and time.monotonic() < deadline:
                time.sleep(0.005)
            assert len(answered) > number

    with several("well", "well") as (encoder, _):
        for batch in encode_batches(encoder, slowly(), Pipeline(8, 1)):
            answered.extend(item.path for item in batch)
    assert len(answered) == 4


@pytest.mark.parametrize("command", ["classify", "eval", "features"])
def test_commands_run_on_several_devices(command: str, images: SaveImage, tmp_path: Path) -> None:
    """The output is that of one device, to the byte."""
    for number in range(9):
        images(f"data/{'red' if number % 2 else 'blue'}/{number}.png", "red" if number % 2 else (0, 9 * number, 255))
    options = {
        "classify": ("--labels", "red,blue", "--format", "jsonl"),
        "eval": ("--format", "json"),
        "features": (),
    }[command]
    made = []
    for device in ("cpu", "cpu:0,1"):
        target = tmp_path / f"{device}.{'npz' if command == 'features' else 'json'}"
        outcome = run(
            command,
            tmp_path / "data",
            *options,
            "--model",
            "tiny",
            "--no-cache",
            "--batch-size",
            2,
            "--device",
            device,
            "-o",
            target,
            *(("--resume",) if command == "classify" else ()),
        )
        assert outcome.exit_code == 0, outcome.output
        made.append(target.read_bytes() if command != "features" else np.load(target)["features"].tobytes())
    assert made[0] == made[1]


def test_ctrl_c_ends_every_process(images: SaveImage, tmp_path: Path) -> None:
    """A command that is interrupted exits with 130, says how to go on, and leaves no process behind."""
    for number in range(70):
        images(f"all/{number}.png", "red")
    marker = f"MARKER{os.getpid()}"
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "zeroshot",
            "classify",
            "-",
            *LABELS,
            "--device",
            "cpu:0,1",
            "-o",
            "x.jsonl",
            "--resume",
        ],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"MARKER": marker},
        start_new_session=True,
    )
    assert process.stdin and process.stderr
    process.stdin.write(b"".join(f"all/{number}.png\n".encode() for number in range(70)))
    process.stdin.flush()
    partial_file = tmp_path / "x.jsonl.partial"
    while not (partial_file.exists() and b'"label"' in partial_file.read_bytes()) and process.poll() is None:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
    complaints = process.stderr.read().decode()
    assert process.wait() == 130, complaints
    assert "the same command continues" in complaints and "Traceback" not in complaints
    for _ in range(500):
        if not with_marker(marker):
            return
        time.sleep(0.02)
    raise AssertionError(with_marker(marker))


def with_marker(marker: str) -> list[str]:
    """Return the processes whose environment holds a text."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdecimal() and marker.encode() in (folder / "environ").read_bytes():
                found.append((folder / "cmdline").read_text())
        except OSError:
            continue
    return found
