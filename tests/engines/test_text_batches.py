"""Sentences are put together by length and by the beginning that they share, and each exactly once."""

from __future__ import annotations

import numpy as np
import pytest

from zeroshot.engines.text_batches import TextBatch, plan_batches

START, END = 98, 99


def rows(sentences: list[list[int]], width: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Return ids and lengths of sentences, with a start and an end."""
    ids = np.zeros((len(sentences), width), dtype=np.int64)
    for row, words in zip(ids, sentences, strict=True):
        row[: len(words) + 2] = [START, *words, END]
    return ids, np.array([len(words) + 2 for words in sentences])


def found(batches: list[TextBatch]) -> set[tuple[tuple[int, ...], int, int]]:
    return {(tuple(sorted(batch.rows.tolist())), batch.length, batch.shared) for batch in batches}


def test_a_shared_beginning_is_found_for_each_length() -> None:
    """Twenty of "1 2 x" and as many of "1 2 x y": each length has its own beginning, start and two words long."""
    short, long = [[1, 2, word] for word in range(10, 30)], [[1, 2, word, word] for word in range(10, 30)]
    batches = plan_batches(*rows(short + long), positions=1000, spare=0)
    assert found(batches) == {(tuple(range(20)), 5, 3), (tuple(range(20, 40)), 6, 3)}


def test_the_longest_beginning_that_enough_share_wins() -> None:
    """Of thirty sentences, twenty go on alike for one more word; the ten left share what is left, or too few do."""
    alike, others = [[1, 2, 3, word] for word in range(10, 30)], [[1, 2, word, 5] for word in range(10, 20)]
    assert found(plan_batches(*rows(alike + others), positions=1000, spare=0)) == {
        (tuple(range(20)), 6, 4),
        (tuple(range(20, 30)), 6, 3),
    }
    batches = plan_batches(*rows(alike + others[:3]), positions=1000, spare=0)
    assert found(batches) == {(tuple(range(20)), 6, 4), ((20, 21, 22), 6, 0)}


@pytest.mark.parametrize("spare", [0, 1])
def test_the_end_is_never_shared(spare: int) -> None:
    """Equal sentences keep their last two positions, and what may be padding behind them, for themselves."""
    batches = plan_batches(*rows([[1, 2, 3, 4]] * 20), positions=1000, spare=spare)
    assert found(batches) == {(tuple(range(20)), 6, 4 - spare)}


def test_a_sentence_that_spells_the_end_earlier_is_read_whole() -> None:
    """The tower would read its features there, which lies in the beginning."""
    sentences = [[1, END, word] for word in range(10, 40)]
    assert found(plan_batches(*rows(sentences), positions=1000, spare=0)) == {(tuple(range(30)), 5, 0)}


def test_a_graph_that_cannot_go_on_gets_whole_sentences() -> None:
    """They are still together by length alone."""
    sentences = [[1, 2, word] for word in range(10, 30)] + [[7]]
    assert found(plan_batches(*rows(sentences), positions=1000)) == {(tuple(range(20)), 5, 0), ((20,), 3, 0)}


@pytest.mark.parametrize("positions", [1, 7, 64, 1000])
def test_every_sentence_is_in_one_batch_with_its_own_beginning(positions: int) -> None:
    """Whatever is drawn, batches hold every row once, equal beginnings, equal lengths, and few enough positions."""
    generator = np.random.default_rng(positions)
    sentences = [generator.integers(1, 3, generator.integers(0, 9)).tolist() for _ in range(700)]
    ids, lengths = rows(sentences)
    batches = plan_batches(ids, lengths, positions, spare=0)
    assert sorted(row for batch in batches for row in batch.rows.tolist()) == list(range(700))
    assert any(batch.shared for batch in batches)
    for batch in batches:
        assert set(lengths[batch.rows]) == {batch.length}
        assert (ids[batch.rows, : batch.shared] == ids[batch.rows[0], : batch.shared]).all()
        assert batch.shared <= batch.length - 2
        assert len(batch.rows) > 2 or not batch.shared
        assert len(batch.rows) * (batch.length - batch.shared) <= max(positions, 4 * 12)
