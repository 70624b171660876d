"""Times `classify` on cached features: made-up ones as long as those of `tiny`, top 5 of 10 labels, whole process.

    python benchmarks/cached_rerun.py --work FOLDER --counts 10000,100000 [--against CHECKOUT]

Images are files of a few bytes, which nothing decodes: the cache has their features. With `--against`, another
checkout (`git worktree add`) takes turns with this one over the same cache, and both must write the same bytes.
Seconds are given by the clock and of the processor, which other work on the machine lengthens less; memory is the most
that is anonymous: what the kernel cannot take back.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from benchmark_inputs import LABELS
from measure import compiled

_HERE = Path(__file__).resolve().parents[1]
_PER_FOLDER = 100_000
_BATCH = 32
# Before both sides: a batch that waited too long for a path is scored as it is, which moves last digits.
_RUN = """
import sys
from zeroshot.features import pipeline
for name in ("zeroshot.features.pipeline", "zeroshot.features.read_ahead"):
    try:
        module = __import__(name, fromlist=["x"])
    except ImportError:
        continue
    for constant in ("_IDLE_SECONDS", "IDLE_SECONDS"):
        if hasattr(module, constant):
            setattr(module, constant, 600.0)
from zeroshot.__main__ import main
main()
"""
_AT_HAND = """
import sys, time
from zeroshot import load_encoder
from zeroshot.features.cache import FeatureCache
from zeroshot.features.pipeline import Pipeline, encode_blocks
from zeroshot.images.paths import walk
encoder, pipeline = load_encoder("tiny"), Pipeline(cache=FeatureCache())
begin, processor = time.perf_counter(), time.process_time()
count = sum(len(block.features) for block in encode_blocks(encoder, walk(sys.argv[1]), pipeline))
print(count, time.perf_counter() - begin, time.process_time() - processor)
"""


@dataclass(frozen=True, slots=True)
class Taken:
    """What a run took: seconds by the clock and of the processor, and bytes of anonymous memory."""

    clock: float
    processor: float
    memory: int


def made_up(work: Path, count: int) -> Path:
    """Return a folder of so many files whose features are cached, made where it is missing."""
    from zeroshot import load_encoder
    from zeroshot.features.cache import FeatureCache
    from zeroshot.features.keys import FileState
    from zeroshot.images.decode import DecodeOptions
    from zeroshot.images.sources.byte_ranges import Stamp

    images = work / f"images-{count}"
    os.environ["ZEROSHOT_CACHE"] = str(work / f"cache-{count}")
    if images.exists():
        return images
    spec = load_encoder("tiny").spec
    store = FeatureCache(warn=sys.exit)
    key = store.image_key(spec, DecodeOptions())
    generator = np.random.default_rng(0)
    part = work / f"images-{count}"
    for start in range(0, count, _BATCH):
        rows = generator.standard_normal((_BATCH, spec.dim)).astype(np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        kept, files = [], []
        for index in range(start, min(start + _BATCH, count)):
            folder = part / f"{index // _PER_FOLDER:04}"
            if index % _PER_FOLDER == 0:
                folder.mkdir(parents=True)
            path, content = folder / f"img_{index:07}.jpg", b"%d" % index
            path.write_bytes(content)
            name = hashlib.sha256(content).digest()
            kept.append((name, rows[index - start]))
            files.append((FileState.of(str(path), Stamp.of(path.stat())), name))
        store.add(key, spec.model, kept, files)
    return images


def run(checkout: Path, images: Path, output: Path) -> Taken:
    """Classify a folder with a checkout's code, and measure it."""
    words = [sys.executable, "-c", _RUN, "classify", str(images), "--labels", LABELS, "--model", "tiny"]
    begin, before = time.perf_counter(), os.times()
    with output.open("wb") as stream:
        # The folder that it runs in is the first that `python -c` imports from.
        process = subprocess.Popen([*words, "--format", "jsonl"], stdout=stream, cwd=checkout, env=compiled())
    most = 0
    while process.poll() is None:
        most = max(most, _anonymous(process.pid))
        time.sleep(0.05)
    if process.returncode:
        raise RuntimeError(f"{words} failed")
    after = os.times()
    processor = after.children_user + after.children_system - before.children_user - before.children_system
    return Taken(time.perf_counter() - begin, processor, most)


def _anonymous(pid: int) -> int:
    """Return a process's anonymous memory in bytes; 0 once it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon")), 0)


def sides(images: Path, work: Path, against: Path | None, rounds: int) -> Iterator[tuple[str, Taken]]:
    """Yield each side's quickest run, of several in turns; both must write the same bytes."""
    checkouts = {"before": against, "now": _HERE} if against else {"now": _HERE}
    found: dict[str, list[Taken]] = {name: [] for name in checkouts}
    for _ in range(rounds):
        for name, checkout in checkouts.items():
            found[name].append(run(checkout, images, work / f"{name}.jsonl"))
    outputs = {(work / f"{name}.jsonl").read_bytes() for name in checkouts}
    if len(outputs) > 1:
        raise RuntimeError("the two sides differ")
    for name, taken in found.items():
        yield name, min(taken, key=lambda one: one.processor)


def at_hand(images: Path) -> tuple[str, str, str]:
    """Return how many features a search or the page has at hand, and the seconds it takes: clock and processor."""
    words = [sys.executable, "-c", _AT_HAND, str(images)]
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=_HERE, env=compiled())
    found, clock, processor = done.stdout.split()
    return found, clock, processor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, help="keep the made-up images and their cache here, for another run")
    parser.add_argument("--counts", default="10000,100000", help="numbers of images")
    parser.add_argument("--against", type=Path, help="another checkout, to take turns with")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    made = tempfile.mkdtemp(prefix="zeroshot-again-")
    work = (options.work or Path(made)).resolve()
    work.mkdir(parents=True, exist_ok=True)
    try:
        for count in map(int, options.counts.split(",")):
            images = made_up(work, count)
            print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", flush=True)
            for name, one in sides(images, work, options.against, options.rounds):
                print(
                    f"{count:>9,} images, {name:6}: {one.clock:7.1f} s by the clock, {one.processor:7.1f} s of the "
                    f"processor, {one.memory / 1e6:6.0f} MB anonymous",
                    flush=True,
                )
            found, clock, processor = at_hand(images)
            seconds = f"{float(clock):.2f} s by the clock, {float(processor):.2f} s of the processor"
            print(f"{int(found):>9,} features at hand: {seconds}", flush=True)
    finally:
        shutil.rmtree(made, ignore_errors=True)


if __name__ == "__main__":
    main()
