"""The images of `train.py` as features of the fixed tower: thumbnails, photographs, and their labels.

Features are computed once, into the folder for intermediate results; what is there is not computed again.
"""

from __future__ import annotations

import hashlib
import io
import json
import random
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from image_features import Encoder, crop_centre, export_trunk
from joint_space import Domain
from photo_selection import collect, held_out_words, read_manifest, read_table, write_manifest
from photo_sources import Photo, hash_of, read_photo
from PIL import Image
from torch import Tensor
from word_mixtures import Lexicon

PER_CLASS, PER_CIFAR_CLASS = 80, 400  # training thumbnails of a class
HELD_BACK = 20  # one thumbnail in so many is for the logit scale and for decisions, and not trained on
BREEDS = "ksara28/dog-breed-classification"


@dataclass(frozen=True, slots=True)
class Images:
    """Features ``(n, 1280)`` float16 of everything that is trained on.

    Attributes:
        thumbnails: of the training archives, ``classes`` ``(n,)`` their class keys.
        photos: what `photo_sources.yaml` lists, of every split.
        features: of all ``photos``.
        small: of all ``photos`` made small first, as thumbnails are.
    """

    thumbnails: np.ndarray
    classes: list[str]
    index: dict[str, list[str]]
    photos: list[Photo]
    features: np.ndarray
    small: np.ndarray

    def photograph_words(self) -> dict[str, list[str]]:
        """Return the words of each class of training photographs."""
        return {photo.key: list(photo.words) for photo in self.photos if photo.split in ("train", "val")}

    def _thumbnails(self, held_back: bool) -> Iterator[tuple[str, list[int], list[str]]]:
        """Yield (domain, rows, usual names) of the two sets of thumbnails."""
        for name, is_cifar in (("tiny imagenet", False), ("cifar-10", True)):
            rows = [
                i
                for i, key in enumerate(self.classes)
                if key.startswith("cifar") == is_cifar and (i % HELD_BACK == 0) == held_back
            ]
            yield name, rows, [self.index[self.classes[i]][0].lower() for i in rows]

    def _photographs(self, split: str) -> Iterator[tuple[str, list[int], list[str]]]:
        """Yield (domain, rows, usual names) of photographs of things, and of dogs by breed."""
        for name, is_breeds in (("photographs", False), ("breeds", True)):
            rows = [i for i, p in enumerate(self.photos) if p.split == split and (p.repo == BREEDS) == is_breeds]
            yield name, rows, [self.photos[i].words[0].lower() for i in rows]

    def domains(self, lexicon: Lexicon, group_of: dict[str, str]) -> list[Domain]:
        """Return what is trained on; images whose name the lexicon must not know are left out.

        Args:
            lexicon: the phrases.
            group_of: class key of a thumbnail to its everyday group.
        """
        found = []
        for name, rows, words in self._thumbnails(held_back=False):
            found.append(_domain(name, self.thumbnails, rows, words, lexicon, imitates=False))
            if name == "tiny imagenet":
                groups = [group_of[self.classes[i]] for i in rows]
                found.append(_domain("groups", self.thumbnails, rows, groups, lexicon, imitates=False))
        for name, rows, words in self._photographs("train"):
            found.append(_domain(name, self.features, rows, words, lexicon, imitates=True))
            found.append(_domain(f"{name}, small", self.small, rows, words, lexicon, imitates=False, weight=0.5))
        return found

    def held_back(self, lexicon: Lexicon) -> Iterator[tuple[str, Tensor, Tensor, list[str]]]:
        """Yield (domain, features, right columns, words) of the training images that no stage has seen."""
        parts = [(self.thumbnails, self._thumbnails(held_back=True)), (self.features, self._photographs("val"))]
        for features, sets in parts:
            for name, rows, words in sets:
                domain = _domain(name, features, rows, words, lexicon, imitates=False)
                yield name, domain.features, domain.labels, [lexicon.phrases[i] for i in domain.phrases.tolist()]


def _domain(
    name: str,
    features: np.ndarray,
    rows: list[int],
    words: list[str],
    lexicon: Lexicon,
    imitates: bool,
    weight: float = 1.0,
) -> Domain:
    at = {phrase: i for i, phrase in enumerate(lexicon.phrases)}
    known = [(row, at[word]) for row, word in zip(rows, words, strict=True) if word in at]
    phrases, labels = np.unique([phrase for _, phrase in known], return_inverse=True)
    kept = [row for row, _ in known]
    tensors = (torch.from_numpy(array) for array in (features[kept], labels, phrases))
    return Domain(name, *tensors, weight, imitates)


def load_images(data: Path, photographs: Path, work: Path) -> Images:
    """Return the features of all images, computing those that ``work`` lacks."""
    if not (work / "trunk.onnx").exists():
        export_trunk(work)
    encoder = Encoder(work / "trunk.onnx")
    index = json.loads((data / "photos64" / "index.json").read_text())
    names, thumbnails = _encode_thumbnails(data / "photos64", index, encoder, work)
    manifest = work / "manifest.jsonl"
    if not manifest.exists():
        write_manifest(
            collect(photographs, data / "photos", read_table(), held_out_words(), work / "thumbnails_grey.npz"),
            manifest,
        )
    photos = [photo for photo in read_manifest(manifest) if photo.split in ("train", "val", "everyday")]

    def read(row: int) -> Image.Image:
        return read_photo(photos[row])

    named = [f"{photo.repo}/{photo.name}" for photo in photos]
    whole = encoder.encode_named(named, lambda i: crop_centre(read(i)), work / "photographs")
    small = encoder.encode_named(named, lambda i: crop_centre(make_small(read(i), named[i])), work / "small")
    classes = [name.partition("/")[0] for name in names]
    return Images(thumbnails, classes, index["classes"], photos, whole, small)


def make_small(image: Image.Image, name: str) -> Image.Image:
    """Return the image with a shorter side of 40 to 128 px, drawn by its name; smaller images stay as they are."""
    side = round(40 * 3.2 ** random.Random(hash_of(name)).random())
    shorter = min(image.size)
    if shorter <= side:
        return image
    width, height = (max(1, round(length * side / shorter)) for length in image.size)
    return image.resize((width, height), Image.Resampling.BOX)


def _encode_thumbnails(folder: Path, index: dict, encoder: Encoder, work: Path) -> tuple[list[str], np.ndarray]:
    """Return member names and features of the training thumbnails, none of them equal to a test image."""
    tests = [*index["val_tiny_imagenet"], *index["test_cifar10"]]
    assert not set(tests) & set(index["train"]), "a validation or test archive is listed as training data"
    forbidden = {hashlib.sha1(content).hexdigest() for _, content in _members(folder, tests)}
    of_class: dict[str, list[tuple[str, bytes]]] = {}
    for name, content in _members(folder, index["train"]):
        if hashlib.sha1(content).hexdigest() not in forbidden:
            of_class.setdefault(name.partition("/")[0], []).append((name, content))
    chosen = []
    for key, members in of_class.items():
        most = PER_CIFAR_CLASS if key.startswith("cifar") else PER_CLASS
        ordered = sorted(members, key=lambda member: hashlib.sha1(f"0/{member[0]}".encode()).hexdigest())
        chosen += sorted(ordered[:most])
    names = [name for name, _ in chosen]
    return names, encoder.encode_named(
        names, lambda i: crop_centre(Image.open(io.BytesIO(chosen[i][1])).convert("RGB")), work / "thumbnails"
    )


def _members(folder: Path, archives: list[str]) -> Iterator[tuple[str, bytes]]:
    for archive in archives:
        with zipfile.ZipFile(folder / archive) as handle:
            for name in handle.namelist():
                if name.endswith(".webp"):
                    yield name, handle.read(name)
