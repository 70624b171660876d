"""The addresses of the page, and what each answers. What it takes is checked here, and nowhere trusted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from importlib import resources
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from ..enums import Placement
from ..errors import ImageError, InputError, ResourceError, UsageError, ZeroshotError
from ..images.decode import decode
from ..images.preprocess import fit
from ..output.report.markup import read_resource
from ..prompts.spelling import clean_word
from ..prompts.template_sets import list_names
from . import actions, payload
from .actions import Actions
from .collection import folder_is_there
from .corrections import Said
from .security import Token, new_nonce, page_policy
from .session import Asked, GoneError, Session
from .thumbnails import Thumbnails

MOST_JSON = 1_000_000
MOST_DROP = 64_000_000
"""Bytes of a request, and of an image dropped onto the page."""

_MOST_CORRECTED = 50_000
_PRIVATE = {"cache-control": "private, max-age=600"}
_NEVER = {"cache-control": "no-store"}

Answer = Callable[[dict[str, Any]], Any]


@dataclass(frozen=True, slots=True)
class Beginning:
    """What the page shows first.

    Attributes:
        text: Labels, as they would be typed.
        set_name: The template set.
        templates: Templates instead of a set.
        threshold: Below it an image is unknown.
        options: Of the model and of opening images, for the equivalent command.
    """

    text: str = ""
    set_name: str = "general"
    templates: tuple[str, ...] = ()
    threshold: float = 0.0
    options: tuple[str, ...] = ()


class Application:
    """The page of one session.

    Args:
        session: What is asked.
        token: Who may ask.
        beginning: What the page shows first.
    """

    def __init__(self, session: Session, token: Token, beginning: Beginning) -> None:
        self._session = session
        self._token = token
        self._beginning = beginning
        self._modules = _read_modules()
        self._thumbnails: Thumbnails | None = None
        self.actions = Actions(session)

    def close(self) -> None:
        """Finish what is in work."""
        self.actions.close()
        if self._thumbnails is not None:
            self._thumbnails.close()

    def build(self) -> Starlette:
        """Return the application; it is to stand behind a `security.Guard`."""
        posts: dict[str, Answer] = {
            "start": self._start,
            "changes": self._changes,
            "sort": self._sort,
            "rows": self._rows,
            "search": self._search,
            "correct": self._correct,
            "uncorrect": lambda _: {"images": self._session.uncorrect()},
            "command": self._command,
            "labels": lambda asked: {"yaml": actions.export_labels(self._view(asked))},
            "plan": self._plan,
            "carry-out": self._carry_out,
            "undo": self._undo,
        }
        return Starlette(
            routes=[
                Route("/", self._page),
                Route("/page/{name}", self._module),
                Route("/thumb/{image:int}", self._thumb),
                Route("/large/{image:int}", self._large),
                Route("/api/image", self._image, methods=["POST"]),
                Route("/api/drop", self._drop, methods=["POST"]),
                Route("/api/records", self._records, methods=["POST"]),
                *(Route(f"/api/{name}", self._post(answer), methods=["POST"]) for name, answer in posts.items()),
            ],
        )

    # The page itself says nothing about the images, and a browser fetches it without the token.

    async def _page(self, _: Request) -> Response:
        nonce = new_nonce()
        page = self._modules["index.html"].replace("{{ nonce }}", nonce).replace("{{ style }}", self._modules["style"])
        headers = {"content-security-policy": page_policy(nonce), **_NEVER}
        return Response(page, media_type="text/html; charset=utf-8", headers=headers)

    async def _module(self, request: Request) -> Response:
        name = request.path_params["name"]
        if not name.endswith(".js") or name not in self._modules:
            raise HTTPException(404)
        return Response(self._modules[name], media_type="text/javascript; charset=utf-8", headers=_NEVER)

    # Images: an <img> cannot send the token, so their addresses are signed with it.

    async def _thumb(self, request: Request) -> Response:
        path = self._signed_path(request, "thumb")
        data = await self._made(self._made_thumbnails().small(path, _wanted(request)))
        return Response(data, media_type="image/webp", headers=_PRIVATE)

    async def _large(self, request: Request) -> Response:
        path = self._signed_path(request, "large")
        large = await self._made(self._made_thumbnails().large(path, _wanted(request)))
        return Response(large.data, media_type="image/webp", headers=_PRIVATE)

    def _signed_path(self, request: Request, kind: str) -> str:
        image = request.path_params["image"]
        if not self._token.signed(f"{kind}/{image}", request.query_params.get("s", "")):
            raise HTTPException(401)
        return self._path(image)

    def _path(self, image: int) -> str:
        try:
            return self._session.collection.path(image)
        except (IndexError, OverflowError) as error:
            raise HTTPException(404) from error

    def _made_thumbnails(self) -> Thumbnails:
        if self._thumbnails is None:  # inside the event loop, which its gate belongs to
            self._thumbnails = Thumbnails(self._session.pipeline)
        return self._thumbnails

    async def _made(self, making: Awaitable[Any]) -> Any:
        try:
            return await making
        except ImageError as error:
            raise HTTPException(404, error.message) from error
        except ResourceError as error:
            raise HTTPException(503, error.message, {"retry-after": "1"}) from error

    # Everything else carries the token in a header, which no other page can make a browser send.

    def _post(self, answer: Answer) -> Callable[[Request], Awaitable[Response]]:
        async def handle(request: Request) -> Response:
            asked = await self._asked(request)
            return await _answer(lambda: run_in_threadpool(answer, asked))

        return handle

    async def _asked(self, request: Request) -> dict[str, Any]:
        self._check_token(request)
        try:
            asked = json.loads(await _body(request, MOST_JSON) or b"{}")
        except (ValueError, RecursionError) as error:
            raise HTTPException(400, "not JSON") from error
        if not isinstance(asked, dict):
            raise HTTPException(400, "not an object")
        return asked

    def _check_token(self, request: Request) -> None:
        if not self._token.matches(request.headers.get("authorization", "")):
            raise HTTPException(401, "the token of the address that the terminal printed is needed")

    def _start(self, _: dict[str, Any]) -> dict[str, Any]:
        spec = self._session.encoder.spec
        return {
            "folder": self._session.collection.folder,
            "model": spec.model,
            "labels": self._beginning.text,
            "set": self._beginning.set_name,
            "sets": list(dict.fromkeys([*list_names(), self._beginning.set_name])),
            "templates": list(self._beginning.templates),
            "threshold": self._beginning.threshold,
            "corrections": str(self._session.corrections.path),
            "into": str(self._session.collection.folder).rstrip("/\\") + "-sorted",
            **self._changes({}),
        }

    def _changes(self, _: dict[str, Any]) -> dict[str, Any]:
        job = self.actions.job
        return {
            "progress": asdict(self._session.collection.progress),
            "version": self._session.corrections.version,
            "there": folder_is_there(self._session.collection.folder),
            "job": asdict(job) if job else None,
        }

    def _sort(self, asked: dict[str, Any]) -> dict[str, Any]:
        templates = _list(asked, "templates", str)[:200]
        version = self._session.corrections.version
        set_name = _of(asked, "set", str, "general")
        if set_name not in (*list_names(), self._beginning.set_name):  # a name, never a file of the page's choice
            raise InputError(f"no template set {set_name!r}")
        view = self._session.sort(Asked(_of(asked, "labels", str, ""), set_name, tuple(templates)))
        return {**self._described(view, asked), "version": version}

    def _rows(self, asked: dict[str, Any]) -> dict[str, Any]:
        return self._described(self._view(asked), asked)

    def _described(self, view: Any, asked: dict[str, Any]) -> dict[str, Any]:
        threshold = _threshold(asked)
        wanted = [
            payload.Window(str(row), int(start), int(count)) for row, start, count in _list(asked, "windows", list)
        ]
        described = payload.describe(view, threshold) if _of(asked, "whole", bool, True) else {}
        sorting = view.sorting
        if sorting is None and (key := _of(asked, "sorting", str, "")):
            sorting = self._session.view(key).sorting
        return {**described, "rows": payload.windows(self._session, self._token, view, sorting, threshold, wanted)}

    def _search(self, asked: dict[str, Any]) -> dict[str, Any]:
        images = [(float(weight), int(image)) for weight, image in _list(asked, "images", list)]
        drops = [(float(weight), str(key)) for weight, key in _list(asked, "drops", list)]
        view = self._session.search(_of(asked, "text", str, ""), images[:32], drops[:32])
        return self._described(view, asked) | {"scores": _scores(view)}

    def _view(self, asked: dict[str, Any]) -> Any:
        return self._session.view(_of(asked, "view", str, ""))

    def _correct(self, asked: dict[str, Any]) -> dict[str, Any]:
        view = self._view(asked)
        ranking = view.row(_of(asked, "row", str, "all"), _threshold(asked))
        images: list[int] = []
        for start, end in _list(asked, "ranges", list):
            images += [int(image) for image in ranking.ids[max(0, int(start)) : max(0, int(end))]]
            if len(images) > _MOST_CORRECTED:
                raise InputError(f"{len(images)} images at once", f"{_MOST_CORRECTED} are the most")
        label = clean_word(_of(asked, "label", str, ""))
        if label:
            return {"images": self._session.correct(images, lambda _, said: Said(label, said.refused))}
        if _of(asked, "clear", bool, False):
            return {"images": self._session.correct(images, lambda _, __: Said())}
        sorting = self._session.view(_of(asked, "sorting", str, view.key)).sorting
        if sorting is None:
            raise InputError("there is no answer that could be refused", "type labels first")
        names = [name for name, _ in sorting.classifier.labels.answers]

        def refuse(image: int, said: Said) -> Said:
            if image >= len(sorting) or sorting.answer[image] == sorting.n_answers:
                return said
            name = names[sorting.answer[image]]
            return Said("" if said.label == name else said.label, tuple(dict.fromkeys((*said.refused, name))))

        return {"images": self._session.correct(images, refuse)}

    def _command(self, asked: dict[str, Any]) -> dict[str, Any]:
        view = self._view(asked)
        line = actions.command_line(self._session, view, _threshold(asked), list(self._beginning.options))
        return {"command": line, "needs_file": "--labels-file" in line}

    def _plan(self, asked: dict[str, Any]) -> dict[str, Any]:
        try:
            placement = Placement(_of(asked, "placement", str, "link"))
        except ValueError as error:
            raise UsageError("an image is linked, copied or moved") from error
        return self.actions.plan(self._view(asked), _threshold(asked), _of(asked, "into", str, ""), placement)

    def _carry_out(self, asked: dict[str, Any]) -> dict[str, Any]:
        self.actions.carry_out(_of(asked, "plan", str, ""))
        return self._changes({})

    def _undo(self, _: dict[str, Any]) -> dict[str, Any]:
        self.actions.undo()
        return self._changes({})

    async def _image(self, request: Request) -> Response:
        asked = await self._asked(request)
        image = _of(asked, "image", int, -1)
        path = self._path(image)
        facts: dict[str, str] = {}
        problem = ""
        try:
            facts = (await self._made_thumbnails().large(path, _wanted(request))).facts
        except (ImageError, ResourceError) as error:
            problem = error.message

        def describe() -> dict[str, Any]:
            described = payload.describe_image(self._session, self._token, self._view(asked), image, facts)
            return described | {"problem": problem}

        return await _answer(lambda: run_in_threadpool(describe))

    async def _drop(self, request: Request) -> Response:
        self._check_token(request)
        data = await _body(request, MOST_DROP)

        def encode() -> dict[str, Any]:
            import io

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

        return await _answer(lambda: run_in_threadpool(encode))

    async def _records(self, request: Request) -> Response:
        asked = await self._asked(request)

        async def stream() -> Response:
            lines = actions.export_jsonl(self._session, self._view(asked), _threshold(asked))
            return StreamingResponse(lines, media_type="application/jsonl", headers=_NEVER)

        return await _answer(stream)


async def _answer(work: Callable[[], Awaitable[Any]]) -> Response:
    """Return what work gives as JSON; a mistake that a user can fix is its line and hint."""
    try:
        answer = await work()
        return answer if isinstance(answer, Response) else JSONResponse(answer, headers=_NEVER)
    except GoneError:
        return JSONResponse({"gone": True}, 410)
    except ZeroshotError as error:
        return JSONResponse({"error": error.message, "hint": error.hint}, 400)
    except (LookupError, TypeError, ValueError, OverflowError):
        return JSONResponse({"error": "the page asked for something that is not there"}, 400)


async def _body(request: Request, most: int) -> bytes:
    """Read a request's body, and no more of it than is allowed."""
    body = bytearray()
    try:
        announced = int(request.headers.get("content-length", "0"))
    except ValueError:
        announced = most + 1
    if announced > most:
        raise HTTPException(413, f"over {most // 1_000_000} MB")
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise HTTPException(413, f"over {most // 1_000_000} MB")
    return bytes(body)


def _wanted(request: Request) -> Callable[[], Awaitable[bool]]:
    async def wanted() -> bool:
        await asyncio.sleep(0)
        return not await request.is_disconnected()

    return wanted


def _of(asked: Mapping[str, Any], key: str, kind: type, otherwise: Any) -> Any:
    value = asked.get(key, otherwise)
    if type(value) is not kind:
        raise InputError(f"{key}: expected {kind.__name__}")
    return value


def _list(asked: Mapping[str, Any], key: str, kind: type) -> list[Any]:
    values = asked.get(key, [])
    if not isinstance(values, list) or not all(isinstance(value, kind) for value in values):
        raise InputError(f"{key}: expected a list")
    return values


def _threshold(asked: Mapping[str, Any]) -> float:
    value = asked.get("threshold", 0.0)
    if not isinstance(value, int | float) or not -1.0 <= value <= 1.0:
        raise InputError("threshold: expected a number from 0 to 1")
    return float(value)


def _scores(view: Any) -> list[float]:
    """Return the cosines of a search at 101 even places of its ranking, nearest first: what a cut-off is set by."""
    values = view.hits.values
    return [round(float(values[i]), 4) for i in np.linspace(0, len(values) - 1, 101).astype(int)] if len(values) else []


def _read_modules() -> dict[str, str]:
    """Read the page's files; the style is the report's, and what is the page's own."""
    folder = resources.files(__package__) / "page"
    found = {file.name: file.read_text(encoding="utf-8") for file in folder.iterdir() if file.is_file()}
    found["style"] = read_resource("report.css") + "\n" + found["explore.css"]
    return found
