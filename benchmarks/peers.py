"""Compares this program with what people use now: the same photographs, the same weights where a peer takes them."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmark_inputs import LABELS, Material
from measure import Row, command, side_by_side, zeroshot


def peers(material: Material, _: bool) -> Iterator[Row]:
    """Three of them; model loading is left out where a library is called."""
    from zeroshot import build_classifier, classify_paths, load_encoder, load_templates, parse_labels

    paths = material.paths(300)
    encoder = load_encoder(str(material.vit))

    def ours() -> None:
        # Whatever a first run has to do is done each time: prompts are encoded, nothing comes from the cache.
        for _ in classify_paths(
            encoder, build_classifier(encoder, parse_labels(LABELS), load_templates("photo")), paths
        ):
            pass

    loop = _open_clip_loop(material, paths)
    seconds, theirs = side_by_side(ours, loop, rounds=2)
    yield Row("300 photographs: open_clip with a DataLoader / ours", seconds, theirs, "", theirs / seconds)
    pipeline = _transformers_pipeline(material, paths)
    if pipeline is not None:
        seconds, theirs = side_by_side(ours, pipeline, rounds=2)
        yield Row("300 photographs: the transformers pipeline / ours", seconds, theirs, "", theirs / seconds)
    yield from _clip_benchmark(material)


def _open_clip_loop(material: Material, paths: list[str]) -> Any:
    """Return what people write with open_clip: its transform in a DataLoader, its builder, its model."""
    import open_clip
    import torch
    from PIL import Image

    from zeroshot import load_templates

    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{material.vit}")
    model.eval()
    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    templates = list(load_templates("photo").templates)

    class Images(torch.utils.data.Dataset):  # type: ignore[type-arg]
        def __len__(self) -> int:
            return len(paths)

        def __getitem__(self, index: int) -> Any:
            return transform(Image.open(paths[index]))

    def loop() -> None:
        with torch.no_grad():
            weights = open_clip.build_zero_shot_classifier(model, tokenizer, LABELS.split(","), templates)
            for batch in torch.utils.data.DataLoader(Images(), batch_size=32, num_workers=2):
                (100 * model.encode_image(batch, normalize=True) @ weights).softmax(dim=-1)

    return loop


def _transformers_pipeline(material: Material, paths: list[str]) -> Any:
    """Return the zero-shot pipeline of transformers over a model of the same size, or None where it is missing."""
    try:
        from transformers import CLIPConfig, CLIPModel, CLIPTokenizerFast, pipeline
    except ImportError:
        print("transformers is not installed: row skipped", file=sys.stderr)
        return None
    try:
        from transformers.models.clip import CLIPImageProcessorPil as Processor  # without torchvision
    except ImportError:
        from transformers import CLIPImageProcessor as Processor
    classify = pipeline(
        "zero-shot-image-classification",
        model=CLIPModel(CLIPConfig(vision_config={"patch_size": 32}, projection_dim=512)).eval(),
        tokenizer=CLIPTokenizerFast(**_clip_vocabulary(material.work)),
        image_processor=Processor(),
        batch_size=32,
    )
    return lambda: list(classify(paths, candidate_labels=LABELS.split(",")))


def _clip_vocabulary(work: Path) -> dict[str, str]:
    """Write open_clip's byte-pair vocabulary as the two files that transformers reads."""
    import open_clip

    tokenizer = open_clip.SimpleTokenizer()
    vocabulary, lines = work / "vocab.json", work / "merges.txt"
    # transformers looks for the special tokens under other names, and would add them behind the table's end.
    named = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocabulary.write_text(json.dumps({named.get(token, token): i for token, i in tokenizer.encoder.items()}))
    lines.write_text("#version\n" + "\n".join(" ".join(pair) for pair in tokenizer.bpe_ranks))
    return {"vocab": str(vocabulary), "merges": str(lines)}


def _clip_benchmark(material: Material) -> Iterator[Row]:
    """Compare whole processes: CLIP_benchmark's command, from another environment where $CLIP_BENCHMARK names it."""
    program = os.environ.get("CLIP_BENCHMARK") or shutil.which("clip_benchmark")
    if program is None:
        print("clip_benchmark is not installed: row skipped", file=sys.stderr)
        return
    labelled = _as_webdataset(material)
    run = [program, "eval", "--dataset", "wds/labelled", "--dataset_root", labelled]
    run += ["--task", "zeroshot_classification", "--num_workers", "1", "--model", "ViT-B-32", "--pretrained"]
    run += [material.vit / "open_clip_model.safetensors", "--output", material.work / "clip_benchmark.json"]
    try:
        ours, theirs = side_by_side(
            lambda: zeroshot("eval", labelled, "--model", material.vit, "--no-cache"), lambda: command(*run), rounds=2
        )
    except RuntimeError as error:
        print(f"clip_benchmark failed, row skipped: {str(error)[-300:]}", file=sys.stderr)
        return
    yield Row("300 labelled photographs, whole process: CLIP_benchmark / ours", ours, theirs, "", theirs / ours)


def _as_webdataset(material: Material) -> Path:
    """Write 300 photographs in the layout of CLIP_benchmark's webdatasets, the only one that it reads offline."""
    labelled = material.work / "labelled"
    shard = labelled / "test" / "0.tar"
    if shard.exists():
        return labelled
    shard.parent.mkdir(parents=True, exist_ok=True)
    names = sorted({path.parent.name for path in material.photos})
    (labelled / "classnames.txt").write_text("".join(f"{name}\n" for name in names))
    (labelled / "zeroshot_classification_templates.txt").write_text("a photo of a {c}.\n")
    (shard.parent / "nshards.txt").write_text("1\n")
    with tarfile.open(shard, "w") as archive:
        for index in range(300):
            path = material.photos[index % len(material.photos)]
            for ending, content in (
                (path.suffix[1:], path.read_bytes()),
                ("cls", str(names.index(path.parent.name)).encode()),
            ):
                member = tarfile.TarInfo(f"{index:06}.{ending}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return labelled
