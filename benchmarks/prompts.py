"""Which template sets suit a labelled folder, whether `prompts check` can tell, and what descriptions are worth.

    python benchmarks/prompts.py SET [SET ...] --model tiny --json figures.json   # each SET has one subfolder per label

For each set: accuracy of every shipped template set beside agreement, margin and entropy, which need no labels, with
their rank correlations; accuracy of random words; and of the name alone, descriptions (`descriptions.yaml`) and random
words in place of the descriptions, all after `a photo of a {},`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from zeroshot import load_encoder, load_folder, load_templates
from zeroshot.classifier import build_classifier
from zeroshot.evaluation import template_agreement
from zeroshot.evaluation.evaluate import encode_dataset
from zeroshot.features.cache import FeatureCache
from zeroshot.features.pipeline import Pipeline
from zeroshot.prompts.labels import Label, LabelSet
from zeroshot.prompts.template_sets import TemplateSet, list_names

TEMPLATE = TemplateSet("photo", ("a photo of a {}.",))


def rank_correlation(first: list[float], second: list[float]) -> float:
    """Return Spearman's correlation; of equal values the mean rank."""
    ranks = [np.asarray([np.mean(np.flatnonzero(np.sort(x) == value)) for value in x]) for x in (first, second)]
    return float(np.corrcoef(*ranks)[0, 1])


def with_words(labels: LabelSet, endings: list[list[str]]) -> LabelSet:
    """Return the labels with only these prompts: the name with each of its endings."""
    prompts = [
        tuple(f"a photo of a {label.name}, {ending}." for ending in some)
        for label, some in zip(labels.labels, endings, strict=True)
    ]
    return LabelSet(tuple(Label(label.name, (), own) for label, own in zip(labels.labels, prompts, strict=True)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", type=Path, help="folders with one subfolder per label")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    described = yaml.safe_load((Path(__file__).parent / "descriptions.yaml").read_text("utf-8"))
    encoder, pipeline = load_encoder(options.model), Pipeline(cache=FeatureCache())
    figures: dict[str, Any] = {}
    for folder in options.sets:
        dataset = load_folder(str(folder))
        data = encode_dataset(encoder, dataset, pipeline)
        names = [load_templates(name) for name in list_names()]
        scores = template_agreement.score_sets(encoder, dataset.labels, names, data.features, pipeline.cache)
        accuracy = {score.name: float((score.answers == data.targets).mean()) for score in scores}
        shipped = [score for score in scores if not score.random]
        right = [accuracy[score.name] for score in shipped]
        entry: dict[str, Any] = {"accuracy": accuracy, "correlation": {}, "chosen": {}}
        print(f"{folder.name}: " + "  ".join(f"{s.name} {100 * accuracy[s.name]:.1f}" for s in shipped))
        chance = [accuracy[score.name] for score in scores if score.random]
        print(f"    random words {100 * np.mean(chance):.1f} ({100 * min(chance):.1f} to {100 * max(chance):.1f})")
        for name, sign in (("agreement", 1), ("margin", 1), ("entropy", -1)):
            values = [sign * getattr(score, name) for score in shipped]
            best = shipped[int(np.argmax(values))].name
            entry["correlation"][name], entry["chosen"][name] = rank_correlation(values, right), best
            print(f"    {name:<10} rank correlation {entry['correlation'][name]:+.2f}; it would choose {best},"
                  f" {100 * accuracy[best]:.1f} (general {100 * accuracy['general']:.1f},"
                  f" best {100 * max(right):.1f})", flush=True)  # fmt: skip
        if own := described.get(folder.name):
            endings = [own[key] for key in dataset.keys]
            entry["descriptions"] = tried = {}

            def measure(name: str, labels: LabelSet) -> float:
                classifier = build_classifier(encoder, labels, TEMPLATE, None, pipeline.cache)
                found = float(((data.features @ classifier.weights.T).argmax(axis=1) == data.targets).mean())  # noqa: B023
                tried[name] = found  # noqa: B023
                return found

            measure("name", dataset.labels)
            measure("descriptions", with_words(dataset.labels, endings))
            for index, random in enumerate(template_agreement.random_sets(10)):
                words = [template.partition(", ")[2].rstrip(".") for template in random.templates[:2]]
                measure(f"random {index}", with_words(dataset.labels, [words] * len(endings)))
            drawn = [value for name, value in tried.items() if name.startswith("random")]
            print(f"    the name {100 * tried['name']:.1f}; two descriptions {100 * tried['descriptions']:.1f};"
                  f" two of random words {100 * np.mean(drawn):.1f} ({100 * min(drawn):.1f} to"
                  f" {100 * max(drawn):.1f}, 10 draws)", flush=True)  # fmt: skip
        figures[folder.name] = entry
        if options.json:
            options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
