"""An evaluation as a table for people or a versioned document for programs."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .datasets import Dataset
from .evaluate import Evaluation
from .render import printable, significant, to_json
from .results import Manifest

EVAL_FORMAT = "zeroshot-eval"
JSON_VERSION = 1

_SHOWN_MAPPINGS = 30
_SHOWN_LABELS = 40


def mapping_lines(dataset: Dataset) -> Iterator[str]:
    """Yield the mapping from folders to labels, a line each, the first ones of many."""
    counts = [int((dataset.targets == index).sum()) for index in range(len(dataset.keys))]
    yield f"{len(dataset.keys)} labels, {len(dataset.paths)} pictures:"
    for key, label, count in list(zip(dataset.keys, dataset.labels.labels, counts, strict=True))[:_SHOWN_MAPPINGS]:
        yield f"  {key} -> {', '.join(label.words)} ({count})"
    if len(dataset.keys) > _SHOWN_MAPPINGS:
        yield f"  ... and {len(dataset.keys) - _SHOWN_MAPPINGS} more; the JSON has all of them"


def to_document(result: Evaluation, dataset: Dataset, manifest: Manifest) -> bytes:
    """Return the evaluation as JSON: metrics, labels, confusion matrix, predictions, failures, mapping, manifest."""
    names = dataset.labels.names
    document: dict[str, Any] = {
        "format": EVAL_FORMAT,
        "version": JSON_VERSION,
        "manifest": asdict(manifest),
        "metrics": {
            "top1": {"value": result.top1},
            "top5": {"value": result.top5},
            "mean_recall": {"value": result.mean_recall},
        },
        "pictures": {"measured": len(result.data.paths), "failed": len(result.data.failures)},
        "labels": [asdict(label) for label in result.per_label],
        "confusion": {"labels": list(names), "counts": result.confusion.tolist()},
        "predictions": [
            {
                "path": path,
                "target": names[int(target)],
                "label": names[int(ranking[0])],
                "probability": significant(float(probabilities[0])),
                "top": [
                    {"index": int(index), "label": names[int(index)], "probability": significant(float(probability))}
                    for index, probability in zip(ranking, probabilities, strict=True)
                ],
            }
            for path, target, ranking, probabilities in zip(
                result.data.paths, result.data.targets, result.ranking, result.probabilities, strict=True
            )
        ],
        "failures": [asdict(failure) for failure in result.data.failures],
        "mapping": {key: list(label.words) for key, label in zip(dataset.keys, dataset.labels.labels, strict=True)},
    }
    return to_json(document, indent=1) + b"\n"


def to_table(result: Evaluation, manifest: Manifest, *, colour: bool) -> str:
    """Return the evaluation as text: the metrics, the labels (worst first), the commonest mistakes."""
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=colour, no_color=not colour, highlight=False, markup=False, emoji=False, width=None if colour else 80)
    console.print(f"model   {manifest.model['model']} ({manifest.model['architecture']} {manifest.model['pretrained']})".rstrip())
    console.print(f"prompts {manifest.prompts['name']}, {len(manifest.prompts['templates'])} templates")
    console.print(f"pictures {len(result.data.paths)}, labels {len(result.per_label)}\n")
    console.print(Text(f"top-1 {_percent(result.top1)}   top-5 {_percent(result.top5)}   mean recall {_percent(result.mean_recall)}\n", "bold"))
    table = _table("label", "pictures", "recall", "precision")
    measured = sorted((label for label in result.per_label if label.count), key=lambda label: (label.recall or 0.0, label.label))
    for label in measured[:_SHOWN_LABELS]:
        table.add_row(Text(printable(label.label)), str(label.count), _percent(label.recall), _percent(label.precision))
    console.print(table)
    if len(measured) > _SHOWN_LABELS:
        console.print(f"... and {len(measured) - _SHOWN_LABELS} labels with higher recall (--format json has all)")
    if result.confused:
        console.print("\nmost confused")
        mistakes = _table("label", "taken for", "pictures")
        for target, predicted, count in result.confused:
            mistakes.add_row(Text(printable(target)), Text(printable(predicted)), str(count))
        console.print(mistakes)
    return stream.getvalue()


def _table(first: str, *others: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(first, overflow="fold")
    for name in others:
        table.add_column(name, justify="left" if name == "taken for" else "right")
    return table


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}%"
