"""Runs that are stopped anywhere lose nothing: a short, seeded part of what `tools/fault_tests.py` tries."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import zeroshot
from support.fault_injection import Fault, Server
from support.fault_runs import (
    LABELS,
    CacheFaultRun,
    ResumeFaultRun,
    ShardsFaultRun,
    SortFaultRun,
    Tally,
    journals,
    make_many,
    read_tree,
    workplace,
)

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs fork and POSIX signals")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder for the commands of this file."""
    return tmp_path_factory.mktemp("faults") / "cache"


@pytest.fixture(scope="module")
def server(cache: Path) -> Iterator[Server]:
    """A process that has everything imported."""
    with Server(cache) as running:
        yield running


@pytest.fixture
def tally() -> Iterator[Tally]:
    """Counts what is tried; no problem may be left at the end."""
    counted = Tally()
    yield counted
    assert counted.problems == []


@pytest.mark.slow
def test_sorting_survives_being_stopped(server: Server, tmp_path: Path, tally: Tally) -> None:
    """After a stop anywhere every image is whole somewhere, a rerun finishes, and undo restores everything."""
    fault_run = SortFaultRun(server, tmp_path, tally)
    for seed in range(8):
        fault_run.try_random(random.Random(seed))
    assert tally.stopped >= 4
    assert tally.counts["images lost"] == 0


@pytest.mark.slow
def test_results_survive_being_stopped(server: Server, tmp_path: Path, tally: Tally) -> None:
    """After stops, full disks and torn ends the finished file is byte for byte that of an unbroken run."""
    fault_run = ResumeFaultRun(server, tmp_path, tally, count=14)
    for seed in range(8):
        fault_run.try_random(random.Random(seed))
    assert tally.stopped >= 4
    assert tally.counts["records lost"] == 0


@pytest.mark.slow
def test_runs_survive_being_stopped(server: Server, tmp_path: Path, tally: Tally) -> None:
    """After stops of 1, 2 or 4 workers the merged file is byte for byte that of one unbroken run."""
    fault_run = ShardsFaultRun(server, tmp_path, tally, count=24)
    for seed in range(5):
        fault_run.try_random(random.Random(seed))
    assert tally.stopped >= 5
    assert tally.counts["records lost"] == tally.counts["records twice"] == 0


def test_the_cache_survives_being_stopped(server: Server, tmp_path: Path, cache: Path, tally: Tally) -> None:
    """Killed runs, several at once, and damaged cache files never change an answer."""
    fault_run = CacheFaultRun(server, tmp_path, tally, cache)
    for seed in range(4):
        fault_run.try_random(random.Random(seed))


def test_signals_end_a_run_cleanly(server: Server, tmp_path: Path) -> None:
    """SIGTERM ends with 143, Ctrl-C with 130, closing the terminal with 129, each after the step in hand."""
    for number, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)):
        with workplace(tmp_path / "work") as (src, into):
            before = read_tree(src)
            command = ["sort", src, "--into", into, "--labels", LABELS, "--move", "--no-cache"]
            ended = server.run(command, Fault(at=20, signal=number))
            assert ended.code == code, ended.stderr
            assert "interrupted" in ended.stderr
            (journal,) = journals(into)
            entries = [json.loads(line) for line in journal.read_bytes().splitlines()]
            begun = [entry["begin"] for entry in entries if "begin" in entry]
            assert [entry["done"] for entry in entries if "done" in entry] == begun
            assert f"{len(begun)} of 9 sorted" in ended.stderr
            assert ended.stdout.strip() == str(journal)
            assert server.run(["undo", journal]).code == 0
            assert read_tree(src) == before


def test_two_runs_on_one_output(server: Server, tmp_path: Path) -> None:
    """Of two runs that write one file at once, one does and the other says so; the file is one run's."""
    make_many(tmp_path / "src", 12)
    for more in (["--resume"], []):
        output = tmp_path / f"out{len(more)}"
        command = ["classify", tmp_path / "src", "--labels", LABELS, "--no-cache", "-o", output, "-f", "jsonl", *more]
        ends = server.run_together([(command, Fault())] * 4)
        assert {end.code for end in ends} <= {1, 3}
        assert any(end.code == 3 for end in ends)
        assert all("another run is writing" in end.stderr for end in ends if end.code == 1)
        assert not any(end.crashed for end in ends)
        lines = output.read_bytes().splitlines()
        assert len(lines) == 12
        assert all(json.loads(line) for line in lines)


def test_two_sorts_of_one_folder(server: Server, tmp_path: Path) -> None:
    """Runs that move the same images at once lose none, and their journals together restore every one."""
    with workplace(tmp_path / "work") as (src, into):
        before = read_tree(src)
        command = ["sort", src, "--into", into, "--labels", LABELS, "--move", "--no-cache"]
        ends = server.run_together([(command, Fault())] * 3)
        assert not any(end.crashed for end in ends), ends
        contents = {content for content, _ in (*read_tree(src).values(), *read_tree(into).values())}
        assert contents >= {content for content, _ in before.values()}
        for _ in range(2):  # a journal's image may stand where another journal's was
            for journal in journals(into):
                server.run(["undo", journal])
        assert read_tree(src) == before


def test_read_only_folders(server: Server) -> None:
    """Where nothing may be written the command says so, and images that cannot be taken from their folder stay."""
    package = Path(zeroshot.__file__).resolve()
    if os.geteuid() == 0 and not all(parent.stat().st_mode & stat.S_IXOTH for parent in package.parents):
        pytest.skip("another user cannot read the installed package")
    base = Path(tempfile.mkdtemp())  # pytest's own folder is closed to other users
    base.chmod(0o755)
    with workplace(base / "work") as (src, into):
        before = read_tree(src)
        nobody = Fault(user=65534) if os.geteuid() == 0 else Fault()
        for folder in (src, *(path for path in src.rglob("*") if path.is_dir())):
            folder.chmod(0o555)
        command = ["sort", src, "--labels", LABELS, "--no-cache", "--move", "--into"]
        ended = server.run([*command, base / "work" / "closed" / "into"], nobody)
        assert (ended.code, ended.crashed) == (1, False), ended.stderr
        into.mkdir()
        into.chmod(0o777)
        ended = server.run([*command, into], nobody)
        assert (ended.code, ended.crashed) == (3, False), ended.stderr
        assert "0 of 9 sorted" in ended.stderr
        assert read_tree(src) == before
        assert read_tree(into) == {}
        for folder in (src, *(path for path in src.rglob("*") if path.is_dir())):
            folder.chmod(0o755)
    shutil.rmtree(base)
