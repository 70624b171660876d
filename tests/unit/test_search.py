"""Search: nearest first, by text, by image or both, one pass over what is looked through."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.fakes import FakeEncoder
from zeroshot.errors import InputError, LabelError
from zeroshot.features.cache import FeatureCache
from zeroshot.features.keys import FileState
from zeroshot.features.pipeline import Pipeline, encode_batches
from zeroshot.images.sources.byte_ranges import Stamp
from zeroshot.output.features_file import FeatureTable, write_features
from zeroshot.results import Failure
from zeroshot.search import build_query, search

SaveImage = Callable[..., Path]


@pytest.fixture
def coloured(images: SaveImage) -> list[str]:
    return [str(images(f"{i}.png", colour)) for i, colour in enumerate(["blue", "red", "magenta", "green", "red"])]


def test_nearest_first_and_equal_ones_in_input_order(coloured: list[str]) -> None:
    """Red is found before magenta, green last; two equal images keep their order; the cosine of the same is 1."""
    encoder = FakeEncoder()
    found = search(encoder, build_query(encoder, ["red"], [], Pipeline()), coloured, 99, Pipeline(batch_size=2))
    assert [hit.path for hit in found.hits][:3] == [coloured[1], coloured[4], coloured[2]]
    assert found.hits[0].similarity == pytest.approx(1)
    assert (found.searched, found.failures) == (5, ())
    assert list(found.hits) == sorted(found.hits, key=lambda hit: -hit.similarity)


def test_a_batch_decides_nothing_and_top_only_cuts(coloured: list[str]) -> None:
    """Fewer hits are the first ones of more, whatever the batch size."""
    encoder = FakeEncoder()
    query = build_query(encoder, ["red and blue"], [], Pipeline())
    whole = search(encoder, query, coloured, 5, Pipeline())
    for size in (1, 2, 5):
        assert search(encoder, query, coloured, 2, Pipeline(batch_size=size)).hits == whole.hits[:2]


def test_a_image_finds_itself_and_joins_a_text(coloured: list[str]) -> None:
    """A query of one image is its features; of a text and an image the unit mean of both."""
    encoder = FakeEncoder()
    alone = build_query(encoder, [], [coloured[3]], Pipeline())
    assert search(encoder, alone, coloured, 1, Pipeline()).hits[0].path == coloured[3]
    both = build_query(encoder, ["red"], [coloured[0]], Pipeline())
    rows = encoder.encode_texts(["red"])[0] + build_query(encoder, [], [coloured[0]], Pipeline())
    assert both == pytest.approx(rows / np.linalg.norm(rows), abs=1e-6)


def test_failures_are_kept_beside_the_hits(coloured: list[str], tmp_path: Path) -> None:
    """What cannot be read is named and lowers nothing; progress counts it too."""
    empty = tmp_path / "empty.png"
    empty.touch()
    encoder = FakeEncoder()
    counts: list[int] = []
    query = build_query(encoder, ["red"], [], Pipeline())
    found = search(encoder, query, [str(empty), *coloured, "none.png"], 9, Pipeline(), counts.append)
    assert [failure.path for failure in found.failures] == [str(empty), "none.png"]
    assert (found.searched, len(found.hits), sum(counts)) == (5, 5, 7)


def test_a_query_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    """Neither text nor image, or an image that cannot be read, is told before the search."""
    with pytest.raises(InputError, match="nothing to search for"):
        build_query(FakeEncoder(), [], [], Pipeline())
    with pytest.raises(InputError, match=r"--like nowhere\.png: no such file"):
        build_query(FakeEncoder(), ["red"], ["nowhere.png"], Pipeline())
    with pytest.raises(LabelError, match="is empty"):
        build_query(FakeEncoder(), ["red", " "], [], Pipeline())
    with pytest.raises(LabelError, match=r"text 'a <end_of_text>' holds '<end_of_text>'"):
        build_query(FakeEncoder(), ["a <end_of_text>"], [], Pipeline())


def test_known_features_are_not_computed_again(coloured: list[str], tmp_path: Path) -> None:
    """A second search over the same images makes no call of the image encoder, and finds the same."""
    encoder = FakeEncoder()
    pipeline = Pipeline(cache=FeatureCache(tmp_path / "features.sqlite"))
    first = search(encoder, build_query(encoder, ["red"], [], pipeline), coloured, 3, pipeline)
    encoder.batches.clear()
    assert search(encoder, build_query(encoder, ["red"], [], pipeline), coloured, 3, pipeline) == first
    assert encoder.batches == []


def test_a_copy_is_read_once(coloured: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that was copied costs one hash an image, not one a run, and a transaction a batch; no decoding."""
    encoder = FakeEncoder()
    pipeline = Pipeline(batch_size=4, cache=FeatureCache(tmp_path / "features.sqlite"))
    list(encode_batches(encoder, coloured, pipeline))
    copies = [shutil.copy(path, tmp_path / f"copy{index}.png") for index, path in enumerate(coloured)]
    hashed: list[str] = []
    stored: list[int] = []
    digest, add = hashlib.file_digest, FeatureCache.add

    def count_hashes(file: Any, *arguments: Any) -> Any:
        hashed.append(file.name)
        return digest(file, *arguments)

    def count_writes(self: FeatureCache, model: bytes, name: str, rows: Any, files: Any = ()) -> None:
        stored.append(len(files))
        add(self, model, name, rows, files)

    monkeypatch.setattr(hashlib, "file_digest", count_hashes)
    monkeypatch.setattr(FeatureCache, "add", count_writes)
    monkeypatch.setattr("zeroshot.features.pipeline.decode", lambda *_: pytest.fail("decoded"))
    for now, hashes, writes in (
        (time.time_ns(), 5, []),  # just written: another content could come within the same tick of the clock
        (time.time_ns() + 10**11, 5, [4, 1]),
        (time.time_ns() + 10**11, 0, []),
    ):
        hashed.clear()
        stored.clear()
        with monkeypatch.context() as patched:
            patched.setattr(time, "time_ns", lambda now=now: now)
            again = [item for batch in encode_batches(encoder, copies, pipeline) for item in batch]
        assert [item.error for item in again] == [""] * 5
        assert (len(hashed), sorted(stored, reverse=True)) == (hashes, writes)


def test_a_file_that_changes_while_it_is_hashed_is_not_remembered(
    coloured: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was hashed may not be what has that state."""
    store = FeatureCache(tmp_path / "features.sqlite")
    pipeline = Pipeline(cache=store)
    list(encode_batches(FakeEncoder(), coloured, pipeline))
    copy = Path(shutil.copy(coloured[0], tmp_path / "copy.png"))
    state = FileState.of(str(copy), Stamp.of(copy.stat()))
    digest = hashlib.file_digest

    def touch(file: Any, *arguments: Any) -> Any:
        found = digest(file, *arguments)
        os.utime(copy, (1, 1))
        return found

    monkeypatch.setattr(hashlib, "file_digest", touch)
    monkeypatch.setattr(FileState, "settled", lambda self: True)
    list(encode_batches(FakeEncoder(), [str(copy)], pipeline))
    assert store.find_content(state) is None
    assert store.find_content(FileState.of(str(copy), Stamp.of(copy.stat()))) is None


def test_a_features_file_comes_back_from_numpy(tmp_path: Path) -> None:
    """Odd names, rows to the last bit, the model and the failures are read back without pickle."""
    rows = np.eye(3, 8, dtype=np.float32)
    paths = ("a\nb.png", "写真.png", "bad\udcff.png")
    stream = io.BytesIO()
    write_features(FeatureTable(paths, rows, (Failure("c.png", "no such file"),), FakeEncoder().spec), stream, ".npz")
    stream.seek(0)
    with np.load(stream, allow_pickle=False) as read:
        assert read["paths"].tolist() == ["a\nb.png", "写真.png", "bad\\udcff.png"]
        assert np.array_equal(read["features"], rows)
        manifest = json.loads(str(read["manifest"]))
    assert manifest["model"]["fingerprint"] == FakeEncoder().spec.fingerprint
    assert manifest["failures"] == [{"path": "c.png", "error": "no such file"}]
