"""Stop runs at many moments, and look whether anything is lost: in tests a few, in `tools/torture.py` all of them."""

from __future__ import annotations

import os
import random
import shutil
import signal
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from faults import Ended, Fault, Server
from PIL import Image

Tree = dict[str, tuple[bytes, int]]

LABELS = "red,green,blue"
SORT = ["--labels", LABELS, "--threshold", "0.5", "--workers", "1"]
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
KINDS = ("before", "after", "half")


@dataclass
class Tally:
    """What was tried, and what went wrong.

    Attributes:
        tries: Runs that were to be stopped.
        stopped: Those that were, rather than ending before their moment came.
        counts: Whatever else is worth a number.
        problems: One line for each thing that must not happen; empty when all is well.
    """

    tries: int = 0
    stopped: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def note(self, ended: Ended, fault: Fault) -> None:
        """Count a run that was to be stopped."""
        self.tries += 1
        code = ended.code
        self.stopped += code in (-signal.SIGKILL, 130, 143)
        self.counts[signal.Signals(fault.signal).name] += 1
        self.expect(not ended.crashed, f"crash ({fault}): {ended.stderr}")
        self.expect(code in (0, 3, -signal.SIGKILL, 130, 143), f"exit code {code} ({fault}): {ended.stderr}")

    def expect(self, holds: bool, problem: str) -> None:
        """Keep a problem unless all is well."""
        if not holds:
            self.problems.append(problem)


def read_tree(folder: Path) -> Tree:
    """Return every file below a folder with content and time; journals and temporary files aside."""
    tree: Tree = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and ".zeroshot" not in str(path.relative_to(folder)):
            tree[os.fsencode(path.relative_to(folder)).hex(" ")] = (path.read_bytes(), path.stat().st_mtime_ns)
    return tree


def make_pictures(folder: Path) -> None:
    """Fill a folder: names that clash with other and with the same content, odd names, a file that is no picture."""
    colours = {"red": "r", "green": "g", "blue": "b", "grey": "x"}
    spread = [
        ("1.png", "red", 8),
        ("2.png", "green", 8),
        ("a/1.png", "red", 9),  # the name of another picture, in the same folder of results
        ("a/2.png", "green", 8),  # name and content of another
        ("b/1.png", "grey", 8),  # for _review
        ("b/IMG.png", "blue", 8),
        ("c/img.PNG", "blue", 9),
        (os.fsdecode(b"c/\xff \n'.png"), "red", 10),
    ]
    for number, (name, colour, size) in enumerate(spread):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (size, 8), colour).save(path, "PNG")
        os.utime(path, ns=(0, 1_500_000_000_123_456_789 + number * 1_000_000_007))
    (folder / "a" / "broken.jpg").write_text("no picture")
    assert len(colours) == 4


@contextmanager
def workplace(base: Path, *, elsewhere: Path | None = None) -> Iterator[tuple[Path, Path]]:
    """Give a folder of pictures and a place to sort into, which may be on another file system; both are removed."""
    shutil.rmtree(base, ignore_errors=True)
    base.mkdir(parents=True)
    make_pictures(base / "src")
    if elsewhere is None:
        yield base / "src", base / "into"
        return
    with tempfile.TemporaryDirectory(dir=elsewhere) as other:
        yield base / "src", Path(other) / "into"


def other_file_system(base: Path) -> Path | None:
    """Return a folder on another file system than this one, if the machine has one."""
    for place in ("/dev/shm", "/run/shm", "/tmp"):
        if os.access(place, os.W_OK) and Path(place).stat().st_dev != base.stat().st_dev:
            return Path(place)
    return None


def journals(into: Path) -> list[Path]:
    """Return the journals of a sorted folder, newest first."""
    return sorted(
        (into / ".zeroshot").glob("*.jsonl"), key=lambda path: (path.stat().st_mtime_ns, path.name), reverse=True
    )


class SortCampaign:
    """Stops `sort` and `undo`, and looks for every picture afterwards.

    Args:
        server: Runs the commands.
        base: A folder to work in.
        tally: Where results go.
    """

    def __init__(self, server: Server, base: Path, tally: Tally) -> None:
        self._server = server
        self._base = base
        self._tally = tally
        self._elsewhere = other_file_system(base)
        self._calls: dict[tuple[str, bool], tuple[int, Tree]] = {}

    def ways(self) -> list[tuple[str, bool]]:
        """Return each way to place pictures, with whether it crosses file systems."""
        here = [("--link", False), ("--copy", False), ("--move", False)]
        return [*here, ("--link", True), ("--move", True)] if self._elsewhere else here

    def measure(self, way: tuple[str, bool]) -> tuple[int, Tree]:
        """Return how many calls an unbroken run makes, and what it leaves in the sorted folder."""
        if way not in self._calls:
            with self._place(way) as (src, into):
                ended = self._server.run(["sort", src, "--into", into, way[0], *SORT])
                assert ended.code == 3, ended.stderr
                self._calls[way] = ended.calls, read_tree(into)
        return self._calls[way]

    def _place(self, way: tuple[str, bool]) -> object:
        return workplace(self._base / "place", elsewhere=self._elsewhere if way[1] else None)

    def try_sort(self, way: tuple[str, bool], fault: Fault, *, rerun: bool, undo_fault: Fault | None = None) -> None:
        """Stop a sort; then run it again or not; then undo it, stopped once more or not."""
        _, sorted_tree = self.measure(way)
        where = f"{way} {fault} rerun={rerun} undo={undo_fault}"
        with self._place(way) as (src, into):  # type: ignore[attr-defined]
            before = read_tree(src)
            command = ["sort", src, "--into", into, way[0], *SORT]
            self._tally.note(self._server.run(command, fault), fault)
            self._look_for_pictures(before, src, into, f"after the stop: {where}")
            if rerun:
                ended = self._server.run(command)
                self._tally.expect(ended.code == 3 and not ended.crashed, f"rerun {ended}: {where}")
                self._tally.expect(read_tree(into) == sorted_tree, f"a rerun gives another result: {where}")
            if undo_fault:
                for journal in journals(into)[:1]:
                    ended = self._server.run(["undo", journal], undo_fault)
                    self._tally.note(ended, undo_fault)
                self._look_for_pictures(before, src, into, f"after a stopped undo: {where}")
            for journal in journals(into):
                ended = self._server.run(["undo", journal])
                self._tally.expect(ended.code == 0, f"undo {ended}: {where}")
            self._tally.expect(read_tree(src) == before, f"undo did not restore: {where}")
            left = [path for path in into.rglob("*") if path.relative_to(into).parts[0] != ".zeroshot"]
            self._tally.expect(not left, f"undo left {left}: {where}")
            strays = list(src.rglob(".zeroshot*"))
            self._tally.expect(not strays, f"undo left {strays}: {where}")

    def _look_for_pictures(self, before: Tree, src: Path, into: Path, where: str) -> None:
        """Every picture must be whole, at its source or in a folder of results, and not only as a temporary file."""
        self._tally.counts["pictures looked for"] += len(before)
        found = {
            content for content, _ in (*read_tree(src).values(), *(read_tree(into) if into.exists() else {}).values())
        }
        for name, (content, _) in before.items():
            self._tally.expect(content in found, f"picture lost: {bytes.fromhex(name)!r} {where}")
            if content not in found:
                self._tally.counts["pictures lost"] += 1

    def try_random(self, generator: random.Random) -> None:
        """One seeded try."""
        way = generator.choice(self.ways())
        calls, _ = self.measure(way)
        fault = Fault(generator.randint(1, calls), generator.choice(KINDS), generator.choice(SIGNALS))
        undo_fault = None
        if generator.random() < 0.5:
            undo_fault = Fault(generator.randint(1, calls), generator.choice(KINDS), generator.choice(SIGNALS))
        self.try_sort(way, fault, rerun=generator.random() < 0.5, undo_fault=undo_fault)

    def try_every_moment(self) -> Iterator[None]:
        """SIGKILL before and after every call of every way, once with a rerun, once without."""
        for way in self.ways():
            calls, _ = self.measure(way)
            for at in range(1, calls + 1):
                for kind in ("before", "half"):
                    self.try_sort(way, Fault(at, kind), rerun=kind == "half")
                    yield
                self.try_sort(way, Fault(calls - 1), rerun=False, undo_fault=Fault(at))
                yield
