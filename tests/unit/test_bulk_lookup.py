"""Looking again at what is cached: many images at once give what one by one gives, to the last bit."""

from __future__ import annotations

import io
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from support.fakes import FakeEncoder
from support.fixtures import SaveImage
from zeroshot.classifier import Classifier, Decision, build_classifier, classify_paths
from zeroshot.encoder import Features
from zeroshot.enums import Field, Format, Score
from zeroshot.features import bulk_lookup, cache, cache_upkeep, pipeline
from zeroshot.features.bulk_lookup import LookUp
from zeroshot.features.cache import FeatureCache
from zeroshot.features.keys import FileState, State
from zeroshot.features.pipeline import Block, Pipeline, encode_blocks
from zeroshot.images.sources.byte_ranges import Stamp
from zeroshot.output.render.choose_writer import make_writer
from zeroshot.output.render.records import Layout
from zeroshot.prompts.labels import parse_label_yaml, parse_labels
from zeroshot.prompts.template_sets import TemplateSet
from zeroshot.result_columns import Answers
from zeroshot.results import Failure, Prediction, Ranked, Record
from zeroshot.search import search

MODEL, DIM = b"m" * 32, 8
PLAIN = TemplateSet("plain", ("{}",))
LABELS = parse_labels("red,green,blue,yellow")
LATER = 10**11
UNREADABLE = ["gone.png", "empty.png", "text.png", ".", "..", "", "nul\0.png", "a::b.png"]


@pytest.fixture(autouse=True)
def old_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that the tests write count as old enough to be told by their times."""
    monkeypatch.setattr(FileState, "settled", lambda _: True)


@pytest.fixture
def store(tmp_path: Path) -> FeatureCache:
    return FeatureCache(tmp_path / "deep" / "features.sqlite", pytest.fail)


@pytest.fixture
def folder(images: SaveImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Paths of all kinds: absolute, relative, through a link, twice, not UTF-8, and some that cannot be read."""
    monkeypatch.chdir(tmp_path)
    paths = [str(images(f"p{index:02}.png", (index * 6, 255 - index * 5, index * 3))) for index in range(40)]
    Path("link.png").symlink_to(paths[3])
    Path("here").symlink_to(tmp_path)
    Path("empty.png").touch()
    Path("text.png").write_text("no image")
    odd = os.fsdecode(b"bad\xff.png")
    Path(odd).write_bytes(Path(paths[4]).read_bytes())
    names = ["p01.png", "./p02.png", "here/p03.png", "here/../" + tmp_path.name + "/p05.png", ".//p06.png", "link.png"]
    return [*paths[:20], *names, UNREADABLE[0], odd, *UNREADABLE[1:5], *paths[10:], *UNREADABLE[5:], *paths[:3]]


def built(encoder: FakeEncoder) -> Classifier:
    return build_classifier(encoder, LABELS, PLAIN)


def row(seed: int) -> Features:
    return np.random.default_rng(seed).standard_normal(DIM).astype(np.float32)


def states(count: int) -> list[State]:
    return [(b"/f/%d" % index, 1, 2, 3, index) for index in range(count)]


def fill(store: FeatureCache, count: int) -> None:
    files = [(FileState(*state), b"%d" % index) for index, state in enumerate(states(count))]
    store.add(MODEL, "tiny", [(b"%d" % index, row(index)) for index in range(count)], files)


def assert_whole(store: FeatureCache, count: int) -> None:
    places, rows = store.find_many(MODEL, states(count), DIM)
    assert places == list(range(count))
    assert np.array_equal(rows, np.stack([row(index) for index in range(count)]))


@pytest.mark.parametrize("batch_size", [1, 3, 32, 1000])
def test_records_are_the_same_whatever_is_known(folder: list[str], store: FeatureCache, batch_size: int) -> None:
    """Without a cache, with an empty one, with half of it, and with all: the same records, to the last digit."""
    encoder = FakeEncoder()
    plain = Pipeline(batch_size, 2, fixed_batches=True)
    cached = replace(plain, cache=store)
    classifier = built(encoder)

    def run(how: Pipeline) -> list[Record]:
        return list(classify_paths(encoder, classifier, folder, Decision(3), how))

    expected = run(plain)
    assert [record.path for record in expected] == folder
    assert sum(isinstance(record, Failure) for record in expected) == 8
    list(classify_paths(encoder, classifier, folder[::2], Decision(3), cached))
    assert run(cached) == expected  # half of it
    encoder.batches.clear()
    assert run(cached) == expected
    assert encoder.batches == []


def test_what_is_known_is_not_opened(folder: list[str], store: FeatureCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second time no image that could be read is opened."""
    encoder = FakeEncoder()
    cached = Pipeline(4, 2, cache=store)
    first = [item for block in encode_blocks(encoder, folder, cached) for item in block.paths]
    opened: list[str] = []
    really = pipeline.open_file
    monkeypatch.setattr(pipeline, "open_file", lambda path: opened.append(path) or really(path))
    again = list(encode_blocks(encoder, folder, cached))
    assert [path for block in again for path in block.paths] == first
    assert sorted(opened) == sorted(UNREADABLE)
    assert max(len(block.sizes) for block in again) > 1  # several batches at once


def test_each_name_is_looked_up_as_it_was_kept(folder: list[str], store: FeatureCache) -> None:
    """The state that is looked up is `FileState.of`'s, however the path is spelled."""
    for path in folder:
        state = bulk_lookup._state_of(path, {})
        if state is not None:
            assert FileState(*state) == FileState.of(path, Stamp.of(os.stat(path)))  # noqa: PTH116
    assert [path for path in folder if bulk_lookup._state_of(path, {}) is None] == UNREADABLE[:2] + UNREADABLE[3:]
    assert bulk_lookup._state_of("//" + folder[0].lstrip("/"), {}) is not None


def test_a_file_that_changed_is_read_again(images: SaveImage, tmp_path: Path, store: FeatureCache) -> None:
    """Another content under a known name gives that content's features; so does one that comes during the look-up."""
    encoder = FakeEncoder()
    cached = Pipeline(4, 1, cache=store)
    paths = [str(images(f"{name}.png", name)) for name in ("red", "green", "blue")]
    classifier = built(encoder)

    def labels() -> list[str | None]:
        return [record.label for record in classify_paths(encoder, classifier, paths, pipeline=cached)]

    assert labels() == ["red", "green", "blue"]
    before = os.stat(paths[0])  # noqa: PTH116
    images("red.png", "yellow")
    os.utime(paths[0], ns=(before.st_atime_ns, before.st_mtime_ns + LATER))
    assert labels() == ["yellow", "green", "blue"]
    os.unlink(paths[1])  # noqa: PTH108
    assert labels() == ["yellow", None, "blue"]


def test_a_file_that_changes_after_it_was_looked_up_is_what_it_is_then(
    images: SaveImage, store: FeatureCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not known is opened, and remembered, by the state that it has then."""
    encoder = FakeEncoder()
    cached = Pipeline(4, 1, cache=store)
    path = str(images("a.png", "red"))

    class Changing(LookUp):
        def __call__(self, paths: Sequence[str]) -> bulk_lookup.Known:
            known = super().__call__(paths)
            images("a.png", "blue")
            return known

    with monkeypatch.context() as patched:
        patched.setattr(pipeline, "LookUp", Changing)
        (record,) = classify_paths(encoder, built(encoder), [path], pipeline=cached)
    assert record.label == "blue"
    (record,) = classify_paths(encoder, built(encoder), [path], pipeline=cached)
    assert record.label == "blue"


def test_the_same_content_under_two_names(images: SaveImage, store: FeatureCache) -> None:
    """Both names find the one row, and both lose it together."""
    paths = [str(images(f"{name}.png", "red")) for name in "ab"]
    encoder = FakeEncoder()
    cached = Pipeline(1, 1, cache=store)
    for path in paths:
        list(encode_blocks(encoder, [path], cached))
    assert encoder.batches == [1]
    key = store.image_key(encoder.spec, cached.decode_options)
    assert LookUp(store, key, DIM)(paths).found.tolist() == [True, True]
    with store.connection() as connection:
        connection.execute("DELETE FROM features")
    assert LookUp(store, key, DIM)(paths).found.tolist() == [False, False]


def test_many_find_what_one_finds(store: FeatureCache) -> None:
    """More than one statement's worth comes back in order; another state, model, length or a changed bit is a miss."""
    count = 2 * cache._ASKED + 7
    fill(store, count)
    assert_whole(store, count)
    for change in ((b"/x", 1, 2, 3, 0), (b"/f/0", 9, 2, 3, 0), (b"/f/0", 1, 9, 3, 0), (b"/f/0", 1, 2, 9, 0)):
        assert store.find_many(MODEL, [change, states(2)[1]], DIM)[0] == [1]
    assert store.find_many(b"x" * 32, states(2), DIM)[0] == []
    assert store.find_many(MODEL, states(2), DIM + 1)[0] == []
    with sqlite3.connect(store.path) as connection:
        connection.execute("UPDATE features SET row = ? WHERE content = ?", (row(99).tobytes(), b"1"))
    places, rows = store.find_many(MODEL, states(3), DIM)
    assert (places, rows.shape) == ([0, 2], (2, DIM))


def test_the_day_of_use_is_noted(store: FeatureCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was looked up among many is used, and not pruned as old."""
    monkeypatch.setattr(cache_upkeep, "today", lambda: 100)
    fill(store, 3)
    monkeypatch.setattr(cache_upkeep, "today", lambda: 140)
    assert store.find_many(MODEL, states(2), DIM)[0] == [0, 1]
    assert store.prune(days=30) == 1
    assert store.find_many(MODEL, states(3), DIM)[0] == [0, 1]


def test_a_read_only_cache_is_looked_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing can be written all is found, on another day too, and one warning at most is said."""
    warnings: list[str] = []
    store = FeatureCache(tmp_path / "features.sqlite", warnings.append)
    fill(store, 10)
    store.close()
    store.path.with_name(f"{store.path.name}-wal").mkdir()
    before = store.path.read_bytes()
    store = FeatureCache(store.path, warnings.append)
    assert_whole(store, 10)
    assert warnings == []
    monkeypatch.setattr(cache_upkeep, "today", lambda: 100_000)
    for _ in range(2):
        assert_whole(store, 10)
    assert len(warnings) == 1
    assert store.path.read_bytes() == before


def test_a_damaged_cache_is_set_aside_by_a_look_up(tmp_path: Path) -> None:
    """It is moved, everything is a miss, and the new one works."""
    warnings: list[str] = []
    store = FeatureCache(tmp_path / "features.sqlite", warnings.append)
    store.path.write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
    assert store.find_many(MODEL, states(3), DIM)[0] == []
    assert len(warnings) == 1
    fill(store, 3)
    assert_whole(store, 3)


def test_what_the_limit_removed_is_a_miss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a limit on the size, those that are left are found and the others are not, and nothing is said."""
    monkeypatch.setenv("ZEROSHOT_CACHE_MAX_SIZE", "1 MB")
    store = FeatureCache(tmp_path / "features.sqlite", pytest.fail)
    wide = np.ones(512, dtype=np.float32)
    files = [FileState(*state) for state in states(1000)]
    for start in range(0, 1000, 50):
        part = range(start, start + 50)
        store.add(MODEL, "tiny", [(b"%d" % n, wide) for n in part], [(files[n], b"%d" % n) for n in part])
    places, rows = store.find_many(MODEL, states(1000), 512)
    assert 100 < len(places) < 600
    assert places[-1] == 999
    assert rows.shape == (len(places), 512)


CHILD = """
import itertools, sys
from pathlib import Path
sys.path[:0] = sys.argv[2].split(":")
from test_bulk_lookup import MODEL, DIM, assert_whole, fill, states
from zeroshot.features import cache, cache_upkeep
from zeroshot.features.cache import FeatureCache
store = FeatureCache(Path(sys.argv[1]), lambda line: sys.exit(line))
for day in itertools.count(1) if sys.argv[3] == "0" else range(int(sys.argv[3])):
    cache_upkeep.today = lambda: day  # each look-up writes
    fill(store, 300)
    assert_whole(store, 300)
    print("whole", flush=True)
"""


def child(store: FeatureCache, rounds: int) -> subprocess.Popen[str]:
    places = f"{Path(__file__).parent}:{Path(__file__).parents[1]}"
    words = [sys.executable, "-c", CHILD, str(store.path), places, str(rounds)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_process_that_is_killed_leaves_all_that_was_kept(store: FeatureCache) -> None:
    """Killed while it notes what it has looked up, it takes nothing along."""
    fill(store, 300)
    for _ in range(2):
        process = child(store, 0)
        assert process.stdout and process.stdout.readline() == "whole\n"
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert_whole(store, 300)


def test_two_processes_look_up_at_once(store: FeatureCache) -> None:
    """Each finds all rows each time, while the other writes."""
    processes = [child(store, 20) for _ in range(2)]
    for process in processes:
        out, error = process.communicate(timeout=120)
        assert (process.returncode, error, out) == (0, "", "whole\n" * 20)
    assert_whole(store, 300)


def test_a_trickle_is_answered_from_the_cache(images: SaveImage, store: FeatureCache) -> None:
    """A known image is answered before the next path arrives."""
    answered = threading.Event()
    path = str(images("red.png", "red"))

    def trickle() -> Iterator[str]:
        for _ in range(3):
            yield path
            assert answered.wait(timeout=30), "the record did not come before the next path"
            answered.clear()

    encoder = FakeEncoder()
    cached = Pipeline(batch_size=32, cache=store)
    list(encode_blocks(encoder, [path], cached))
    records = classify_paths(encoder, built(encoder), trickle(), pipeline=cached)
    for _ in range(3):
        assert next(records).label == "red"
        answered.set()
    assert list(records) == []


def rows_of(count: int, dim: int, seed: int = 0) -> Features:
    rows = np.random.default_rng(seed).standard_normal((count, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


GROUPED = "labels: [a, b, c, d, e, f]\nbackground: [x, y]\ngroups: {g: [a, b]}"


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("score", list(Score))
@pytest.mark.parametrize("text", ["labels: [a, b, c, d, e, f, h, i, j, k]", GROUPED])
def test_many_batches_are_scored_as_each(text: str, score: Score, alone: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A block's columns hold what each of its batches gives, to the last bit, in however many parts it is ranked."""
    labels = parse_label_yaml(text, "f")
    classifier = Classifier(rows_of(len(labels.labels), 256, 1), labels, PLAIN, 40.0, 0.5, score)
    decision = Decision(5, 0.3, alone)
    rows, sizes = rows_of(32 * 9 + 5, 256), [*[32] * 4, 1, 31, *[32] * 4, 5]
    edges = np.cumsum([0, *sizes]).tolist()
    each = [answer for a, b in pairwise(edges) for answer in classifier.decide(rows[a:b], decision)]
    for most in (2**20, 300):
        monkeypatch.setattr("zeroshot.scoring._MOST_SCORES", most)
        together = classifier.answer(Block([""] * len(rows), rows, {}, sizes), decision)
        assert list(together.predicted()) == each
    assert any(label is not None for label, _, _ in each)
    assert score is Score.SIGMOID or any(label is None for label, _, _ in each)


def as_answers(numbers: Features, names: list[str], paths: list[str], errors: dict[int, str]) -> Answers:
    """Answers whose numbers are given, shape ``(n_read, n_ranked, 3)``; one in three is unknown."""
    n, kept, _ = numbers.shape
    order = np.tile(np.arange(kept), (n, 1))
    known = np.arange(n) % 3 > 0
    return Answers(paths, errors, names, order, *np.moveaxis(numbers, -1, 0), known, {})


@pytest.mark.parametrize("form", [form for form in Format if form is not Format.TABLE])
@pytest.mark.parametrize("fields", [(Field.PROBABILITY,), tuple(Field)])
def test_blocks_are_written_as_records_are(form: Format, fields: tuple[Field, ...]) -> None:
    """The bytes of a block are those of its records one by one: numbers of every size, names of every kind."""
    edges = [0, -0.0, 1, 0.9999996, 0.9999994, 0.5, 1e-4, 9.99999e-5, 1e-5, 1e-9, 1e-38, 1e-44]
    edges += [12, -12, 12.00001, 12.0001]
    edges += [99999.9, 123456, 999999.6, 1e6, 1234567, 1e16, 3e38, -0.1, 0.1, 0.25, 100, 31.5]
    drawn = np.random.default_rng(0).standard_normal(3000) * 10.0 ** np.random.default_rng(1).integers(-9, 3, 3000)
    values = np.concatenate([np.repeat(edges, 9), drawn]).astype(np.float32)
    numbers = np.resize(values, (len(values) // 9, 3, 3))
    names = ['a "quoted" 100% one', "é%s\udcff", "c\n=1"]
    errors = {0: "no such file or folder", 7: 'damaged: "x"\u2028', len(numbers) + 2: "gone"}
    paths = [f"p%d/ü{index}\udce9\\\t" for index in range(len(numbers) + len(errors))]
    answers = as_answers(numbers, names, paths, errors)
    for top_k in (1, 2, 3, 5):
        whole, each = io.BytesIO(), io.BytesIO()
        layout = Layout(fields, top_k)
        make_writer(form, whole, layout).write_all(answers)
        writer = make_writer(form, each, layout)
        for record in answers.records():
            writer.write(record)
        assert whole.getvalue() == each.getvalue()
        assert whole.getvalue()


def test_a_number_that_is_none_is_refused_by_blocks_too() -> None:
    """JSON has no infinity: it is an error, not a line that nothing reads."""
    numbers = np.full((3, 2, 3), np.inf, dtype=np.float32)
    answers = as_answers(numbers, ["a", "b"], ["p"] * 3, {})
    writer = make_writer(Format.JSONL, io.BytesIO(), Layout(tuple(Field)))
    with pytest.raises(ValueError, match="JSON"):
        writer.write_all(answers)


def test_records_of_columns() -> None:
    """Columns give each input its record in its place."""
    numbers = np.array([[[0.75, 0.5, 4], [0.25, 0.25, 2]]], dtype=np.float32)
    first, second = as_answers(numbers, ["a", "b"], ["bad", "p"], {0: "gone"}).records()
    assert first == Failure("bad", "gone")
    top = (Ranked("a", 0.75, 0.5, 4.0), Ranked("b", 0.25, 0.25, 2.0))
    assert second == Prediction("p", None, 0.75, top)


def test_search_finds_what_products_one_by_one_find(images: SaveImage, store: FeatureCache) -> None:
    """The best of many, with their similarities to the last bit; equal images in their order."""
    encoder = FakeEncoder()
    paths = [str(images(f"{index}.png", (index * 5 % 256, 90, 255 - index * 3 % 200))) for index in range(40)]
    paths += paths[:10]
    cached = Pipeline(4, 2, cache=store)
    query = encoder.encode_texts(["red"])[0]
    rows = [row for block in encode_blocks(encoder, paths, cached) for row in block.features]
    cosines = [float(row @ query) for row in rows]
    order = sorted(range(len(paths)), key=lambda place: -cosines[place])
    for top, least in ((5, -1.0), (12, sorted(cosines)[-7]), (1000, -1.0)):
        found = search(encoder, query, paths, top, cached, min_score=least)
        expected = [(paths[place], cosines[place]) for place in order if cosines[place] >= least][:top]
        assert [(hit.path, hit.similarity) for hit in found.hits] == expected
        assert found.searched == 50


def test_tiny_says_the_same_whatever_is_known(tmp_path: Path) -> None:
    """With a real model: without a cache, with an empty one and with a full one, the same bytes."""
    from zeroshot import load_encoder
    from zeroshot.images.paths import find_images

    encoder = load_encoder("tiny")
    classifier = build_classifier(encoder, LABELS, PLAIN)
    paths = 3 * list(find_images([str(Path(__file__).parents[2] / "examples")]))
    written = []
    plain = Pipeline(4, 2, fixed_batches=True)
    cached = replace(plain, cache=FeatureCache(tmp_path / "features.sqlite", pytest.fail))
    for how in (plain, cached, cached):
        stream = io.BytesIO()
        writer = make_writer(Format.JSONL, stream, Layout(tuple(Field)))
        for block in encode_blocks(encoder, paths, how):
            writer.write_all(classifier.answer(block, Decision(3)))
        written.append(stream.getvalue())
    assert written[0].count(b"\n") == len(paths) > 8
    assert written[1] == written[0]
    assert written[2] == written[0]
