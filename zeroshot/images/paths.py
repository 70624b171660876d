"""Find images: files, folders, archives, object stores, streamed in the order in which they are named.

Folders are walked depth first, one listing at a time, in natural order (2 before 10): the first image of a
million is found after the first folder is read.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePath

from ..errors import ImageError, InputError
from ..messages import as_many
from .camera_formats import NO_ENDING, describe_passed_over, passed_over, readable_suffixes
from .decode import SUFFIXES
from .misnamed_images import Looker
from .natural_order import in_natural_order
from .sources.address_secrets import check_address
from .sources.archive_cache import open_archive
from .sources.image_names import (
    ARCHIVE_SUFFIXES,
    STORE_SCHEMES,
    container,
    is_archive,
    join_member,
    name_listed,
    scheme_of,
    split_member,
)

_SKIPPED_FOLDERS = frozenset(
    {"@eadir", "@tmp", "#recycle", "#snapshot", "__macosx", "$recycle.bin", "system volume information"}
)
"""Folders that NAS devices and operating systems fill with thumbnails and deleted files (compared folded)."""

_PLAN = "plan.json"  # as `distribute` writes it, which no listing needs otherwise
_RUN_PART = re.compile(r"(?:(.*)[/\\])?parts[/\\]part-\d{5,}-[0-9a-f]{16}\.parquet", re.DOTALL)


def is_skipped(name: str) -> bool:
    """Say whether a folder's entry is left out: hidden, or created by a storage device or an operating system."""
    return name.startswith(".") or name.casefold() in _SKIPPED_FOLDERS


def find_images(inputs: Iterable[str], skipped: Counter[str] | None = None, *, archives: bool = False) -> Iterator[str]:
    """Yield the name of every image that the inputs name, in order.

    A file is yielded whatever its ending; a folder, an archive or a prefix of an object store yields the images in
    it. Names keep the spelling that was given (a folder's is joined to it). Something that does not exist is yielded
    too, so that it becomes a failed record in its place.

    Args:
        inputs: Files, folders, archives, ``s3://bucket/prefix/``, ``x.tar::member.jpg``.
        skipped: Counts as in `walk`.
        archives: Archives found inside folders are opened too; those that are named themselves always are.
    """
    for entry in find_entries(inputs, skipped, archives=archives):
        yield from expand(entry, skipped)


def find_entries(
    inputs: Iterable[str], skipped: Counter[str] | None = None, *, archives: bool = False
) -> Iterator[str]:
    """Yield as `find_images`, but archives as one entry each, unopened; `expand` gives their images."""
    for given in as_many(inputs):
        if scheme_of(given):
            check_address(given)
            yield from _walk_store(given, skipped, archives=archives)
        elif names_folder(given):
            yield from walk(given, skipped, archives=archives)
        else:
            yield given


def expand(entry: str, skipped: Counter[str] | None = None) -> Iterator[str]:
    """Yield the images of an archive in its order, and the archive itself where some may be missing; else the entry."""
    if not is_archive(entry) or split_member(entry):
        yield entry
        return
    suffixes = SUFFIXES | readable_suffixes()
    try:
        archive = open_archive(entry)
        for member in archive.names():
            if entry.lower().endswith(".parquet") or _is_image(member, suffixes, skipped):
                yield join_member(entry, member)
    except ImageError:  # opened as an image, it says why
        yield entry
        return
    if archive.damage:
        yield entry


def _is_image(key: str, suffixes: frozenset[str], skipped: Counter[str] | None, *, member: bool = True) -> bool:
    """Whether the name of a member, or a key of a store, is an image by its ending and not hidden."""
    parts = key.replace("\\", "/").split("/")
    if any(is_skipped(part) for part in parts if part not in (".", "..")):
        return False
    if os.path.splitext(parts[-1])[1].lower() in suffixes:  # noqa: PTH122 - a fifth of PurePath's time, a million times
        return True
    name = parts[-1]
    if skipped is not None and name:
        closed = "" if _RUN_PART.fullmatch(key) else archive_suffix(name)
        closed += " inside an archive" if closed and member else ""
        # Unlike a file, it cannot be looked into at little cost.
        other = passed_over(name) or closed or (NO_ENDING if "." not in name else "")
        skipped.update([other] if other else [])
    return False


def has_image_ending(name: str) -> bool:
    """Whether a name ends as those of images do that can be read here."""
    ending = os.path.splitext(name)[1].lower()  # noqa: PTH122
    return ending in SUFFIXES or ending in readable_suffixes()


def _walk_store(given: str, skipped: Counter[str] | None, *, archives: bool) -> Iterator[str]:
    """Yield the images below a prefix of a store, in the store's order; an object that is named is itself."""
    from .sources.objects import has_object, list_objects

    if not _names_prefix(given):
        yield given
        return
    suffixes = SUFFIXES | readable_suffixes()
    empty = True
    runs: dict[str, bool] = {}
    for key, below in list_objects(given):
        empty = False
        if archives and (part := _RUN_PART.fullmatch(key)):
            if part[1] not in runs:
                runs[part[1]] = has_object(f"{part[1]}/{_PLAN}")
            if runs[part[1]]:
                continue
        if (archives and is_archive(key)) or _is_image(below, suffixes, skipped, member=False):
            yield name_listed(key)
    if empty:
        yield given


def _names_prefix(given: str) -> bool:
    """Whether objects of a store are listed for it: no ending says that it is one itself."""
    return scheme_of(given) in STORE_SCHEMES and not (
        has_image_ending(given) or is_archive(given) or split_member(given)
    )


def _is_object(name: str) -> bool:
    from .sources.objects import has_object
    from .sources.stores import hint_of

    try:
        return not name.endswith("/") and has_object(name)
    except ImageError as error:
        raise InputError(f"cannot read {name}: {error.message}", hint_of(error)) from error


def names_folder(path: str) -> bool:
    """Whether a path is a folder; a path that cannot be looked up (too long, a NUL) is not."""
    try:
        return not scheme_of(path) and Path(path).is_dir()
    except (OSError, ValueError):
        return False


def check_inputs(inputs: Sequence[str], *, archives: bool = False) -> list[str]:
    """Check the inputs named on the command line before any model is loaded.

    Returns:
        A line for each folder without images; whoever lists the inputs says it of an archive or a prefix. A path that
        does not exist becomes a failed record, so that the other inputs are not lost.

    Raises:
        InputError: Not one of the inputs can give an image, or a store does not say what is in it.
    """
    missing = [path for path in inputs if not scheme_of(path) and not os.path.lexists(container(path))]
    prefixes = [path for path in inputs if _names_prefix(path)]
    skipped: Counter[str] = Counter()
    empty = [
        path
        for path in inputs
        if names_folder(path) and not _holds_image(path) and next(walk(path, skipped, archives=archives), None) is None
    ]
    notes = [f"no images in {folder}" for folder in empty]
    closed = [path for path in inputs if _is_closed(path)]
    if len(missing) + len(empty) + len(prefixes) + len(closed) == len(inputs):  # else nothing is opened, no store asked
        for path in (*closed, *prefixes):
            first = next(find_images([path], skipped, archives=archives), None)
            if first is None:
                empty.append(path)
            elif first == path and path in prefixes and not _is_object(path):
                missing.append(path)
            else:
                break
    if inputs and len(missing) == len(inputs):
        of_stores = "object, and none below it" if len(prefixes) == len(inputs) else "input"
        what = of_stores if prefixes else "file or folder"
        raise InputError(f"no such {what}: {', '.join(missing[:5])}", "check the spelling; `-` reads paths from stdin")
    if inputs and len(missing) + len(empty) == len(inputs):
        raise InputError(
            f"no images in {', '.join(empty[:5])}"
            + (f"; {describe_passed_over(skipped, ARCHIVE_SUFFIXES)}" if skipped else ""),
            "images are found by their ending; name a file to open any of them",
        )
    return notes


def _is_closed(path: str) -> bool:
    """Whether it is an archive of this machine, which may hold images or none."""
    return (
        is_archive(path)
        and not scheme_of(path)
        and not names_folder(path)
        and not split_member(path)
        and os.path.lexists(path)
    )


def _holds_image(folder: str) -> bool:
    """Whether an image is seen below a folder, without reading or sorting the whole of it."""
    suffixes = (SUFFIXES | readable_suffixes()) - frozenset(ARCHIVE_SUFFIXES)
    waiting, seen = [folder], set()
    while waiting:
        try:
            current = waiting.pop()
            here = os.stat(current)  # noqa: PTH116
            if (here.st_dev, here.st_ino) in seen:
                continue
            seen.add((here.st_dev, here.st_ino))
            with os.scandir(current) as entries:
                for entry in entries:
                    if is_skipped(entry.name):
                        continue
                    if is_folder(entry):
                        waiting.append(entry.path)
                    elif Path(entry.name).suffix.lower() in suffixes:
                        return True
        except OSError:  # it becomes a failed record
            return True
    return False


def identify(path: str) -> tuple[int, int] | None:
    """Return what tells a file or folder from every other, whatever it is called; None where it cannot be looked up."""
    try:
        here = os.stat(path)  # noqa: PTH116 - Path would make an empty path the current folder
    except (OSError, ValueError):
        return None
    return here.st_dev, here.st_ino


def walk(
    folder: str,
    skipped: Counter[str] | None = None,
    *,
    archives: bool = False,
    closed: frozenset[tuple[int, int]] = frozenset(),
) -> Iterator[str]:
    """Yield the images below a folder: files of one folder first, then its subfolders, in natural order.

    Hidden entries and the thumbnail folders of NAS devices are skipped. A link to a folder that contains it is not
    followed again. A folder that cannot be listed is yielded itself, to become a failed record.

    Args:
        folder: Where to begin.
        skipped: Counts, by ending, the files that are images or videos but not of a kind that is read, archives that
            stay closed, and images that only their content shows to be some.
        archives: Yield archives too, each as one entry.
        closed: Folders that are not entered, as `identify` tells them.
    """
    suffixes = SUFFIXES | readable_suffixes() | (frozenset(ARCHIVE_SUFFIXES) if archives else frozenset())
    looker = Looker()
    waiting: list[tuple[str, frozenset[tuple[int, int]]]] = [(folder, closed)]
    while waiting:
        current, ancestors = waiting.pop()
        try:
            here = os.stat(current)  # noqa: PTH116 - Path would make an empty path the current folder
            identity = (here.st_dev, here.st_ino)
            if identity in ancestors:
                continue
            with os.scandir(current) as entries:
                # `is_skipped` without a call for each of a million
                kept = {
                    name: entry
                    for entry in entries
                    if (name := entry.name)[0] != "." and name.casefold() not in _SKIPPED_FOLDERS
                }
        except OSError:
            yield current
            continue
        folders: list[str] = []
        for name in in_natural_order(list(kept)):
            entry = kept[name]
            if is_folder(entry):
                folders.append(entry.path)
            elif name[name.rfind(".") :].lower() in suffixes:  # hidden names, which may be all ending, are left out
                path = entry.path
                if not path.endswith(".parquet") or not is_run_part(path):
                    yield path
            elif skipped is not None and (kind := _kind_passed_over(entry, looker)):
                skipped[kind] += 1
        waiting.extend((subfolder, ancestors | {identity}) for subfolder in reversed(folders))


def _kind_passed_over(entry: os.DirEntry[str], looker: Looker) -> str:
    """Return what is counted of a file that is no image by its name; nothing for what is none at all."""
    if is_run_part(entry.path):
        return ""
    return passed_over(entry.name) or archive_suffix(entry.name) or looker.look(entry)


def archive_suffix(name: str) -> str:
    """Return the ending of an archive that could be opened; else an empty text."""
    suffix = PurePath(name).suffix.lower()
    return suffix if suffix in ARCHIVE_SUFFIXES else ""


def names_run(place: str) -> bool:
    """Say whether a folder on a disk is that of a run."""
    return os.path.isfile(os.path.join(place, _PLAN))  # noqa: PTH113, PTH118


def may_be_run(place: str) -> bool:
    """Say whether a run may stand at a place: a folder with a plan, or any place in a store that no ending denies."""
    if scheme_of(place):
        return scheme_of(place) in STORE_SCHEMES and not PurePath(place).suffix
    return names_run(place)


def is_run_part(path: str) -> bool:
    """Say whether a file is a part that `zeroshot run work` wrote: a run may lie among its own inputs."""
    found = _RUN_PART.fullmatch(path) if path.endswith(".parquet") else None
    return found is not None and os.path.isfile(os.path.join(found[1] or "", _PLAN))  # noqa: PTH113, PTH118


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Say whether an entry is a folder or leads to one."""
    try:
        return entry.is_dir()
    except OSError:  # a link whose target cannot be read
        return False
