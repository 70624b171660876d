"""Search: the images that are nearest to a text or an image."""

from __future__ import annotations

import heapq
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from math import isfinite

import numpy as np

from .encoder import Encoder, Features, check_rows
from .errors import InputError, LabelError, ModelError
from .features.pipeline import Pipeline, encode_batches, encode_blocks
from .messages import as_many
from .prompts.labels import Label, normalise
from .prompts.tokenizer_checks import check_control_tokens, check_encodable, find_truncated, validation_warnings
from .results import Failure
from .scoring import Classifier

_WEIGHTED = re.compile(r"([+\-−]?)((?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+\-−]?\d+)?)\s*\*\s*(.+)", re.DOTALL)
_MINUS = ("-", "−")
_SIGN_FIRST = re.compile(r"[+\-−](\s|$)")


@dataclass(frozen=True, slots=True)
class Hit:
    """An image that was found.

    Attributes:
        path: As the user gave it.
        similarity: Cosine to the query, in [-1, 1].
    """

    path: str
    similarity: float


@dataclass(frozen=True, slots=True)
class Found:
    """The outcome of a search.

    Attributes:
        hits: Nearest first; equal ones in input order.
        failures: Images that could not be read.
        searched: How many could.
    """

    hits: tuple[Hit, ...]
    failures: tuple[Failure, ...]
    searched: int


@dataclass(frozen=True, slots=True)
class Term:
    """One part of a query.

    Attributes:
        weight: Of its unit row in the sum; negative to lead away from it.
        text: What it says.
    """

    weight: float
    text: str


def parse_terms(query: str) -> tuple[Term, ...]:
    """Parse ``0.5*beach + night - people``: texts with signs and weights.

    A sign counts only between spaces, or at the beginning, and a weight, which may have a sign of its own, only before
    ``*``: `black-and-white`, `C++` and `5 people` are words. In quotes, ``"rock + roll"``, a sign is a word too.

    Raises:
        LabelError: A term is empty, or its weight is 0 or not finite.
    """
    parts = re.split(r"""\s+([+\-−])\s+(?=(?:[^"]*"[^"]*")*[^"]*$)""", query.strip())
    if parts[0][:1] in ("+", "-", "−") and parts[0][1:2].isspace():
        parts = [parts[0][1:], *parts[1:]]
        signs = [query.strip()[0], *parts[1::2]]
    else:
        signs = ["+", *parts[1::2]]
    terms = []
    for sign, part in zip(signs, parts[::2], strict=True):
        matched = _WEIGHTED.fullmatch(part.strip())
        own, number, text = matched.groups() if matched else ("", "1", part)
        weight = float(number.replace("−", "-")) * (-1 if own in _MINUS else 1)
        text = text.strip()
        text = "" if _SIGN_FIRST.match(text) else text  # two signs in a row, or nothing but one
        text = text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text
        if not normalise(text) or not weight or not isfinite(weight):
            wrong = "an empty part: + and - between spaces add and take away"
            if normalise(text):
                wrong = "a weight that is too large" if weight else "a weight of 0"
            raise LabelError(
                f"the query {query!r} has {wrong}",
                "zeroshot search ./imgs '0.5*beach + night - people'",
            )
        terms.append(Term(-weight if sign in _MINUS else weight, text))
    return tuple(terms)


def rows_by_name(classifier: Classifier) -> dict[str, Features]:
    """Return the rows that stand for labels' words, by word as `normalise` gives it, shape ``(dim,)`` each.

    An alias has its label's row. A group has the mean of its members' unit rows, as a label has that of its prompts';
    where a member has the group's name, it is the group, as in results. A row without a direction stands for nothing.
    """
    labels = classifier.labels
    lengths = np.linalg.norm(classifier.weights, axis=1)
    found = {
        normalise(word): row
        for label, row, length in zip(labels.labels, classifier.weights, lengths, strict=True)
        for word in label.words
        if length
    }
    for name, members in labels.groups:
        if some := [index for index in members if lengths[index]]:
            found[normalise(name)] = (classifier.weights[some] / lengths[some, None]).mean(axis=0)
    return found


def build_query(
    encoder: Encoder,
    texts: Sequence[str | Term],
    images: Sequence[str],
    pipeline: Pipeline,
    warn: Callable[[str], None] = lambda _: None,
    known: Mapping[str, Features] | None = None,
) -> Features:
    """Return the weighted sum of the unit rows of sentences and example images, brought to unit length: ``(dim,)``.

    Sums and differences of such rows follow words (Mikolov et al. 2013; for images and texts Couairon et al., arXiv
    2112.03162): roughly, and least where a term says what is not there.

    Args:
        encoder: The model.
        texts: Sentences, read as labels are, or terms with weights.
        images: Paths of the examples, each of weight 1.
        pipeline: How those are read.
        warn: Told, in one line each, what the model does not read as it is written.
        known: Rows that were learned, shape ``(dim,)``, by the name that stands for them, as `normalise` gives it.

    Raises:
        InputError: There are neither, an example cannot be read, a weight is not finite, or nothing is left of the sum.
        LabelError: A text is blank, or holds a control token or bytes that are no text.
        ModelError: The model gives no finite numbers for a text.
    """
    given = [texts] if isinstance(texts, (str, Term)) else list(texts)
    terms = [term if isinstance(term, Term) else Term(1.0, term) for term in given]
    images = list(as_many(images))
    rows_known = {term.text: row for term in terms if (row := (known or {}).get(normalise(term.text))) is not None}
    unknown = [term.text for term in terms if term.text not in rows_known]
    if not terms and not images:
        raise InputError("nothing to search for", "give a text, or --like IMAGE")
    if not all(normalise(term.text) for term in terms):
        raise LabelError("the text to search for is empty", "zeroshot search ./imgs 'a dog on a beach'")
    check_encodable(unknown)
    check_control_tokens(encoder.spec, [Label(text) for text in unknown], kind="text")
    for warning in validation_warnings(encoder.spec, unknown, find_truncated(encoder, [[text] for text in unknown])):
        warn(warning)
    encoded: Iterator[Features] = iter(encoder.encode_texts(unknown) if unknown else [])
    rows = [
        rows_known[term.text] / np.linalg.norm(rows_known[term.text]) if term.text in rows_known else next(encoded)
        for term in terms
    ]
    if not np.isfinite(rows).all():
        raise ModelError(
            f"{encoder.spec.model} gives no finite numbers for this text", "--precision fp32, or other weights"
        )
    for item in (item for batch in encode_batches(encoder, images, pipeline) for item in batch):
        if item.features is None:
            raise InputError(f"--like {item.path}: {item.error}", "give an image that can be read")
        rows.append(item.features)
    return add_up([term.weight for term in terms] + [1.0] * len(images), rows)


def add_up(weights: Sequence[float], rows: Sequence[Features]) -> Features:
    """Return the weighted sum of rows, brought to unit length: ``(dim,)``; only the weights' ratios matter.

    Args:
        weights: One for each row.
        rows: Unit rows, shape ``(dim,)`` each.

    Raises:
        InputError: A weight is not finite, or nothing is left of the sum.
    """
    relative = np.asarray(weights, dtype=np.float64)
    largest = float(np.abs(relative).max())
    if not isfinite(largest):
        raise InputError("a weight of the query is no finite number", "give one such as 0.5")
    total = relative / (largest or 1.0) @ np.stack(rows).astype(np.float64)
    length = float(np.linalg.norm(total))
    if length < 1e-6:
        raise InputError("the parts of the query cancel out", "leave one out, or change a weight")
    return np.asarray(total / length, dtype=np.float32)


def search(
    encoder: Encoder,
    query: Features,
    paths: Iterable[str],
    top: int,
    pipeline: Pipeline,
    on_progress: Callable[[int], None] = lambda _: None,
    min_score: float = -1.0,
) -> Found:
    """Rank images by their cosine to a query.

    Args:
        encoder: The model.
        query: Unit row, shape ``(dim,)``.
        paths: What to look through.
        top: How many to keep; memory does not grow with the rest.
        pipeline: How they are read.
        on_progress: Called with the number of inputs finished since the last call.
        min_score: Images with a lower cosine are left out, in [-1, 1].

    Raises:
        InputError: The query is of another shape.
    """
    check_rows(query[None], encoder.spec.dim, "query[None]")
    failures: list[Failure] = []
    best: list[Hit] = []
    seen = 0
    for block in encode_blocks(encoder, paths, pipeline):
        failures += [Failure(block.paths[place], error) for place, error in sorted(block.errors.items())]
        read = [path for place, path in enumerate(block.paths) if place not in block.errors]
        # A product for each image: one of many rows would round by their number.
        similarities = np.matmul(block.features[:, None, :], query[:, None])[:, 0, 0].astype(np.float64)
        # Equal images keep their order, and those before this block stand before it.
        order = np.argsort(-similarities, kind="stable")[:top]
        hits = [Hit(read[place], float(similarities[place])) for place in order if similarities[place] >= min_score]
        best = list(islice(heapq.merge(best, hits, key=lambda hit: -hit.similarity), top))
        seen += len(read)
        on_progress(len(block.paths))
    return Found(tuple(best), tuple(failures), seen)
