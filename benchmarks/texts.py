"""Prompts and labels: against open_clip's builder, and how many labels there may be."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import Any
from unittest import mock

from benchmark_inputs import ADJECTIVES, HUNDRED_LABELS, NOUNS, Material
from measure import Row, side_by_side, zeroshot


def text(material: Material, quick: bool) -> Iterator[Row]:
    """An ensemble of 80 templates against open_clip's builder, and the same ensemble again."""
    import numpy as np
    import open_clip
    import torch

    from zeroshot import build_classifier, load_encoder, load_templates, parse_labels
    from zeroshot.encoder import Engine

    folder, templates = material.vit, load_templates("imagenet-80")
    names = HUNDRED_LABELS[:5] if quick else HUNDRED_LABELS
    labels = parse_labels(",".join(names))
    made: dict[str, Any] = {}

    def builder() -> None:
        model = open_clip.create_model(f"local-dir:{folder}").eval()
        with torch.no_grad():
            made["open_clip"] = open_clip.build_zero_shot_classifier(
                model, open_clip.get_tokenizer("ViT-B-32"), names, list(templates.templates)
            )

    def ours(engine: Engine) -> None:
        made[engine] = build_classifier(load_encoder(str(folder), engine=engine), labels, templates)

    # Each side loads its weights, once: open_clip's takes minutes, beside which neither matters.
    engines = (Engine.ONNX, Engine.TORCH)
    theirs, *seconds = side_by_side(builder, *(partial(ours, engine) for engine in engines), rounds=1)
    for engine, taken in zip(engines, seconds, strict=True):
        apart = np.abs(made[engine].weights - made["open_clip"].numpy().T).max()
        name = f"{len(names)} labels x 80 templates, ViT-B-32, {engine} engine (features differ by {apart:.1e})"
        yield Row(f"{name}: open_clip's builder / ours", taken, theirs, ">= 6", theirs / taken)
    run = ["classify", material.photos[0], "--prompts", "imagenet-80", "--model", folder]
    run += ["--labels", ",".join(HUNDRED_LABELS)]
    zeroshot("cache", "clear")
    (first,) = side_by_side(lambda: zeroshot(*run), rounds=1)
    (again,) = side_by_side(lambda: zeroshot(*run))
    yield Row("100 labels x 80 templates, whole process: again / first", again, first, "< 0.05", again / first)


def beginnings(material: Material, quick: bool) -> Iterator[Row]:
    """Prompts whose shared beginning is read once against prompts that are read whole, text tower alone."""
    from zeroshot import load_encoder, load_templates
    from zeroshot.engines import onnx_engine
    from zeroshot.engines.text_batches import plan_batches

    def whole(tokens: Any, lengths: Any, positions: int, _: int | None) -> Any:
        return plan_batches(tokens, lengths, positions, None)

    for model, set_name, bar in (("tiny", "general", ""), (str(material.vit), "imagenet-80", ">= 1.5")):
        encoder, names = load_encoder(model), HUNDRED_LABELS[: 10 if quick else 100]
        prompts = [template.format(name) for name in names for template in load_templates(set_name).templates]
        encoder.encode_texts(prompts[:1])  # opens the tower

        def read_whole(encoder: Any = encoder, prompts: list[str] = prompts) -> None:
            with mock.patch.object(onnx_engine, "plan_batches", whole):
                encoder.encode_texts(prompts)

        ours, theirs = side_by_side(partial(encoder.encode_texts, prompts), read_whole)
        name = f"{len(prompts):,} prompts of the set `{set_name}`, {encoder.spec.model.rpartition('/')[2]}"
        yield Row(f"{name}: read whole / shared beginnings read once", ours, theirs, bar, theirs / ours)


def labels(material: Material, quick: bool) -> Iterator[Row]:
    """Many labels with the default templates, whole process, and the same again."""
    for count, seconds in ((1_000, 2), (10_000, 20), (21_000, 45))[: 1 if quick else 3]:
        listed = material.work / f"labels-{count}.txt"
        words = (f"{adjective} {noun} {place}" for place in range(210) for adjective in ADJECTIVES for noun in NOUNS)
        listed.write_text("\n".join(islice(words, count)))
        words = ["classify", material.photos[0], "--labels-file", listed, "--model", "tiny", "--prompts", "general"]
        zeroshot("cache", "clear")
        (first,) = side_by_side(lambda words=words: zeroshot(*words), rounds=1)
        (second,) = side_by_side(lambda words=words: zeroshot(*words), rounds=2)
        yield Row(f"{count:,} labels with the set `general`, seconds", first, float(seconds), f"<= {seconds}", first)
        yield Row("the same again, seconds", second, 1.0, "<= 1", second)
