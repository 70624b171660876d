"""Answers the requests of the page with plain documents. `request_values` checks what a request holds."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..enums import Placement
from ..errors import ImageError, InputError, UsageError
from ..images.decode import decode
from ..images.preprocess import fit
from ..messages import printable
from ..prompts.template_sets import list_names
from ..prompts.unicode_text import clean_word
from . import exports, view_json
from .corrections import Said
from .folder_sort import Actions
from .image_origins import describe_place, input_is_there
from .request_values import MOST_DROP, list_of, threshold_of, value_of
from .security import Token
from .session import Session
from .tab_view import Asked, View

_MOST_CORRECTED = 50_000
_MOST_FAILURES = 500

Answer = Callable[[dict[str, Any]], Any]


@dataclass(frozen=True, slots=True)
class Beginning:
    """What the page shows first.

    Attributes:
        text: Labels, as they would be typed.
        set_name: The template set.
        templates: Templates instead of a set.
        threshold: Below it an image is unknown; None for that of the calibration, where one fits these labels.
        options: Of the model and of opening images, for the equivalent command.
    """

    text: str = ""
    set_name: str = "general"
    templates: tuple[str, ...] = ()
    threshold: float | None = None
    options: tuple[str, ...] = ()


class RequestHandlers:
    """What one session answers to what a page asks.

    Args:
        session: What is asked.
        token: What signs the addresses of images.
        beginning: What the page shows first.
        actions: What changes files.
    """

    def __init__(self, session: Session, token: Token, beginning: Beginning, actions: Actions) -> None:
        self._session = session
        self._token = token
        self._beginning = beginning
        self._actions = actions

    def by_name(self) -> dict[str, Answer]:
        """Return what answers each address below ``/api/``."""
        return {
            "start": self._start,
            "failures": self._failures,
            "changes": self._changes,
            "thumbs": self._thumbs,
            "sort": self._sort,
            "rows": self._rows,
            "ids": self._ids,
            "search": self._search,
            "correct": self._correct,
            "uncorrect": lambda _: {"images": self._session.uncorrect()},
            "command": self._command,
            "labels": lambda asked: {"yaml": exports.export_labels(self._view(asked))},
            "plan": self._plan,
            "carry-out": self._carry_out,
            "undo": self._undo,
        }

    def _start(self, _: dict[str, Any]) -> dict[str, Any]:
        if self._session.encoding:  # a page that is loaded again shows what came into the folder since
            self._session.encoding.begin()
        spec = self._session.encoder.spec
        name, into, contained = describe_place(self._session.collection.folder)
        return {
            "folder": self._session.collection.folder,
            "model": spec.model,
            "labels": self._beginning.text,
            "set": self._beginning.set_name,
            "sets": list(dict.fromkeys([*list_names(), self._beginning.set_name])),
            "templates": list(self._beginning.templates),
            "threshold": self._first_threshold(),
            "most_drop": MOST_DROP,
            "corrections": str(self._session.corrections.path),
            "name": name,
            "into": into,
            "copied": contained,
            **self._changes({}),
        }

    def _failures(self, _: dict[str, Any]) -> dict[str, Any]:
        failures = self._session.collection.failures
        some = [[printable(one.path), printable(one.error)] for one in failures[:_MOST_FAILURES]]
        return {"failures": some, "total": len(failures)}

    def _first_threshold(self) -> float:
        first = self._beginning
        if first.threshold is not None:
            return first.threshold
        return self._session.fitted_threshold(Asked(first.text, first.set_name, first.templates))

    def _changes(self, _: dict[str, Any]) -> dict[str, Any]:
        job = self._actions.job
        return {
            "run": self._session.run,
            "progress": asdict(self._session.collection.progress),
            "version": self._session.version,
            "there": input_is_there(self._session.collection.folder),
            "job": asdict(job) if job else None,
        }

    def _sort(self, asked: dict[str, Any]) -> dict[str, Any]:
        templates = list_of(asked, "templates", str)[:200]
        version = self._session.version
        set_name = value_of(asked, "set", str, "general")
        if set_name not in (*list_names(), self._beginning.set_name):  # a name, never a file of the page's choice
            raise InputError(f"no template set {set_name!r}")
        view = self._session.sort(Asked(value_of(asked, "labels", str, ""), set_name, tuple(templates)))
        return {**self._described(view, asked), "version": version, "run": self._session.run}

    def _rows(self, asked: dict[str, Any]) -> dict[str, Any]:
        return self._described(self._view(asked), asked)

    def _described(self, view: View, asked: dict[str, Any]) -> dict[str, Any]:
        threshold = threshold_of(asked)
        wanted = [
            view_json.Window(str(row), int(start), int(count)) for row, start, count in list_of(asked, "windows", list)
        ]
        described = view_json.describe(view, threshold) if value_of(asked, "whole", bool, True) else {}
        sorting = view.sorting
        if sorting is None and (key := value_of(asked, "sorting", str, "")):
            sorting = self._session.view(key).sorting
        row = value_of(asked, "find_in", str, "")
        return {
            **described,
            "rows": view_json.windows(self._session, self._token, view, sorting, threshold, wanted),
            "found": [view.find(image, threshold, row) for image in list_of(asked, "find", int)[:2]],
        }

    def _ids(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Return the ids of a part of a row: what a selection that was not wholly shown holds."""
        ranking = self._view(asked).row(value_of(asked, "row", str, ""), threshold_of(asked))
        start, end = (max(0, value_of(asked, key, int, 0)) for key in ("start", "end"))
        if end - start > _MOST_CORRECTED:
            raise InputError(f"{end - start} images at once", f"{_MOST_CORRECTED} are the most")
        return {"images": ranking.ids[start:end].tolist()}

    def _search(self, asked: dict[str, Any]) -> dict[str, Any]:
        images = [(float(weight), int(image)) for weight, image in list_of(asked, "images", list)]
        drops = [(float(weight), str(key)) for weight, key in list_of(asked, "drops", list)]
        view = self._session.search(value_of(asked, "text", str, ""), images[:32], drops[:32])
        return self._described(view, asked) | {"scores": _scores(view)}

    def _view(self, asked: dict[str, Any]) -> View:
        return self._session.view(value_of(asked, "view", str, ""))

    def map_points(self, asked: dict[str, Any]) -> bytes | None:
        """Return where images lie and which row they are in; None while the map is being worked out.

        Returns:
            Bytes of little-endian 16-bit numbers: all images' x, then y, from 0 to 65,535, then the index of the
            answer, 65,535 for none, 65,534 for an image that is gone. Of more than `view_json.MOST_DOTS` images the
            first ones.
        """
        view = self._view(asked)
        features = self._session.collection.features[: min(view.n, view_json.MOST_DOTS)]
        placed = self._session.map.places(features)
        return None if placed is None else view_json.map_points(view, threshold_of(asked), placed)

    def _thumbs(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Return the signatures and names of some images, which a map knows by their numbers only."""
        images = self._images(asked, view_json.MOST_ITEMS)
        return {"items": [view_json.signed(self._session, self._token, image) for image in images]}

    def _images(self, asked: dict[str, Any], most: int) -> list[int]:
        images = list_of(asked, "images", int)
        if len(images) > most:
            raise InputError(f"{len(images)} images at once", f"{most} are the most")
        if any(type(image) is not int or not 0 <= image < len(self._session.collection) for image in images):
            raise LookupError("no such image")
        return images

    def _correct(self, asked: dict[str, Any]) -> dict[str, Any]:
        view = self._view(asked)
        images = self._images(asked, _MOST_CORRECTED)
        ranking = view.row(value_of(asked, "row", str, "all"), threshold_of(asked))
        for start, end in list_of(asked, "ranges", list):
            images += [int(image) for image in ranking.ids[max(0, int(start)) : max(0, int(end))]]
            if len(images) > _MOST_CORRECTED:
                raise InputError(f"{len(images)} images at once", f"{_MOST_CORRECTED} are the most")
        label = clean_word(value_of(asked, "label", str, ""))
        if label:
            return {"images": self._session.correct(images, lambda _, said: said.given(label))}
        if value_of(asked, "clear", bool, False):
            return {"images": self._session.correct(images, lambda _, __: Said())}
        sorting = self._session.view(value_of(asked, "sorting", str, view.key)).sorting
        if sorting is None:
            raise InputError("there is no answer that could be refused", "type labels first")
        names = [name for name, _ in sorting.classifier.labels.answers]

        def refuse(image: int, said: Said) -> Said:
            if image >= len(sorting) or sorting.answer[image] == sorting.n_answers:
                return said
            name = names[sorting.answer[image]]
            return said.without(name)

        return {"images": self._session.correct(images, refuse)}

    def _command(self, asked: dict[str, Any]) -> dict[str, Any]:
        view = self._view(asked)
        line = exports.command_line(self._session, view, threshold_of(asked), list(self._beginning.options))
        return {"command": line, "needs_file": "--labels-file" in line}

    def _plan(self, asked: dict[str, Any]) -> dict[str, Any]:
        try:
            placement = Placement(value_of(asked, "placement", str, "link"))
        except ValueError as error:
            raise UsageError("an image is linked, copied or moved") from error
        return self._actions.plan(self._view(asked), threshold_of(asked), value_of(asked, "into", str, ""), placement)

    def _carry_out(self, asked: dict[str, Any]) -> dict[str, Any]:
        self._actions.carry_out(value_of(asked, "plan", str, ""))
        return self._changes({})

    def _undo(self, _: dict[str, Any]) -> dict[str, Any]:
        self._actions.undo()
        return self._changes({})

    def records(self, asked: dict[str, Any]) -> Iterator[bytes]:
        """Yield a view's records as JSON lines."""
        return exports.export_jsonl(self._session, self._view(asked), threshold_of(asked))

    def describe_image(self, asked: dict[str, Any], image: int, facts: dict[str, str]) -> dict[str, Any]:
        """Return what is known of an image, its file's own words among it."""
        return view_json.describe_image(
            self._session, self._token, self._view(asked), threshold_of(asked), image, facts
        )

    def keep_drop(self, data: bytes) -> dict[str, Any]:
        """Encode an image that was dropped onto the page, and return what it is called by.

        Raises:
            InputError: It cannot be used.
        """
        encoder, how = self._session.encoder, self._session.pipeline.decode_options
        try:
            pixels = fit(decode(io.BytesIO(data), how), encoder.spec.preprocessing)
        except ImageError as error:
            raise InputError(f"the dropped image: {error.message}") from error
        except (MemoryError, ValueError, OSError) as error:
            raise InputError("the dropped image cannot be used") from error
        row = encoder.encode_images(pixels[None])[0]
        if not np.isfinite(row).all():
            raise InputError("the model gives no finite numbers for the dropped image")
        return {"drop": self._session.keep_drop(row)}


def _scores(view: View) -> list[float]:
    """Return the cosines of a search at 101 even places of its ranking, nearest first: what a cut-off is set by."""
    if view.hits is None or not len(view.hits):
        return []
    values = view.hits.values
    return [round(float(values[i]), 4) for i in np.linspace(0, len(values) - 1, 101).astype(int)]
