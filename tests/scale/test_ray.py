"""Runs on a real Ray cluster on this machine: the bytes of one unbroken run, whatever is killed meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.commands import run
from support.fakes import COLOURS
from support.fixtures import SaveImage
from support.ray_cluster import processes, ray_cluster
from unit.test_archives import make_tar, make_zip, png

LABELS = ("--labels", "red,green,blue", "--model", "tiny")


@pytest.fixture(scope="module")
def cluster() -> Iterator[dict[str, str]]:
    with ray_cluster() as environment:
        yield environment


@pytest.fixture
def inputs(images: SaveImage, tmp_path: Path) -> list[str]:
    """A folder with an image that cannot be read, a tar, a zip, and a file that is gone."""
    for number in range(120):
        images(f"all/{number}.png", (2 * number, 255 - 2 * number, 7 * number % 256))
    (tmp_path / "all" / "broken.png").write_bytes(b"broken")
    content = [(f"{number}.png", png(colour)) for number, colour in enumerate(COLOURS)] + [("bad.png", b"bad")]
    archives = [str(make_tar(tmp_path / "x.tar", content)), str(make_zip(tmp_path / "x.zip", content))]
    return [str(tmp_path / "all"), *archives, str(tmp_path / "none.png")]


@pytest.fixture
def planned(inputs: list[str], tmp_path: Path) -> tuple[Path, bytes]:
    """A run in shards of three images, and the bytes of one unbroken run."""
    into, whole = tmp_path / "run", tmp_path / "whole.jsonl"
    assert run("run", "plan", *inputs, *LABELS, "--into", into, "--shard-size", 3).exit_code == 0
    assert run("classify", *inputs, *LABELS, "-o", whole, "--resume", "--no-cache").exit_code == 3
    return into, whole.read_bytes()


def start(into: Path, environment: dict[str, str], *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "zeroshot", "run", "work", str(into), "--on", "ray", "--actors", "2", *options],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def until(holds: Callable[[], object], process: subprocess.Popen[str]) -> None:
    while not holds() and process.poll() is None:
        time.sleep(0.02)


def merged(into: Path) -> bytes:
    target = into.parent / "merged.jsonl"
    outcome = run("run", "merge", into, "-o", target)
    assert outcome.exit_code == 3, outcome.output
    return target.read_bytes()


@pytest.mark.slow
def test_actors_and_readers_that_are_killed_cost_nothing(planned: tuple[Path, bytes], cluster: dict[str, str]) -> None:
    """With actors and reading processes killed in the middle, nothing is lost or there twice, and no byte differs."""
    into, whole = planned
    process = start(into, cluster)
    done, killed = into / "done", 0
    for count, name in ((2, "ray::_Processor"), (6, "ray::_read"), (10, "ray::_Processor"), (14, "ray::_Processor")):
        until(lambda: done.is_dir() and len(list(done.iterdir())) >= count, process)  # noqa: B023
        until(lambda: processes(cluster, name), process)  # noqa: B023
        for pid in processes(cluster, name)[:1]:
            os.kill(pid, signal.SIGKILL)
            killed += 1
    told, complaints = process.communicate()
    assert process.returncode == 3, complaints
    assert not told
    assert f"{len(list(done.iterdir()))} shards with 142 images are committed" in complaints
    assert "4 of them could not be read" in complaints
    assert killed >= 3
    assert merged(into) == whole


@pytest.mark.slow
def test_a_driver_that_is_stopped_is_continued(planned: tuple[Path, bytes], cluster: dict[str, str]) -> None:
    """After Ctrl-C and after SIGKILL of the driver, the same command goes on, and its actors end with it."""
    into, whole = planned
    for number, code in ((signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)):
        before = len(list((into / "done").iterdir())) if (into / "done").is_dir() else 0
        process = start(into, cluster)
        until(lambda: (into / "done").is_dir() and len(list((into / "done").iterdir())) > before + 2, process)  # noqa: B023
        process.send_signal(number)
        _, complaints = process.communicate()
        assert process.returncode == code, complaints
        assert number == signal.SIGKILL or "the same command continues" in complaints
    assert run("run", "merge", into, "-o", into.parent / "early.jsonl").exit_code == 1
    process = start(into, cluster)
    _, complaints = process.communicate()
    assert process.returncode in (0, 3), complaints
    assert merged(into) == whole
    for _ in range(500):
        if not processes(cluster, "ray::_Processor"):
            break
        time.sleep(0.02)
    assert not processes(cluster, "ray::_Processor")


@pytest.mark.slow
def test_what_a_user_can_fix_is_one_line(planned: tuple[Path, bytes], cluster: dict[str, str]) -> None:
    """An error in an actor is told as it is on one machine; so is a cluster that refuses the token."""
    into, _ = planned
    (listed,) = (into / "inputs").glob("00004-*.jsonl")
    listed.write_text('"other.png"\n')
    process = start(into, cluster)
    _, complaints = process.communicate()
    assert process.returncode == 1
    assert f"{listed.name} is gone, or not the list that was planned" in complaints and "Traceback" not in complaints
    process = start(into, cluster | {"RAY_AUTH_TOKEN": "0" * 32})
    _, complaints = process.communicate()
    assert process.returncode == 1
    assert "no Ray cluster answers at" in complaints and "Traceback" not in complaints


def test_options_of_other_executors_are_refused(tmp_path: Path) -> None:
    """Only Ray is an executor with an address, and only it has actors."""
    for options in (("--on", "spark"), ("--on", "ray="), ("--actors", "2")):
        assert run("run", "work", tmp_path, *options).exit_code == 2
