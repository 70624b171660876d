"""Compares whole runs with their bare stages (decoding, the encoder), and with this program in other settings."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmark_inputs import LABELS, OTHER_LABELS, Material
from measure import Row, command, side_by_side, zeroshot

_BATCH = 32
_HERE = Path(__file__).resolve().parents[1]


def startup(material: Material, _: bool) -> Iterator[Row]:
    """One image with the built-in checkpoint, and the commands that only print."""
    one = ["classify", material.photos[0], "--labels", "cat,dog", "--model", "tiny", "--no-cache"]
    ours, theirs = side_by_side(lambda: zeroshot(*one), lambda: command(sys.executable, "-c", "import open_clip"))
    yield Row("one image with tiny / import open_clip", ours, theirs, "<= 0.13", ours / theirs)
    printing = (["--help"], ["prompts", "list"], ["models", "list"])
    typer, *rest = side_by_side(
        lambda: command(sys.executable, "-c", "import typer"),
        *(partial(zeroshot, *words) for words in printing),
        rounds=15,
    )
    for words, ours in zip(printing, rest, strict=True):
        yield Row(f"{' '.join(words)} / import typer", ours, typer, "<= 2", ours / typer)


def images(material: Material, _: bool) -> Iterator[Row]:
    """ViT-B-32 end to end against its encoder alone."""
    from zeroshot import load_encoder
    from zeroshot.features.pipeline import Pipeline
    from zeroshot.system.installed import available_cores

    pipeline = Pipeline(_BATCH, available_cores())
    yield from _parts(load_encoder(str(material.vit)), "ViT-B-32", material.paths(300), pipeline, "encode", ">= 0.95")


def tiny(material: Material, _: bool) -> Iterator[Row]:
    """The built-in checkpoint end to end against its encoder alone, in processes, and with large photographs."""
    from zeroshot import load_encoder
    from zeroshot.features.pipeline import Pipeline
    from zeroshot.images.decode import DecodeOptions
    from zeroshot.images.isolate import Isolation
    from zeroshot.system.installed import available_cores

    pipeline, encoder = Pipeline(_BATCH, available_cores()), load_encoder("tiny")
    yield from _parts(encoder, "tiny", material.paths(300), pipeline, "encode", "", 5)
    whole, processes = side_by_side(
        partial(_run, encoder, material.paths(300), pipeline),
        partial(_run, encoder, material.paths(300), replace(pipeline, isolation=Isolation())),
    )
    name = "300 photographs, tiny: decoding in processes (--isolate) / in threads"
    yield Row(name, processes, whole, "", processes / whole)
    large = material.enlarged(100)
    whole, draft = side_by_side(
        partial(_run, encoder, large, pipeline),
        partial(_run, encoder, large, replace(pipeline, decode_options=DecodeOptions(draft=True))),
    )
    yield Row("100 photographs of 12 megapixels, tiny: whole / --draft", draft, whole, "", whole / draft)


def int8(material: Material, _: bool) -> Iterator[Row]:
    """8-bit graphs against float32 ones, end to end; and rows one by one against a batch, which would mix them."""
    import numpy as np

    from zeroshot import load_encoder
    from zeroshot.encoder import Precision
    from zeroshot.engines.onnx_engine import _open_session
    from zeroshot.features.pipeline import Pipeline
    from zeroshot.system.installed import available_cores

    zeroshot("models", "pull", material.vit)  # other rows clear what is kept
    fp32, small = (load_encoder(str(material.vit), precision=kind) for kind in (Precision.FP32, Precision.INT8))
    pipeline, paths = Pipeline(_BATCH, available_cores()), material.paths(100)
    ours, theirs = side_by_side(*(partial(_run, encoder, paths, pipeline) for encoder in (small, fp32)))
    bar = ">= 2" if _has_vnni() else ""
    where = "with VNNI" if _has_vnni() else "without VNNI"
    name = f"{len(paths)} photographs, ViT-B-32, on a processor {where}: fp32 / --precision int8"
    yield Row(name, ours, theirs, bar, theirs / ours)
    size = small.spec.preprocessing.size
    pixels = np.random.default_rng(0).integers(0, 256, (_BATCH, *size, 3), dtype=np.uint8)
    folder = material.exports[0]
    session = _open_session(folder / "image.int8.onnx", available_cores(), "")
    alone, batch = side_by_side(lambda: small.encode_images(pixels), lambda: session.run(None, {"pixels": pixels}))
    yield Row("int8: a whole batch on every core / a row per core", alone, batch, ">= 1", batch / alone)


def _has_vnni() -> bool:
    """Whether the processor multiplies 8-bit numbers four at a time, as far as Linux says."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return any(name in flags for name in ("avx512_vnni", "avx_vnni", "asimddp", "amx_int8"))


def encoders(material: Material, _: bool) -> Iterator[Row]:
    """The built-in checkpoint's image encoder on ready pixels against ViT-B-32's, both in float32."""
    import numpy as np

    from zeroshot import load_encoder

    generator, works = np.random.default_rng(0), []
    for name, count in (("tiny", 256), (str(material.vit), 64)):
        encoder = load_encoder(name)
        pixels = generator.integers(0, 256, (count, *encoder.spec.preprocessing.size, 3), dtype=np.uint8)

        def encode(encoder: Any = encoder, pixels: Any = pixels) -> None:
            for start in range(0, len(pixels), _BATCH):
                encoder.encode_images(pixels[start : start + _BATCH])

        encode()  # opens the tower
        works.append((encode, count))
    seconds = side_by_side(*(work for work, _ in works), rounds=7)
    tiny, vit = (taken / count for taken, (_, count) in zip(seconds, works, strict=True))
    rates = f"{1 / tiny:.0f} and {1 / vit:.0f} images/s"
    yield Row(f"image encoders alone, tiny and ViT-B-32 ({rates}): ViT-B-32 / tiny", tiny, vit, ">= 5.5", vit / tiny)


def gpu(material: Material, _: bool) -> Iterator[Row]:
    """End to end on a GPU against the lower of its two ceilings."""
    import torch

    from zeroshot import load_encoder
    from zeroshot.encoder import BatchingEncoder, Device
    from zeroshot.features.pipeline import Pipeline
    from zeroshot.system.installed import available_cores

    if not torch.cuda.is_available():
        print("no GPU at hand: row skipped", file=sys.stderr)
        return
    encoder = load_encoder(str(material.vit), device=Device.CUDA)
    size = encoder.best_batch if isinstance(encoder, BatchingEncoder) else 256
    pipeline, paths = Pipeline(size, available_cores()), material.paths(20000)
    name = f"ViT-B-32, {encoder.spec.precision} on a GPU, batches of {size}"
    yield from _parts(encoder, name, paths, pipeline, "lower")
    print(
        "lower is decoding: try --resize fast, --draft for large photographs, more cores; lower is the encoder: try"
        f" --batch-size {2 * size} and {4 * size}, --precision fp16 or bf16; below 0.8: try twice the --workers",
        file=sys.stderr,
    )


def _run(encoder: Any, paths: list[str], pipeline: Any) -> None:
    from zeroshot.features.pipeline import encode_batches

    for _ in encode_batches(encoder, paths, pipeline):
        pass


def _parts(
    encoder: Any, name: str, paths: list[str], pipeline: Any, against: str, bar: str = ">= 0.8", rounds: int = 3
) -> Iterator[Row]:
    """Compare a run with what it is made of: decoding alone with as many threads, and the encoder on ready pixels."""
    import numpy as np

    from zeroshot.images.decode import decode
    from zeroshot.images.preprocess import fit
    from zeroshot.images.sources.open_image import open_file

    def read(path: str) -> Any:
        with open_file(path) as file:
            return fit(decode(file, pipeline.decode_options), encoder.spec.preprocessing)

    with ThreadPoolExecutor(pipeline.workers) as pool:
        ready = np.stack(list(pool.map(read, paths[:2000])))
        repeats = -(-len(paths) // len(ready))  # pixels of more images would take memory, and tell nothing new

        def encode() -> None:
            for _ in range(repeats):
                for start in range(0, len(ready), pipeline.batch_size):
                    encoder.encode_images(ready[start : start + pipeline.batch_size])

        def decode_all() -> None:
            for _ in pool.map(read, paths):
                pass

        works: list[Callable[[], object]] = [partial(_run, encoder, paths, pipeline), encode, decode_all]
        ours, encoding, decoding = side_by_side(*works, rounds=rounds)
    rates = f"{len(paths) / ours:.0f}, {len(paths) / encoding:.0f} and {len(paths) / decoding:.0f} images/s"
    title = f"{len(paths)} photographs, {name} (end to end, encoder alone, decoding alone: {rates})"
    ceiling = {"encode": encoding, "lower": max(encoding, decoding)}[against]
    what = {"encode": "the encoder alone", "lower": "the slower of the two"}
    yield Row(f"{title}: {what[against]} / end to end", ours, ceiling, bar, ceiling / ours)
    if against != "lower":  # on the CPU both take the same cores: no run could be quicker than their sum
        both = encoding + decoding
        yield Row("the same: bare decode, then the encoder alone / end to end", ours, both, "", both / ours)


def cached(material: Material, _: bool) -> Iterator[Row]:
    """A second run with other labels, whole process."""
    run = ["classify", material.folder(1000), "--model", material.vit, "--labels"]
    zeroshot("cache", "clear")
    (first,) = side_by_side(lambda: zeroshot(*run, LABELS), rounds=1)
    (second,) = side_by_side(lambda: zeroshot(*run, OTHER_LABELS))
    yield Row("1,000 photographs, ViT-B-32: first / second run", second, first, ">= 20", first / second)


def again(material: Material, quick: bool) -> Iterator[Row]:
    """A folder whose features are cached, of files that nothing decodes; the second look, whole process."""
    from cached_rerun import at_hand, made_up, run

    for count, seconds in ((100_000, 3), (1_000_000, 30))[: 1 if quick else 2]:
        images = made_up(material.work, count)
        taken = min((run(_HERE, images, material.work / "again.jsonl") for _ in range(2)), key=lambda one: one.clock)
        name = f"{count:,} cached images, seconds ({taken.processor:.1f} of the processor, {taken.memory / 1e6:.0f} MB)"
        yield Row(name, taken.clock, float(seconds), f"<= {seconds}", taken.clock)
        if count == 100_000:
            _, clock, processor = at_hand(images)
            name = f"{count:,} features at hand for a search or the page, seconds ({processor} of the processor)"
            yield Row(name, float(clock), 0.3, "<= 0.3", float(clock))


def resizing(material: Material, _: bool) -> Iterator[Row]:
    """Photographs decoded and resized on one thread, exactly and by vector instructions."""
    import io

    from zeroshot.encoder import Preprocessing
    from zeroshot.enums import Resampler
    from zeroshot.images.decode import DecodeOptions, decode
    from zeroshot.images.preprocess import fit

    files = [path.read_bytes() for path in material.photos[:100]]
    how = Preprocessing((224, 224), (0.5,) * 3, (0.5,) * 3)

    def read(resampler: Resampler) -> None:
        for content in files:
            fit(decode(io.BytesIO(content), DecodeOptions()), how, resampler)

    exact, fast = side_by_side(*(partial(read, resampler) for resampler in Resampler), rounds=5)
    name = f"{len(files)} photographs decoded and resized: exact / --resize fast"
    yield Row(name, fast, exact, ">= 1.6", exact / fast)


def terminal(material: Material, _: bool) -> Iterator[Row]:
    """The same cached run with a terminal to show it on, and with a pipe."""
    run = [sys.executable, "-m", "zeroshot", "classify", material.folder(5000), "--labels", LABELS, "--model", "tiny"]
    words = [str(word) for word in run]
    command(*words)  # fills the cache

    def on_a_terminal() -> None:
        import pty

        master, slave = pty.openpty()
        process = subprocess.Popen(words, stdin=slave, stdout=slave, stderr=slave)
        os.close(slave)
        with suppress(OSError):  # how Linux says that the other end is closed
            while os.read(master, 65536):
                pass
        os.close(master)
        if process.wait():
            raise RuntimeError(f"{words} failed on a terminal")

    shown, piped = side_by_side(on_a_terminal, lambda: command(*words, "--format", "table"))
    yield Row("5,000 cached photographs, tiny: on a terminal / into a pipe", shown, piped, "<= 1.3", shown / piped)


def memory(material: Material, _: bool) -> Iterator[Row]:
    """Peak memory of a long run against a short one."""

    def peak(count: int) -> float:
        script = (
            "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL);"
            "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
        )
        run = [sys.executable, "-m", "zeroshot", "classify", material.folder(count), "--labels", LABELS]
        run += ["--model", "tiny", "--no-cache"]
        done = subprocess.run(
            [sys.executable, "-c", script, *map(str, run)], capture_output=True, text=True, check=True
        )
        return float(done.stdout) * 1024

    small, large = peak(2000), peak(20000)
    yield Row("peak memory: 20,000 images / 2,000", large, small, "<= 1.1", large / small)
