"""The report of ``zeroshot eval``: how good, how sure, where it fails, and which labels to look at again."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ...evaluation import statistics
from ...evaluation.eval_file import describe_sources
from ...evaluation.evaluate import Evaluation, Run
from ...evaluation.label_issues import LabelIssue, find_label_issues
from ...evaluation.statistics import Estimate, RiskPoint
from ...features.pipeline import Pipeline
from ..render.evaluation import percent, tell_apart
from . import plots
from .confusion import build_confusion, describe_mistakes
from .embedded_images import make_thumbnails
from .gallery import MAX_IMAGES, MAX_RANKED, Card, Gallery, Sample, View
from .page import Cell, Section, Table, Tile, build_page, count, failures_section, manifest_section

FEATURED = 24
"""Images among the suspected label errors, unless more are asked for."""


def eval_report(
    run: Run,
    pipeline: Pipeline,
    *,
    n_issues: int = 0,
    files: Mapping[str, str] | None = None,
    on_progress: Callable[[int], None] = lambda _: None,
) -> bytes:
    """Return the page of a run, in UTF-8.

    Args:
        run: The evaluation and its manifest.
        pipeline: How images are opened, for thumbnails.
        n_issues: How many suspected label errors to show, if that is more than `FEATURED`.
        files: Where an image lies, for paths that are no files.
        on_progress: Called with the number of thumbnails finished since the last call.
    """
    result = run.result
    names = list(tell_apart(result).values())
    issues = {issue.row: issue for issue in find_label_issues(result, names, max(n_issues, FEATURED))}
    rows = _choose(result, list(issues))
    paths = [result.data.paths[row] for row in rows]
    place = files or {}
    made = make_thumbnails((place.get(path, path) for path in paths), pipeline, on_progress)
    thumbnails = {path: made[place.get(path, path)] for path in paths if place.get(path, path) in made}
    total = len(result.data.paths)
    lead = "" if len(rows) == total else f"{len(rows)} of {total}: a sample of each pair of label and answer."
    rest = "Rows are true labels, columns answers."
    sections = [
        Section("images", "Images", "gallery.html", _gallery(result, names, rows, issues, thumbnails), lead),
        Section("confusion", "Confusion", "confusion.html", build_confusion(result, names), rest, folded=True),
        Section("labels", "Labels", "summary.html", {"table": _labels(result, names)}, folded=True),
        Section("curves", "How sure, and how right", "curves.html", _curves(run), folded=True),
        Section(
            "numbers", "All numbers", "summary.html", {"tiles": _numbers(result)}, "In brackets: 95 % intervals.", True
        ),
    ]
    if result.data.failures:
        sections.append(failures_section(result.data.failures, "These count in no number."))
    sections.append(manifest_section(run.manifest))
    model = run.manifest.model["model"]
    measured = f"{count(total, 'image')}, {count(len(names), 'label')}"
    sources = ", ".join(describe_sources(f"prompts {run.manifest.prompts['name']}", run.manifest.options))
    summary = f"{measured}, model {model}, {sources}.{_at_threshold(run)}"
    top1 = result.metrics.top1
    headline = (percent(top1.value), f"top-1 {_between(top1)}", describe_mistakes(result, names))
    return build_page(f"Evaluation: {run.manifest.options.get('data') or model}", summary, sections, headline)


def _choose(result: Evaluation, issues: Sequence[int]) -> list[int]:
    """Return the gallery's rows: the issues, and a sample of each pair of label and answer.

    Of mistakes the surest are the most interesting, of right answers the least sure.
    """
    sample: Sample[int] = Sample(MAX_IMAGES - len(issues))
    suspected = set(issues)
    for row, (target, answer, right) in enumerate(
        zip(result.data.targets.tolist(), result.ranking[:, 0].tolist(), result.right.tolist(), strict=True)
    ):
        confidence = float(result.probabilities[row, 0])
        if row not in suspected:
            sample.add((target, answer), confidence if right else -confidence, row)
    rows = np.asarray([*issues, *sample.items()], dtype=np.int64)
    confidence = np.where(result.right[rows], 2 + result.probabilities[rows, 0], -result.probabilities[rows, 0])
    return [int(row) for row in rows[np.argsort(confidence, kind="stable")]]


def _gallery(
    result: Evaluation,
    names: Sequence[str],
    rows: Sequence[int],
    issues: Mapping[int, LabelIssue],
    thumbnails: Mapping[str, str],
) -> Gallery:
    probabilities = result.probabilities_of(rows)
    cards = [_card(result, names, row, issues.get(row), probabilities[i]) for i, row in enumerate(rows)]
    wrong = sum(card.verdict == "wrong" for card in cards)
    views = [View("wrong", "Mistakes", wrong, "sure")] if wrong else []
    views.append(View("all", "Least sure", len(cards), "unsure"))
    if issues:
        views.append(View("suspect", "Likeliest label errors", len(issues), "sure"))
    if wrong and wrong < len(cards):
        views.append(View("right", "Right", len(cards) - wrong, "unsure"))
    return Gallery(cards, thumbnails, names, views, has_given=True)


def _card(
    result: Evaluation, names: Sequence[str], row: int, issue: LabelIssue | None, probabilities: statistics.Doubles
) -> Card:
    target, answer = int(result.data.targets[row]), int(result.ranking[row, 0])
    verdict = "right" if target == answer else "wrong"
    best = np.argsort(-probabilities, kind="stable")[:MAX_RANKED]
    return Card(
        path=result.data.paths[row],
        answer=names[answer],
        probability=float(result.probabilities[row, 0]),
        verdict=verdict,
        views=f"{verdict} suspect" if issue else verdict,
        top=tuple((int(key), float(probabilities[key])) for key in best),
        answer_key=answer,
        given_key=target,
        given="" if target == answer else names[target],
        note=issue.reason if issue else "",
    )


def _numbers(result: Evaluation) -> list[Tile]:
    numbers = result.metrics
    likelihood = f"{-numbers.nll.value:z.3f}".replace("-", "−")
    return [
        Tile("Top-1", percent(numbers.top1.value), _between(numbers.top1)),
        Tile("Top-5", percent(numbers.top5.value), _between(numbers.top5)),
        Tile("Mean recall", percent(numbers.mean_recall.value), _between(numbers.mean_recall)),
        Tile("Mean F1", percent(numbers.mean_f1.value), "over the labels with images"),
        Tile("Calibration error", f"{numbers.ece.value:.3f}", "0 is best"),
        Tile("Log-likelihood", likelihood, "of the true label, in nats"),
        Tile("Brier score", f"{numbers.brier.value:.3f}", "0 is best, 2 is worst"),
        Tile("Risk-coverage area", f"{numbers.aurc.value:.3f}", "0 is best"),
    ]


def _at_threshold(run: Run) -> str:
    """Return what the threshold of a calibration leaves, in a sentence; nothing where there is none."""
    if (answering := run.answering) is None:
        return ""
    right = f"{percent(answering.precision.value)} {_between(answering.precision)}"
    return (
        f" At the calibration's threshold of {run.threshold:.3f}, {percent(answering.coverage.value)} are answered and"
        f" the others unknown; of the answers {right} are right. The numbers below are of all answers."
    )


def _between(estimate: Estimate) -> str:
    return f"({100 * (estimate.low or 0.0):.1f}% to {100 * (estimate.high or 0.0):.1f}%)"


def _labels(result: Evaluation, names: Sequence[str]) -> Table:
    worst_first = sorted(
        enumerate(result.per_label), key=lambda item: 2.0 if item[1].recall is None else item[1].recall
    )
    rows = [
        (
            Cell(names[key], given=key),
            Cell(label.support),
            *(Cell(percent(share)) for share in (label.recall, label.precision, label.f1)),
        )
        for key, label in worst_first
    ]
    headings = ("label", "images", "recall", "precision", "F1")
    return Table("Every label, the lowest recall first", headings, rows, numbers=1, sortable=True)


def _coverage_of(point: RiskPoint) -> float:
    return point.coverage


def _curves(run: Run) -> dict[str, Any]:
    result = run.result
    points = statistics.thin(result.risk)
    least = run.threshold or 0.0
    answered = [point for point in result.risk if point.threshold >= least]
    first = max(answered, key=_coverage_of, default=points[0])
    points = sorted({*points, first}, key=_coverage_of)
    if run.threshold is not None and answered:  # its own number, not that of the image next to it
        points = [replace(point, threshold=least) if point == first else point for point in points]
        first = replace(first, threshold=least)
    values = [[round(point.coverage, 4), round(point.risk, 4), round(point.threshold, 4)] for point in points]
    return {
        "reliability": plots.reliability(result.reliability),
        "risk": plots.risk_coverage(points),
        "points": json.dumps(values, separators=(",", ":")),
        "first": points.index(first),
    }
