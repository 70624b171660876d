"""Finds what `prompts check` reports: templates and labels that are broken, repeated, truncated or nearly the same."""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np

from ..encoder import Encoder, average
from ..messages import and_more
from .labels import LabelSet, normalise
from .template_sets import TemplateSet, placeholder_fault, prompts_for
from .tokenizer_checks import check_control_tokens, check_encodable, find_truncated

NEARLY_SAME = 0.98
"""Cosine of two labels' features from which a softmax can hardly tell them apart at the usual scale of 100: a
difference of 0.02 is worth at most two units of logit, spread over every image."""


class Severity(enum.StrEnum):
    """How bad a finding is."""

    ERROR = "error"  # results would be wrong
    WARNING = "warning"  # results would surprise


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem, in one line."""

    severity: Severity
    message: str


def check_templates(templates: TemplateSet) -> list[Finding]:
    """Find templates without exactly one placeholder, and repeated ones; a set without any is broken."""
    findings: list[Finding] = []
    if not templates.templates:
        findings.append(Finding(Severity.ERROR, "no templates: give at least one, such as `a photo of a {}.`"))
    seen: dict[str, str] = {}
    for template in templates.templates:
        if fault := placeholder_fault(template):
            findings.append(Finding(Severity.ERROR, f"template {template!r} has {fault}"))
        key = normalise(template)
        if key in seen:
            same = seen[key] == template
            what = "is given twice" if same else f"differs from {seen[key]!r} only in case or spaces"
            findings.append(Finding(Severity.ERROR if same else Severity.WARNING, f"template {template!r} {what}"))
        seen.setdefault(key, template)
    return findings


def check_with_model(encoder: Encoder, labels: LabelSet, templates: TemplateSet, most: int = 20) -> list[Finding]:
    """Find labels that the model truncates, and pairs whose averaged features nearly coincide.

    Args:
        encoder: The model.
        labels: Checked for form already.
        templates: Likewise.
        most: Pairs to name, closest first.

    Raises:
        LabelError: The tokenizer would not read a label as text.
    """
    limit = encoder.spec.context_length
    prompts = [prompts_for(label, templates) for label in labels.labels]
    every = [prompt for group in prompts for prompt in group]
    check_encodable(every)
    check_control_tokens(encoder.spec, labels.labels)
    findings = [
        Finding(
            Severity.WARNING, f"label {labels.names[index]!r} is truncated: {count} tokens, the model reads {limit}"
        )
        for index, count in find_truncated(encoder, prompts).items()
    ]
    flat = encoder.encode_texts(every)
    ends = np.cumsum([len(group) for group in prompts])
    weights = np.stack([average(part) for part in np.split(flat, ends[:-1])])
    cosines = np.triu(weights @ weights.T, 1)
    close = np.argwhere(cosines > NEARLY_SAME)
    close = close[np.argsort(-cosines[tuple(close.T)], kind="stable")]
    for first, second in close[:most]:
        pair = f"{labels.names[first]!r} and {labels.names[second]!r}"
        findings.append(
            Finding(Severity.WARNING, f"labels {pair} nearly coincide: cosine {cosines[first, second]:.4f}")
        )
    if len(close) > most:
        findings.append(Finding(Severity.WARNING, f"... {and_more(len(close) - most, 'pairs that nearly coincide')}"))
    return findings
