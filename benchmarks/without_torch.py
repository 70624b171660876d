"""A model with and without its export: what `models pull` costs and what it gains."""

from __future__ import annotations

from collections.abc import Iterator

from benchmark_inputs import LABELS, Material
from measure import Row, side_by_side, zeroshot


def pull(material: Material, _: bool) -> Iterator[Row]:
    """One image with ViT-B-32, whole process, with PyTorch and with the export; and what `models pull` takes."""
    (pulled,) = side_by_side(lambda: zeroshot("models", "pull", material.vit), rounds=1)
    run = ["classify", material.photos[0], "--model", material.vit, "--labels", LABELS, "--no-cache", "--engine"]
    ours, theirs = side_by_side(lambda: zeroshot(*run, "onnx"), lambda: zeroshot(*run, "torch"))
    name = "one image with ViT-B-32, whole process: PyTorch / after `models pull`"
    yield Row(name, ours, theirs, "", theirs / ours)
    yield Row(
        "`models pull` of ViT-B-32 / what it gains in each run", pulled, theirs - ours, "", pulled / (theirs - ours)
    )
