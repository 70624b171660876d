"""Selects full-size photographs for `train.py`: which files of which repositories, their names, what is held back.

`photo_sources.yaml` names the repositories, which lie below one folder under their own names (`ikea/`,
`Fruits-40-EU/`). Everything is drawn by the hash of a file's path, so that the same files give the same sample
on every machine.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import yaml
from photo_sources import Photo, hash_of, photos_of, without_borders
from PIL import Image, ImageOps
from tqdm import tqdm

TOOLS = Path(__file__).resolve().parent
TABLE = TOOLS / "photo_sources.yaml"
SIDE = 12  # pixels of the grey thumbnails that are compared
ALIKE = 0.97  # correlation of two such thumbnails from which their photographs count as one
OVERLAP = 0.03  # share of a source's photographs that are held back from which none of the source is used
SPARE = 1.3  # how many more photographs than a class may have are looked at, since some are duplicates
LEAST = 6  # a class with fewer photographs is left out
VALIDATION = 0.08
EVERYDAY = (0.15, 25, 60)  # share, least and most photographs of an everyday word's test set


def read_table(path: Path = TABLE) -> dict:
    """Return `photo_sources.yaml`, checked: nothing that is reserved or held back is a source.

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


def thumbnails(photos: list[Photo], kept: Path | None = None) -> np.ndarray:
    """Return ``(n, 144)`` float32, grey thumbnails with mean 0 and norm 1; NaN where a photograph can't be read.

    Args:
        photos: what to make thumbnails of.
        kept: a file that holds the thumbnails of earlier calls, and then those of this one too.
    """
    known: dict[str, np.ndarray] = {}
    if kept and kept.exists():
        with np.load(kept) as stored:
            known = dict(zip(stored["names"].tolist(), stored["rows"], strict=True))
    missing = [photo for photo in photos if f"{photo.repo}/{photo.name}" not in known]
    with ThreadPoolExecutor(2) as pool:
        found = tqdm(pool.map(_thumbnail, missing), total=len(missing), desc="thumbnails", mininterval=10)
        known |= {f"{photo.repo}/{photo.name}": row for photo, row in zip(missing, found, strict=True)}
    if kept:
        np.savez(kept, names=np.asarray(list(known)), rows=np.stack(list(known.values())))
    return np.stack([known[f"{photo.repo}/{photo.name}"] for photo in photos])


def _thumbnail(photo: Photo) -> np.ndarray:
    try:
        with Image.open(photo.path) as opened:
            if not (photo.crop_borders or photo.box):
                opened.draft("L", (8 * SIDE, 8 * SIDE))  # JPEG: decodes no more pixels than are needed
            image = ImageOps.exif_transpose(opened).convert("L")
        image = image.crop(photo.box) if photo.box else image
        image = without_borders(image) if photo.crop_borders else image
        small = image.resize((SIDE, SIDE), Image.Resampling.BOX)
    except (OSError, ValueError, SyntaxError):
        return np.full(SIDE * SIDE, np.nan, np.float32)
    grey = np.asarray(small, np.float32).ravel()
    grey -= grey.mean()
    return grey / max(float(np.linalg.norm(grey)), 1e-6)


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


def collect(root: Path, photos50: Path, table: dict, held_out: frozenset[str], kept: Path | None = None) -> list[Photo]:
    """Return every photograph that is trained on or measured with, each with its split.

    Args:
        root: the folder of all repositories.
        photos50: a folder of further photographs that none may equal.
        table: what `read_table` returned.
        held_out: words that must not name a training photograph.
        kept: a file for thumbnails, so that a further source costs no more than its own.

    Raises:
        ValueError: naming the sources of which more than a few photographs are held back.
    """
    measured = [
        (photos, source["cap"])
        for split, source in table["held_back"].items()
        for photos in photos_of(source, root, split)
    ]
    own = [Photo(path, path.name, "photos", "", (), "") for path in sorted(photos50.rglob("*.jpg"))]
    foreign = thumbnails([*own, *(photo for photos, _ in measured for photo in photos)], kept)
    foreign = foreign[np.isfinite(foreign[:, 0])]

    classes = []
    for source in table["sources"]:
        for photos in photos_of(source, root, "train", held_out):
            cap = source.get("caps", {}).get(photos[0].words[0], source["cap"]) if photos else 0
            classes.append((photos[: round(SPARE * cap)], cap))
    flat = [photo for photos, _ in classes for photo in photos]
    rows = thumbnails(flat, kept)
    unreadable = np.isnan(rows[:, 0])
    rows[unreadable] = 0
    copies, duplicates = looks_like_any(rows, foreign), looks_like_earlier(rows)
    _report(flat, {"unreadable": unreadable, "held back": copies, "duplicate": duplicates})
    refuse_overlaps(flat, copies)
    usable = ~(unreadable | copies | duplicates)
    trained, start = [], 0
    for photos, cap in classes:
        stop = start + len(photos)
        left = [photo for photo, use in zip(photos, usable[start:stop], strict=True) if use][:cap]
        trained += left if len(left) >= LEAST else []
        start = stop
    return split_photos(trained, table["everyday"]) + [photo for photos, cap in measured for photo in photos[:cap]]


def refuse_overlaps(photos: list[Photo], copies: np.ndarray) -> None:
    """Raise where a source holds more than a few of the photographs that are held back: it is a copy of their set.

    Args:
        photos: what the sources hold.
        copies: ``(n,)`` whether each equals a photograph that is held back.

    Raises:
        ValueError: naming the sources.
    """
    wrong = []
    for repo in dict.fromkeys(photo.repo for photo in photos):
        own = np.asarray([photo.repo == repo for photo in photos])
        share = float(copies[own].mean())
        if share > OVERLAP:
            wrong.append(f"{repo} ({share:.0%})")
    if wrong:
        raise ValueError(f"{TABLE.name}: of these sources too many photographs are held back: {', '.join(wrong)}")


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
    order = {photo.path: hash_of(f"split/{photo.key}/{photo.name}") for photo in photos}
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
    fields = ("name", "repo", "key", "split", "crop_borders")
    return [
        Photo(
            Path(row["path"]),
            words=tuple(row["words"]),
            box=tuple(row["box"]) if row["box"] else None,
            **{field: row[field] for field in fields},
        )
        for row in rows
    ]


def main() -> None:
    """Write the manifest: ``photo_selection.py REPOSITORIES PHOTOS50 MANIFEST``."""
    parser = argparse.ArgumentParser(description="Write the manifest of the selected photographs.")
    parser.add_argument("repositories", type=Path, help="folder of the repositories of photo_sources.yaml")
    parser.add_argument("photos50", type=Path, help="folder of further photographs that none may equal")
    parser.add_argument("manifest", type=Path, help="file to write")
    options = parser.parse_args()
    photos = collect(options.repositories, options.photos50, read_table(), held_out_words())
    write_manifest(photos, options.manifest)
    print(Counter(photo.split for photo in photos))


if __name__ == "__main__":
    main()
