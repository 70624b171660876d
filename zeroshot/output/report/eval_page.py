"""The report of ``zeroshot eval``: how good, how sure, where it fails, and which labels to look at again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ...evaluation import statistics
from ...evaluation.evaluate import Evaluation, Run
from ...evaluation.label_issues import LabelIssue, find_label_issues
from ...evaluation.statistics import Estimate
from ...features.pipeline import Pipeline
from ..render.evaluation import percent
from . import plots
from .gallery import MAX_IMAGES, Card, cards, filtered
from .markup import Content, Safe, join, tag
from .page import Section, build_page, column_heads, manifest_section, table, tiles
from .thumbnails import make_thumbnails

FEATURED = 24
"""Pictures in each of the short lists."""

HEAT_LABELS = 40
"""Up to this many labels the confusion matrix is a table of numbers; beyond, a drawing."""


def eval_report(
    run: Run,
    pipeline: Pipeline,
    *,
    files: Mapping[str, str] | None = None,
    on_progress: Callable[[int], None] = lambda _: None,
) -> bytes:
    """Return the page of a run, in UTF-8.

    Args:
        run: The evaluation and its manifest.
        pipeline: How pictures are opened, for thumbnails.
        files: Where a picture lies, for paths that are no files.
        on_progress: Called with the number of thumbnails finished since the last call.
    """
    result = run.result
    names = [label.label for label in result.per_label]
    mistakes, unsure, rows = _choose(result)
    issues = find_label_issues(result, names, FEATURED)
    paths = result.data.paths
    wanted = [paths[row] for row in [*mistakes, *unsure, *rows]] + [issue.path for issue in issues]
    place = files or {}
    made = make_thumbnails((place.get(path, path) for path in wanted), pipeline, on_progress)
    thumbnails = {path: made[place.get(path, path)] for path in wanted if place.get(path, path) in made}

    def some(chosen: Sequence[int]) -> Safe:
        return cards([_card(result, names, row) for row in chosen], thumbnails)

    sections = [
        Section("numbers", "Numbers", _numbers(result), "In brackets: 95 % intervals."),
        Section("confusion", "Confusion matrix", _confusion(result, names), "Rows are true labels, columns answers."),
        Section("labels", "Labels", _labels(result)),
        Section("curves", "How sure, and how right", _curves(result)),
    ]
    if mistakes:
        lead = "Wrong answers that sounded surest."
        sections.append(Section("mistakes", "Most confident mistakes", some(mistakes), lead))
    sections.append(Section("unsure", "Least certain answers", some(unsure), "Where the best label had little."))
    if issues:
        body = cards([_issue_card(result, names, issue) for issue in issues], thumbnails)
        lead = "The given label is probably wrong: the picture clears the bar that another label's own pictures set."
        sections.append(Section("suspects", "Suspected label errors", body, lead))
    items = [_card(result, names, row) for row in rows]
    lead = "Mistakes first, the surest on top; then right answers, the least sure on top."
    if len(rows) < len(paths):
        lead += f" {len(rows)} of {len(paths)} pictures are shown here; the JSON has all of them."
    body = filtered(items, thumbnails, list(enumerate(names)), ("right", "wrong"))
    sections.append(Section("pictures", "Pictures", body, lead))
    if result.data.failures:
        failed = [(failure.path, failure.error) for failure in result.data.failures]
        body = table(("picture", "why"), failed, caption="Pictures that could not be read")
        sections.append(Section("failures", "Not read", body, "These count in no number."))
    sections.append(manifest_section(run.manifest))
    model = run.manifest.model["model"]
    summary = f"{len(paths)} pictures, {len(names)} labels, model {model}, prompts {run.manifest.prompts['name']}."
    return build_page(f"Evaluation: {run.manifest.options.get('data') or model}", summary, sections)


def _choose(result: Evaluation) -> tuple[list[int], list[int], list[int]]:
    """Return the rows of the most confident mistakes, of the least certain answers, and of the gallery."""
    confidence, right = result.probabilities[:, 0], result.right
    wrong_rows = np.flatnonzero(~right)
    wrong_rows = wrong_rows[np.argsort(-confidence[wrong_rows], kind="stable")]
    right_rows = np.flatnonzero(right)
    right_rows = right_rows[np.argsort(confidence[right_rows], kind="stable")]
    unsure = np.argsort(confidence, kind="stable")[:FEATURED]
    gallery = np.concatenate([wrong_rows, right_rows])[:MAX_IMAGES]
    return wrong_rows[:FEATURED].tolist(), unsure.tolist(), gallery.tolist()


def _card(result: Evaluation, names: Sequence[str], row: int, note: str = "") -> Card:
    target, answer = int(result.data.targets[row]), int(result.ranking[row, 0])
    right = target == answer
    return Card(
        path=result.data.paths[row],
        answer=names[answer],
        probability=float(result.probabilities[row, 0]),
        verdict="right" if right else "wrong",
        labels=(target,) if right else (target, answer),
        given="" if right else names[target],
        note=note,
    )


def _issue_card(result: Evaluation, names: Sequence[str], issue: LabelIssue) -> Card:
    return _card(result, names, issue.row, issue.reason)


def _numbers(result: Evaluation) -> Safe:
    numbers = result.metrics
    return tiles(
        [
            ("Top-1", percent(numbers.top1.value), _between(numbers.top1)),
            ("Top-5", percent(numbers.top5.value), _between(numbers.top5)),
            ("Mean recall", percent(numbers.mean_recall.value), _between(numbers.mean_recall)),
            ("Mean F1", percent(numbers.mean_f1.value), "over the labels with pictures"),
            ("Calibration error", f"{numbers.ece.value:.3f}", "0 is honest"),
            ("Log-likelihood", f"−{numbers.nll.value:.3f}", "of the true label, in nats"),
            ("Brier score", f"{numbers.brier.value:.3f}", "0 is best, 2 is worst"),
            ("Risk-coverage area", f"{numbers.aurc.value:.3f}", "0 is best"),
        ]
    )


def _between(estimate: Estimate) -> str:
    return f"({100 * (estimate.low or 0.0):.1f}% to {100 * (estimate.high or 0.0):.1f}%)"


def _confusion(result: Evaluation, names: Sequence[str]) -> Safe:
    parts: list[Content] = []
    if len(names) <= HEAT_LABELS:
        parts.append(_heat_table(result, names))
    else:
        drawing = plots.confusion(result.confusion, names)
        parts.append(tag("div", drawing, class_="scroll tall", tabindex="0", role="region", aria_label="Heat map"))
    if result.confused:
        rows = [(target, predicted, count) for target, predicted, count in result.confused]
        mistakes = table(("label", "taken for", "pictures"), rows, caption="The commonest mistakes", numbers=2)
        parts.append(tag("div", tag("h3", "Most confused"), mistakes))
    return tag("div", join(parts), class_="beside")


def _heat_table(result: Evaluation, names: Sequence[str]) -> Safe:
    support = result.confusion.sum(axis=1)
    rows = []
    for target, name in enumerate(names):
        cells = [tag("th", name, scope="row")]
        for predicted, other in enumerate(names):
            count = int(result.confusion[target, predicted])
            if not count:
                cells.append(tag("td", 0, class_="zero"))
                continue
            shade = max(1, round(10 * count / int(support[target])))
            kind = "hit" if target == predicted else "miss"
            title = f"{name} taken for {other}: {count} of {support[target]}"
            cells.append(tag("td", count, class_=f"{kind} s{shade}", title=title))
        rows.append(tag("tr", join(cells)))
    whole = tag(
        "table",
        tag("caption", "Confusion matrix: rows are true labels, columns answers"),
        column_heads("true label", names),
        tag("tbody", join(rows)),
        class_="heat",
    )
    return tag("div", whole, class_="scroll", tabindex="0", role="region", aria_label="Confusion matrix")


def _labels(result: Evaluation) -> Safe:
    rows = [
        (label.label, label.support, percent(label.recall), percent(label.precision), percent(label.f1))
        for label in sorted(result.per_label, key=lambda label: 2.0 if label.recall is None else label.recall)
    ]
    headings = ("label", "pictures", "recall", "precision", "F1")
    return table(headings, rows, caption="Every label, the lowest recall first", sortable=True, numbers=1)


def _curves(result: Evaluation) -> Safe:
    honest = plots.reliability(result.reliability)
    risk = plots.risk_coverage(statistics.thin(result.risk))
    first = "Reliability: bars show how often answers of a confidence are right, the gap to the dashed line is shaded."
    second = "Risk against coverage: how many answers are wrong when only the surest are given."
    return tag(
        "div",
        tag("figure", honest, tag("figcaption", first)),
        tag("figure", risk, tag("figcaption", second)),
        class_="plots",
    )
