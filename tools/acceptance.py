"""Try published weights, on a machine with a network: one command, one table, exit code 1 if a line is off.

python tools/acceptance.py
python tools/acceptance.py --image CLIP.png --data IMAGENET_VAL --expect-accuracy openai=63.32

Pulls `openai` and `base`, compares probabilities with published ones, exports both models and compares the engines,
and evaluates a labelled folder with this program and with open_clip's own functions.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from zeroshot.classifier import build_classifier, classify_paths
from zeroshot.encoder import Encoder
from zeroshot.engines import choose, torch_loading
from zeroshot.enums import Device, Engine, Precision
from zeroshot.errors import ZeroshotError
from zeroshot.evaluation.evaluate import encode_dataset, evaluate
from zeroshot.evaluation.labelled_folders import load_folder
from zeroshot.features.pipeline import Pipeline
from zeroshot.images.decode import DecodeOptions
from zeroshot.models import resolvers
from zeroshot.prompts.labels import parse_labels
from zeroshot.prompts.template_sets import from_templates
from zeroshot.results import Prediction
from zeroshot.scoring import Decision

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
CLIP_IMAGE = "https://raw.githubusercontent.com/openai/CLIP/main/CLIP.png"
TEMPLATES = ("a photo of a {}.", "{}")
_ENGINES_WITHIN = 1e-4  # of any probability; exports pass at this difference of a feature
_PUBLISHED_WITHIN = 2e-3  # published in half precision


@dataclass(frozen=True, slots=True)
class Reference:
    """Probabilities that were published for one image.

    Attributes:
        model: As ``--model`` takes it.
        labels: Separated by commas; the prompts are the labels themselves.
        probabilities: In their order.
        source: Where they stand.
    """

    model: str
    labels: str
    probabilities: tuple[float, ...]
    source: str


PUBLISHED = (Reference("openai", "a diagram,a dog,a cat", (0.99279, 0.00421, 0.00300), "README of openai/CLIP"),)


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the table."""

    model: str
    check: str
    expected: str
    found: str
    ok: bool


def main(arguments: Sequence[str] | None = None) -> int:
    """Run every check of every model, print the table and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["openai", "base"], metavar="MODEL")
    parser.add_argument("--image", default=CLIP_IMAGE, metavar="FILE|URL", help="CLIP.png of openai/CLIP")
    parser.add_argument("--references", type=Path, metavar="JSON", help="a list of other references than the built-in")
    parser.add_argument("--data", type=Path, metavar="DIR", help="one subfolder per label; default: our example images")
    parser.add_argument(
        "--expect-accuracy", nargs="*", default=[], metavar="MODEL=PERCENT", help="published for --data"
    )
    given = parser.parse_args(arguments)
    references = PUBLISHED
    if given.references:
        documents = json.loads(given.references.read_text(encoding="utf-8"))
        references = tuple(Reference(**{**one, "probabilities": tuple(one["probabilities"])}) for one in documents)
    expected = {name: float(percent) for name, _, percent in (pair.rpartition("=") for pair in given.expect_accuracy)}
    lines: list[Line] = []
    with tempfile.TemporaryDirectory() as folder:
        data = given.data or _sort_examples(Path(folder, "examples"))
        for name in given.models:
            published = [reference for reference in references if reference.model == name]
            for line in check_model(name, published, given.image, data, expected.get(name), Path(folder)):
                lines.append(line)
                print(f"{'ok ' if line.ok else 'BAD'} {line.model}: {line.check}", file=sys.stderr)
    print(format_table(lines))
    return 0 if all(line.ok for line in lines) else 1


def check_model(
    name: str, published: Sequence[Reference], image: str, data: Path, accuracy: float | None, work: Path
) -> Iterator[Line]:
    """Yield the lines of one model; what fails with an error of ours is a line too, and ends the model."""
    check = "pull"
    try:
        source = resolvers.resolve(name)
        files = resolvers.obtain(source, refresh=True)
        yield Line(name, check, "a file", f"{files.weights.stat().st_size / 1e6:.0f} MB from {files.origin}", True)
        check = "load with PyTorch"
        encoder = torch_loading.load(files, Device.CPU, Precision.FP32)
        yield Line(name, check, "", f"{encoder.spec.activation}, logit scale {encoder.spec.logit_scale:.4g}", True)
        check = "published probabilities"
        for reference in published:
            found = _probabilities(encoder, str(_bring(image, work)), reference.labels, ("{}",))
            off = float(np.abs(found - np.asarray(reference.probabilities)).max())
            yield Line(name, check, _numbers(reference.probabilities), _numbers(found), off < _PUBLISHED_WITHIN)
        check = "export"
        choose.export_model(source)
        exported = choose.load_encoder(name, device=Device.CPU, engine=Engine.ONNX)
        example, labels = str(next(iter(sorted(EXAMPLES.glob("*.jpg"))))), "bee,bridge,cat"
        both = [_probabilities(engine, example, labels, TEMPLATES) for engine in (encoder, exported)]
        yield Line(
            name, check, _numbers(both[0]), _numbers(both[1]), bool(np.abs(both[0] - both[1]).max() < _ENGINES_WITHIN)
        )
        check = "evaluation"
        ours, theirs, count = _evaluate(encoder, data)
        yield Line(name, f"{check}, {count} images", f"{theirs:.2%} (open_clip)", f"{ours:.2%}", ours == theirs)
        if accuracy is not None:
            half = 1.96 * (accuracy / 100 * (1 - accuracy / 100) / count) ** 0.5
            close = abs(ours - accuracy / 100) <= half + 0.003  # published tables differ by up to 0.3 points
            yield Line(name, "published accuracy", f"{accuracy:.2f}% +- {half + 0.003:.2%}", f"{ours:.2%}", close)
    except ZeroshotError as error:
        yield Line(name, check, "no error", f"{error.message} (try: {error.hint})", False)
    except OSError as error:
        yield Line(name, check, "no error", str(error), False)


def format_table(lines: Sequence[Line]) -> str:
    """Return the table, a column as wide as its longest cell."""
    rows = [("", "model", "check", "expected", "found")]
    rows += [("ok" if line.ok else "BAD", line.model, line.check, line.expected, line.found) for line in lines]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip()
        for row in rows
    )


def _numbers(values: Any) -> str:
    return " ".join(f"{value:.5f}" for value in values)


def _probabilities(encoder: Encoder, image: str, labels: str, templates: Sequence[str]) -> np.ndarray[Any, Any]:
    """Return an image's probabilities in the order of the labels, without any cache."""
    parsed = parse_labels(labels)
    classifier = build_classifier(encoder, parsed, from_templates(templates))
    (record,) = classify_paths(encoder, classifier, [image], Decision(top_k=len(parsed.labels)))
    if not isinstance(record, Prediction):
        raise OSError(f"{image}: {record.error}")
    found = {ranked.label: ranked.probability for ranked in record.top}
    return np.array([found[label.name] for label in parsed.labels])


def _evaluate(encoder: Any, folder: Path) -> tuple[float, float, int]:
    """Return top-1 by this program and by open_clip's own functions, and the number of images."""
    import open_clip
    import torch

    data = load_folder(str(folder))
    classifier = build_classifier(encoder, data.labels, from_templates(TEMPLATES))
    pipeline = Pipeline(decode_options=DecodeOptions(exif=False))
    encoded = encode_dataset(encoder, data, pipeline)
    ours = evaluate(encoded, classifier, data.keys).metrics.top1.value
    how = encoder.spec.preprocessing
    transform = open_clip.image_transform(
        how.size if how.size[0] != how.size[1] else how.size[0],
        is_train=False,
        mean=how.mean,
        std=how.std,
        interpolation=str(how.interpolation),
        resize_mode=str(how.resize_mode),
    )
    right = 0
    with torch.no_grad():
        names = list(data.labels.names)
        weights = open_clip.build_zero_shot_classifier(encoder.model, encoder.tokenizer, names, TEMPLATES)
        for path, target in zip(encoded.paths, encoded.targets, strict=True):
            with Image.open(path) as image:
                features = encoder.model.encode_image(transform(image.convert("RGB"))[None], normalize=True)
            right += int((features @ weights).argmax()) == target
    return ours, right / len(encoded.paths), len(encoded.paths)


def _sort_examples(folder: Path) -> Path:
    """Copy the example images to one folder per label, which is their file's name."""
    for path in EXAMPLES.glob("*.jpg"):
        (folder / path.stem).mkdir(parents=True)
        shutil.copy(path, folder / path.stem)
    return folder


def _bring(image: str, work: Path) -> Path:
    """Return the path of an image, downloading it if it is an address."""
    if not image.startswith(("http://", "https://")):
        return Path(image)
    target = work / "reference.png"
    if not target.exists():
        with _opened(image) as answer:
            target.write_bytes(answer.read(50_000_000))
    return target


@contextmanager
def _opened(address: str) -> Iterator[Any]:
    with urllib.request.urlopen(address, timeout=30) as answer:
        yield answer


if __name__ == "__main__":
    sys.exit(main())
