"""Routes the requests of the page by their address, and refuses who must not ask, or asks for too much.

`request_handlers` says what the answer is.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from importlib import resources
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from ..errors import ImageError, OutputError, ResourceError, ZeroshotError
from ..messages import printable
from ..output.report.markup import read_resource
from .folder_sort import Actions
from .request_handlers import Answer, Beginning, RequestHandlers
from .request_values import MOST_DROP, MOST_JSON, read_body, still_wanted, value_of
from .security import Token, new_nonce, page_policy
from .session import Session
from .tab_view import GoneError, TemplatesError
from .thumbnails import Thumbnails

_PRIVATE = {"cache-control": "private, max-age=600"}
_NEVER = {"cache-control": "no-store"}


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
        self._modules = _read_modules()
        self._thumbnails: Thumbnails | None = None
        self.actions = Actions(session)
        self._answers = RequestHandlers(session, token, beginning, self.actions)

    def close(self) -> None:
        """Finish what is in work."""
        self.actions.close()
        if self._thumbnails is not None:
            self._thumbnails.close()

    def build(self) -> Starlette:
        """Return the application; it is to stand behind a `security.Guard`."""
        return Starlette(
            routes=[
                Route("/", self._page),
                Route("/page/{name}", self._module),
                Route("/thumb/{image:int}", self._thumb),
                Route("/large/{image:int}", self._large),
                Route("/api/image", self._image, methods=["POST"]),
                Route("/api/drop", self._drop, methods=["POST"]),
                Route("/api/records", self._records, methods=["POST"]),
                Route("/api/map", self._map, methods=["POST"]),
                *(
                    Route(f"/api/{name}", self._post(answer), methods=["POST"])
                    for name, answer in self._answers.by_name().items()
                ),
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
        image, path = self._signed(request, "thumb")
        data = await self._made(self._made_thumbnails().small(image, path, still_wanted(request)))
        return Response(data, media_type="image/webp", headers=_PRIVATE)

    async def _large(self, request: Request) -> Response:
        image, path = self._signed(request, "large")
        large = await self._made(self._made_thumbnails().large(image, path, still_wanted(request)))
        return Response(large.data, media_type="image/webp", headers=_PRIVATE)

    def _signed(self, request: Request, kind: str) -> tuple[int, str]:
        image: int = request.path_params["image"]
        if not self._token.signed(f"{kind}/{image}", request.query_params.get("s", "")):
            raise HTTPException(401)
        return image, self._path(image)

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
        except (ResourceError, OutputError) as error:  # such as no room for a tar of a store
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
            asked = json.loads(await read_body(request, MOST_JSON) or b"{}")
        except (ValueError, RecursionError) as error:
            raise HTTPException(400, "not JSON") from error
        if not isinstance(asked, dict):
            raise HTTPException(400, "not an object")
        return asked

    def _check_token(self, request: Request) -> None:
        if not self._token.matches(request.headers.get("authorization", "")):
            raise HTTPException(401, "the token of the address that the terminal printed is needed")

    async def _image(self, request: Request) -> Response:
        asked = await self._asked(request)

        async def described() -> dict[str, Any]:
            image = value_of(asked, "image", int, -1)
            path = self._path(image)
            facts: dict[str, str] = {}
            problem = ""
            try:
                facts = (await self._made_thumbnails().large(image, path, still_wanted(request))).facts
            except (ImageError, ResourceError, OutputError) as error:
                problem = error.message
            return await run_in_threadpool(self._answers.describe_image, asked, image, facts) | {"problem": problem}

        return await _answer(described)

    async def _drop(self, request: Request) -> Response:
        self._check_token(request)
        data = await read_body(request, MOST_DROP)
        return await _answer(lambda: run_in_threadpool(self._answers.keep_drop, data))

    async def _map(self, request: Request) -> Response:
        asked = await self._asked(request)

        async def points() -> Response:
            data = await run_in_threadpool(self._answers.map_points, asked)
            return Response(data, 202 if data is None else 200, headers=_NEVER, media_type="application/octet-stream")

        return await _answer(points)

    async def _records(self, request: Request) -> Response:
        asked = await self._asked(request)

        async def stream() -> Response:
            return StreamingResponse(self._answers.records(asked), media_type="application/jsonl", headers=_NEVER)

        return await _answer(stream)


async def _answer(work: Callable[[], Awaitable[Any]]) -> Response:
    """Return what work gives as JSON; a mistake that a user can fix is its line and hint."""
    try:
        answer = await work()
        return answer if isinstance(answer, Response) else JSONResponse(answer, headers=_NEVER)
    except GoneError:
        return JSONResponse({"error": "what the page shows is too old"}, 410)
    except ZeroshotError as error:
        field = {"field": "templates"} if isinstance(error, TemplatesError) else {}
        # A message may name a file whose name is no text, which JSON cannot hold.
        return JSONResponse({"error": printable(error.message), "hint": printable(error.hint), **field}, 400)
    except (LookupError, TypeError, ValueError, OverflowError):
        return JSONResponse({"error": "the page asked for something that does not exist"}, 400)


def _read_modules() -> dict[str, str]:
    """Read the page's files; the style is the report's, and what is the page's own."""
    folder = resources.files(__package__) / "page"
    found = {file.name: file.read_text(encoding="utf-8") for file in folder.iterdir() if file.is_file()}
    found["style"] = read_resource("report.css") + "\n" + found["explore.css"]
    return found
