"""A clock that jumps by decades, either way, between and within runs: nothing is lost, and no answer changes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from support.fakes import FakeEncoder, FakeModel
from support.fault_injection import set_clock
from support.fault_runs import LABELS, YEAR, journals, read_tree, workplace
from support.fixtures import SaveImage
from zeroshot.cli.main import app
from zeroshot.features.cache import FeatureCache
from zeroshot.features.pipeline import Pipeline, encode_batches
from zeroshot.sort import journal as journal_module

JUMPS = (60 * YEAR, -50 * YEAR, 0, -1, -50 * YEAR, 60 * YEAR)
NOW = time.time()

Clock = Callable[[int], None]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Puts the clock ahead by some seconds."""
    return lambda ahead: set_clock(ahead, monkeypatch.setattr)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)])


def test_the_clock_of_these_tests(clock: Clock) -> None:
    """It is the one that the package reads."""
    clock(60 * YEAR)
    assert time.time() > NOW + 59 * YEAR
    assert journal_module.datetime.now(UTC).year > datetime.now(UTC).year + 55


def test_the_cache(clock: Clock, images: SaveImage) -> None:
    """What was stored is found under any clock, and a rewritten file is never taken for the one that was stored."""
    path = str(images("a.png", "red"))
    encoder, store = FakeEncoder(), FeatureCache()

    def encode() -> np.ndarray:
        ((item,),) = encode_batches(encoder, [path], Pipeline(cache=store))
        assert item.features is not None
        return item.features

    red = encode()
    for ahead in JUMPS:
        clock(ahead)
        assert np.array_equal(encode(), red)
    assert len(encoder.batches) == 1
    for ahead, colour in zip(JUMPS, ("blue", "red") * 3, strict=True):
        clock(ahead)
        images("a.png", colour)  # of one size
        os.utime(path, (NOW + ahead, NOW + ahead))
        assert np.array_equal(encode(), red) == (colour == "red")


def test_pruning(clock: Clock) -> None:
    """Rows that were used while the clock was wrong have their right day once they are used again."""
    store = FeatureCache()
    row = np.ones(4, np.float32)
    clock(60 * YEAR)
    store.add(b"m", "model", [(b"used", row), (b"unused", row)])
    clock(0)
    assert store.find(b"m", b"used", 4) is not None
    assert store.stored()[0].oldest == 0
    clock(40 * 86_400)
    assert store.prune(days=30) == 1  # as of the days of the clock that is right
    assert store.find(b"m", b"used", 4) is None
    assert store.find(b"m", b"unused", 4) is not None
    clock(-50 * YEAR)
    assert store.prune(days=30) == 0
    assert store.find(b"m", b"unused", 4) is not None


@pytest.mark.parametrize("way", ["--move", "--copy", ""])
def test_sorting(clock: Clock, fake_model: FakeModel, tmp_path: Path, way: str) -> None:
    """Sorting again and again under other clocks and undoing under yet others restores every image and its time."""
    with workplace(tmp_path / "work") as (src, into):
        before = read_tree(src)
        for number, ahead in enumerate(JUMPS):
            clock(ahead)
            os.utime(src / "1.png" if (src / "1.png").exists() else src, (NOW + ahead, NOW + ahead))
            before = read_tree(src) if number == 0 else before
            assert run("sort", src, "--into", into, "--labels", LABELS, "--no-cache", *way.split()).exit_code == 3
            clock(-ahead)
            if number % 2:
                for journal in journals(into):
                    assert run("undo", journal).exit_code == 0
        assert len(journals(into)) >= 3
        after = read_tree(src)
        assert {name: content for name, (content, _) in after.items()} == {
            name: content for name, (content, _) in before.items()
        }
        assert {name: at for name, (_, at) in after.items() if name != b"1.png".hex(" ")} == {
            name: at for name, (_, at) in before.items() if name != b"1.png".hex(" ")
        }
        assert read_tree(into) == {}


def test_resuming(clock: Clock, fake_model: FakeModel, images: SaveImage, tmp_path: Path) -> None:
    """A run that was cut short in what is now the future, or long ago, is continued to the same bytes."""
    for number in range(9):
        images(f"in/{number}.png", ("red", "green", "blue")[number % 3], (8 + number, 9))
    output, partial = tmp_path / "out.jsonl", tmp_path / "out.jsonl.partial"
    command = ["classify", tmp_path / "in", "--labels", LABELS, "--output", output, "--resume", "--batch-size", 2]
    assert run(*command).exit_code == 0
    whole = output.read_bytes()
    for ahead in JUMPS:
        output.rename(partial)
        partial.write_bytes(whole[: len(whole) // 2])
        os.utime(partial, (NOW - ahead, NOW - ahead))
        clock(ahead)
        assert run(*command).exit_code == 0
        assert output.read_bytes() == whole
