"""Reads a list of paths that may name folders: yields each image once, and counts files that are passed over."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from ..messages import some_of
from . import console


class ListedInputs:
    """The images of a list.

    Args:
        search: Yields the images of an input, and counts in `skipped` what it passes over.
        skipped: Files that were passed over, by ending; None where nothing is counted or said.
    """

    def __init__(self, search: Callable[[list[str]], Iterator[str]], skipped: Counter[str] | None) -> None:
        self._search = search
        self._skipped = skipped
        self._told = skipped is None
        self._named: set[str] = set()  # images by names of their own: a folder may come after what is in it
        self._below: set[str] = set()
        self._walked: dict[str, Counter[str]] = {}  # what was passed over, by folder

    def expand(self, entries: Iterable[str]) -> Iterator[tuple[str, str]]:
        """Yield the images, each with its entry; those below a folder of the list only once, wherever that stands.

        Says, unless nothing is counted, that this was so, and which folders hold no image.
        """
        from ..images.paths import names_folder

        empty: list[str] = []
        try:
            for entry in entries:
                if not names_folder(entry):
                    found = self._of_file(entry)
                # What a link leads to was read with the folder that it lies in, or is a folder around it.
                elif os.path.islink(entry) and self._is_below(entry):  # noqa: PTH114
                    continue
                else:
                    found = self._of_folder(entry)
                count = 0
                for path, again in found:
                    count += 1
                    if not again:
                        yield path, entry
                    elif not self._told:
                        self._told = True
                        said = f"such as {path}: each is read once"
                        console.note(f"the list names folders and also what is in them, {said}")
                if not count:
                    empty.append(entry)
        finally:
            self._count()
        if empty and self._skipped is not None:
            console.warn(f"no images in {some_of(empty)}")

    def _of_file(self, entry: str) -> Iterator[tuple[str, bool]]:
        for path in self._search([entry]):
            yield path, path in self._below
            self._named.add(path)

    def _of_folder(self, entry: str) -> Iterator[tuple[str, bool]]:
        before = Counter(self._skipped)
        for path in self._search([entry]):
            yield path, path in self._below or path in self._named
            self._below.add(path)
        if self._skipped is not None:
            self._walked[os.path.normpath(entry)] = self._skipped - before
            self._skipped.clear()
            self._skipped.update(before)

    def _is_below(self, entry: str) -> bool:
        """Whether a folder that was walked is around a path."""
        parent = os.path.dirname(os.path.normpath(entry))  # noqa: PTH120
        while parent not in self._walked:
            above = os.path.dirname(parent)  # noqa: PTH120
            if above == parent:
                return "." in self._walked and not os.path.isabs(entry)  # noqa: PTH117
            parent = above
        return True

    def _count(self) -> None:
        """Count what was passed over in each folder that no other one is around, less what the list names itself."""
        from ..images.camera_formats import BY_CONTENT, passed_over
        from ..images.misnamed_images import is_image_by_content
        from ..images.paths import has_image_ending

        if self._skipped is None:
            return
        total: Counter[str] = Counter()
        for folder, counted in self._walked.items():
            if folder == "." or not self._is_below(folder):
                total += counted
        if total:
            for path in self._named - self._below:
                if not self._is_below(path):
                    continue
                if ending := passed_over(path):
                    total[ending] -= 1
                elif total[BY_CONTENT] > 0 and not has_image_ending(path) and is_image_by_content(path):
                    total[BY_CONTENT] -= 1
        self._skipped.update(+total)
