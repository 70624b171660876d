"""The run: exactly one record per input, in order, whatever is between, before or behind it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from support.fakes import COLOURS, FakeEncoder
from support.fixtures import SaveImage
from zeroshot.classifier import build_classifier, classify_paths
from zeroshot.encoder import Features, Pixels, Preprocessing
from zeroshot.enums import Interpolation
from zeroshot.features.pipeline import Pipeline, encode_batches
from zeroshot.images.decode import DecodeOptions
from zeroshot.prompts.labels import LabelSet, parse_label_yaml, parse_labels
from zeroshot.prompts.template_sets import TemplateSet
from zeroshot.results import Failure, Prediction
from zeroshot.scoring import Classifier, Decision

NAMES = ("red", "green", "blue", "yellow")
PLAIN = TemplateSet("plain", ("{}",))


def built(encoder: FakeEncoder, labels: LabelSet | None = None) -> Classifier:
    return build_classifier(encoder, labels or parse_labels(",".join(NAMES)), PLAIN)


def our_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "paths" or thread.name.startswith("decode")]


def assert_all_end(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.join(timeout=30)
    assert not any(thread.is_alive() for thread in threads)


@pytest.fixture
def mixed(images: SaveImage, tmp_path: Path) -> list[tuple[str, str | None]]:
    """Paths with the label that each must get; None for one that cannot be read. Neighbours differ."""
    (tmp_path / "text.jpg").write_text("no image")
    whole = images("whole.png", (1, 2, 3), (50, 50)).read_bytes()
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    bad = [str(tmp_path / name) for name in ("text.jpg", "half.png", "gone.png")] + [str(tmp_path), "nul\0.jpg"]
    inputs: list[tuple[str, str | None]] = []
    for index in range(37):
        name = NAMES[index % 4]
        inputs.append((str(images(f"{index % 8}-{name}.png", name, (5 + index % 3, 9))), name))
        if index % 5 == 2:
            inputs.append((bad[index // 5 % len(bad)], None))
    return [(bad[0], None), *inputs, (bad[1], None), (bad[2], None)]


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 1), (2, 8), (7, 3), (32, 2), (1000, 1)])
def test_one_record_per_input(mixed: list[tuple[str, str | None]], batch_size: int, workers: int) -> None:
    """Every input has one record in its place, with its own result, whatever the batches and threads."""
    encoder = FakeEncoder()
    paths = (path for path, _ in mixed)
    records = list(classify_paths(encoder, built(encoder), paths, Decision(2), Pipeline(batch_size, workers)))
    assert [record.path for record in records] == [path for path, _ in mixed]
    for record, (_, expected) in zip(records, mixed, strict=True):
        if expected is None:
            assert isinstance(record, Failure)
            assert record.error
        else:
            assert isinstance(record, Prediction)
            assert record.label == expected == record.top[0].label
            assert len(record.top) == 2
    assert max(encoder.batches) <= batch_size
    assert sum(encoder.batches) == sum(expected is not None for _, expected in mixed)


def test_no_paths() -> None:
    """No paths, no records, and the encoder is never called."""
    encoder = FakeEncoder()
    assert list(classify_paths(encoder, built(encoder), iter(()))) == []
    assert encoder.batches == []


def test_only_failures(tmp_path: Path) -> None:
    """Where nothing can be read, all are failures, and the encoder is never called."""
    encoder = FakeEncoder()
    records = list(classify_paths(encoder, built(encoder), [str(tmp_path / f"{i}.jpg") for i in range(5)]))
    assert [type(record) for record in records] == [Failure] * 5
    assert encoder.batches == []


def test_a_trickle_is_answered(images: SaveImage) -> None:
    """A record is out before the next path arrives: the list waits here until it is."""
    answered = threading.Event()
    path = str(images("red.png", "red"))

    def trickle() -> Iterator[str]:
        for _ in range(3):
            yield path
            assert answered.wait(timeout=30), "the record did not come before the next path"
            answered.clear()

    encoder = FakeEncoder()
    records = classify_paths(encoder, built(encoder), trickle(), pipeline=Pipeline(batch_size=32))
    for _ in range(3):
        assert next(records).path == path
        answered.set()
    assert list(records) == []


def test_reading_ahead_is_bounded(images: SaveImage) -> None:
    """An endless list is not read far beyond what is encoded, and closing the run ends its threads."""
    path = str(images("red.png", "red"))
    taken = 0

    def endless() -> Iterator[str]:
        nonlocal taken
        while True:
            taken += 1
            yield path

    encoder = FakeEncoder()
    before = set(our_threads())
    records = classify_paths(encoder, built(encoder), endless(), pipeline=Pipeline(batch_size=4, workers=2))
    for _ in range(8):
        next(records)
    threads = [thread for thread in our_threads() if thread not in before]
    assert threads
    records.close()  # type: ignore[attr-defined]
    assert_all_end(threads)
    assert taken <= 8 + 4 + 2 * 4 + 2 + 2


def test_error_of_the_list(images: SaveImage) -> None:
    """What the list of paths raises reaches the caller, after the records of the paths before it."""

    def broken() -> Iterator[str]:
        yield str(images("red.png", "red"))
        raise PermissionError("the list is gone")

    encoder = FakeEncoder()
    records = classify_paths(encoder, built(encoder), broken(), pipeline=Pipeline(batch_size=1))
    assert next(records).path.endswith("red.png")
    with pytest.raises(PermissionError, match="the list is gone"):
        next(records)


def test_error_of_the_encoder(images: SaveImage) -> None:
    """What the encoder raises reaches the caller, and leaves no thread behind."""

    class Broken(FakeEncoder):
        def encode_images(self, pixels: Pixels) -> Features:
            raise RuntimeError("out of order")

    encoder = Broken()
    before = set(our_threads())
    with pytest.raises(RuntimeError, match="out of order"):
        list(classify_paths(encoder, built(encoder), [str(images("red.png"))] * 3))
    assert_all_end([thread for thread in our_threads() if thread not in before])


def test_numbers_that_are_none(images: SaveImage) -> None:
    """An image whose features overflow is a failure that says so; its neighbours keep their results."""

    class Overflowing(FakeEncoder):
        def encode_images(self, pixels: Pixels) -> Features:
            rows = super().encode_images(pixels)
            rows[pixels[:, 0, 0, 2] > 200] = np.nan  # blue ones
            return rows

    encoder = Overflowing()
    paths = [str(images(f"{name}.png", name)) for name in ("red", "blue", "green")]
    red, blue, green = classify_paths(encoder, built(encoder), paths)
    assert isinstance(blue, Failure)
    assert "no finite numbers" in blue.error
    assert isinstance(red, Prediction)
    assert isinstance(green, Prediction)
    assert (red.label, green.label) == ("red", "green")


def test_threshold(images: SaveImage) -> None:
    """Below the threshold the label is unknown; at it, it is not; the ranking is listed all the same."""
    encoder = FakeEncoder()
    path = str(images("red.png", "red"))
    (record,) = classify_paths(encoder, built(encoder), [path])
    assert isinstance(record, Prediction)
    for threshold, label in ((record.probability, "red"), (np.nextafter(record.probability, 2), None)):
        (again,) = classify_paths(encoder, built(encoder), [path], Decision(threshold=float(threshold)))
        assert isinstance(again, Prediction)
        assert again.label == label
        assert again.top == record.top
        assert again.probability == record.probability


def test_background(images: SaveImage) -> None:
    """An image of the background is unknown, with the best label that could be reported."""
    encoder = FakeEncoder()
    labels = parse_label_yaml("labels: [red, magenta]\nbackground: [blue]", "f")
    blue, red = classify_paths(
        encoder, built(encoder, labels), [str(images("b.png", "blue")), str(images("r.png", "red"))]
    )
    assert isinstance(blue, Prediction)
    assert isinstance(red, Prediction)
    assert (blue.label, [ranked.label for ranked in blue.top]) == (None, ["magenta", "red"])
    assert red.label == "red"


def test_same_numbers_whatever_the_batch(images: SaveImage) -> None:
    """Probabilities agree to 1e-5 between batches of one and batches of many."""
    encoder = FakeEncoder()
    paths = [str(images(f"{i}.png", (i * 9, 255 - i * 5, i * 3), (9 + i, 20))) for i in range(20)]
    alone, together = (
        [record.probability for record in classify_paths(encoder, built(encoder), paths, pipeline=Pipeline(size))]  # type: ignore[union-attr]
        for size in (1, 20)
    )
    assert np.abs(np.subtract(alone, together)).max() <= 1e-5


def test_decode_options_are_passed_on(images: SaveImage) -> None:
    """The limit of pixels given to the run is the one that images are opened with."""
    encoder = FakeEncoder()
    path = str(images("red.png", "red", (20, 20)))
    (batch,) = encode_batches(encoder, [path], Pipeline(decode_options=DecodeOptions(max_pixels=399)))
    assert "--max-pixels" in batch[0].error
    (batch,) = encode_batches(encoder, [path], Pipeline(decode_options=DecodeOptions(max_pixels=400)))
    assert batch[0].features is not None


def test_image_that_cannot_be_resized(images: SaveImage, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image that cannot be brought to the model's size is a failure with its reason."""

    def fail(*_: object) -> Pixels:
        raise MemoryError

    monkeypatch.setattr(sys.modules[encode_batches.__module__], "fit", fail)
    (batch,) = encode_batches(FakeEncoder(), [str(images("red.png"))])
    assert (batch[0].features, batch[0].error) == (None, "too large for the memory at hand")


def test_fake_encoder_sees_every_colour() -> None:
    """The colour encoder puts each colour word nearest to its own colour, so that tests mean something."""
    encoder = FakeEncoder()
    how = Preprocessing((8, 8), (0, 0, 0), (1, 1, 1), Interpolation.BICUBIC)
    pixels = np.stack([np.full((*how.size, 3), colour, np.uint8) for colour in COLOURS.values()])
    cosines = encoder.encode_images(pixels) @ encoder.encode_texts([f"a photo of a {name}." for name in COLOURS]).T
    assert cosines.argmax(axis=1).tolist() == list(range(len(COLOURS)))
