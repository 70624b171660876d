"""Checks labels and prompts of every run against the tokenizer: errors where answers would be wrong, else warnings."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from ..encoder import Encoder, EncoderSpec, Features, Score
from ..errors import LabelError
from ..messages import some_of
from .labels import Label, LabelSet

_MARKED = re.compile(r"""[-*•]\s|\d+[.)]\s|[\["'].*|.*[\]"]$""")
_SAME = 1 - 1e-6
"""Cosine from which two rows are of the same tokens: batches of other lengths round otherwise by less."""


_COUNTED = 8192
"""Prompts whose tokens are counted at once."""


def check_encodable(prompts: Sequence[str]) -> None:
    """Refuse prompts that are not UTF-8: names of folders and arguments may hold other bytes.

    Raises:
        LabelError: Names the first one.
    """
    for prompt in prompts:
        if prompt.isascii():
            continue
        try:
            prompt.encode("utf-8")
        except UnicodeEncodeError as error:
            raise LabelError(f"{_short(prompt)} holds bytes that are not UTF-8", "write it in UTF-8") from error


def check_control_tokens(spec: EncoderSpec, labels: Sequence[Label], kind: str = "label") -> None:
    """Refuse labels that hold a control token of the tokenizer.

    Raises:
        LabelError: A control token inside a label; it is called what `kind` says.
    """
    for label in labels:
        for word in (*label.words, *label.prompts):
            for token in spec.special_tokens:
                if token and token.casefold() in word.casefold():
                    raise LabelError(
                        f"{kind} {_short(label.name)} holds {token!r}, which the tokenizer reads as a control token",
                        "write it otherwise",
                    )


def find_truncated(encoder: Encoder, prompts: Sequence[Sequence[str]]) -> dict[int, int]:
    """Return the labels with a prompt beyond the context length: index and token count of the longest prompt."""
    limit = encoder.spec.context_length
    # A token is at least one byte, and two positions are special: shorter prompts need no counting.
    long = [
        (index, prompt)
        for index, group in enumerate(prompts)
        for prompt in group
        if len(prompt) > limit - 2 or (not prompt.isascii() and len(prompt.encode("utf-8", "replace")) > limit - 2)
    ]
    truncated: dict[int, int] = {}
    for start in range(0, len(long), _COUNTED):
        part = long[start : start + _COUNTED]
        counts = encoder.count_tokens([prompt for _, prompt in part])
        for (index, _), count in zip(part, counts, strict=True):
            if count > limit:
                truncated[index] = max(count, truncated.get(index, 0))
    return truncated


def validation_warnings(spec: EncoderSpec, names: Sequence[str], truncated: Mapping[int, int]) -> list[str]:
    """Return a line on what is truncated (`find_truncated`) among labels or texts, and one on their underscores."""
    warnings: list[str] = []
    if truncated:
        shown = some_of(
            [f"{_short(names[index])} ({count} tokens)" for index, count in truncated.items()], separator="; "
        )
        limit = spec.context_length
        warnings.append(f"longer than the {limit} tokens that the model reads, the end is ignored: {shown}")
    if underscored := [name for name in names if "_" in name]:
        warnings.append(f"the model reads underscores as written, not as spaces: {some_of(underscored)}")
    return warnings


def check_prompts(
    encoder: Encoder, label_set: LabelSet, prompts: Sequence[Sequence[str]], weights: Features
) -> tuple[str, ...]:
    """Warn about labels that the model does not read as they are written.

    Returns:
        Warnings, one line each: truncated labels, underscores, lists, labels that are the same tokens, a single label.

    Raises:
        LabelError: Two labels are the same to the model once truncated.
    """
    labels, truncated = label_set.labels, find_truncated(encoder, prompts)
    for index in truncated:
        alike = np.flatnonzero(weights @ weights[index] > _SAME)
        if other := [int(i) for i in alike if labels[int(i)].name != labels[index].name]:
            first, second = _short(labels[index].name), _short(labels[other[0]].name)
            raise LabelError(
                f"once truncated, two labels are the same to the model: {first} and {second}", "shorten them"
            )
    warnings = validation_warnings(encoder.spec, [label.name for label in labels], truncated)
    if listed := [label.name for label in labels if label.name.count(",") > (1 if len(labels) > 1 else 0)]:
        shown = some_of([_short(name) for name in listed], separator="; ")
        warnings.append(f"read as one label, although it looks like a list (a file has one label per line): {shown}")
    if marked := [label.name for label in labels if _MARKED.match(label.name)]:
        warnings.append(f"marks of a list, brackets and quotes are read as part of a label: {some_of(marked)}")
    # ImageNet's list has two names twice, on purpose: nothing is spelled otherwise there.
    if same := [(i, j) for i, j in find_same(weights) if labels[i].name != labels[j].name]:
        shown = some_of([f"{_short(labels[i].name)} and {_short(labels[j].name)}" for i, j in same], separator="; ")
        warnings.append(f"the model cannot tell these labels apart, and shares their probability: {shown}")
    if any(len(members) == len(labels) for _, members in label_set.answers) and encoder.spec.score is Score.SOFTMAX:
        warnings.append("one label alone always has probability 1; name what else it may be, or go by the similarity")
    return tuple(warnings)


def find_same(weights: Features) -> list[tuple[int, int]]:
    """Return pairs of equal rows, however differently their labels are spelled; of three alike, two pairs.

    Args:
        weights: Unit rows, shape ``(n_labels, dim)``.
    """
    # Equal rows are neighbours along any direction; comparing neighbours spares a table of every pair.
    along = np.cos(np.arange(1, weights.shape[1] + 1, dtype=np.float32) ** 2)  # as good as random, which is an import
    order = np.argsort(weights @ along, kind="stable")
    cosines = np.einsum("ij,ij->i", weights[order[:-1]], weights[order[1:]])
    pairs = ((int(order[i]), int(order[i + 1])) for i in np.flatnonzero(cosines > _SAME))
    return sorted((min(pair), max(pair)) for pair in pairs)


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:59] + "…")
