"""An evaluation as a table for people or a versioned document for programs."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any
from unicodedata import normalize

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ...evaluation.compare import PrecisionChange
from ...evaluation.eval_file import EVAL_FORMAT, EVAL_VERSION, describe_sources
from ...evaluation.evaluate import EncodedDataset, Evaluation, Run
from ...evaluation.label_issues import LabelIssue
from ...evaluation.labelled_folders import Dataset
from ...evaluation.metrics import confused_pairs
from ...evaluation.statistics import Estimate, thin
from ...messages import and_more, count_of, printable, some_of
from ...results import Manifest, significant
from .json_lines import to_json

GRID_FORMAT = "zeroshot-eval-grid"

_SHOWN_MAPPINGS = 8
_SHOWN_LABELS = 40
_GRID_NUMBERS = ("top-1 (95 %)", "top-5", "recall", "ECE", "p")
_WIDE = 10_000


def mapping_lines(dataset: Dataset) -> Iterator[str]:
    """Yield how many labels and images there are, and a line on the first labels, with what a folder stands for."""
    counted = f"{count_of(len(dataset.keys), 'label')}, {count_of(len(dataset.paths), 'image')}"
    yield f"{counted} (the JSON has the whole mapping):"
    shown = [
        f"{key if label.words == (key,) else f'{key} -> ' + ' or '.join(label.words)} ({count})"
        for key, label, count in zip(dataset.keys, dataset.labels.labels, dataset.counts, strict=True)
    ]
    yield f"  {some_of(shown, _SHOWN_MAPPINGS)}"


def to_document(run: Run, dataset: Dataset, issues: Sequence[LabelIssue] = ()) -> dict[str, Any]:
    """Return a run as plain data: metrics, labels, confusion matrix, curves, predictions, failures, manifest."""
    result, names = run.result, [label.label for label in run.result.per_label]
    return {
        "format": EVAL_FORMAT,
        "version": EVAL_VERSION,
        "manifest": asdict(run.manifest),
        "metrics": metrics_to_dict(result),
        **_at_threshold(run),
        "images": {"measured": len(result.data.paths), "failed": len(result.data.failures)},
        "labels": [asdict(label) for label in result.per_label],
        "confusion": {"labels": list(names), "counts": result.confusion.tolist()},
        "reliability": [asdict(b) for b in result.reliability],
        "risk_coverage": [asdict(point) for point in thin(result.risk)],
        "predictions": [_prediction(result, names, row) for row in range(len(result.data.paths))],
        "suspects": [{key: value for key, value in asdict(issue).items() if key != "row"} for issue in issues],
        "failures": [asdict(failure) for failure in result.data.failures],
        "links": list(dataset.links),
        "mapping": {key: list(label.words) for key, label in zip(dataset.keys, dataset.labels.labels, strict=True)},
    }


def grid_to_document(
    runs: Sequence[Run],
    dataset: Dataset,
    against_best: Sequence[float | None],
    precisions: Sequence[PrecisionChange] = (),
) -> dict[str, Any]:
    """Return several runs over the same images as plain data, best first.

    Args:
        runs: Sorted.
        dataset: What they were measured on.
        against_best: McNemar's p-value of each run against the first; None where they could not read the same images.
        precisions: What lower precisions change.
    """
    return {
        "format": GRID_FORMAT,
        "version": EVAL_VERSION,
        "runs": [
            {"p_against_best": None if p is None else significant(p), **to_document(run, dataset)}
            for run, p in zip(runs, against_best, strict=True)
        ],
        "precisions": [
            {
                "model": change.model,
                "prompts": change.prompts,
                "reference": change.reference,
                "precision": change.precision,
                "images": change.n_images,
                "same_label": change.same_label,
                "difference": _estimate(change.top1.difference),
                "p": significant(change.top1.p),
            }
            for change in precisions
        ],
    }


def metrics_to_dict(result: Evaluation) -> dict[str, Any]:
    """Return the metrics as the JSON contract has them: ``value``, and ``low`` and ``high`` where they are known."""
    return {name: _estimate(estimate) for name, estimate in _estimates(result).items()}


def _at_threshold(run: Run) -> dict[str, Any]:
    answering = run.answering
    if answering is None:
        return {}
    shares = {"precision": _estimate(answering.precision), "coverage": _estimate(answering.coverage)}
    return {"at_threshold": {"threshold": run.threshold, **shares}}


def _estimates(result: Evaluation) -> dict[str, Estimate]:
    fields = ("top1", "top5", "mean_recall", "mean_f1", "ece", "nll", "brier", "aurc")
    return {name: getattr(result.metrics, name) for name in fields}


def _estimate(estimate: Estimate) -> dict[str, float]:
    return {key: value for key, value in asdict(estimate).items() if value is not None}


def _prediction(result: Evaluation, names: Sequence[str], row: int) -> dict[str, Any]:
    target, ranking, probabilities = int(result.data.targets[row]), result.ranking[row], result.probabilities[row]
    return {
        "path": result.data.paths[row],
        "target": names[target],
        "target_index": target,
        "target_probability": significant(float(result.target_probabilities[row])),
        "label": names[int(ranking[0])],
        "probability": significant(float(probabilities[0])),
        "top": [
            {"index": int(index), "label": names[int(index)], "probability": significant(float(probability))}
            for index, probability in zip(ranking, probabilities, strict=True)
        ],
        **({"unknown": True} if result.outdone[row] else {}),
    }


def to_table(run: Run, issues: Sequence[LabelIssue] = (), *, colour: bool) -> str:
    """Return a run as text: the metrics, the labels (worst first), the commonest mistakes, the suspects."""
    result = run.result
    stream, console = _console(colour)
    for line in _heading(run.manifest, result.data, len(result.per_label)):
        console.print(Text(printable(line)))
    console.print()
    console.print(_headline(result))
    if result.outdone.any():
        taken = f"{int(result.outdone.sum())} of {len(result.outdone)}"
        console.print(f"unknown: {taken}, which a background label takes; the numbers are of the best answers\n")
    if (answering := run.answering) is not None:
        console.print(
            f"threshold {run.threshold:.3f}: {percent(answering.coverage.value)} answered, the others unknown; of the"
            f" answers {with_interval(answering.precision)} are right\n",
            soft_wrap=True,
        )
    table = _table("label", "images", "recall", "precision", "F1")
    shown = tell_apart(result)
    measured = sorted(
        (label for label in result.per_label if label.support), key=lambda label: (label.recall or 0.0, label.label)
    )
    for label in measured[:_SHOWN_LABELS]:
        shares = (percent(label.recall), percent(label.precision), percent(label.f1))
        table.add_row(Text(printable(shown[label.key])), str(label.support), *shares)
    console.print(table)
    if len(measured) > _SHOWN_LABELS:
        rest = and_more(len(measured) - _SHOWN_LABELS, "labels with higher recall")
        console.print(f"... {rest} (--format json has all)")
    if unmeasured := [printable(shown[label.key]) for label in result.per_label if not label.support]:
        console.print(Text(f"no image was measured of {some_of(unmeasured)}: not in mean recall"), soft_wrap=True)
    if result.confused:
        console.print("\nmost confused")
        mistakes = _table("label", "taken for", "images")
        names = list(shown.values())
        for target, predicted, count in confused_pairs(result.confusion, 10):
            mistakes.add_row(Text(printable(names[target])), Text(printable(names[predicted])), str(count))
        console.print(mistakes)
    if issues:
        console.print("\nlabels that are most likely wrong")
        for issue in issues:
            console.print(Text(f"{printable(issue.path)}: {printable(issue.reason)}"), soft_wrap=True)
    return stream.getvalue()


def tell_apart(result: Evaluation) -> dict[str, str]:
    """Return each label's name by its key, with the key where another label has the same name.

    Keys that look alike, as those of composed and decomposed accents do, are escaped.
    """
    counts = Counter(label.label for label in result.per_label)
    alike = Counter(normalize("NFC", label.key) for label in result.per_label)
    keys = {one.key: one.key if alike[normalize("NFC", one.key)] == 1 else ascii(one.key) for one in result.per_label}
    return {
        one.key: one.label if counts[one.label] == 1 else f"{one.label} ({keys[one.key]})" for one in result.per_label
    }


def grid_to_table(
    runs: Sequence[Run],
    against_best: Sequence[float | None],
    precisions: Sequence[PrecisionChange] = (),
    *,
    colour: bool,
) -> str:
    """Return several runs as one table, best first, each with McNemar's p-value against the first."""
    stream, console = _console(colour)
    first = runs[0].result
    console.print(f"images {len(first.data.paths)}, labels {len(first.per_label)}")
    if applied := [source for source in describe_sources("", runs[0].manifest.options) if source]:
        console.print(Text(printable(f"with   {', '.join(applied)}")))
    console.print()
    rows = [
        (_model_name(run.manifest) + (f" {run.manifest.model['precision']}" if precisions else ""),
         str(run.manifest.prompts["name"]), *_grid_numbers(run, "best" if run is runs[0] else p_value(p)))
        for run, p in zip(runs, against_best, strict=True)
    ]  # fmt: skip
    table = _table("model", "prompts", *_GRID_NUMBERS)
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    # Measured on a wider console: a measure never passes the width of its own.
    if console.measure(table, options=console.options.update(width=_WIDE)).maximum <= console.width:
        console.print(table)
    else:
        _print_blocks(console, rows)
    console.print("p: exact McNemar test of top-1 against the best; below 0.05 the difference is hardly chance")
    for change in precisions:
        same = (
            f"{change.precision} gives {change.same_label} of {change.n_images} images the label of {change.reference}"
        )
        what = f"{change.model}, {change.prompts}: {same}; {change.sentence}"
        console.print(Text(printable(what)), soft_wrap=True)
    return stream.getvalue()


def _grid_numbers(run: Run, p: str) -> tuple[str, ...]:
    numbers = run.result.metrics
    shares = (with_interval(numbers.top1), percent(numbers.top5.value), percent(numbers.mean_recall.value))
    return (*shares, f"{numbers.ece.value:.3f}", p)


def _print_blocks(console: Console, rows: Sequence[Sequence[str]]) -> None:
    """Print rows that are too wide as two lines each: the names, and the numbers below them."""
    widths = [max(map(len, column)) for column in zip(_GRID_NUMBERS, *(row[2:] for row in rows), strict=True)]

    def line(cells: Sequence[str]) -> str:
        return "  " + "  ".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))

    console.print("model, prompts", style="bold")
    console.print(line(_GRID_NUMBERS), style="bold")
    for row in rows:
        console.print(Text(printable(f"{row[0]}, {row[1]}")))
        console.print(line(row[2:]))
    console.print()


def percent(value: float | None) -> str:
    """Return a share in percent, one decimal."""
    return "–" if value is None else f"{100 * value:.1f}%"


def with_interval(estimate: Estimate) -> str:
    """Return a share in percent with its interval."""
    if estimate.low is None or estimate.high is None:
        return percent(estimate.value)
    return f"{percent(estimate.value)} ({100 * estimate.low:.1f}–{100 * estimate.high:.1f})"


def p_value(p: float | None) -> str:
    """Return a p-value as people write it."""
    if p is None:
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _headline(result: Evaluation) -> Text:
    numbers = result.metrics
    return Text.assemble(
        ("top-1       " + with_interval(numbers.top1), "bold"),
        f"\ntop-5       {with_interval(numbers.top5)}",
        f"\nmean recall {with_interval(numbers.mean_recall)}",
        f"\ncalibration error {numbers.ece.value:.3f}   log-likelihood −{numbers.nll.value:.3f}",
        f"\nBrier score {numbers.brier.value:.3f}   risk-coverage area {numbers.aurc.value:.3f}",
        ("\nin brackets: 95 % intervals\n", "dim"),
    )


def _heading(manifest: Manifest, data: EncodedDataset, labels: int) -> Iterator[str]:
    model = manifest.model
    yield f"model    {model['model']} ({model['architecture']} {model['pretrained']}".rstrip() + ")"
    prompts = f"{manifest.prompts['name']}, {count_of(len(manifest.prompts['templates']), 'template')}"
    sources = describe_sources(prompts, manifest.options)
    if prompts in sources:
        yield f"prompts  {prompts}"
    if others := [source for source in sources if source != prompts]:
        yield f"with     {', '.join(others)}"
    yield f"images {len(data.paths)}, labels {labels}"


def _model_name(manifest: Manifest) -> str:
    model = manifest.model
    same = model["model"] == model["architecture"] and model["pretrained"]
    return f"{model['model']} {model['pretrained']}" if same else str(model["model"])


def _console(colour: bool) -> tuple[io.StringIO, Console]:
    stream = io.StringIO()
    return stream, Console(
        file=stream,
        force_terminal=colour,
        no_color=not colour,
        highlight=False,
        markup=False,
        emoji=False,
        width=None if colour else 80,
    )


def _table(first: str, *others: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(first, overflow="fold")
    for name in others:
        words = name in ("taken for", "prompts")
        table.add_column(name, justify="left" if words else "right", overflow="fold", no_wrap=not words)
    return table


def encode(document: dict[str, Any]) -> bytes:
    """Return a document as bytes, ending with a newline."""
    return to_json(document, indent=1) + b"\n"
