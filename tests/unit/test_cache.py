"""The feature cache: what is stored comes back, and nothing that goes wrong with it is more than a warning."""

from __future__ import annotations

import itertools
import os
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support.fakes import FakeEncoder
from zeroshot.encoder import Preprocessing
from zeroshot.enums import ResizeMode
from zeroshot.features import cache, cache_upkeep, decoder_fingerprint
from zeroshot.features.cache import FeatureCache
from zeroshot.features.keys import FileState, hash_prompts, image_key, text_key
from zeroshot.images.decode import DEFAULT_MAX_PIXELS, DecodeOptions
from zeroshot.images.sources.byte_ranges import Stamp
from zeroshot.system.sizes import parse_size

MODEL, DIM = b"m" * 32, 8
HOW = DecodeOptions()


def row(seed: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.random.default_rng(seed).standard_normal(DIM).astype(np.float32)


@pytest.fixture
def warnings() -> list[str]:
    return []


@pytest.fixture
def store(tmp_path: Path, warnings: list[str]) -> FeatureCache:
    return FeatureCache(tmp_path / "deep" / "features.sqlite", warnings.append)


def test_rows_come_back_to_the_last_bit(store: FeatureCache) -> None:
    """A stored row is found under its model and content, in this process and in another one; no other key finds it."""
    store.add(MODEL, "tiny", [(b"a", row(1)), (b"b", row(2))])
    assert np.array_equal(store.find(MODEL, b"a", DIM), row(1))  # type: ignore[arg-type]
    assert store.find(MODEL, b"c", DIM) is None
    assert store.find(b"x" * 32, b"a", DIM) is None
    assert store.find(MODEL, b"a", DIM + 1) is None
    code = "import sys; from pathlib import Path; from zeroshot.features.cache import FeatureCache; "
    code += f"print(FeatureCache(Path(sys.argv[1])).find({MODEL!r}, b'b', {DIM}).tolist())"
    done = subprocess.run([sys.executable, "-c", code, str(store.path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(row(2).tolist())


def test_path_size_and_times_are_a_shortcut_only(store: FeatureCache, tmp_path: Path) -> None:
    """A file's hash is remembered while its path, size, times and inode are the same, and not when one differs."""
    file = tmp_path / "p.png"
    file.write_bytes(b"1")
    state = FileState.of(str(file), Stamp.of(file.stat()))
    store.add(MODEL, "tiny", [], [(state, b"hash")])
    assert store.find_content(state) == b"hash"
    for change in ({"size": 2}, {"modified": 1}, {"changed": 1}, {"inode": 1}, {"path": b"/other"}):
        assert store.find_content(replace(state, **change)) is None


def test_any_number_of_a_file_system_can_be_stored(store: FeatureCache, tmp_path: Path) -> None:
    """Inodes that are 64-bit hashes, and times after 2262 or before 1677, are no integers of SQLite's."""
    status = os.stat_result((0, 2**64 - 1, 0, 0, 0, 0, 2**33, 0, 0, 0), {"st_mtime_ns": 2**66, "st_ctime_ns": -(2**65)})
    state = FileState.of("p.png", Stamp.of(status))
    store.add(MODEL, "tiny", [], [(state, b"hash")])
    assert store.find_content(state) == b"hash"
    (tmp_path / "p.png").touch()
    assert store.find_content(FileState.of("p.png", Stamp.of((tmp_path / "p.png").stat()))) is None


def test_a_file_just_written_has_no_shortcut() -> None:
    """Within a tick of a coarse clock, another content of the same size would look the same."""
    now = time.time_ns()
    long_ago = FileState(b"/p", 1, now - 10**11, now - 10**11, 1)
    assert long_ago.settled()
    assert replace(long_ago, modified=now + 10**12).settled()  # a camera's clock
    for name in ("modified", "changed"):
        assert not replace(long_ago, **{name: now - 10**9}).settled()  # type: ignore[arg-type]


def test_a_key_is_everything_that_decides_a_feature() -> None:
    """Other weights, preprocessing, precision or EXIF turning are other keys; text keys are apart from images'."""
    spec = FakeEncoder().spec
    keys = {
        image_key(spec, HOW, b"made"),
        image_key(spec, replace(HOW, exif=False), b"made"),
        image_key(spec, HOW, b"otherwise"),
        text_key(spec),
        image_key(replace(spec, weights_sha256="1" * 64), HOW, b"made"),
        image_key(replace(spec, activation="quick_gelu"), HOW, b"made"),
        image_key(replace(spec, configuration="1" * 64), HOW, b"made"),
        image_key(replace(spec, preprocessing=replace(spec.preprocessing, size=(9, 9))), HOW, b"made"),
    }
    assert len(keys) == 8
    assert hash_prompts(["a b"]) != hash_prompts(["a", "b"])


def test_a_changed_bit_is_noticed(store: FeatureCache) -> None:
    """A row whose bytes changed on disk is not used."""
    store.add(MODEL, "tiny", [(b"a", row(1))])
    with sqlite3.connect(store.path) as connection:
        connection.execute("UPDATE features SET row = ?", (row(2).tobytes(),))
    assert store.find(MODEL, b"a", DIM) is None


@pytest.mark.parametrize(
    "damage", [b"not a database at all, but long enough to be looked at" * 50, b"SQLite format 3\0" + b"\xff" * 5000]
)
def test_a_damaged_file_is_set_aside(store: FeatureCache, warnings: list[str], damage: bytes) -> None:
    """It is moved, not deleted; a warning says so; the new one works."""
    store.path.parent.mkdir()
    store.path.write_bytes(damage)
    assert store.find(MODEL, b"a", DIM) is None
    assert len(warnings) == 1
    assert "moved to" in warnings[0]
    store.add(MODEL, "tiny", [(b"a", row(1))])
    assert store.find(MODEL, b"a", DIM) is not None
    assert [path.read_bytes() for path in store.path.parent.glob("*.damaged-*")] == [damage]


def test_a_damaged_file_is_set_aside_once(store: FeatureCache, warnings: list[str]) -> None:
    """Threads that find the damage at once move that file, and not the new one that the first of them has made."""
    for _ in range(5):
        store = FeatureCache(store.path, warnings.append)
        store.clear()
        store.path.parent.mkdir(exist_ok=True)
        store.path.write_bytes(b"not a database at all" * 50)
        warnings.clear()
        together = threading.Barrier(8)

        def work(index: int, store: FeatureCache = store, together: threading.Barrier = together) -> None:
            together.wait()
            store.find(MODEL, b"a", DIM)
            store.add(MODEL, "tiny", [(str(index).encode(), row(index))])

        threads = [threading.Thread(target=work, args=(index,)) for index in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(warnings) == 1
        assert store.stored()[0].rows == 8


def test_a_file_that_another_process_made_anew_is_kept(store: FeatureCache, warnings: list[str]) -> None:
    """One process finds the damage, moves the file and fills a new one; the other then finds it, and moves nothing."""
    store.add(MODEL, "tiny", [(str(index).encode(), row(index)) for index in range(2000)])
    store.close()
    whole = store.path.read_bytes()
    store.path.write_bytes(whole[:16384] + b"\xff" * (len(whole) - 16384))
    slow = FeatureCache(store.path, warnings.append)
    slow.connection()
    quick = FeatureCache(store.path, lambda _: None)
    quick.find(MODEL, b"1", DIM)
    quick.add(MODEL, "tiny", [(b"new", row(1))])
    slow.find(MODEL, b"1", DIM)
    assert warnings == []
    assert slow.find(MODEL, b"new", DIM) is not None


def test_a_folder_that_cannot_be_written_is_a_warning(tmp_path: Path, warnings: list[str]) -> None:
    """Where no store can be made, everything is a miss and the warning comes once."""
    (tmp_path / "file").write_text("in the way")
    store = FeatureCache(tmp_path / "file" / "features.sqlite", warnings.append)
    for _ in range(3):
        assert store.find(MODEL, b"a", DIM) is None
        store.add(MODEL, "tiny", [(b"a", row(1))])
    assert len(warnings) == 1
    assert "going on without it" in warnings[0]


def test_a_store_of_another_version_is_left_alone(store: FeatureCache, warnings: list[str]) -> None:
    """A schema that is not ours is neither misread nor called damaged nor touched."""
    store.path.parent.mkdir()
    with sqlite3.connect(store.path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = store.path.read_bytes()
    assert store.find(MODEL, b"a", DIM) is None
    store.add(MODEL, "tiny", [(b"a", row(1))])
    assert len(warnings) == 1
    assert "another version of zeroshot made it (schema 99, not 2); it is left as it is" in warnings[0]
    assert [(path.name, path.read_bytes()) for path in store.path.parent.iterdir()] == [(store.path.name, before)]


def test_each_schema_has_a_file_of_its_own(warnings: list[str]) -> None:
    """Two versions use one folder without a word; clearing removes what both keep, and nothing else there."""
    store = FeatureCache(warn=warnings.append)
    store.add(MODEL, "tiny", [(b"a", row(1))])
    assert store.path.name == f"features-{cache_upkeep.SCHEMA}.sqlite"
    names = ("features-99.sqlite", "features-99.sqlite-wal", "features-7.sqlite.damaged-1", "features-mine.sqlite")
    for name in names:
        store.path.with_name(name).write_bytes(b"of another version")
    assert store.find(MODEL, b"a", DIM) is not None
    assert warnings == []
    assert store.size() > 3 * len(b"of another version")
    store.clear()
    assert [path.name for path in store.path.parent.iterdir()] == ["features-mine.sqlite"]


def test_tables_that_are_lost_are_made_anew(store: FeatureCache, warnings: list[str]) -> None:
    """A log that was removed under a run may leave a file without them, which must not be the end of the cache."""
    store.add(MODEL, "tiny", [(b"a", row(1))])
    store.connection().executescript("DROP TABLE features; DROP TABLE models")
    store.close()
    store = FeatureCache(store.path, warnings.append)
    store.add(MODEL, "tiny", [(b"a", row(1))])
    assert store.find(MODEL, b"a", DIM) is not None
    assert warnings == []


def test_a_store_that_others_are_making_is_waited_for(
    store: FeatureCache, warnings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite says at once that a file is locked while several processes make it; a moment later it is theirs too."""
    locked = sqlite3.OperationalError("database is locked")
    locked.sqlite_errorcode = sqlite3.SQLITE_BUSY
    outcomes = iter([locked, locked])
    open_now = FeatureCache._open_for_writing

    def open_late(self: FeatureCache) -> sqlite3.Connection:
        if error := next(outcomes, None):
            raise error
        return open_now(self)

    monkeypatch.setattr(FeatureCache, "_open_for_writing", open_late)
    store.add(MODEL, "tiny", [(b"a", row(1))])
    assert store.find(MODEL, b"a", DIM) is not None
    assert warnings == []
    store = FeatureCache(store.path, warnings.append)
    monkeypatch.setattr("zeroshot.features.database._BUSY_SECONDS", 0.1)
    outcomes = itertools.repeat(locked)
    assert store.find(MODEL, b"a", DIM) is None
    assert len(warnings) == 1
    assert "database is locked" in warnings[0]


def test_what_cannot_be_written_is_read(store: FeatureCache, warnings: list[str]) -> None:
    """Where there can be no log, as in a folder that is read-only, rows are found, and what is new is not kept."""
    store.add(MODEL, "tiny", [(b"a", row(1))])
    store.close()
    store.path.with_name(f"{store.path.name}-wal").mkdir()
    before = store.path.read_bytes()
    store = FeatureCache(store.path, warnings.append)
    assert np.array_equal(store.find(MODEL, b"a", DIM), row(1))  # type: ignore[arg-type]
    assert warnings == []
    for _ in range(2):
        store.add(MODEL, "tiny", [(b"b", row(2))])
    assert len(warnings) == 1
    assert "cannot be written: attempt to write a readonly database; it is only read" in warnings[0]
    assert store.find(MODEL, b"a", DIM) is not None
    assert store.find(MODEL, b"b", DIM) is None
    assert store.path.read_bytes() == before


def test_a_day_that_cannot_be_noted_hides_no_row(
    store: FeatureCache, warnings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row is found on a full disk too, though the day of its last use has to be written."""
    store.add(MODEL, "tiny", [(b"a", row(1)), (b"b", row(2))])
    store.connection().execute("PRAGMA query_only = 1")
    monkeypatch.setattr(cache_upkeep, "today", lambda: 100_000)
    assert store.find(MODEL, b"a", DIM) is not None
    assert store.find(MODEL, b"b", DIM) is not None
    assert len(warnings) == 1


def test_a_full_disk_ends_the_writing_only(store: FeatureCache, warnings: list[str]) -> None:
    """What is there is used on, and a transaction that has no room leaves nothing."""
    store.add(MODEL, "tiny", [(b"a", row(1))])
    connection = store.connection()
    connection.execute(f"PRAGMA max_page_count = {connection.execute('PRAGMA page_count').fetchone()[0]}")
    wide = np.ones(DIM * 4096, dtype=np.float32)
    store.add(MODEL, "tiny", [(b"b", row(2)), (b"c", wide)])
    assert len(warnings) == 1
    assert "cannot be written: database or disk is full" in warnings[0]
    assert store.find(MODEL, b"a", DIM) is not None
    assert store.find(MODEL, b"b", DIM) is None


def test_many_threads_share_it(store: FeatureCache, warnings: list[str]) -> None:
    """Rows written by eight threads at once are all there afterwards."""

    def work(base: int) -> None:
        for index in range(base, base + 20):
            store.add(MODEL, "tiny", [(str(index).encode(), row(index))])
            assert store.find(MODEL, str(index).encode(), DIM) is not None

    threads = [threading.Thread(target=work, args=(base,)) for base in range(0, 160, 20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert warnings == []
    assert store.stored()[0].rows == 160


def test_what_is_old_or_too_much_is_pruned(store: FeatureCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """Age counts from the last use."""
    monkeypatch.setattr(cache_upkeep, "today", lambda: 100)
    store.add(MODEL, "tiny", [(b"old", row(1)), (b"used", row(2))])
    monkeypatch.setattr(cache_upkeep, "today", lambda: 140)
    assert store.find(MODEL, b"used", DIM) is not None
    assert store.prune(days=30) == 1
    assert store.find(MODEL, b"old", DIM) is None
    assert store.find(MODEL, b"used", DIM) is not None
    assert [(stored.model, stored.rows) for stored in store.stored()] == [("tiny", 1)]


def add_wide(store: FeatureCache, prefix: str, count: int) -> None:
    wide = np.ones(512, dtype=np.float32)
    store.add(MODEL, "tiny", [(f"{prefix}{index:030}".encode(), wide) for index in range(count)])


def test_beyond_a_size_the_least_recently_used_go_first(store: FeatureCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of today stay, and of the older ones as many as there is room for."""
    monkeypatch.setattr(cache_upkeep, "today", lambda: 100)
    add_wide(store, "o", 600)
    monkeypatch.setattr(cache_upkeep, "today", lambda: 101)
    add_wide(store, "n", 600)
    removed = store.prune(max_bytes=2 * 10**6)
    assert 0 < removed < 600
    assert store.find(MODEL, b"n%030d" % 599, 512) is not None
    assert store.stored()[0].rows == 1200 - removed
    assert store.size() <= 2 * 10**6


def test_beyond_a_size_what_nobody_uses_goes_first(warnings: list[str]) -> None:
    """What another version left is removed before a row is."""
    store = FeatureCache(warn=warnings.append)
    store.add(MODEL, "tiny", [(b"a", row(1))])
    left = store.path.with_name("features-99.sqlite")
    left.write_bytes(bytes(10**6))
    os.utime(left, (time.time() - 2 * 86_400,) * 2)
    assert store.prune(max_bytes=500_000) == 0
    assert not left.exists()
    assert store.find(MODEL, b"a", DIM) is not None


def test_a_limit_is_kept_by_every_run(tmp_path: Path, warnings: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """With the variable set the file does not grow beyond it, the newest rows are there, and nothing is said."""
    monkeypatch.setenv("ZEROSHOT_CACHE_MAX_SIZE", "1.5 MB")
    store = FeatureCache(tmp_path / "features.sqlite", warnings.append)
    for batch in range(40):
        add_wide(store, f"{batch:02}", 64)
        assert store.path.stat().st_size < 1.7e6
    assert store.find(MODEL, b"39" + b"%030d" % 63, 512) is not None
    assert store.stored()[0].rows > 300
    assert warnings == []
    store.close()
    monkeypatch.setenv("ZEROSHOT_CACHE_MAX_SIZE", "500kB")
    store = FeatureCache(tmp_path / "features.sqlite", warnings.append)
    add_wide(store, "zz", 1)
    store.close()
    assert store.path.stat().st_size < 6e5


@pytest.mark.parametrize(
    ("text", "size"), [("2GB", 2 * 10**9), ("500 mb", 5 * 10**8), ("1.5g", 15 * 10**8), ("10", 10), ("3KiB", 3000)]
)
def test_sizes_are_read_as_people_write_them(text: str, size: int) -> None:
    """Decimal units, in either case, with or without a space."""
    assert parse_size(text, "--max-size") == size


def test_what_nobody_uses_is_pruned_with_the_old(warnings: list[str]) -> None:
    """A file that was set aside, or that another version left, does not stay for good; one in use stays."""
    store = FeatureCache(warn=warnings.append)
    store.add(MODEL, "tiny", [(b"a", row(1))])
    others = {
        "features-99.sqlite": 31,
        "features-98.sqlite": 31,
        "features-97.sqlite": 29,
        "features-99.sqlite-wal": 31,
    }
    others |= {"features-98.sqlite-wal": 29, "features-98.sqlite-shm": 31, f"{store.path.name}.damaged-1": 31}
    for name, age in others.items():
        store.path.with_name(name).write_bytes(b"x")
        os.utime(store.path.with_name(name), (time.time() - age * 86_400,) * 2)
    assert store.prune(max_bytes=10**6) == 0
    assert len(list(store.path.parent.glob("features-*.sqlite"))) == 4
    assert store.prune(days=30) == 0
    store.close()
    kept = {path.name for path in store.path.parent.iterdir()}
    assert kept == {store.path.name, "features-97.sqlite", *(name for name in others if "98" in name)}
    assert warnings == []


def test_a_size_is_that_of_the_file(store: FeatureCache) -> None:
    """The file takes little more than its rows, and after pruning no more than it may."""
    wide = np.ones(512, dtype=np.float32)
    store.add(MODEL, "tiny", [(f"{index:032}".encode(), wide) for index in range(2000)])
    store.close()
    assert store.size() < 1.5 * 2000 * 4 * 512
    store.prune(max_bytes=2 * 10**6)
    store.close()
    assert 1.5e6 < store.size() <= 2e6


def test_clearing_leaves_nothing(store: FeatureCache) -> None:
    """After clear there is no file, nor what was set aside, and the store can be used again."""
    store.add(MODEL, "tiny", [(b"a", row(1))])
    store.path.with_name(f"{store.path.name}.damaged-1").write_bytes(b"what was set aside")
    assert store.size() > 0
    store.clear()
    assert list(store.path.parent.iterdir()) == []
    assert store.find(MODEL, b"a", DIM) is None


def test_each_way_of_opening_images_has_features_of_its_own() -> None:
    """What is decoded otherwise is another image."""
    spec = FakeEncoder().spec
    ways = itertools.product((False, True), (False, True), (DEFAULT_MAX_PIXELS, 99, 100))
    keys = {
        image_key(spec, DecodeOptions(exif=exif, max_pixels=limit, draft=draft), b"") for exif, draft, limit in ways
    }
    assert len(keys) == 12


SQUASHED = Preprocessing((16, 16), (0.5,) * 3, (0.5,) * 3, resize_mode=ResizeMode.SQUASH)


def test_an_upgrade_that_changes_no_pixel_keeps_the_key(store: FeatureCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another version is measured once; the key is the same, and so is every feature under it."""
    spec = replace(FakeEncoder().spec, preprocessing=SQUASHED)
    before = store.image_key(spec, HOW)
    measured: list[Preprocessing] = []
    measure = decoder_fingerprint.measure
    monkeypatch.setattr(cache, "measure", lambda how: measured.append(how) or measure(how))
    monkeypatch.setattr(decoder_fingerprint, "__version__", "999")
    assert store.image_key(spec, HOW) == store.image_key(spec, HOW) == before
    assert measured == [SQUASHED]


def test_another_order_of_passes_is_another_key(store: FeatureCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow 13.0 shrinks the height of tall images first, 12 their width: told apart where a model squashes them."""
    resize = Image.Image.resize
    squashing = replace(FakeEncoder().spec, preprocessing=SQUASHED)
    cropping = replace(squashing, preprocessing=replace(SQUASHED, resize_mode=ResizeMode.SHORTEST))
    keys = []
    for height_first in (False, True):

        def in_order(
            self: Image.Image, size: tuple[int, int], *rest: object, height_first: bool = height_first
        ) -> Image.Image:
            if self.height / size[1] > 4 * self.width / size[0]:
                between = (self.width, size[1]) if height_first else (size[0], self.height)
                return resize(resize(self, between, *rest), size, *rest)  # type: ignore[arg-type]
            return resize(self, size, *rest)  # type: ignore[arg-type]

        monkeypatch.setattr(Image.Image, "resize", in_order)
        monkeypatch.setattr(decoder_fingerprint, "__version__", f"height first: {height_first}")
        keys.append([store.image_key(spec, HOW) for spec in (squashing, cropping)])
    assert keys[0][0] != keys[1][0]
    assert keys[0][1] == keys[1][1]


def test_another_decision_about_a_mode_is_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a decoder makes of an image counts like what resizing makes of it."""
    before = decoder_fingerprint.measure(SQUASHED)
    assert decoder_fingerprint.measure(SQUASHED) == before
    decode = decoder_fingerprint.decode
    monkeypatch.setattr(
        decoder_fingerprint, "decode", lambda file, how: decode(file, how).point(lambda value: value ^ 1)
    )
    assert decoder_fingerprint.measure(SQUASHED) != before


def test_measuring_needs_no_cache_that_works(tmp_path: Path, warnings: list[str]) -> None:
    """Where the store cannot be used there is a key all the same, and one warning."""
    (tmp_path / "file").write_text("in the way")
    store = FeatureCache(tmp_path / "file" / "features.sqlite", warnings.append)
    assert len(store.image_key(FakeEncoder().spec, HOW)) == 32
    assert len(warnings) == 1


@pytest.mark.parametrize("table", ["features(a)", "strangers(a)"])
def test_a_file_of_another_program_is_left_as_it_is(tmp_path: Path, table: str) -> None:
    """One of the cache's name with other tables is named, neither filled nor moved, and done without."""
    path, warnings = tmp_path / "features-2.sqlite", []
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"CREATE TABLE {table}")
        connection.commit()
    before = path.read_bytes()
    store = FeatureCache(path, warnings.append)
    store.add(MODEL, "tiny", [(b"a", row(1))])
    assert store.find(MODEL, b"a", DIM) is None
    store.close()
    with pytest.raises(OSError, match="another program's tables"):
        store.clear()
    assert len(warnings) == 1 and "another program's tables" in warnings[0]
    assert path.read_bytes() == before
