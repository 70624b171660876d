"""The package as a library: one call to classify, images of any kind, wrong shapes named, public names written once."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import zeroshot
from support.fakes import FakeEncoder
from support.fixtures import SaveImage
from zeroshot.classifier import build_manifest
from zeroshot.errors import InputError, LabelError, PromptError, UsageError
from zeroshot.evaluation.calibration_file import identify, to_document
from zeroshot.output.render.records import to_json

COLOURS = ["red", "green", "blue"]


def png(colour: str) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (12, 10), colour).save(stream, "PNG")
    return stream.getvalue()


def labels(images: object, **options: object) -> list[str | None]:
    records = zeroshot.classify(images, COLOURS, FakeEncoder(), **options)  # type: ignore[arg-type]
    return [record.label for record in records]


def test_images_of_any_kind_give_one_record_each_in_order(images: SaveImage) -> None:
    """Paths, bytes, PIL images and arrays may be mixed; those without a path are named by their place."""
    red, blue = images("red.png", "red"), images("blue.png", "blue")
    grey = np.full((4, 6), 128, dtype=np.uint8)
    green = np.zeros((4, 6, 3), dtype=np.uint8)
    green[..., 1] = 255
    opaque = np.concatenate([green, np.full((4, 6, 1), 255, dtype=np.uint8)], axis=2)
    given = [str(red), png("blue"), Image.new("RGB", (3, 3), "red"), green, blue, opaque, grey, grey[..., None]]
    records = zeroshot.classify(given, COLOURS, FakeEncoder(), pipeline=zeroshot.Pipeline(batch_size=2))
    assert [record.label for record in records][:6] == ["red", "blue", "red", "green", "blue", "green"]
    assert [record.path for record in records] == [
        *(str(red), "images[1]", "images[2]", "images[3]", str(blue), "images[5]", "images[6]", "images[7]")
    ]
    assert all(record.error is None for record in records)
    assert records[6].to_dict() | {"path": ""} == records[7].to_dict() | {"path": ""}


def test_one_image_a_folder_and_a_batch(images: SaveImage) -> None:
    """One image needs no list; a folder stands for what is below it, a 4-dimensional array for a batch."""
    path = images("a/red.png", "red")
    images("a/blue.png", "blue")
    assert labels(path) == labels(str(path)) == labels(png("red")) == labels(Image.new("RGB", (3, 3), "red")) == ["red"]
    assert labels(path.parent) == ["blue", "red"]
    batch = np.zeros((3, 5, 5, 3), dtype=np.uint8)
    batch[0, ..., 1] = batch[2, ..., 2] = 255
    assert labels(batch)[::2] == ["green", "blue"]
    assert labels(batch[0]) == ["green"]
    assert labels([]) == []


def test_bytes_and_pil_images_give_what_their_file_gives(tmp_path: Path) -> None:
    """A turned JPEG, a transparent PNG and a palette are decoded alike, wherever they come from."""
    noise = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise).save(tmp_path / "turned.jpg", exif=exif)
    Image.fromarray(np.dstack([noise, noise[..., 0]])).save(tmp_path / "clear.png")
    Image.fromarray(noise).quantize(8).save(tmp_path / "palette.gif")
    encoder = FakeEncoder()

    def features(image: object) -> np.ndarray:
        ((encoded,),) = zeroshot.encode_images(encoder, image)  # type: ignore[arg-type]
        assert encoded.features is not None
        return encoded.features

    for path in tmp_path.iterdir():
        expected = features(path)
        assert np.array_equal(features(path.read_bytes()), expected)
        with Image.open(path) as image:
            assert np.array_equal(features(image), expected)


def test_what_cannot_be_read_is_a_record_with_an_error(tmp_path: Path) -> None:
    """Damaged bytes, a damaged image opened by Pillow and a path that leads nowhere end nothing."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:900])
    with Image.open(tmp_path / "cut.png") as cut:
        records = zeroshot.classify([b"", b"no image", cut, "nowhere.jpg", png("red")], COLOURS, FakeEncoder())
    assert [record.label for record in records] == [None, None, None, None, "red"]
    assert [bool(record.error) for record in records] == [True, True, True, True, False]
    assert records[3].to_dict() == {"path": "nowhere.jpg", "status": "failed", "error": "no such file"}


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((3, 8, 9), dtype=np.uint8), r"images\[1\] has the shape \(3, 8, 9\) and type uint8; expected"),
        (np.zeros((8, 9, 3)), r"images\[1\] has the shape \(8, 9, 3\) and type float64; expected uint8"),
        (np.zeros(7, dtype=np.uint8), r"images\[1\] has the shape \(7,\)"),
        (np.zeros((0, 9, 3), dtype=np.uint8), r"images\[1\] has the shape \(0, 9, 3\)"),
        (np.zeros((2, 8, 9, 3), dtype=np.uint8), r"images\[1\] has the shape \(2, 8, 9, 3\)"),
        (None, r"images\[1\] is a NoneType"),
    ],
)
def test_wrong_shapes_are_named(image: object, message: str) -> None:
    """The error names the image, its shape and what is expected."""
    with pytest.raises(InputError, match=message):
        zeroshot.classify([png("red"), image], COLOURS, FakeEncoder())  # type: ignore[list-item]


def test_channels_first_have_a_hint() -> None:
    """The commonest mistake is named with what fixes it; one number is no list of images."""
    with pytest.raises(InputError) as caught:
        zeroshot.classify(np.zeros((3, 8, 9), dtype=np.uint8), COLOURS, FakeEncoder())
    assert "moveaxis" in caught.value.hint
    with pytest.raises(InputError, match="images: a int"):
        zeroshot.classify(3, COLOURS, FakeEncoder())  # type: ignore[arg-type]


def test_features_of_another_shape_are_named() -> None:
    """A classifier and a search say what they expect, instead of numpy's words about a product."""
    encoder = FakeEncoder()
    classifier = zeroshot.build_classifier(encoder, COLOURS)
    for wrong in (np.zeros(8), np.zeros((2, 9))):
        with pytest.raises(InputError, match=r"image_features has the shape .* expected \(n, 8\)"):
            classifier.scores(wrong.astype(np.float32))
    with pytest.raises(InputError, match=r"expected \(n, 8\)"):
        zeroshot.search_images(encoder, np.zeros(5, dtype=np.float32), [], 1, zeroshot.Pipeline())


def test_labels_and_templates_in_every_form(tmp_path: Path) -> None:
    """A list, a string and a set of labels are the same; templates are a name, a file or sentences."""
    image = Image.new("RGB", (3, 3), "blue")
    (tmp_path / "mine.yaml").write_text("- 'a {}'\n")
    given = [COLOURS, iter(COLOURS), "red,green,blue", zeroshot.parse_labels("red,green,blue")]
    given.append([zeroshot.Label("red"), "green", zeroshot.Label("blue", aliases=("navy",))])
    assert {zeroshot.classify(image, form, FakeEncoder())[0].label for form in given} == {"blue"}
    for templates in ("plain", str(tmp_path / "mine.yaml"), "a {}.", ["a {}.", "the {}."]):
        encoder = FakeEncoder()
        zeroshot.classify(image, COLOURS, encoder, templates=templates)
        assert len(encoder.texts) == 3 * (2 if isinstance(templates, list) else 1)
    with pytest.raises(LabelError, match="are given twice"):
        zeroshot.classify(image, ["red", "Red"], FakeEncoder())
    with pytest.raises(PromptError, match="no template set"):
        zeroshot.classify(image, COLOURS, FakeEncoder(), templates="nothing")


def test_records_are_what_the_command_line_writes(images: SaveImage) -> None:
    """`to_dict` gives the keys of the JSON lines, with more numbers where they are asked for."""
    (record,) = zeroshot.classify(images("red.png", "red"), COLOURS, FakeEncoder())
    document = json.loads(to_json(record.to_dict()))
    assert list(document) == ["path", "status", "label", "probability", "top"]
    assert list(record.to_dict(("similarity", "logit"))["top"][0]) == ["label", "similarity", "logit"]


def test_a_decision_and_a_calibration(images: SaveImage, tmp_path: Path) -> None:
    """A threshold is passed on; a calibration made in a few calls changes probabilities and brings its threshold."""
    for index, colour in enumerate(COLOURS * 20):
        wrong = (90, 100, 110) if index > 50 else colour
        images(f"data/{colour}/{index}.png", wrong)
    encoder, image = FakeEncoder(), tmp_path / "data/red/0.png"
    (record,) = zeroshot.classify(image, COLOURS, encoder, decision=zeroshot.Decision(2, 1.0))
    assert (record.label, len(record.to_dict()["top"])) == (None, 2)

    dataset = zeroshot.load_folder(str(tmp_path / "data"))
    data = zeroshot.encode_dataset(encoder, dataset, zeroshot.Pipeline())
    classifier = zeroshot.build_classifier(encoder, dataset.labels)
    fit = zeroshot.calibrate(*zeroshot.halve(data, 0), classifier, dataset.keys, 0.5)
    document = to_document(fit, identify(encoder.spec, classifier), build_manifest(encoder.spec, classifier, {}))
    (tmp_path / "calibration.json").write_bytes(to_json(document | {"threshold": 0.999}))
    (fitted,) = zeroshot.classify(image, dataset.labels, encoder, calibration=tmp_path / "calibration.json")
    expected = fit.after.classifier.scores(next(zeroshot.encode_images(encoder, image))[0].features[None])
    assert fitted.to_dict()["top"][0]["probability"] == pytest.approx(expected.probabilities.max(), rel=1e-5)
    assert (record.to_dict()["probability"], fitted.label) != (fitted.to_dict()["probability"], "red")
    with pytest.raises(InputError, match="other labels"):
        zeroshot.classify(image, COLOURS[:2], encoder, calibration=tmp_path / "calibration.json")


def test_sorting_and_taking_it_back(images: SaveImage, tmp_path: Path) -> None:
    """Images move into folders of their labels, and one call brings all of them back."""
    paths = [images("in/a.png", "red"), images("in/b.png", "blue")]
    records = zeroshot.classify([*paths, tmp_path / "gone.png"], COLOURS, FakeEncoder())
    done = zeroshot.sort_images(records, tmp_path / "out", "move")
    assert [outcome.reason for outcome in done.outcomes] == ["", ""]
    assert [stay.failed for stay in done.stays] == [True]
    assert (tmp_path / "out/red/a.png").exists()
    assert not paths[0].exists()
    assert done.journal is not None
    assert [undone.reason for undone in zeroshot.undo_sort(done.journal.parent.parent)] == ["", ""]
    with pytest.raises(UsageError, match="no placement 'mv'"):
        zeroshot.sort_images([], tmp_path / "out", "mv")
    assert all(path.exists() for path in paths)
    assert zeroshot.sort_images([], tmp_path / "out").journal is None


def test_every_public_name_is_there() -> None:
    """Each name of the stub resolves, `*` and `dir` list them all, and another name is refused as usual."""
    assert len(zeroshot.__all__) > 40
    for name in zeroshot.__all__:
        assert getattr(zeroshot, name) is not None
    assert set(zeroshot.__all__) <= set(dir(zeroshot))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = zeroshot.nothing  # type: ignore[attr-defined]


def test_importing_the_package_is_quick() -> None:
    """Neither numpy nor Pillow nor torch is imported before a name is used; `*` works in a fresh process."""
    script = "import sys, zeroshot; print({'numpy', 'PIL', 'torch', 'ast'} & set(sys.modules)); from zeroshot import *"
    script += "; print(search_images, evaluate_dataset.__name__, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    assert first == "set()"
    assert second.startswith("<function")
    assert second.endswith("evaluate False")


def test_a_path_object_and_its_text_are_the_same(images: SaveImage) -> None:
    """A path of any kind names its record as text."""
    path = images("red.png", "red")
    (record,) = zeroshot.classify(path, COLOURS, FakeEncoder())
    assert record.path == os.fspath(path)
