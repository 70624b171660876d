"""Measure a checkpoint folder on every line that the built-in checkpoint is held to, through open_clip itself.

    python tools/report_tiny.py --data ../shared --checkpoint zeroshot/models/checkpoints/tiny --out report.json

Runs on a CPU in about a minute. Accuracies come with Wilson 95 % intervals.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as F  # noqa: N812
from PIL import Image
from tiny_data import TOOLS, Vocabulary, decode_archives, read_index
from torch import Tensor

PER_HELD_OUT = 50  # pictures of each class with a held-out name, so that every class counts the same


def wilson(right: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Return the Wilson score interval of ``right`` out of ``n``."""
    p = right / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return middle - half, middle + half


def calibration_error(probabilities: Tensor, right: Tensor, bins: int = 15) -> float:
    """Return the expected calibration error: |accuracy - confidence| over equal-width bins, weighted by pictures."""
    confidence, predicted = probabilities.max(1)
    correct = (predicted == right).float()
    position = (confidence * bins).long().clamp(max=bins - 1)
    error = 0.0
    for i in range(bins):
        inside = position == i
        if inside.any():
            error += inside.float().mean().item() * abs((correct[inside].mean() - confidence[inside].mean()).item())
    return error


class Checkpoint:
    """A folder's two towers behind open_clip's own loader, preprocessing and tokenizer."""

    def __init__(self, folder: Path) -> None:
        name = f"local-dir:{folder}"
        self.model, _, self.preprocess = open_clip.create_model_and_transforms(name)
        self.model.eval()
        self.tokenizer = open_clip.get_tokenizer(name)
        self.scale = self.model.logit_scale.exp().item()

    @torch.inference_mode()
    def encode(self, pictures: list[Image.Image], batch: int = 256) -> Tensor:
        """Return unit features ``(n, dim)``."""
        rows = []
        for start in range(0, len(pictures), batch):
            x = torch.stack([self.preprocess(p.convert("RGB")) for p in pictures[start : start + batch]])
            rows.append(self.model.encode_image(x, normalize=True))
        return torch.cat(rows)

    @torch.inference_mode()
    def weights(self, labels: list[str], templates: list[str]) -> Tensor:
        """Return classifier rows ``(n_labels, dim)``: mean of unit prompt features, renormalised."""
        rows = []
        for label in labels:
            prompts = [template.replace("{}", label) for template in templates]
            rows.append(self.model.encode_text(self.tokenizer(prompts), normalize=True).mean(0))
        return F.normalize(torch.stack(rows), dim=-1)


def read_archives(data: Path, part: str, keys: list[str]) -> tuple[list[Image.Image], np.ndarray]:
    """Return the pictures of a part of ``index.json`` and their classes ``(n,)``."""
    archives = [data / "photos64" / name for name in read_index(data)[part]]
    decoded = decode_archives(archives, keys)
    return [Image.fromarray(pixels) for pixels in decoded.pixels], decoded.classes


def read_photos(data: Path) -> tuple[list[Image.Image], list[str]]:
    """Return the full-size photographs and their labels."""
    paths = sorted((data / "photos").glob("*/*.jpg"))
    return [Image.open(path) for path in paths], [path.parent.name for path in paths]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--prompts", type=Path, default=TOOLS.parent / "prompts")
    parser.add_argument("--out", type=Path, help="write the numbers here as JSON")
    options = parser.parse_args()
    vocabulary = Vocabulary(options.data, options.prompts)
    checkpoint = Checkpoint(options.checkpoint)
    keys, labels = vocabulary.keys, vocabulary.labels
    cifar = [i for i, key in enumerate(keys) if key.startswith("cifar-")]
    others = [i for i, key in enumerate(keys) if not key.startswith("cifar-")]
    tiny_pictures, tiny_classes = read_archives(options.data, "val_tiny_imagenet", keys)
    cifar_pictures, cifar_classes = read_archives(options.data, "test_cifar10", keys)
    photos, photo_labels = read_photos(options.data)
    features = torch.cat([checkpoint.encode(tiny_pictures), checkpoint.encode(cifar_pictures)])
    classes = np.concatenate([tiny_classes, cifar_classes])
    is_tiny = np.arange(len(classes)) < len(tiny_classes)

    with_synonym = [i for i, key in enumerate(keys) if key in vocabulary.held_out]
    synonym_rows = np.concatenate([np.flatnonzero(classes == i)[:PER_HELD_OUT] for i in with_synonym])
    names = sorted(set(photo_labels))
    photo_features = checkpoint.encode(photos)

    def column(values: np.ndarray, order: list[int]) -> Tensor:
        return torch.tensor([order.index(value) for value in values])

    lines = {
        "CIFAR-10 test, 10 labels": ([labels[i] for i in cifar], features[~is_tiny], column(cifar_classes, cifar)),
        "Tiny ImageNet validation, 200 labels": (
            [labels[i] for i in others],
            features[is_tiny],
            column(tiny_classes, others),
        ),
        "photographs, 50 labels": (names, photo_features, torch.tensor([names.index(label) for label in photo_labels])),
        f"Tiny ImageNet validation, {len(vocabulary.groups)} everyday groups": (
            vocabulary.groups,
            features[is_tiny],
            torch.from_numpy(vocabulary.group_of[tiny_classes]),
        ),
        f"{len(with_synonym)} held-out words": (
            [vocabulary.held_out[keys[i]][0] for i in with_synonym],
            features[synonym_rows],
            column(classes[synonym_rows], with_synonym),
        ),
    }
    report = {
        "logit_scale": checkpoint.scale,
        "held_out": vocabulary.held_out,
        "groups": vocabulary.groups,
        "lines": {},
    }
    for title, (words, pictures, right) in lines.items():
        for prompts, templates in (("plain", ["{}"]), ("general", vocabulary.general)):
            logits = checkpoint.scale * pictures @ checkpoint.weights(words, templates).T
            n_right = int((logits.argmax(1) == right).sum())
            low, high = wilson(n_right, len(right))
            found = {
                "accuracy": n_right / len(right),
                "interval": [low, high],
                "n": len(right),
                "calibration_error": calibration_error(logits.softmax(1), right),
            }
            report["lines"].setdefault(title, {})[prompts] = found
            print(
                f"{title:48s} {prompts:8s} {100 * found['accuracy']:6.2f} %  ({100 * low:.1f} to {100 * high:.1f})"
                f"  n {len(right):5d}  calibration error {found['calibration_error']:.3f}"
            )
    report["bytes"] = sum(path.stat().st_size for path in options.checkpoint.iterdir())
    print(f"all files: {report['bytes'] / 1e6:.2f} MB; logit scale {checkpoint.scale:.2f}")
    if options.out:
        options.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
