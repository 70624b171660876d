"""Full-size photographs for `train_tiny.py`: which files of which repositories, what names them, and what is held back.

`photographs.yaml` names the repositories, which lie below one folder under their own names (`ikea/`, `Fruits-40-EU/`).
Everything is drawn by the hash of a file's path, so that the same files give the same sample on every machine.
"""

from __future__ import annotations

import csv
import fnmatch
import hashlib
import json
import pickletools
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import yaml
from PIL import Image, ImageOps
from tqdm import tqdm

TOOLS = Path(__file__).resolve().parent
TABLE = TOOLS / "photographs.yaml"
SIDE = 12  # pixels of the grey thumbnails that are compared
ALIKE = 0.97  # correlation of two such thumbnails from which their photographs count as one
SPARE = 1.3  # how many more photographs than a class may have are looked at, since some are duplicates
LEAST = 6  # a class with fewer photographs is left out
VALIDATION = 0.08
EVERYDAY = (0.15, 25, 60)  # share, least and most photographs of an everyday word's test set


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


def read_table(path: Path = TABLE) -> dict:
    """Return `photographs.yaml`, checked: nothing that is reserved or held back is a source.

    Raises:
        ValueError: naming the repositories that must not be trained on.
    """
    table = yaml.safe_load(path.read_text())
    refused = {name.lower() for name in held_back_repositories(table)}
    wrong = sorted({s["repo"] for s in table["sources"] if s["repo"].lower() in refused})
    if wrong:
        raise ValueError(f"{path.name} lists as sources what is held back: {', '.join(wrong)}")
    used = {s["repo"].lower() for s in table["held_back"].values()}
    if used & {name.lower() for name in table["reserved"]}:
        raise ValueError(f"{path.name} measures with a reserved repository: {sorted(used)}")
    return table


def held_back_repositories(table: dict) -> list[str]:
    """Return every repository that must not be trained on: the reserved ones and those that are measured on."""
    return [*table["reserved"], *(source["repo"] for source in table["held_back"].values())]


def held_out_words(vocabulary: Path = TOOLS / "vocabulary.yaml") -> frozenset[str]:
    """Return the words that no training text may hold, from `vocabulary.yaml`."""
    classes = yaml.safe_load(vocabulary.read_text())["classes"].values()
    return frozenset(word for entry in classes for word in entry.get("held_out", []))


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
    folder = root / source["repo"].partition("/")[2]
    if not folder.is_dir():
        raise SystemExit(f"{folder} is missing: check out https://github.com/{source['repo']} there")
    files = [
        (name, path)
        for name, path in (_labelled_files(source, folder) if "table" in source else _files(folder))
        if not any(fnmatch.fnmatchcase(name, pattern) for pattern in source.get("leave_out", []))
    ]
    for words, members in _classes(source, files):
        names = tuple(word for word in words if is_allowed(word, held_out))
        if names[:1] != tuple(words[:1]):
            raise ValueError(f"{TABLE.name} trains {words[0]!r} from {source['repo']}, a word that is held out")
        key = f"{folder.name}/{words[0]}"
        ordered = sorted(members, key=lambda member: _hash(f"{folder.name}/{member[0]}"))
        crop = source.get("crop_borders", False)
        yield [Photo(path, name, source["repo"], key, names, split, crop) for name, path in ordered]


def _hash(text: str) -> bytes:
    return hashlib.sha1(text.encode("utf-8", "surrogateescape")).digest()


def _files(folder: Path) -> list[tuple[str, Path]]:
    """Return every file below ``folder`` as (path below it, path)."""
    return [(str(path.relative_to(folder)), path) for path in sorted(folder.rglob("*")) if path.is_file()]


def _labelled_files(source: dict, folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield (lower-case label/file name, path) of the photographs that a source's table of labels names."""
    table = folder / source["table"]
    if table.suffix == ".csv":
        with table.open(newline="") as handle:
            pairs = [(row.get("filename") or row["image"], row["label"]) for row in csv.DictReader(handle)]
    else:  # a pickled dictionary from text to text: its strings are read, none of it is run
        texts = [text for _, text, _ in pickletools.genops(table.read_bytes()) if isinstance(text, str)]
        pairs = list(zip(texts[::2], texts[1::2], strict=True))
    by_name = {path.name: path for path in sorted(folder.glob(source["images"].replace("{}", "*")))}
    name_of = source["images"].rpartition("/")[2]
    for image, label in pairs:
        path = by_name.get(name_of.replace("{}", image))
        if path is not None:
            yield f"{label.lower()}/{path.name}", path


def _classes(source: dict, files: list[tuple[str, Path]]) -> Iterator[tuple[list[str], list[tuple[str, Path]]]]:
    """Yield the words of each class and its files."""
    if "folders" in source:
        groups = defaultdict(list)
        for name, path in files:
            if fnmatch.fnmatchcase(name, source["folders"]):
                groups[path.parent.name.partition("-")[2].replace("_", " ")].append((name, path))
        for name, members in sorted(groups.items()):
            yield [source["rename"].get(name, name)], members
        return
    for words, patterns in source["classes"].items():
        wanted = [patterns] if isinstance(patterns, str) else patterns
        match = re.compile("|".join(fnmatch.translate(pattern) for pattern in wanted)).match
        yield words.split(", "), [(name, path) for name, path in files if match(name)]


def read_photo(path: Path, crop_borders: bool = False) -> Image.Image:
    """Return a photograph as 8-bit RGB, upright; without its borders where asked."""
    with Image.open(path) as opened:
        image = ImageOps.exif_transpose(opened).convert("RGB")
    return without_borders(image) if crop_borders else image


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


def thumbnails(photos: list[Photo]) -> np.ndarray:
    """Return ``(n, 144)`` float32, grey thumbnails with mean 0 and norm 1; NaN where a photograph can't be read."""

    def thumbnail(photo: Photo) -> np.ndarray:
        try:
            small = read_photo(photo.path, photo.crop_borders).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
        except (OSError, ValueError, SyntaxError):
            return np.full(SIDE * SIDE, np.nan, np.float32)
        grey = np.asarray(small, np.float32).ravel()
        grey -= grey.mean()
        return grey / max(float(np.linalg.norm(grey)), 1e-6)

    with ThreadPoolExecutor(2) as pool:
        rows = list(tqdm(pool.map(thumbnail, photos), total=len(photos), desc="thumbnails", mininterval=10))
    return np.stack(rows)


def looks_like_any(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Say of each thumbnail, ``(n,)``, whether it equals one of ``others``."""
    found = np.zeros(len(rows), bool)
    for start in range(0, len(rows), 2048):
        found[start : start + 2048] = (rows[start : start + 2048] @ others.T).max(1, initial=-1) > ALIKE
    return found


def looks_like_earlier(rows: np.ndarray) -> np.ndarray:
    """Say of each thumbnail, ``(n,)``, whether it equals one before it."""
    found = np.zeros(len(rows), bool)
    for start in range(0, len(rows), 2048):
        stop = min(len(rows), start + 2048)
        block = rows[start:stop] @ rows[:stop].T
        block[np.arange(stop)[None] >= np.arange(start, stop)[:, None]] = -1
        found[start:stop] = block.max(1) > ALIKE
    return found


def collect(root: Path, photos50: Path, table: dict, held_out: frozenset[str]) -> list[Photo]:
    """Return every photograph that is trained on or measured with, each with its split.

    Args:
        root: the folder of all repositories.
        photos50: a folder of further photographs that none may equal.
        table: what `read_table` returned.
        held_out: words that must not name a training photograph.
    """
    measured = [
        (photos, source["cap"])
        for split, source in table["held_back"].items()
        for photos in photos_of(source, root, split)
    ]
    kept = [photo for photos, cap in measured for photo in photos[:cap]]
    own = [Photo(path, "", "", "", (), "") for path in sorted(photos50.rglob("*.jpg"))]
    foreign = thumbnails([*own, *(photo for photos, _ in measured for photo in photos)])
    foreign = foreign[np.isfinite(foreign[:, 0])]

    classes = []
    for source in table["sources"]:
        for photos in photos_of(source, root, "train", held_out):
            cap = source.get("caps", {}).get(photos[0].words[0], source["cap"]) if photos else 0
            classes.append((photos[: round(SPARE * cap)], cap))
    flat = [photo for photos, _ in classes for photo in photos]
    rows = thumbnails(flat)
    unreadable = np.isnan(rows[:, 0])
    rows[unreadable] = 0
    copies, duplicates = looks_like_any(rows, foreign), looks_like_earlier(rows)
    _report(flat, {"unreadable": unreadable, "held back": copies, "duplicate": duplicates})
    usable = ~(unreadable | copies | duplicates)
    trained, start = [], 0
    for photos, cap in classes:
        stop = start + len(photos)
        left = [photo for photo, use in zip(photos, usable[start:stop], strict=True) if use][:cap]
        trained += left if len(left) >= LEAST else []
        start = stop
    return split_photos(trained, table["everyday"]) + kept


def _report(photos: list[Photo], why: dict[str, np.ndarray]) -> None:
    """Print for each repository how many photographs were looked at and how many were left out why."""
    for repo in dict.fromkeys(photo.repo for photo in photos):
        own = np.asarray([photo.repo == repo for photo in photos])
        print(f"{repo}: {own.sum()} looked at;", ", ".join(f"{k} {int((v & own).sum())}" for k, v in why.items()))


def split_photos(photos: list[Photo], everyday: Iterable[str]) -> list[Photo]:
    """Return the photographs with ``split`` set, those of `train` first, then `val`, then `everyday`.

    Args:
        photos: those that may be trained on.
        everyday: words whose test set is drawn first, from all classes that a word names.
    """
    share, least, most = EVERYDAY
    order = {photo.path: _hash(f"split/{photo.key}/{photo.name}") for photo in photos}
    taken: dict[Path, Photo] = {}
    for word in everyday:
        of_word = sorted((p for p in photos if word in p.words), key=lambda p: order[p.path])
        if len(of_word) < 2 * least:
            raise ValueError(f"{TABLE.name}: {word!r} names {len(of_word)} photographs, which is less than {2 * least}")
        count = min(most, max(least, round(share * len(of_word))))
        for photo in of_word[:count]:
            taken[photo.path] = replace(photo, split="everyday", words=(word, *(w for w in photo.words if w != word)))
    left = defaultdict(list)
    for photo in photos:
        if photo.path not in taken:
            left[photo.key].append(photo)
    split: dict[str, list[Photo]] = {"train": [], "val": []}
    for members in left.values():
        held = set(sorted(order[p.path] for p in members)[: round(VALIDATION * len(members))])
        for photo in members:
            name = "val" if order[photo.path] in held else "train"
            split[name].append(replace(photo, split=name))
    return [*split["train"], *split["val"], *taken.values()]


def write_manifest(photos: list[Photo], target: Path) -> None:
    """Write one JSON line a photograph; ``class`` is its class's position among all classes, in order of appearance."""
    position = {key: i for i, key in enumerate(dict.fromkeys(photo.key for photo in photos))}
    lines = [asdict(photo) | {"path": str(photo.path), "class": position[photo.key]} for photo in photos]
    target.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def read_manifest(source: Path) -> list[Photo]:
    """Return the photographs of a manifest."""
    rows = (json.loads(line) for line in source.read_text().splitlines())
    fields = ("repo", "key", "split", "crop_borders")
    return [
        Photo(Path(row["path"]), row.get("name", ""), words=tuple(row["words"]), **{f: row[f] for f in fields})
        for row in rows
    ]


def main() -> None:
    """Write the manifest: ``tiny_photos.py REPOSITORIES PHOTOS50 MANIFEST``."""
    root, photos50, target = (Path(argument) for argument in sys.argv[1:])
    photos = collect(root, photos50, read_table(), held_out_words())
    write_manifest(photos, target)
    print(Counter(photo.split for photo in photos))


if __name__ == "__main__":
    main()
