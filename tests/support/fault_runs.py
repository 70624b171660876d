"""Stops runs at many moments, and looks whether anything is lost: in tests a few, in `tools/fault_tests.py` all."""

from __future__ import annotations

import importlib.util
import json
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

from PIL import Image

from support.fault_injection import Ended, Fault, Server

Tree = dict[str, tuple[bytes, int]]

LABELS = "red,green,blue"
SORT = ["--labels", LABELS, "--threshold", "0.5", "--workers", "1", "--no-cache"]
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
KINDS = ("before", "after", "half")
YEAR = 365 * 86_400
CLOCKS = (0, 0, 60 * YEAR, -50 * YEAR)
"""How far the clock on the wall is ahead of itself, in seconds."""


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
        ends = (-signal.SIGKILL, 130, 143, -signal.SIGTERM)  # the last: before the command began
        self.stopped += code in ends
        self.counts[signal.Signals(fault.signal).name] += 1
        self.counts["clock jumps"] += fault.clock != 0
        self.counts["crashes"] += ended.crashed
        self.expect(not ended.crashed, f"crash ({fault}): {ended.stderr}")
        self.expect(code in (0, 3, *ends), f"exit code {code} ({fault}): {ended.stderr}")

    def compare(self, found: bytes, whole: bytes, done: list[str]) -> None:
        """Count the lines that are not in a file, or are twice in it, and those of one unbroken run."""
        records, expected = Counter(found.splitlines()), Counter(whole.splitlines())
        self.counts["records expected"] += expected.total()
        self.counts["records lost"] += (expected - records).total()
        self.counts["records twice"] += (records - expected).total()
        self.expect(found == whole, f"another file, {len(found)} bytes: {done}")

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


def make_images(folder: Path) -> None:
    """Fill a folder: names that clash with other and with the same content, odd names, a file that is no image."""
    colours = {"red": "r", "green": "g", "blue": "b", "grey": "x"}
    spread = [
        ("1.png", "red", 8),
        ("2.png", "green", 8),
        ("a/1.png", "red", 9),  # the name of another image, in the same folder of results
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
    (folder / "a" / "broken.jpg").write_text("no image")
    assert len(colours) == 4


def strange_name(number: int) -> str:
    """Return a file name that is hard on some format, different for each number."""
    odd = [
        "plain",
        'quote"',
        "comma,",
        "tab\t",
        "line\nbreak",
        "back\\slash",
        "=1+1",
        os.fsdecode(b"\xff\xfe"),
        "ünï 😀",
        "\r",
    ]
    return f"{number:03}{odd[number % len(odd)]}.png"


def make_many(folder: Path, count: int) -> None:
    """Fill a folder with images of different content, every seventh of them broken."""
    folder.mkdir(parents=True)
    for number in range(count):
        path = folder / strange_name(number)
        Image.new("RGB", (8, 8), (number * 37 % 256, number * 91 % 256, number % 256)).save(path, "PNG")
        if number % 7 == 3:
            path.write_bytes(path.read_bytes()[:40])


@contextmanager
def workplace(base: Path, *, elsewhere: Path | None = None) -> Iterator[tuple[Path, Path]]:
    """Give a folder of images and a place to sort into, which may be on another file system; both are removed."""
    shutil.rmtree(base, ignore_errors=True)
    base.mkdir(parents=True)
    make_images(base / "src")
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


class SortFaultRun:
    """Stops `sort` and `undo`, and looks for every image afterwards.

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
        """Return each way to place images, with whether it crosses file systems."""
        here = [("", False), ("--copy", False), ("--move", False)]
        return [*here, ("", True), ("--move", True)] if self._elsewhere else here

    def measure(self, way: tuple[str, bool]) -> tuple[int, Tree]:
        """Return how many calls an unbroken run makes, and what it leaves in the sorted folder."""
        if way not in self._calls:
            with self._place(way) as (src, into):
                ended = self._server.run(["sort", src, "--into", into, *way[0].split(), *SORT])
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
            command = ["sort", src, "--into", into, *way[0].split(), *SORT]
            self._tally.note(self._server.run(command, fault), fault)
            self._look_for_images(before, src, into, f"after the stop: {where}")
            if rerun:
                ended = self._server.run(command)
                self._tally.expect(ended.code == 3 and not ended.crashed, f"rerun {ended}: {where}")
                self._tally.expect(read_tree(into) == sorted_tree, f"a rerun gives another result: {where}")
            if undo_fault:
                for journal in journals(into)[:1]:
                    ended = self._server.run(["undo", journal], undo_fault)
                    self._tally.note(ended, undo_fault)
                self._look_for_images(before, src, into, f"after a stopped undo: {where}")
            for journal in journals(into):
                ended = self._server.run(["undo", journal])
                self._tally.expect(ended.code == 0, f"undo {ended}: {where}")
            self._tally.expect(read_tree(src) == before, f"undo did not restore: {where}")
            left = [path for path in into.rglob("*") if path.relative_to(into).parts[0] != ".zeroshot"]
            self._tally.expect(not left, f"undo left {left}: {where}")
            strays = list(src.rglob(".zeroshot*"))
            self._tally.expect(not strays, f"undo left {strays}: {where}")

    def _look_for_images(self, before: Tree, src: Path, into: Path, where: str) -> None:
        """Every image must be whole, at its source or in a folder of results, and not only as a temporary file."""
        self._tally.counts["images looked for"] += len(before)
        found = {
            content for content, _ in (*read_tree(src).values(), *(read_tree(into) if into.exists() else {}).values())
        }
        for name, (content, _) in before.items():
            self._tally.expect(content in found, f"image lost: {bytes.fromhex(name)!r} {where}")
            if content not in found:
                self._tally.counts["images lost"] += 1

    def try_random(self, generator: random.Random) -> None:
        """One seeded try."""
        way = generator.choice(self.ways())
        calls, _ = self.measure(way)

        def draw() -> Fault:
            return Fault(
                generator.randint(1, calls),
                generator.choice(KINDS),
                generator.choice(SIGNALS),
                clock=generator.choice(CLOCKS),
            )

        fault = draw()
        undo_fault = draw() if generator.random() < 0.5 else None
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


class ResumeFaultRun:
    """Stops `classify --resume` again and again, tears the file, and compares the finished one with an unbroken run's.

    Args:
        server: Runs the commands.
        base: A folder to work in.
        tally: Where results go.
        count: Images in it.
    """

    def __init__(self, server: Server, base: Path, tally: Tally, count: int = 30) -> None:
        self._server = server
        self._base = base / "resume"
        self._tally = tally
        self._count = count
        shutil.rmtree(self._base, ignore_errors=True)
        make_many(self._base / "src", count)
        self._whole: dict[str, tuple[int, bytes]] = {}

    def command(self, form: str, output: Path, *more: str) -> list[object]:
        """Return the command that writes a results file."""
        options = ["--labels", LABELS, "--format", form, "--batch-size", "4", "--workers", "2", "--resume", *more]
        return ["classify", self._base / "src", "--output", output, *options]

    def measure(self, form: str) -> tuple[int, bytes]:
        """Return how many calls an unbroken run makes, and what it writes."""
        if form not in self._whole:
            output = self._base / f"whole.{form}"
            ended = self._server.run(self.command(form, output, "--no-cache"))
            assert ended.code == 3, ended.stderr
            self._whole[form] = ended.calls, output.read_bytes()
        return self._whole[form]

    def try_random(self, generator: random.Random) -> None:
        """One seeded try: up to three stops, each followed by what a power cut may do to the file, then a whole run."""
        form = generator.choice(["jsonl", "jsonl", "csv", "tsv"])
        calls, whole = self.measure(form)
        for path in self._base.glob("out*"):
            path.unlink()
        output = self._base / "out"
        partial = self._base / "out.partial"
        isolated = generator.random() < 0.25
        more = ["--no-cache"] * (generator.random() < 0.7) + ["--isolate"] * isolated
        command = self.command(form, output, *more)
        done: list[str] = more.copy()
        for _ in range(generator.randint(1, 3)):
            fault = self._fault(generator, calls, 1000 if isolated else 120)
            self._tally.counts["runs with --isolate"] += isolated
            ended = self._server.run(command, fault)
            done.append(f"{fault} ({ended.code})")
            if fault.file_size:
                self._tally.tries += 1
                self._tally.counts["full disk"] += 1
                self._tally.counts["crashes"] += ended.crashed
                self._tally.stopped += ended.code == 1
                self._tally.expect(ended.code in (1, 3) and not ended.crashed, f"full disk {ended}: {done}")
            else:
                self._tally.note(ended, fault)
            if partial.exists() and generator.random() < 0.5:
                self._tally.counts["torn files"] += 1
                done.append(self._tear(partial, generator))
        ended = self._server.run(command)
        self._tally.expect(ended.code == 3, f"{ended}: {done}")
        found = output.read_bytes() if output.exists() else b""
        self._tally.counts["records expected"] += self._count
        self._tally.expect(found == whole, f"another file, {len(found)} bytes instead of {len(whole)}: {form} {done}")
        if found != whole:
            lost = set(whole.splitlines()) - set(found.splitlines())
            self._tally.counts["records lost"] += len(lost)
        self._tally.expect(not partial.exists(), f"a partial file is left: {done}")

    @staticmethod
    def _fault(generator: random.Random, calls: int, longest_ms: int) -> Fault:
        kind = generator.choice(["before", "after", "half", "half", "sleep", "full"])
        if kind == "full":
            return Fault(file_size=generator.randint(1, 6000))
        number = generator.choice(SIGNALS)
        if kind == "sleep":
            return Fault(kind=kind, signal=number, after_ms=generator.uniform(0, longest_ms))
        return Fault(generator.randint(1, calls), kind, number, clock=generator.choice(CLOCKS))

    @staticmethod
    def _tear(partial: Path, generator: random.Random) -> str:
        """Cut a file anywhere, or leave zeros at its end, as file systems may when the power goes."""
        content = partial.read_bytes()
        cut = generator.randint(0, len(content))
        zeros = bytes(generator.choice([0, 0, (len(content) - cut) // 2, len(content) - cut]))
        partial.write_bytes(content[:cut] + zeros)
        return f"torn at {cut} of {len(content)}, {len(zeros)} zeros"


class ShardsFaultRun:
    """Stops the workers of a run again and again, and compares what is merged with one unbroken `classify --resume`.

    Args:
        server: Runs the commands.
        base: A folder to work in.
        tally: Where results go.
        count: Images in it.
    """

    def __init__(self, server: Server, base: Path, tally: Tally, count: int = 60) -> None:
        self._server, self._base, self._tally = server, base / "runs", tally
        shutil.rmtree(self._base, ignore_errors=True)
        make_many(self._base / "src", count)
        # Shards of whole batches: the encoder's rows depend on their neighbours.
        options = [self._base / "src", "--labels", LABELS, "--batch-size", "4"]
        self._kinds = ("jsonl", "parquet") if importlib.util.find_spec("pyarrow") else ("jsonl",)
        self._calls: dict[str, int] = {}
        for parts in self._kinds:
            into = ["--into", self._base / parts, "--shard-size", "8", "--parts", parts, "--features"]
            assert server.run(["run", "plan", *options, *into]).code == 0
            shutil.copytree(self._base / parts, self._base / "measured")
            self._calls[parts] = server.run(["run", "work", self._base / "measured", "--workers", "2"]).calls
            shutil.rmtree(self._base / "measured")
        whole = self._base / "whole.jsonl"
        ended = server.run(["classify", *options, "--no-cache", "--output", whole, "--resume"])
        assert ended.code == 3, ended.stderr
        self._whole = whole.read_bytes()

    def try_random(self, generator: random.Random) -> None:
        """One seeded try: 1, 2 or 4 workers that share the shards or race for them, each stopped up to three times."""
        planned = self._base / generator.choice(self._kinds)
        run, target = self._base / "try", self._base / "merged.jsonl"
        shutil.rmtree(run, ignore_errors=True)
        target.unlink(missing_ok=True)
        shutil.copytree(planned, run)
        n = generator.choice([1, 2, 4])
        races = n > 1 and generator.random() < 0.3
        shares = [[] if races else ["--shard", f"{number}/{n}"] for number in range(1, n + 1)]
        done = [f"{planned.name}, {n} workers{' that race' * races}"]
        for _ in range(generator.randint(1, 3)):
            faults = [self._fault(generator, self._calls[planned.name] // n) for _ in shares]
            work = [["run", "work", run, "--workers", "2", *share] for share in shares]
            for ended, fault in zip(
                self._server.run_together(list(zip(work, faults, strict=True))), faults, strict=True
            ):
                self._tally.note(ended, fault)
                done.append(f"{fault} ({ended.code})")
        for share in shares:
            ended = self._server.run(["run", "work", run, *share])
            self._tally.expect(ended.code in (0, 3), f"{ended}: {done}")
        ended = self._server.run(["run", "merge", run, "--output", target])
        self._tally.expect(ended.code == 3, f"{ended}: {done}")
        self._tally.compare(target.read_bytes() if target.exists() else b"", self._whole, done)
        names = [path.name for path in (run / "parts").iterdir() if not path.name.endswith(".tmp")]
        shards = len(list((run / "inputs").iterdir()))
        self._tally.expect(
            len(names) == shards * (2 if planned.name == "jsonl" else 1), f"parts {sorted(names)}: {done}"
        )

    @staticmethod
    def _fault(generator: random.Random, calls: int) -> Fault:
        kind = generator.choice([*KINDS, "sleep"])
        number = generator.choice(SIGNALS)
        if kind == "sleep":
            return Fault(kind="sleep", after_ms=generator.uniform(0, 400), signal=number)
        return Fault(at=generator.randint(1, calls), kind=kind, signal=number)


class CacheFaultRun:
    """Kills runs that fill the feature cache, several at once, and looks whether the cache ever changes an answer.

    Args:
        server: Runs the commands, with a cache folder of its own.
        base: A folder to work in.
        tally: Where results go.
        cache: That folder.
    """

    def __init__(self, server: Server, base: Path, tally: Tally, cache: Path) -> None:
        self._server = server
        self._base = base / "cached"
        self._tally = tally
        self._cache = cache
        shutil.rmtree(self._base, ignore_errors=True)
        make_many(self._base / "src", 20)
        self._command: list[object] = ["classify", self._base / "src", "--labels", LABELS, "--format", "jsonl"]
        self._whole = ""

    def try_random(self, generator: random.Random) -> None:
        """One seeded try: an empty or a filled cache, one to three runs on it, killed or not, then a run that counts.

        The encoder's rows depend on the batch, so batches have one size here: 20 images, all of them.
        """
        command = [*self._command, "--batch-size", "20", "--workers", "2"]
        if not self._whole:
            self._whole = self._server.run([*command, "--no-cache"]).stdout
        if generator.random() < 0.5:
            shutil.rmtree(self._cache, ignore_errors=True)
        faults = [
            Fault(kind="sleep", signal=generator.choice(SIGNALS), after_ms=generator.uniform(0, 150))
            for _ in range(generator.randint(1, 3))
        ]
        for fault, ended in zip(faults, self._server.run_together([(command, f) for f in faults]), strict=True):
            self._tally.note(ended, fault)
        if generator.random() < 0.2:
            for path in self._cache.glob("features-*.sqlite*"):
                damaged = bytearray(path.read_bytes())
                for _ in range(min(len(damaged), 20)):
                    damaged[generator.randrange(len(damaged))] ^= 1 << generator.randrange(8)
                path.write_bytes(damaged)
                self._tally.counts["caches damaged"] += 1
        ended = self._server.run(command)
        self._tally.counts["records expected"] += 20
        same = _about_equal(ended.stdout, self._whole)
        problem = f"the cache changed an answer: {ended}\n{ended.stdout}\n--- without a cache:\n{self._whole}"
        self._tally.expect(ended.code == 3 and same and not ended.crashed, problem)
        self._tally.counts["records lost"] += 0 if same else 1


def _about_equal(text: str, other: str) -> bool:
    """Whether two runs say the same; a filled cache makes smaller batches, which may move the last digits here."""
    if text == other:
        return True
    lines, others = ([json.loads(line) for line in part.splitlines()] for part in (text, other))
    return len(lines) == len(others) and all(
        one["path"] == two["path"]
        and one.get("error") == two.get("error")
        and one.get("label") == two.get("label")
        and abs(one.get("probability", 0) - two.get("probability", 0)) < 1e-2
        for one, two in zip(lines, others, strict=True)
    )
