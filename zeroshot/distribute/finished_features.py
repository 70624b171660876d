"""Features that a finished run holds, for commands that would else encode the images again."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

from ..encoder import EncoderSpec, Features
from ..errors import ImageError, InputError
from ..images.decode import DecodeOptions
from ..images.paths import may_be_run
from ..images.sources.image_names import scheme_of
from ..messages import some_of
from .commits import committed, find_done, read_checked, repair
from .merge import name_numbers
from .part_files import lines_of, paths_of, read_features
from .plan import PLAN, Plan, find_plan
from .recipe import RunRecipe, facts_of, parse_recipe
from .run_folder import Folder, open_folder

_KEPT = 20_000
"""Images, at least, that are remembered behind the last one, for readers that go through a run in order."""


def find_stored(place: str) -> StoredFeatures | None:
    """Return the features of the run in a folder; None where no run stands there.

    Raises:
        InputError: The run holds no features, or its plan cannot be used.
    """
    if not may_be_run(place):
        return None
    folder = open_folder(place)
    plan = find_plan(folder) if not scheme_of(place) or _has_plan(place) else None
    return None if plan is None else StoredFeatures(folder, plan, parse_recipe(plan.recipe))


def _has_plan(place: str) -> bool:
    """Look for a plan in a store, where most places are those of images: what fails is told of the place itself."""
    from ..images.sources.objects import has_object
    from ..images.sources.stores import hint_of

    try:
        return has_object(f"{place.rstrip('/')}/{PLAN}")
    except ImageError as error:
        raise InputError(f"cannot read {place}: {error.message}", hint_of(error)) from error


class StoredFeatures:
    """The images of a run, with their features or why there are none.

    Args:
        folder: Of the run.
        plan: The run.
        recipe: Of the plan.

    Raises:
        InputError: The run was planned without features.
    """

    def __init__(self, folder: Folder, plan: Plan, recipe: RunRecipe) -> None:
        if not recipe.features:
            raise InputError(f"{folder.place} holds no features", "plan the run with --features")
        self._folder, self._plan, self._recipe = folder, plan, recipe
        self._parts: list[dict[str, Features | str]] = []

    @property
    def model(self) -> dict[str, Any]:
        """What the run was planned with: ``model``, ``pretrained`` and ``preprocessing``."""
        return self._recipe.model

    def check(self, spec: EncoderSpec) -> None:
        """Refuse a model that is not the run's.

        Raises:
            InputError: Its features mean something else.
        """
        mine, other = self._recipe.facts, facts_of(spec)
        if mine != other:
            raise InputError(
                f"{self._folder.place} holds features of {self._recipe.model['model'] or mine['architecture']},"
                f" not of {spec.model}",
                "give the run's own --model",
            )

    def check_options(self, asked: DecodeOptions) -> None:
        """Refuse to open images in another way than the run did: what it holds was made of them already.

        Raises:
            InputError: Names what differs.
        """
        made = self._recipe.decode_options(None)
        pairs = (
            ("--no-exif", made.exif, asked.exif),
            ("--draft", made.draft, asked.draft),
            ("--resize", made.resize, asked.resize),
        )
        if differing := [name for name, one, other in pairs if one != other]:
            raise InputError(
                f"{self._folder.place} holds features of images that were opened in another way: {some_of(differing)}",
                "give what the run was planned with",
            )

    def images(self) -> Iterator[str]:
        """Yield the images in the run's order; `find` knows those that were yielded last."""
        for number in range(len(self._plan.shards)):
            part = self._read(number)
            kept = [*self._parts, dict(part)]
            while len(kept) > 1 and sum(map(len, kept[1:])) > _KEPT:
                del kept[0]
            self._parts = kept
            yield from (path for path, _ in part)

    def everything(self) -> Callable[[str], Features | str]:
        """Return what gives the features of any image of the run, in any order; all of them are held in memory."""
        kept = {_whole(path): made for number in range(len(self._plan.shards)) for path, made in self._read(number)}
        missing = f"{self._folder.place} holds no such image"
        return lambda path: kept.get(_whole(path), missing)

    def find(self, path: str) -> Features | str:
        """Return an image's features, shape ``(dim,)``, or why there are none."""
        for part in reversed(self._parts):
            if path in part:
                return part[path]
        return f"{self._folder.place} holds no such image"

    def _read(self, number: int) -> list[tuple[str, Features | str]]:
        done = find_done(self._folder, self._plan.id, number)
        if done is None and number in committed(self._folder, self._plan):
            raise InputError(
                f"what commits shard {number} of {self._folder.place} is damaged or of another plan",
                repair(self._folder),
            )
        if done is None:
            raise InputError(
                f"shard {name_numbers([number])} of {self._folder.place} is missing",
                f"zeroshot run work {self._folder.place}",
            )
        contents = [(file.name, read_checked(self._folder, file)) for file in done.files]
        rows = iter(read_features(*contents[-1]))
        return [(path, error or next(rows)) for path, error in paths_of(lines_of(*contents[0]))]


def _whole(name: str) -> str:
    """Return a name by which an image is found whatever folder it was named from."""
    return name if scheme_of(name) else os.path.abspath(name)  # noqa: PTH100
