"""Paths in, one record per path out, in order: the run itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from .classifier import Classifier
from .encode import Encoded as Encoded
from .encode import Pipeline as Pipeline
from .encode import available_cores as available_cores
from .encode import encode_batches as encode_batches
from .encoder import Encoder
from .results import Failure, Prediction, Record


@dataclass(frozen=True, slots=True)
class Decision:
    """When a probability becomes an answer.

    Attributes:
        top_k: How many of the best answers a record lists.
        threshold: Below this probability the label is None: "unknown".
    """

    top_k: int = 5
    threshold: float = 0.0


def classify_paths(
    encoder: Encoder,
    classifier: Classifier,
    paths: Iterable[str],
    decision: Decision = Decision(),
    pipeline: Pipeline = Pipeline(),
) -> Iterator[Record]:
    """Yield exactly one record per path, in order, each as soon as its batch is encoded."""
    for batch in encode_batches(encoder, paths, pipeline):
        yield from decide(classifier, batch, decision)


def decide(classifier: Classifier, batch: list[Encoded], decision: Decision) -> list[Record]:
    """Turn encoded pictures into records, one each, in order."""
    rows = [item.features for item in batch if item.features is not None]
    ranked = iter(classifier.rank(np.stack(rows), decision.top_k) if rows else [])
    records: list[Record] = []
    for item in batch:
        if item.features is None:
            records.append(Failure(item.path, item.error))
            continue
        top, outdone = next(ranked)
        known = not outdone and top[0].probability >= decision.threshold
        records.append(Prediction(item.path, top[0].label if known else None, top[0].probability, top))
    return records
