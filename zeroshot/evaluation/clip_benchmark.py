"""Reads data sets in CLIP_benchmark's webdataset layout, with their own names and templates.

::

    DIR/classnames.txt                           one name per line; its place is the label
    DIR/zeroshot_classification_templates.txt    a template a line, with {c} for the name
    DIR/test/nshards.txt                         how many shards there are
    DIR/test/0.tar, 1.tar, ...                   KEY.webp (or png, jpg, jpeg) beside KEY.cls, a label's number

Images are unpacked to a temporary folder while the data set is open; they keep the names that they have in the
shards wherever they are reported.
"""

from __future__ import annotations

import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from ..errors import InputError, OutputError, PromptError
from ..images.natural_order import natural_key
from ..prompts.labels import Label, LabelSet
from ..prompts.template_sets import TemplateSet, placeholder_fault
from ..prompts.yaml_files import read_text
from .labelled_folders import Dataset

CLASSNAMES = "classnames.txt"
TEMPLATES = "zeroshot_classification_templates.txt"
N_SHARDS = "nshards.txt"
_SUFFIXES = frozenset({"webp", "png", "jpg", "jpeg"})
_MAX_LABEL_BYTES = 64


@dataclass(frozen=True, slots=True)
class WebDataset:
    """An open data set; its files exist while it is open.

    Attributes:
        dataset: Images as files, with labels.
        templates: Its own; None where it has none.
        shown: What each file is called in the shards.
        files: What it was read from: shards, names, templates.
    """

    dataset: Dataset
    templates: TemplateSet | None
    shown: Mapping[str, str]
    files: tuple[str, ...] = ()


def is_webdataset(folder: str) -> bool:
    """Say whether a folder has the layout: names, and a subfolder with shards."""
    root = Path(folder)
    return (root / CLASSNAMES).is_file() and any(root.glob("*/*.tar"))


@contextmanager
def open_webdataset(folder: str, split: str = "test") -> Iterator[WebDataset]:
    """Unpack a split, and remove it afterwards.

    Args:
        folder: In the layout above.
        split: The subfolder with the shards.

    Raises:
        InputError: The split, a shard or a label is missing or damaged.
        OutputError: The disk is too full to unpack it.
        PromptError: A template has not exactly one placeholder.
    """
    root = Path(folder)
    shards = find_shards(root, split)
    names = read_text(root / CLASSNAMES, InputError).splitlines()
    labels = tuple(Label(name.strip()) for name in names)
    templates = load_webdataset_templates(root)
    unpacked = Path(tempfile.mkdtemp(prefix="zeroshot-"))
    try:
        shown: dict[str, str] = {}
        targets: list[int] = []
        for shard in shards:
            for name, target, file in _unpack(shard, unpacked, len(targets)):
                if not 0 <= target < len(labels):
                    raise InputError(
                        f"{shard}: {name} has label {target}, but {CLASSNAMES} has {len(labels)} names", "is it whole?"
                    )
                shown[str(file)] = f"{shard}/{name}"
                targets.append(target)
        if not targets:
            raise InputError(f"no labelled images in {root / split}", "shards hold KEY.webp beside KEY.cls")
        keys = tuple(str(index) for index in range(len(labels)))
        numbers = np.asarray(targets, dtype=np.int64)
        files = tuple(str(path) for path in (*shards, root / CLASSNAMES, root / TEMPLATES))
        yield WebDataset(Dataset(tuple(shown), numbers, LabelSet(labels), keys), templates, shown, files)
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)


def find_shards(root: Path, split: str) -> list[Path]:
    """Return a split's shards in order.

    Raises:
        InputError: The split is not there, or a shard is missing.
    """
    folder = root / split
    found = sorted(folder.glob("*.tar"), key=lambda path: natural_key(path.name))
    if not found:
        others = sorted({path.parent.name for path in root.glob("*/*.tar")})
        raise InputError(f"no shards in {folder}", f"--split {' or '.join(others)}" if others else "check the path")
    if (folder / N_SHARDS).is_file():
        text = read_text(folder / N_SHARDS, InputError).strip()
        if not text.isdecimal():
            raise InputError(f"{folder / N_SHARDS}: {text!r} is not a number", "fix the file")
        expected = [folder / f"{index}.tar" for index in range(int(text))]
        if missing := [path for path in expected if not path.is_file()]:
            raise InputError(f"{len(missing)} of {len(expected)} shards are missing: {missing[0]}", "fetch them all")
        return expected
    return found


def load_webdataset_templates(root: Path) -> TemplateSet | None:
    """Return a data set's own templates, or None where it has none.

    Raises:
        PromptError: One of them has not exactly one placeholder.
    """
    path = root / TEMPLATES
    if not path.is_file():
        return None
    templates = tuple(line.strip() for line in read_text(path, PromptError).splitlines() if line.strip())
    for template in templates:
        if fault := placeholder_fault(template):
            raise PromptError(f"{path}: {template!r} has {fault}", "write {c} once, where the name goes")
    return TemplateSet(root.resolve().name, templates, source=TEMPLATES) if templates else None


def _unpack(shard: Path, folder: Path, start: int) -> Iterator[tuple[str, int, Path]]:
    """Unpack one shard's labelled images; yield the name in the shard, the label's number, and the file.

    Files are numbered, so that no name in an archive decides where anything is written.
    """
    waiting: dict[str, tuple[str, Path]] = {}
    labels: dict[str, int] = {}
    count = start
    try:
        with tarfile.open(shard, "r|*") as archive:
            for member in archive:
                # As webdataset has it: the key ends at the first dot of the name.
                key, _, suffix = PurePosixPath(member.name).name.partition(".")
                key = str(PurePosixPath(member.name).with_name(key)) if key else ""
                if not member.isfile() or not key:
                    continue
                source = archive.extractfile(member)
                assert source is not None  # a regular file has content
                if suffix.lower() in _SUFFIXES:
                    file = folder / f"{count:08d}.{suffix.lower()}"
                    count += 1
                    try:
                        with file.open("wb") as target:
                            shutil.copyfileobj(source, target)
                    except OSError as error:
                        raise OutputError(
                            f"cannot unpack {shard} to {folder}: {error.strerror}", "free some space, or set TMPDIR"
                        ) from error
                    waiting[key] = (member.name, file)
                elif suffix.lower() == "cls":
                    labels[key] = _parse_label(source.read(_MAX_LABEL_BYTES), shard, member.name)
                if key in waiting and key in labels:
                    name, file = waiting.pop(key)
                    yield name, labels.pop(key), file
    except (tarfile.TarError, EOFError, OSError) as error:
        raise InputError(f"{shard} cannot be read: {error}", "fetch it again") from error
    if waiting:
        raise InputError(f"{shard}: {next(iter(waiting.values()))[0]} has no label", "an image needs its .cls")


def _parse_label(content: bytes, shard: Path, name: str) -> int:
    try:
        return int(content.decode("ascii").strip())
    except ValueError as error:
        raise InputError(f"{shard}: {name} holds no label's number", "is it a classification data set?") from error
