"""How long `learn` takes, and what `--learned` costs `classify`: arithmetic on made features, no model.

    python benchmarks/learning.py                      # 10,000 examples of 200 labels at 256 dimensions
    python benchmarks/learning.py --examples 2000 --labels 50

Features stand around directions of their labels and a common one, so far apart that texts and examples both err; texts
are those directions with noise. Processor time counts all threads; the clock counts whatever else the machine does.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from zeroshot.enums import Score
from zeroshot.features.pipeline import Block
from zeroshot.learn.regression import Problem
from zeroshot.learn.strength import count_fits, learn
from zeroshot.prompts.labels import Label, LabelSet
from zeroshot.prompts.template_sets import TemplateSet
from zeroshot.scoring import Classifier, Decision


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def make_problem(n_images: int, n_labels: int, dim: int) -> Problem:
    generator = np.random.default_rng(0)
    truth = unit(generator.normal(size=(n_labels, dim)))
    targets = np.arange(n_images) % n_labels
    noise = 3.0 * unit(generator.normal(size=(n_images, dim)))
    features = unit(truth[targets] + 2 * unit(generator.normal(size=dim)) + noise)
    texts = unit(truth + unit(generator.normal(size=(n_labels, dim))))
    return Problem(features, targets, texts, 50.0)


def took(work: Callable[[], object]) -> tuple[float, float]:
    """Return processor time and time by the clock, in seconds."""
    processor, clock = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - processor, time.perf_counter() - clock


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=10_000)
    parser.add_argument("--labels", type=int, default=200)
    parser.add_argument("--dim", type=int, default=256)
    options = parser.parse_args()
    problem = make_problem(options.examples, options.labels, options.dim)
    right = ((problem.features @ problem.anchor.T).argmax(axis=1) == problem.targets).mean()
    fits: list[int] = []
    learned = []
    processor, clock = took(lambda: learned.append(learn(problem, on_progress=fits.append)))
    found = learned[0]
    assert found.logits is not None
    held_out = (found.logits.argmax(axis=1) == problem.targets).mean()
    print(f"learn: {options.examples} examples, {options.labels} labels, {options.dim} dimensions")
    print(f"  {processor:.1f} s of processor time, {clock:.1f} s by the clock; {len(found.losses)} pulls tried,"
          f" at most {count_fits(problem.targets)} fits")  # fmt: skip
    print(f"  texts {100 * right:.1f} %, learned {100 * held_out:.1f} % of the images left out; pull"
          f" {found.strength:g} to {found.length:g} of the texts")  # fmt: skip
    labels = LabelSet(tuple(Label(str(index)) for index in range(options.labels)))
    texts = Classifier(problem.anchor, labels, TemplateSet("p", ("{}",)), 50.0, 0.0, Score.SOFTMAX)
    refined = replace(texts, weights=found.weights, learned="x")
    sizes = [32] * (len(problem.features) // 32)
    block = Block([""] * sum(sizes), problem.features[: sum(sizes)], {}, sizes)
    times: dict[str, list[float]] = {"texts": [], "learned": []}
    for _ in range(15):
        for name, classifier in (("texts", texts), ("learned", refined)):
            times[name].append(took(lambda one=classifier: one.answer(block, Decision()))[0])  # type: ignore[misc]
    ratio = np.median(times["learned"]) / np.median(times["texts"])
    print(f"classify: answers with learned weights over those without, median of 15 in turns: {ratio:.3f} of the"
          " processor time; it also encodes no text")  # fmt: skip


if __name__ == "__main__":
    main()
