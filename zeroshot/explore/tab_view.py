"""What one tab of the page sees: images in order, which never change."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from .ranked_rows import Ranking, Sorting

_ROW = re.compile(r"([0-9]{1,9})|pair-([0-9]{1,9})-([0-9]{1,9})")


class GoneError(Exception):
    """A view that was made too long ago; the page asks for it anew."""


class TemplatesError(InputError):
    """Templates that cannot be used, whatever the labels."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the page wants sorted.

    Attributes:
        text: The labels as typed.
        set_name: A template set; not looked at where there are templates.
        templates: Templates as typed.
    """

    text: str = ""
    set_name: str = "general"
    templates: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class View:
    """Images in order, as one tab sees them; it never changes.

    Attributes:
        key: What the page calls it by.
        here: Which images there were, by id, shape ``(n,)``: the files of the others are gone.
        sorting: Them in rows; None where no labels are typed, or this is a search.
        hits: A search's images, nearest first, or all images where there are no labels.
        asked: What it was made of.
        notes: Whether learned weights are applied, and why not what was asked for.
        calibrated: Whether probabilities are.
        learned: Whether the weights are those that were learned from examples.
    """

    key: str
    here: npt.NDArray[np.bool_]
    sorting: Sorting | None = None
    hits: Ranking | None = None
    asked: Asked = field(default_factory=Asked)
    notes: tuple[str, ...] = ()
    calibrated: bool = False
    learned: bool = False

    @property
    def n(self) -> int:
        """Ids that there were."""
        return len(self.here)

    @property
    def count(self) -> int:
        """Images that there were."""
        return int(np.count_nonzero(self.here))

    def row(self, name: str, threshold: float) -> Ranking:
        """Return a row by its name: an answer's index, ``unknown``, ``all``, ``hits`` or ``pair-0-1``.

        Args:
            name: The row.
            threshold: Least probability, or for ``hits`` least cosine.

        Raises:
            LookupError: There is no such row.
        """
        if name in ("hits", "all") and self.hits is not None:
            return self.hits.reaching(threshold) if name == "hits" else self.hits
        if self.sorting is None:
            raise LookupError(name)
        if name == "unknown":
            return self.sorting.unknown(threshold)
        if name == "all":
            return self.sorting.everything()
        found = _ROW.fullmatch(name)
        numbers = [int(number) for number in found.groups() if number] if found else []
        if not numbers or max(numbers) >= self.sorting.n_answers:
            raise LookupError(name)
        return self.sorting.row(numbers[0], threshold) if len(numbers) == 1 else self.sorting.pair(*numbers)

    def find(self, image: int, threshold: float, row: str = "") -> tuple[str, int] | None:
        """Return the row that an image stands in and its place there; None where it is not among them.

        Args:
            image: Its id.
            threshold: As for `row`.
            row: The only row that is looked at; empty for all of them.
        """
        names = [row or "all"]
        if not row and self.sorting is not None:
            names = [str(self.sorting.answer[image]), "unknown"] if 0 <= image < len(self.sorting) else []
        for name in names:
            try:
                places = np.flatnonzero(self.row(name, threshold).ids == image)
            except LookupError:
                continue
            if len(places):
                return name, int(places[0])
        return None
