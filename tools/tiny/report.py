"""Measure a checkpoint folder on every line that the built-in checkpoint is held to, beside the one that it replaces.

    python tools/tiny/report.py --data ../shared --photographs DOWNLOADS --checkpoint NEW --before OLD --out report.json

Images and texts go through the package's own engine, as a user's do. Accuracies come with Wilson 95 % intervals. The
sets that `photo_sources.yaml` holds back are read here and nowhere in the training.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from open_clip import IMAGENET_CLASSNAMES
from photo_selection import collect, held_out_words, read_manifest, read_table, write_manifest
from photo_sources import Photo, photos_of, read_photo
from PIL import Image
from timm.data import ImageNetInfo
from tqdm import tqdm
from word_mixtures import clean_name, read_tables
from word_mixtures import held_out_words as synonyms

from zeroshot import load_encoder, load_templates
from zeroshot.encoder import Encoder
from zeroshot.evaluation.statistics import calibration_error, reliability, wilson
from zeroshot.images.preprocess import fit

TOOLS = Path(__file__).resolve().parent
PER_SYNONYM = 50  # images of each class with a held-out name, so that every class counts the same
CATS_AND_DOGS = "4GeeksAcademy/Deep-Learning-CarlosFS"
DRAWS, OFFERED, KNOWN = 5, 10, 500  # of the test of unknown things


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the report: features, the right column of each, and the words that they are told apart among."""

    title: str
    features: np.ndarray
    right: np.ndarray
    words: list[str]


def encode(encoder: Encoder, images: Iterator[Image.Image], count: int, title: str, batch: int = 64) -> np.ndarray:
    """Return image features ``(count, dim)``."""
    rows, waiting = [], []
    for image in tqdm(images, total=count, desc=title, mininterval=10):
        waiting.append(fit(image, encoder.spec.preprocessing))
        if len(waiting) == batch:
            rows.append(encoder.encode_images(np.stack(waiting)))
            waiting = []
    if waiting:
        rows.append(encoder.encode_images(np.stack(waiting)))
    return np.concatenate(rows)


def weights(encoder: Encoder, words: list[str], templates: list[str]) -> np.ndarray:
    """Return classifier rows ``(n_words, dim)``: mean of unit prompt features, renormalised."""
    prompts = [template.replace("{}", word).replace("{c}", word) for word in words for template in templates]
    features = encoder.encode_texts(prompts).reshape(len(words), len(templates), -1).mean(1)
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    return shifted / shifted.sum(1, keepdims=True)


def thumbnails(folder: Path, archives: list[str]) -> Iterator[tuple[str, Image.Image]]:
    """Yield (class key, image) of archives of thumbnails."""
    for archive in archives:
        with zipfile.ZipFile(folder / archive) as handle:
            for name in sorted(n for n in handle.namelist() if n.endswith(".webp")):
                yield name.partition("/")[0], Image.open(io.BytesIO(handle.read(name))).convert("RGB")


def photo_sets(root: Path, manifest: Path, photos50: Path) -> dict[str, list[Photo]]:
    """Return the photographs of each set that no stage of the training has seen."""
    table = read_table()
    if not manifest.exists():
        write_manifest(collect(root, photos50, table, held_out_words()), manifest)
    photos = read_manifest(manifest)
    sets = {name: [p for p in photos if p.split == name] for name in ("everyday", *table["held_back"])}
    trained = {p.path.name for p in photos if p.repo == CATS_AND_DOGS}
    (source,) = [s for s in table["sources"] if s["repo"] == CATS_AND_DOGS]
    sets["cat or dog"] = []
    for of_class in photos_of(source, root, ""):
        sets["cat or dog"] += [photo for photo in of_class if photo.path.name not in trained][-200:]
    return sets


def thumbnail_lines(encoder: Encoder, data: Path, left_out: list[str]) -> Iterator[Line]:
    """Yield the lines on 64 px and 32 px images; with ``left_out`` class keys only theirs."""
    tables = read_tables(TOOLS, data, {})
    index = json.loads((data / "photos64" / "index.json").read_text())
    entries = tables.vocabulary["classes"]

    def part(name: str) -> tuple[np.ndarray, list[str]]:
        pairs = list(thumbnails(data / "photos64", index[name]))
        return encode(encoder, (image for _, image in pairs), len(pairs), name), [key for key, _ in pairs]

    def line(title: str, features: np.ndarray, keys: list[str], name_of: dict[str, str], most: int = 10**6) -> Line:
        words, seen, rows, right = list(dict.fromkeys(name_of.values())), dict.fromkeys(name_of, 0), [], []
        for row, key in enumerate(keys):
            if key in name_of and seen[key] < most:
                seen[key] += 1
                rows.append(row)
                right.append(words.index(name_of[key]))
        return Line(title, features[rows], np.asarray(right), words)

    features, keys = part("val_tiny_imagenet")
    usual = {key: names[0] for key, names in tables.index.items()}
    if left_out:
        yield line("class names never shown", features, keys, {key: usual[key] for key in left_out})
        return
    tiny = {key: name for key, name in usual.items() if not key.startswith("cifar")}
    yield line("Tiny ImageNet validation (64 px)", features, keys, tiny)
    yield line("12 everyday groups, the same images", features, keys, {key: entries[key]["group"] for key in tiny})
    other, other_keys = part("test_cifar10")
    yield line("CIFAR-10 test (32 px)", other, other_keys, {k: n for k, n in usual.items() if k.startswith("cifar")})
    held_out = {key: entry["held_out"][0] for key, entry in entries.items() if entry.get("held_out")}
    assert sorted(held_out.values()) == sorted(set(synonyms(tables.vocabulary)))
    both = np.concatenate([features, other])
    yield line("words never trained on", both, [*keys, *other_keys], held_out, PER_SYNONYM)


def photo_lines(encoder: Encoder, data: Path, sets: dict[str, list[Photo]]) -> Iterator[Line]:
    """Yield the lines on full-size photographs."""
    paths = sorted((data / "photos").glob("*/*.jpg"))
    features = encode(encoder, (Image.open(path).convert("RGB") for path in paths), len(paths), "photos")
    names = [path.parent.name for path in paths]
    yield Line("50 photographs, 50 labels", features, np.arange(len(paths)), names)
    position = {key: i for i, key in enumerate(ImageNetInfo().label_names())}
    known = [i for i, path in enumerate(paths) if path.stem in position]
    right = np.asarray([position[paths[i].stem] for i in known])
    yield Line("the same, ImageNet's names", features[known], right, [clean_name(n) for n in IMAGENET_CLASSNAMES])
    for title, photos in sets.items():
        words = sorted({photo.words[0] for photo in photos})
        images = (read_photo(photo) for photo in photos)
        right = np.asarray([words.index(photo.words[0]) for photo in photos])
        yield Line(title, encode(encoder, images, len(photos), title), right, words)


def score(probabilities: np.ndarray, right: np.ndarray) -> dict[str, Any]:
    """Return accuracy with its interval, expected calibration error and mean log-likelihood."""
    n, answers = len(right), probabilities.argmax(1)
    accuracy = wilson(int((answers == right).sum()), n)
    own = np.maximum(probabilities[np.arange(n), right], 1e-12)
    return {
        "accuracy": accuracy.value,
        "interval": [accuracy.low, accuracy.high],
        "calibration_error": calibration_error(reliability(probabilities.max(1).astype(np.float64), answers == right)),
        "log_likelihood": float(np.log(own).mean()),
    }


def unknown_things(line: Line, rows: np.ndarray, scale: float) -> dict[str, float]:
    """Return how well the top probability tells images whose label is offered from images whose label is not.

    The area under the ROC curve, and the share of the known ones that still get an answer where 15 % of the unknown
    ones do; means over several draws of the labels that are offered.
    """
    areas, shares = [], []
    for draw in range(DRAWS):
        generator = random.Random(draw)
        offered = generator.sample(range(len(line.words)), OFFERED)
        top = softmax(scale * line.features @ rows[offered].T).max(1)
        known = np.flatnonzero(np.isin(line.right, offered))
        unknown = np.flatnonzero(~np.isin(line.right, offered))
        known, unknown = (np.asarray(generator.sample(list(p), min(KNOWN, len(p)))) for p in (known, unknown))
        areas.append(float((top[known][:, None] > top[unknown][None]).mean()))
        shares.append(float((top[known] > np.quantile(top[unknown], 0.85)).mean()))
    return {"auroc": float(np.mean(areas)), "known answered at 15 % of unknown": float(np.mean(shares))}


def measure(folder: Path, data: Path, sets: dict[str, list[Photo]], left_out: list[str]) -> dict:
    """Return every line for one checkpoint, and print it."""
    encoder = load_encoder(str(folder))
    scale, templates = encoder.spec.logit_scale, list(load_templates("general").templates)
    found = {"logit_scale": scale, "bytes": sum(p.stat().st_size for p in folder.iterdir()), "lines": {}}
    lines = [*thumbnail_lines(encoder, data, left_out), *([] if left_out else photo_lines(encoder, data, sets))]
    for line in lines:
        for prompts, sentences in (("general", templates), ("plain", ["{}"])):
            rows = weights(encoder, line.words, sentences)
            numbers = score(softmax(scale * line.features @ rows.T), line.right)
            entry = {"n": len(line.right), "labels": len(line.words)}
            found["lines"].setdefault(line.title, entry)[prompts] = numbers
            low, high = (100 * end for end in numbers["interval"])
            print(
                f"{line.title:36s} {prompts:8s} {100 * numbers['accuracy']:6.2f} % ({low:.1f} to {high:.1f})"
                f" n {entry['n']:5d} labels {entry['labels']:4d}  calibration error {numbers['calibration_error']:.3f}"
                f"  log-likelihood {numbers['log_likelihood']:.3f}",
                flush=True,
            )
            if line.title == "caltech" and prompts == "general":
                found["unknown"] = unknown_things(line, rows, scale)
                print(f"unknown things: {found['unknown']}")
    print(f"{folder.name}: {found['bytes'] / 1e6:.2f} MB, logit scale {scale:.2f}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--photographs", type=Path, required=True, help="folder of the repositories")
    parser.add_argument("--work", type=Path, default=Path("build/tiny"), help="folder of the training's manifest")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--before", type=Path, help="the checkpoint that it replaces")
    parser.add_argument("--left-out", type=Path, help="of an ablation: the class keys that it was trained without")
    parser.add_argument("--out", type=Path, help="write the numbers here as JSON")
    options = parser.parse_args()
    left_out = json.loads(options.left_out.read_text()) if options.left_out else []
    sets = {} if left_out else photo_sets(options.photographs, options.work / "manifest.jsonl", options.data / "photos")
    report = {}
    for name, folder in (("before", options.before), ("checkpoint", options.checkpoint)):
        if folder:
            print(f"== {name}")
            report[name] = measure(folder, options.data, sets, left_out)
    if options.out:
        options.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
