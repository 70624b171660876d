"""Ratios measured side by side in one run: this tool against bare parts and against what people use now.

    python benchmarks/run.py --photos ../shared/photos              # every row, about half an hour on two cores
    python benchmarks/run.py --photos ../shared/photos startup text # these only

Seconds depend on the machine and on what else it does; ratios of two things measured one after the other, repeated and
compared by their best, depend on it much less. Weights are random where only the architecture matters. Peers that are
not installed are skipped (``pip install '.[benchmarks]'``).
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LABELS = "cat,dog,bridge,boat,banana,desk,spider,organ,pretzel,fountain"
OTHER_LABELS = "animal,vehicle,food,furniture,building"
NOUNS = tuple(
    "apple boat cat dog eagle fox goat house island jar kite lamp moon nest owl pear queen ring ship tree".split()  # noqa: SIM905
)


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison.

    Attributes:
        name: What is compared.
        ours: Seconds (or bytes) of this tool.
        theirs: Seconds (or bytes) of the other side.
        bar: What the ratio should be, in words.
        ratio: The figure that the bar speaks of.
    """

    name: str
    ours: float
    theirs: float
    bar: str
    ratio: float


def best(work: Callable[[], object], repeats: int = 3) -> float:
    """Return the seconds of the quickest of several runs."""
    found = []
    for _ in range(repeats):
        begin = time.perf_counter()
        work()
        found.append(time.perf_counter() - begin)
    return min(found)


def command(*arguments: object, **environment: str) -> None:
    """Run a process to its end, output thrown away.

    Raises:
        RuntimeError: It failed.
    """
    done = subprocess.run(
        [str(argument) for argument in arguments], capture_output=True, text=True, env={**os.environ, **environment}
    )
    if done.returncode:
        raise RuntimeError(f"{arguments}: {done.stderr[-2000:]}")


def zeroshot(*arguments: object, **environment: str) -> None:
    """Run this tool's command."""
    command(sys.executable, "-m", "zeroshot", *arguments, **environment)


class Bench:
    """What the rows share: photographs, a ViT-B-32 with random weights, a cache of its own.

    Args:
        photos: Folder of photographs.
        work: Folder for everything that is made.
    """

    def __init__(self, photos: Path, work: Path) -> None:
        self.photos = sorted(path for path in photos.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
        self.work = work
        self.cache = work / "cache"
        os.environ["ZEROSHOT_CACHE"] = str(self.cache)

    def folder(self, count: int) -> Path:
        """Return a folder of so many photographs, the given ones repeated, no two of the same bytes."""
        folder = self.work / f"photos-{count}"
        if not folder.exists():
            folder.mkdir()
            for index in range(count):
                source = self.photos[index % len(self.photos)]
                # Decoders stop at the end-of-image marker; the cache sees another file.
                (folder / f"{index:06}{source.suffix}").write_bytes(source.read_bytes() + b"%d" % index)
        return folder

    def enlarged(self, count: int) -> list[str]:
        """Return so many JPEGs of 4,000 x 3,000 pixels, as cameras make them."""
        from PIL import Image

        folder = self.work / f"large-{count}"
        if not folder.exists():
            folder.mkdir()
            for index in range(count):
                with Image.open(self.photos[index % len(self.photos)]) as picture:
                    whole = picture.convert("RGB").resize((4000, 3000), Image.Resampling.BICUBIC)
                whole.save(folder / f"{index:06}.jpg", quality=90)
        return [str(path) for path in sorted(folder.iterdir())]

    def vit(self) -> Path:
        """Return an open_clip folder of a ViT-B-32 with random weights, exported for the torch-free engine."""
        folder = self.work / "vit"
        if not folder.exists():
            import open_clip
            from safetensors.torch import save_file

            model = open_clip.create_model("ViT-B-32")
            staging = self.work / "vit.part"
            staging.mkdir()
            preprocess = {"mean": [0.48, 0.46, 0.41], "std": [0.27, 0.26, 0.28], "interpolation": "bicubic"}
            config = {"model_cfg": open_clip.get_model_config("ViT-B-32"), "preprocess_cfg": preprocess}
            (staging / "open_clip_config.json").write_text(json.dumps(config))
            save_file(dict(model.state_dict()), staging / "open_clip_model.safetensors")
            staging.rename(folder)
            zeroshot("models", "pull", folder)
        return folder

    def startup(self) -> Iterator[Row]:
        """One picture with the built-in checkpoint, and the commands that only print."""
        picture = self.photos[0]
        ours = best(lambda: zeroshot("classify", picture, "--labels", "cat,dog", "--model", "tiny", "--no-cache"))
        theirs = best(lambda: command(sys.executable, "-c", "import open_clip"))
        yield Row("one picture with tiny / import open_clip", ours, theirs, "<= 0.15", ours / theirs)
        typer = best(lambda: command(sys.executable, "-c", "import typer"), 5)
        for words in (["--help"], ["prompts", "list"], ["models", "list"]):
            ours = best(lambda words=words: zeroshot(*words), 5)
            yield Row(f"{' '.join(words)} / import typer", ours, typer, "<= 2", ours / typer)

    def text(self) -> Iterator[Row]:
        """An ensemble of 80 templates against open_clip's builder, and the same ensemble again."""
        import numpy as np
        import open_clip
        import torch

        from zeroshot import build_classifier, load_encoder, load_templates, parse_labels
        from zeroshot.encoder import Engine

        folder = self.vit()
        templates = load_templates("imagenet-80")
        few = NOUNS[:5]
        model = open_clip.create_model(f"local-dir:{folder}").eval()
        tokenizer = open_clip.get_tokenizer("ViT-B-32")
        begin = time.perf_counter()
        with torch.no_grad():
            weights = open_clip.build_zero_shot_classifier(model, tokenizer, few, list(templates.templates))
        theirs = time.perf_counter() - begin
        for engine in (Engine.ONNX, Engine.TORCH):
            encoder = load_encoder(str(folder), engine=engine)
            built = build_classifier(encoder, parse_labels(",".join(few)), templates)
            ours = best(lambda e=encoder: build_classifier(e, parse_labels(",".join(few)), templates), 2)
            apart = np.abs(built.weights - weights.numpy().T).max()
            name = f"5 labels x 80 templates, ViT-B-32, {engine} engine (features differ by {apart:.1e})"
            yield Row(f"{name}: open_clip's builder / ours", ours, theirs, ">= 6", theirs / ours)
        del model
        labels = ",".join(f"{first} {second}" for first in NOUNS[:10] for second in NOUNS[10:])
        run = ["classify", self.photos[0], "--labels", labels, "--prompts", "imagenet-80", "--model", folder]
        zeroshot("cache", "clear")
        first = best(lambda: zeroshot(*run), 1)
        again = best(lambda: zeroshot(*run), 2)
        yield Row("100 labels x 80 templates, whole process: again / first", again, first, "< 0.05", again / first)

    def pictures(self) -> Iterator[Row]:
        """End to end against the encoder alone, and against decoding alone."""
        import numpy as np

        from zeroshot import load_encoder
        from zeroshot.encode import Pipeline, available_cores, encode_batches
        from zeroshot.pictures.decode import Opening, open_picture
        from zeroshot.pictures.isolate import Isolation
        from zeroshot.pictures.preprocess import fit

        cores = available_cores()
        for name, model, count in (("ViT-B-32", str(self.vit()), 300), ("tiny", "tiny", 2000)):
            encoder = load_encoder(model)
            paths = [str(path) for path in sorted(self.folder(count).iterdir())]
            how = encoder.spec.preprocessing

            def decode(path: str, how: Any = how) -> Any:
                return fit(open_picture(path, Opening()), how)

            def end_to_end(
                pipeline: Pipeline = Pipeline(32, cores), encoder: Any = encoder, paths: list[str] = paths
            ) -> None:
                for _ in encode_batches(encoder, paths, pipeline):
                    pass

            ready = np.stack([decode(path) for path in paths])

            def bare(encoder: Any = encoder, ready: Any = ready) -> None:
                for start in range(0, len(ready), 32):
                    encoder.encode_images(ready[start : start + 32])

            ours, encoding = best(end_to_end, 3), best(bare, 3)
            title = f"{count} photographs, {name}"
            if name != "tiny":
                row = f"{title}: the encoder alone on ready pixels / end to end ({count / ours:.0f} pictures/s)"
                yield Row(row, ours, encoding, ">= 0.95", encoding / ours)
                continue
            with ThreadPoolExecutor(cores) as pool:
                decoding = best(lambda d=decode, p=paths, pool=pool: [None for _ in pool.map(d, p)], 3)
            row = f"{title}: bare decode and resize / end to end ({count / ours:.0f} pictures/s)"
            yield Row(row, ours, decoding, ">= 0.85", decoding / ours)
            row = f"{title}: bare decode, then the encoder alone / end to end"
            yield Row(row, ours, decoding + encoding, "", (decoding + encoding) / ours)
            processes = best(lambda e=end_to_end: e(Pipeline(32, cores, isolation=Isolation())), 2)
            yield Row(f"{title}: decoding in processes (--isolate) / in threads", ours, processes, "", processes / ours)
            large = self.enlarged(100)
            whole = best(lambda e=end_to_end, p=large: e(paths=p), 2)
            draft = best(lambda e=end_to_end, p=large: e(Pipeline(32, cores, Opening(draft=True)), paths=p), 2)
            yield Row("100 photographs of 12 megapixels, tiny: whole / --draft", draft, whole, "", whole / draft)

    def cached(self) -> Iterator[Row]:
        """A second run with other labels, whole process."""
        folder, model = self.folder(1000), self.vit()  # made before the clock runs
        zeroshot("cache", "clear")
        first = best(lambda: zeroshot("classify", folder, "--labels", LABELS, "--model", model), 1)
        second = best(lambda: zeroshot("classify", folder, "--labels", OTHER_LABELS, "--model", model), 2)
        yield Row("1,000 photographs, ViT-B-32: first / second run", second, first, ">= 20", first / second)

    def memory(self) -> Iterator[Row]:
        """Peak memory of a long run against a short one."""

        def peak(count: int) -> float:
            script = (
                "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL);"
                "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
            )
            run = [sys.executable, "-m", "zeroshot", "classify", self.folder(count), "--labels", LABELS]
            run += ["--model", "tiny", "--no-cache"]
            done = subprocess.run([sys.executable, "-c", script, *map(str, run)], capture_output=True, text=True)
            return float(done.stdout) * 1024

        small, large = peak(2000), peak(20000)
        yield Row("peak memory: 20,000 pictures / 2,000", large, small, "<= 1.1", large / small)

    def peers(self) -> Iterator[Row]:
        """What people use now, on the same weights and photographs, model loading left out."""
        import open_clip
        import torch
        from PIL import Image

        from zeroshot import build_classifier, classify_paths, load_encoder, load_templates, parse_labels

        folder, paths = self.vit(), [str(path) for path in sorted(self.folder(300).iterdir())]
        labels, templates = parse_labels(LABELS), load_templates("photo")
        encoder = load_encoder(str(folder))

        def ours() -> None:
            for _ in classify_paths(encoder, build_classifier(encoder, labels, templates), paths):
                pass

        seconds = best(ours, 1)
        model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}")
        model.eval()
        tokenizer = open_clip.get_tokenizer("ViT-B-32")

        class Pictures(torch.utils.data.Dataset):  # type: ignore[type-arg]
            def __len__(self) -> int:
                return len(paths)

            def __getitem__(self, index: int) -> Any:
                return transform(Image.open(paths[index]))

        def loop() -> None:
            with torch.no_grad():
                weights = open_clip.build_zero_shot_classifier(
                    model, tokenizer, LABELS.split(","), list(templates.templates)
                )
                for batch in torch.utils.data.DataLoader(Pictures(), batch_size=32, num_workers=2):
                    (100 * model.encode_image(batch, normalize=True) @ weights).softmax(dim=-1)

        theirs = best(loop, 1)
        yield Row("300 photographs: open_clip with a DataLoader / ours", seconds, theirs, "", theirs / seconds)
        yield from self._transformers(paths, seconds)
        yield from self._clip_benchmark(folder)

    def _transformers(self, paths: list[str], seconds: float) -> Iterator[Row]:
        try:
            from transformers import CLIPConfig, CLIPModel, pipeline
            from transformers.models.clip import CLIPImageProcessorPil as Processor  # without torchvision
        except ImportError:
            try:
                from transformers import CLIPConfig, CLIPModel, pipeline
                from transformers import CLIPImageProcessor as Processor
            except ImportError:
                print("transformers is not installed: row skipped", file=sys.stderr)
                return
        from transformers import CLIPTokenizerFast

        from zeroshot import open_clip_tables

        tokenizer = CLIPTokenizerFast(**_clip_vocabulary(self.work, open_clip_tables.bpe_vocabulary()))
        config = CLIPConfig(vision_config={"patch_size": 32}, projection_dim=512)
        classify = pipeline(
            "zero-shot-image-classification",
            model=CLIPModel(config).eval(),
            tokenizer=tokenizer,
            image_processor=Processor(),
            batch_size=32,
        )
        theirs = best(lambda: list(classify(paths, candidate_labels=LABELS.split(","))), 1)
        yield Row("300 photographs: the transformers pipeline / ours", seconds, theirs, "", theirs / seconds)

    def _clip_benchmark(self, folder: Path) -> Iterator[Row]:
        if shutil.which("clip_benchmark") is None:
            print("clip_benchmark is not installed: row skipped", file=sys.stderr)
            return
        # The layout of its own webdatasets: the only one that it reads pictures of one's own from without a network.
        labelled, shard = self.work / "labelled", self.work / "labelled" / "test" / "0.tar"
        if not shard.exists():
            shard.parent.mkdir(parents=True)
            names = sorted({path.parent.name for path in self.photos})
            (labelled / "classnames.txt").write_text("".join(f"{name}\n" for name in names))
            (labelled / "zeroshot_classification_templates.txt").write_text("a photo of a {c}.\n")
            (shard.parent / "nshards.txt").write_text("1\n")
            with tarfile.open(shard, "w") as archive:
                for index in range(300):
                    path = self.photos[index % len(self.photos)]
                    for ending, content in (
                        (path.suffix[1:], path.read_bytes()),
                        ("cls", str(names.index(path.parent.name)).encode()),
                    ):
                        member = tarfile.TarInfo(f"{index:06}.{ending}")
                        member.size = len(content)
                        archive.addfile(member, io.BytesIO(content))
        ours = best(lambda: zeroshot("eval", labelled, "--model", folder, "--no-cache"), 1)
        run = ["clip_benchmark", "eval", "--dataset", "wds/labelled", "--dataset_root", labelled]
        run += ["--task", "zeroshot_classification", "--num_workers", "1", "--model", "ViT-B-32", "--pretrained"]
        run += [folder / "open_clip_model.safetensors", "--output", self.work / "clip_benchmark.json"]
        try:
            theirs = best(lambda: command(*run), 1)
        except RuntimeError as error:
            print(f"clip_benchmark failed offline, row skipped: {str(error)[-300:]}", file=sys.stderr)
            return
        yield Row("300 labelled photographs, whole process: CLIP_benchmark / ours", ours, theirs, "", theirs / ours)


def _clip_vocabulary(work: Path, merges: Path) -> dict[str, str]:
    """Write open_clip's byte-pair vocabulary as the two files that transformers reads."""
    import open_clip

    tokenizer = open_clip.SimpleTokenizer()
    vocabulary, lines = work / "vocab.json", work / "merges.txt"
    # transformers looks for the special tokens under other names, and would add them behind the table's end.
    named = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocabulary.write_text(json.dumps({named.get(token, token): i for token, i in tokenizer.encoder.items()}))
    lines.write_text("#version\n" + "\n".join(" ".join(pair) for pair in tokenizer.bpe_ranks))
    assert merges.exists()
    return {"vocab": str(vocabulary), "merges": str(lines)}


ROWS = ("startup", "text", "pictures", "cached", "memory", "peers")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", choices=[*ROWS, []], help="all, if none is named")
    parser.add_argument("--photos", type=Path, required=True, help="folder of photographs, repeated as needed")
    parser.add_argument("--work", type=Path, help="keep what is made here, for another run")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    made = tempfile.mkdtemp(prefix="zeroshot-bench-")
    work = (options.work or Path(made)).resolve()
    work.mkdir(parents=True, exist_ok=True)
    bench = Bench(options.photos, work)
    found: list[Row] = []
    try:
        for name in options.rows or ROWS:
            for row in getattr(bench, name)():
                found.append(row)
                print(f"{row.ratio:8.3f}  {row.bar:8}  {row.ours:10.3f}  {row.theirs:10.3f}  {row.name}", flush=True)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    if options.json:
        rows = [{"name": r.name, "ours": r.ours, "theirs": r.theirs, "bar": r.bar, "ratio": r.ratio} for r in found]
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
