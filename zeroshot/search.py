"""Search: the images that are nearest to a text or an image."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .encoder import Encoder, Features, average, check_rows
from .errors import InputError, LabelError, ModelError
from .features.pipeline import Pipeline, encode_batches
from .prompts.labels import Label, normalise
from .prompts.validation import check_control_tokens, check_encodable, find_truncated, validation_warnings
from .results import Failure
from .strings import as_many


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


def build_query(
    encoder: Encoder,
    texts: Sequence[str],
    images: Sequence[str],
    pipeline: Pipeline,
    warn: Callable[[str], None] = lambda _: None,
) -> Features:
    """Return the unit mean of sentences and example images, shape ``(dim,)``.

    Args:
        encoder: The model.
        texts: Sentences, read as labels are.
        images: Paths of the examples.
        pipeline: How those are read.
        warn: Told, in one line each, what the model does not read as it is written.

    Raises:
        InputError: There are neither, or an example cannot be read.
        LabelError: A text is blank, or holds a control token or bytes that are no text.
        ModelError: The model gives no finite numbers for a text.
    """
    texts, images = list(as_many(texts)), list(as_many(images))
    if not texts and not images:
        raise InputError("nothing to search for", "give a text, or --like IMAGE")
    if not all(normalise(text) for text in texts):
        raise LabelError("the text to search for is empty", "zeroshot search ./imgs 'a dog on a beach'")
    check_encodable(texts)
    check_control_tokens(encoder.spec, [Label(text) for text in texts], kind="text")
    for warning in validation_warnings(encoder.spec, texts, find_truncated(encoder, [[text] for text in texts])):
        warn(warning)
    rows = list(encoder.encode_texts(texts)) if texts else []
    if not np.isfinite(rows).all():
        raise ModelError(
            f"{encoder.spec.model} gives no finite numbers for this text", "--precision fp32, or other weights"
        )
    for item in (item for batch in encode_batches(encoder, images, pipeline) for item in batch):
        if item.features is None:
            raise InputError(f"--like {item.path}: {item.error}", "give an image that can be read")
        rows.append(item.features)
    return average(np.stack(rows))


def search(
    encoder: Encoder,
    query: Features,
    paths: Iterable[str],
    top: int,
    pipeline: Pipeline,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Found:
    """Rank images by their cosine to a query.

    Args:
        encoder: The model.
        query: Unit row, shape ``(dim,)``.
        paths: What to look through.
        top: How many to keep; memory does not grow with the rest.
        pipeline: How they are read.
        on_progress: Called with the number of inputs finished since the last call.

    Raises:
        InputError: The query is of another shape.
    """
    check_rows(query[None], encoder.spec.dim, "query[None]")
    failures: list[Failure] = []
    seen = 0

    def similarities() -> Iterator[tuple[float, int, str]]:
        nonlocal seen
        for batch in encode_batches(encoder, paths, pipeline):
            for item in batch:
                if item.features is None:
                    failures.append(Failure(item.path, item.error))
                else:
                    # The running number makes equal images keep their order.
                    yield float(item.features @ query), -seen, item.path
                    seen += 1
            on_progress(len(batch))

    best = heapq.nlargest(top, similarities())
    return Found(tuple(Hit(path, similarity) for similarity, _, path in best), tuple(failures), seen)
