"""Reads the sources that `photo_sources.yaml` lists, for `photo_selection.py`: their files, labels and boxes."""

from __future__ import annotations

import csv
import fnmatch
import hashlib
import pickletools
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

MARGIN = 0.12  # how much of a box's side is added around it
SMALLEST = 64  # pixels of the shorter side of a box that is used
File = tuple[str, Path, tuple[int, int, int, int] | None]  # name, path, and the part of it that is meant


@dataclass(frozen=True, slots=True)
class Photo:
    """One photograph: its file, whose it is, the words that name it (usual one first) and what it is used for."""

    path: Path
    name: str  # the path below the repository, or `label/name` where the labels are a file
    repo: str
    key: str  # `<folder of the repository>/<usual word>`
    words: tuple[str, ...]
    split: str
    crop_borders: bool = False
    box: tuple[int, int, int, int] | None = None  # the part of the photograph that shows it: left, top, right, bottom


def is_allowed(text: str, held_out: frozenset[str]) -> bool:
    """Say whether ``text`` holds none of the held-out words, their plurals included."""
    for word in re.findall(r"[a-z0-9]+", text.lower()):
        singulars = {word, word.removesuffix("s"), word.removesuffix("es"), re.sub("ies$", "y", word)}
        if singulars & held_out:
            return False
    return True


def photos_of(source: dict, root: Path, split: str, held_out: frozenset[str] = frozenset()) -> Iterator[list[Photo]]:
    """Yield a source's photographs, a list for each class, in the order in which they are to be taken.

    Args:
        source: an entry of the table.
        root: the folder of all repositories.
        split: what they are used for.
        held_out: words that are dropped from the names; a class whose usual word is one of them is an error.
    """
    folder = _folder(root, source["repo"])
    read = _boxed_files if "masks" in source else _labelled_files if "table" in source else _files
    labels = _folder(root, source["labels"]) if "labels" in source else folder
    files = [
        file
        for file in read(source, folder, labels)
        if not any(fnmatch.fnmatchcase(file[0], pattern) for pattern in source.get("leave_out", []))
    ]
    for words, members in _classes(source, files):
        names = tuple(word for word in words if is_allowed(word, held_out))
        if names[:1] != tuple(words[:1]):
            raise ValueError(
                f"the table of photographs trains {words[0]!r} from {source['repo']}, a word that is held out"
            )
        key = f"{folder.name}/{words[0]}"
        ordered = sorted(members, key=lambda member: hash_of(f"{folder.name}/{member[0]}"))
        crop = source.get("crop_borders", False)
        yield [Photo(path, name, source["repo"], key, names, split, crop, box) for name, path, box in ordered]


def _folder(root: Path, repo: str) -> Path:
    folder = root / repo.partition("/")[2]
    if not folder.is_dir():
        raise SystemExit(f"{folder} is missing: check out https://github.com/{repo} there")
    return folder


def hash_of(text: str) -> bytes:
    """Return what photographs are drawn by."""
    return hashlib.sha1(text.encode("utf-8", "surrogateescape")).digest()


def _files(_source: dict, folder: Path, _labels: Path) -> Iterator[File]:
    """Yield every file below ``folder``, named by its path below it."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield str(path.relative_to(folder)), path, None


def _labelled_files(source: dict, folder: Path, labels: Path) -> Iterator[File]:
    """Yield the photographs that a source's table of labels names, as lower-case label/file name."""
    table = labels / source["table"]
    if table.suffix == ".csv":
        image, label = source.get("columns", ("image", "label"))
        with table.open(newline="", encoding="utf-8") as handle:
            pairs = [(row[image], row[label]) for row in csv.DictReader(handle)]
    else:  # a pickled dictionary from text to text: its strings are read, none of it is run
        texts = [text for _, text, _ in pickletools.genops(table.read_bytes()) if isinstance(text, str)]
        pairs = list(zip(texts[::2], texts[1::2], strict=True))
    by_name = {path.name: path for path in sorted(folder.glob(source["images"].replace("{}", "*")))}
    name_of = source["images"].rpartition("/")[2]
    for image, label in pairs:
        path = by_name.get(name_of.replace("{}", image))
        if path is not None:
            yield f"{label.lower()}/{path.name}", path, None


def _boxed_files(source: dict, folder: Path, _labels: Path) -> Iterator[File]:
    """Yield the parts of photographs that masks label, as label/file name; each label's pixels are one part."""
    from scipy.io import loadmat

    labels = [str(label[0]) for label in loadmat(folder / source["label_list"])["label_list"][0]]
    for file in sorted(folder.glob(source["masks"])):
        path, mask = folder / source["images"].replace("{}", file.stem), loadmat(file)["groundtruth"]
        for number in np.unique(mask)[1:].tolist():
            rows, columns = (np.flatnonzero((mask == number).any(axis)) for axis in (1, 0))
            y, x = (int(MARGIN * (line[-1] - line[0])) for line in (rows, columns))
            box = (max(0, columns[0] - x), max(0, rows[0] - y), columns[-1] + 1 + x, rows[-1] + 1 + y)
            box = (int(box[0]), int(box[1]), int(min(box[2], mask.shape[1])), int(min(box[3], mask.shape[0])))
            if min(box[2] - box[0], box[3] - box[1]) >= SMALLEST:
                yield f"{labels[number]}/{path.name}", path, box


def _classes(source: dict, files: list[File]) -> Iterator[tuple[list[str], list[File]]]:
    """Yield the words of each class and its files."""
    if "folders" in source:
        groups = defaultdict(list)
        for file in files:
            if fnmatch.fnmatchcase(file[0], source["folders"]):
                groups[file[1].parent.name.partition("-")[2].replace("_", " ")].append(file)
        for name, members in sorted(groups.items()):
            yield [source["rename"].get(name, name)], members
        return
    for words, patterns in source["classes"].items():
        wanted = [patterns] if isinstance(patterns, str) else patterns
        match = re.compile("|".join(fnmatch.translate(pattern) for pattern in wanted)).match
        yield words.split(", "), [file for file in files if match(file[0])]


def read_photo(photo: Photo) -> Image.Image:
    """Return a photograph as 8-bit RGB, upright; without its borders where asked, or the part that is meant."""
    with Image.open(photo.path) as opened:
        image = ImageOps.exif_transpose(opened).convert("RGB")
    if photo.box:
        return image.crop(photo.box)
    return without_borders(image) if photo.crop_borders else image


def without_borders(image: Image.Image, white: int = 244, black: int = 12) -> Image.Image:
    """Cut off rows and columns at the edges that are white or black throughout.

    The image stays as it is where less than a third of either side would be left.
    """
    grey = np.asarray(image.convert("L"))
    rows = np.flatnonzero((grey.min(1) < white) & (grey.max(1) > black))
    columns = np.flatnonzero((grey.min(0) < white) & (grey.max(0) > black))
    if 3 * len(rows) < grey.shape[0] or 3 * len(columns) < grey.shape[1]:
        return image
    return image.crop((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
