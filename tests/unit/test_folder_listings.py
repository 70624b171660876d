"""A folder's listing leads to the rows of its files, and to nothing else."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from support.fakes import FakeEncoder
from support.fixtures import SaveImage
from zeroshot.encoder import Features
from zeroshot.features import cache_upkeep, folder_listings
from zeroshot.features.bulk_lookup import LookUp
from zeroshot.features.cache import FeatureCache
from zeroshot.features.keys import FileState
from zeroshot.features.path_queue import Incoming
from zeroshot.features.pipeline import Pipeline, encode_blocks
from zeroshot.images.natural_order import in_natural_order, natural_key

DIM = 8


@pytest.fixture(autouse=True)
def old_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that the tests write count as old enough to be told by their times."""
    monkeypatch.setattr(FileState, "settled", lambda _: True)


@pytest.fixture
def store(tmp_path: Path) -> FeatureCache:
    return FeatureCache(tmp_path / "deep" / "features.sqlite", pytest.fail)


@pytest.fixture
def paths(images: SaveImage, store: FeatureCache) -> list[str]:
    """Images of one folder, encoded once."""
    saved = [str(images(f"p{index:02}.png", (index * 6, 255 - index * 5, index * 3))) for index in range(40)]
    list(encode_blocks(FakeEncoder(), saved, Pipeline(7, 2, cache=store)))
    return saved


def key_of(store: FeatureCache) -> bytes:
    return store.image_key(FakeEncoder().spec, Pipeline().decode_options)


def looked_up(store: FeatureCache, paths: list[str]) -> tuple[list[bool], Features]:
    known = LookUp(store, key_of(store), DIM)(paths)
    return known.found.tolist(), known.features


def only_listings(patched: pytest.MonkeyPatch) -> None:
    """No file is looked up by its whole path."""
    nothing = ([], np.zeros((0, DIM), dtype=np.float32))
    patched.setattr(FeatureCache, "find_many", lambda *_: nothing)


def test_files_are_found_by_their_folder_alone(
    paths: list[str], store: FeatureCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a run has encoded is found by the listing, in any order, each with the row that its path gives."""
    shuffled = random.Random(0).sample(paths, len(paths)) + paths[:5]
    with store.connection() as connection:
        notes = connection.execute("SELECT * FROM listings").fetchall()
        connection.execute("DELETE FROM listings")
    by_path = looked_up(store, shuffled)
    with store.connection() as connection:
        connection.execute("DELETE FROM listings")
        connection.executemany("INSERT INTO listings VALUES (?, ?, ?, ?, ?, ?, ?)", notes)
    only_listings(monkeypatch)
    found, features = looked_up(store, shuffled)
    assert all(found)
    assert by_path[0] == found
    assert np.array_equal(by_path[1], features)


def test_what_was_found_by_its_path_is_listed(
    paths: list[str], store: FeatureCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cache without listings, as an earlier version left it, has them after one look-up."""
    with store.connection() as connection:
        connection.execute("DELETE FROM listings")
    _, expected = looked_up(store, paths)
    only_listings(monkeypatch)
    found, features = looked_up(store, paths)
    assert all(found)
    assert np.array_equal(features, expected)


def test_another_content_under_the_row_number_is_not_taken(
    paths: list[str], store: FeatureCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a number was given to another content's row, the listing finds nothing and the path its own."""
    _, expected = looked_up(store, paths)
    with store.connection() as connection:
        connection.execute("UPDATE features SET rowid = rowid + 1000")
        connection.execute("UPDATE features SET rowid = 41 + 1000 - rowid + 1000 - 1000")  # in the reverse order
    assert looked_up(store, paths)[0] == [True] * 40
    assert np.array_equal(looked_up(store, paths)[1], expected)


def test_a_changed_bit_or_length_is_noticed(
    paths: list[str], store: FeatureCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One row whose checksum does not fit is missing, the others are there; so with a damaged listing."""
    only_listings(monkeypatch)
    with store.connection() as connection:
        connection.execute("UPDATE features SET row = zeroblob(32) WHERE rowid = 3")
    found, features = looked_up(store, paths)
    assert found.count(False) == 1
    assert features.shape == (39, DIM)
    with store.connection() as connection:
        connection.execute("UPDATE listings SET numbers = zeroblob(LENGTH(numbers)) WHERE id = 2")
    assert looked_up(store, paths)[0].count(True) in (32, 33)


def test_a_file_that_changed_or_came_is_not_found(paths: list[str], images: SaveImage, store: FeatureCache) -> None:
    """Another size or time, a new name, a file that is gone: the others are found."""
    images("p03.png", "red")
    Path(paths[5]).unlink()
    new = str(images("new.png", "blue"))
    found, features = looked_up(store, [*paths, new])
    assert [place for place, known in enumerate(found) if not known] == [3, 5, 40]
    assert features.shape == (38, DIM)


def test_pruning_drops_listings(paths: list[str], store: FeatureCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was pruned is found by no listing, and what stays is found again."""
    monkeypatch.setattr(cache_upkeep, "today", lambda: 10**6)
    looked_up(store, paths[:20])
    assert store.prune(days=30) == 20
    assert store.connection().execute("SELECT COUNT(*) FROM listings").fetchone() == (0,)
    for _ in range(2):
        assert looked_up(store, paths)[0] == [True] * 20 + [False] * 20


def test_an_older_cache_that_cannot_be_written_is_read(
    paths: list[str], store: FeatureCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the table of listings everything is found by its path, and nothing is said."""
    with store.connection() as connection:
        connection.execute("DROP TABLE listings")
    store.close()
    with sqlite3.connect(store.path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    store.path.with_name(f"{store.path.name}-wal").unlink(missing_ok=True)
    store.path.with_name(f"{store.path.name}-wal").mkdir()
    again = FeatureCache(store.path, pytest.fail)
    assert looked_up(again, paths)[0] == [True] * 40


def test_many_parts_are_put_in_order(paths: list[str], store: FeatureCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """A listing of many small parts becomes one of few, with the same files; the newest note of a file counts."""
    monkeypatch.setattr(folder_listings, "_MOST_PARTS", 2)
    monkeypatch.setattr(folder_listings, "_PART", 16)
    before = looked_up(store, paths)
    count = "SELECT COUNT(*) FROM listings"
    assert store.connection().execute(count).fetchone() == (3,)
    assert np.array_equal(looked_up(store, paths)[1], before[1])
    folder = f"{Path(paths[0]).parent}/".encode()
    listing = store.listing(key_of(store), folder)
    assert listing is not None
    assert sorted(listing.places) == [Path(path).name for path in paths]


def test_few_files_of_a_folder_load_no_listing(
    paths: list[str], store: FeatureCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list that names a file here and one there is looked up path by path."""
    monkeypatch.setattr(FeatureCache, "listing", lambda *_: pytest.fail("a listing was loaded"))
    assert looked_up(store, paths[:5])[0] == [True] * 5


def test_natural_order_whatever_the_names_share() -> None:
    """The quick way gives the order of `natural_key`: one width, several, other scripts, line ends, upper case."""
    generator = random.Random(0)
    for pattern in ("00.", "a0", "000", "a0a", "x00y0", "é0", "0\n", "٠0"):
        for _ in range(300):
            letters = {"0": "0123459", "a": "abAB._-"}
            names = ["".join(generator.choice(letters.get(c, c)) for c in pattern) for _ in range(6)]
            if generator.random() < 0.3:
                names.append(generator.choice(names)[1:])
            assert list(in_natural_order(names)) == sorted(names, key=natural_key)
    assert list(in_natural_order([])) == []


def test_paths_are_taken_once_and_in_order() -> None:
    """However the reading thread and the taker meet, each path comes once, and an error behind all of them."""

    def source() -> object:
        yield from map(str, range(5000))
        raise ValueError("the end")

    for most in (1, 3, 2000):
        incoming, taken = Incoming(source(), most), []  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="the end"):
            while True:
                some = incoming.take(None)
                assert 0 < len(some) <= most
                taken += some
        assert taken == list(map(str, range(5000)))
        assert incoming.ended


def test_looking_again_at_small_folders_writes_nothing(store: FeatureCache, images: SaveImage) -> None:
    """Folders whose listing is not worth reading are not listed anew by each look, nor is a listing that led to all."""
    for folder, count in (("few", 3), ("other", 5), ("many", 20)):
        paths = [str(images(f"{folder}/{number}.png", "red")) for number in range(count)]
        for _ in range(2):
            list(encode_blocks(FakeEncoder(), paths, Pipeline(cache=store)))
        connection = store.connection()
        before = connection.total_changes, connection.execute("SELECT COUNT(*) FROM listings").fetchone()
        for _ in range(3):
            assert all(looked_up(store, paths)[0])
        assert (connection.total_changes, connection.execute("SELECT COUNT(*) FROM listings").fetchone()) == before
