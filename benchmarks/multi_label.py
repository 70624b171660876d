"""What `--multi-label` finds on made images with two labels: two photographs of a labelled folder side by side.

    python benchmarks/multi_label.py SET --model tiny --images 800

Half of the images fit slope, offset and threshold, the other half is measured: labels judged one by one before and
after the fit, and the probabilities of labels that compete, fitted and cut in the same way, beside them.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from zeroshot import load_encoder, load_folder, load_templates
from zeroshot.evaluation import multi_label as measuring
from zeroshot.evaluation.evaluate import encode_dataset
from zeroshot.evaluation.holdout import split_rows
from zeroshot.evaluation.labelled_folders import Dataset
from zeroshot.evaluation.statistics import log_sigmoid, log_softmax
from zeroshot.features.cache import FeatureCache
from zeroshot.features.pipeline import Pipeline
from zeroshot.multi_label import build_judge

SIDE = 224


def make_pairs(dataset: Dataset, count: int, folder: Path) -> tuple[tuple[str, ...], np.ndarray]:
    """Save images, two thirds of two photographs of different labels and one third of one, and return their labels."""
    generator = np.random.default_rng(0)
    truth = np.zeros((count, len(dataset.keys)), dtype=bool)
    paths = []
    for index in range(count):
        rows = generator.choice(len(dataset.paths), size=2, replace=False)
        rows = rows[:1] if index % 3 == 0 else rows
        canvas = Image.new("RGB", (SIDE * len(rows), SIDE), "white")
        for place, row in enumerate(rows):
            with Image.open(dataset.paths[row]) as image:
                canvas.paste(image.convert("RGB").resize((SIDE, SIDE)), (place * SIDE, 0))
            truth[index, dataset.targets[row]] = True
        paths.append(str(folder / f"{index:05d}.png"))
        canvas.resize((SIDE, SIDE)).save(paths[-1])
    return tuple(paths), truth


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="has one subfolder per label")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--images", type=int, default=800)
    options = parser.parse_args()
    encoder, cache = load_encoder(options.model), FeatureCache()
    dataset = load_folder(str(options.folder))
    with TemporaryDirectory() as folder:
        paths, truth = make_pairs(dataset, options.images, Path(folder))
        made = replace(dataset, paths=paths, targets=np.arange(len(paths)))
        data = encode_dataset(encoder, made, Pipeline())
    judge = build_judge(encoder, dataset.labels, load_templates("general"), cache)
    halves = split_rows(truth.argmax(axis=1), 0)
    fit = measuring.calibrate(data, halves, judge, truth, dataset.keys, None)
    print(f"{options.folder.name}: {len(paths)} images, {truth.shape[1]} labels, {truth.sum()} labels of images")
    for name, result in (("judged, as it is", fit.before), ("judged, fitted", fit.after)):
        print(f"  {name:<18} mAP {100 * result.mean_average_precision:.1f}  F1 of pairs {100 * result.micro_f1:.1f}"
              f"  mean F1 {100 * result.macro_f1:.1f}  ECE {result.ece:.3f}  log-loss {result.nll:.3f}")  # fmt: skip
    logs = log_softmax(judge.classifier.scores(data.features).logits)
    seen, held_out = halves
    slope, offset = measuring.fit_probabilities(logs[seen], truth[seen])
    probabilities = np.exp(log_sigmoid(slope * logs + offset))
    threshold = measuring.choose_threshold(probabilities[seen], truth[seen], None) or 0.5
    given, real = probabilities[held_out] >= threshold, truth[held_out]
    present = np.flatnonzero(real.any(axis=0))
    precisions = [measuring.average_precision(logs[held_out][:, i], real[:, i]) for i in present]
    f1 = measuring.f1_score(int((given & real).sum()), int(given.sum()), int(real.sum())) or 0.0
    print(f"  {'competing, fitted':<18} mAP {100 * np.mean(precisions):.1f}  F1 of pairs {100 * f1:.1f}")


if __name__ == "__main__":
    main()
