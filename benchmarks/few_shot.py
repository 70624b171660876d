"""What a few examples, the folder's own shares and its neighbourhoods are worth, on labelled folders.

    python benchmarks/few_shot.py SET [SET ...] --model tiny --json figures.json  # each SET has one subfolder per label

For each set: accuracy and calibration error of the texts alone, `learn`, Tip-Adapter, the Gaussian and a linear probe
at 1, 2, 4, 8 and 16 examples per label, five draws; of `--prior auto` with all labels, with a tenth of them and with
spoilt texts; and of `--neighbours` with all images, with few of each label or of half of them, and with half of the
labels not named.
Features are cached, so that only the first run encodes.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from zeroshot import load_encoder, load_folder, load_templates
from zeroshot.classifier import build_classifier
from zeroshot.evaluation.compare import pair
from zeroshot.evaluation.evaluate import EncodedDataset, encode_dataset
from zeroshot.evaluation.few_shot import METHODS, trace_curve
from zeroshot.evaluation.statistics import calibration_error, log_softmax, reliability
from zeroshot.features.cache import FeatureCache
from zeroshot.features.pipeline import Pipeline
from zeroshot.learn.label_propagation import propagate
from zeroshot.learn.label_shares import estimate_shares, with_shares
from zeroshot.prompts.labels import LabelSet
from zeroshot.scoring import Classifier

SHOTS = (1, 2, 4, 8, 16)


def score(probabilities: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, float]:
    """Return which answers are right, and the calibration error."""
    right = probabilities.argmax(axis=1) == targets
    return right, calibration_error(reliability(probabilities.max(axis=1).astype(np.float64), right))


def compared(name: str, texts: np.ndarray, other: np.ndarray, targets: np.ndarray) -> dict[str, Any]:
    """Return accuracy and calibration error of two sets of probabilities, and McNemar's p-value."""
    first, second = score(texts, targets), score(other, targets)
    paired = pair(first[0], second[0])
    print(f"    {name:<28} {100 * first[0].mean():5.1f} -> {100 * second[0].mean():5.1f} %"
          f"   ECE {first[1]:.3f} -> {second[1]:.3f}   p {paired.p:.3g}", flush=True)  # fmt: skip
    return {"name": name, "before": float(first[0].mean()), "after": float(second[0].mean()),
            "ece_before": first[1], "ece_after": second[1], "p": paired.p}  # fmt: skip


def probabilities_of(classifier: Classifier, features: np.ndarray) -> np.ndarray:
    return np.exp(log_softmax(classifier.scores(features).logits))


def priors(data: EncodedDataset, texts: Classifier, seeds: int) -> list[dict[str, Any]]:
    """Measure `--prior auto`: all labels present, a tenth of them (at least two), and with shuffled texts."""
    found = []

    def measure(name: str, classifier: Classifier, rows: np.ndarray) -> None:
        features, targets = data.features[rows], data.targets[rows]
        before = probabilities_of(classifier, features)
        shifted = with_shares(classifier, estimate_shares(before))
        found.append(compared(name, before, probabilities_of(shifted, features), targets))

    measure("prior, all labels", texts, np.arange(len(data.targets)))
    n_labels = len(texts.labels.names)
    for seed in range(seeds):
        generator = np.random.default_rng(seed)
        some = generator.permutation(np.unique(data.targets))[: max(2, n_labels // 10)]
        measure(f"prior, {len(some)} of {n_labels}, draw {seed}", texts, np.flatnonzero(np.isin(data.targets, some)))
    generator = np.random.default_rng(0)
    spoilt = replace(texts, weights=texts.weights + 0.1 * generator.normal(size=texts.weights.shape).astype(np.float32))
    measure("prior, spoilt texts", spoilt, np.arange(len(data.targets)))
    return found


def neighbours(data: EncodedDataset, texts: Classifier, seeds: int) -> list[dict[str, Any]]:
    """Measure `--neighbours`: the whole folder, few images per label, rare labels, images of labels that are not given.

    Of rare labels the images are named apart: the mean over a folder hides what happens to them.
    """
    found = []

    def measure(name: str, rows: np.ndarray, looked_at: np.ndarray | None = None, known: Classifier = texts) -> None:
        """`looked_at`: which of the rows are measured; all unless given."""
        features = data.features[rows]
        chosen = np.arange(len(rows)) if looked_at is None else looked_at
        before = known.scores(features).logits[chosen]
        after = propagate(known, features)[chosen]
        columns = np.asarray([texts.labels.names.index(label) for label in known.labels.names])
        place = np.full(len(texts.labels.names), -1)
        place[columns] = np.arange(len(columns))
        pair_of = [np.exp(log_softmax(logits)) for logits in (before, after)]
        found.append(compared(name, *pair_of, place[data.targets[rows[chosen]]]))

    measure("neighbours, all", np.arange(len(data.targets)))
    present = np.unique(data.targets)
    for seed in range(seeds):
        order = np.random.default_rng(seed).permutation(len(data.targets))

        def some(label: int, count: int, order: np.ndarray = order) -> np.ndarray:
            return order[data.targets[order] == label][:count]

        for count in (2, 5, 20):
            rows = np.concatenate([some(label, count) for label in present])
            measure(f"neighbours, {count} images per label, draw {seed}", rows)
        mixed = np.random.default_rng(seed).permutation(present)
        rare = mixed[: len(mixed) // 2]
        rows = np.concatenate([some(label, 3 if label in rare else 1000) for label in present])
        few = np.flatnonzero(np.isin(data.targets[rows], rare))
        measure(f"neighbours, 3 images of half of the labels, those, draw {seed}", rows, few)
        others = np.setdiff1d(np.arange(len(rows)), few)
        measure(f"neighbours, 3 images of half of the labels, the others, draw {seed}", rows, others)
        left = np.sort(mixed[len(mixed) // 2 :])
        open_set = replace(
            texts, weights=texts.weights[left], labels=LabelSet(tuple(texts.labels.labels[i] for i in left))
        )
        ours = np.flatnonzero(np.isin(data.targets, left))
        measure(f"neighbours, half of the labels not named, draw {seed}", np.arange(len(data.targets)), ours, open_set)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", type=Path, help="folders with one subfolder per label")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", choices=["curve", "prior", "neighbours"], help="instead of all three")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    encoder, pipeline = load_encoder(options.model), Pipeline(cache=FeatureCache())
    figures: dict[str, Any] = {}
    for folder in options.sets:
        dataset = load_folder(str(folder))
        texts = build_classifier(encoder, dataset.labels, load_templates("general"), None, pipeline.cache)
        data = encode_dataset(encoder, dataset, pipeline)
        print(f"{folder.name}: {len(data.targets)} images, {len(dataset.keys)} labels", flush=True)
        figures[folder.name] = entry = {}
        if options.only in (None, "curve"):
            begin = time.process_time()
            curve = trace_curve(data, texts, SHOTS, options.seeds)
            entry["curve"] = [asdict(point) for point in (curve.zero_shot, *curve.points)]
            for name in METHODS:
                cells = [point for point in curve.points if point.method == name]
                text = "  ".join(f"{100 * c.top1:5.1f}/{c.ece:.3f}/p{c.paired.p:.2g}" for c in cells)
                print(f"    {name:<14} {text}", flush=True)
            print(f"    zero-shot      {100 * curve.zero_shot.top1:.1f}/{curve.zero_shot.ece:.3f};"
                  f" {time.process_time() - begin:.0f} s CPU", flush=True)  # fmt: skip
        if options.only in (None, "prior"):
            entry["prior"] = priors(data, texts, options.seeds)
        if options.only in (None, "neighbours"):
            entry["neighbours"] = neighbours(data, texts, options.seeds)
        if options.json:
            options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
