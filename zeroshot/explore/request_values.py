"""Checks the values that a request of the page holds; none is trusted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request

from ..errors import InputError
from ..messages import printable

MOST_JSON = 1_000_000
MOST_DROP = 64_000_000
"""Bytes of a request, and of an image dropped onto the page."""


async def read_body(request: Request, most: int) -> bytes:
    """Read a request's body, and no more of it than is allowed."""
    body = bytearray()
    try:
        announced = int(request.headers.get("content-length", "0"))
    except ValueError:
        announced = most + 1
    if announced > most:
        raise HTTPException(413, f"more than {most // 1_000_000} MB, which is the most that is taken")
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise HTTPException(413, f"more than {most // 1_000_000} MB, which is the most that is taken")
    return bytes(body)


def still_wanted(request: Request) -> Callable[[], Awaitable[bool]]:
    """Return what says whether somebody still waits for the answer."""

    async def wanted() -> bool:
        await asyncio.sleep(0)
        return not await request.is_disconnected()

    return wanted


def value_of(asked: Mapping[str, Any], key: str, kind: type, otherwise: Any) -> Any:
    """Return a value that is of exactly one type; `otherwise` where it is not given.

    Raises:
        InputError: It is of another type, or a text that no file can hold.
    """
    value = asked.get(key, otherwise)
    if type(value) is not kind:
        raise InputError(f"{key}: expected {kind.__name__}")
    _check_text(key, value)
    return value


def list_of(asked: Mapping[str, Any], key: str, kind: type) -> list[Any]:
    """Return a list of values of one type; empty where it is not given.

    Raises:
        InputError: It is no such list.
    """
    values = asked.get(key, [])
    if not isinstance(values, list) or not all(isinstance(value, kind) for value in values):
        raise InputError(f"{key}: expected a list")
    for value in values:
        _check_text(key, value)
    return values


def _check_text(key: str, value: Any) -> None:
    """Refuse half of a character, which JSON can spell and UTF-8 cannot.

    Raises:
        InputError: The value is a text that holds one.
    """
    if isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value):
        what = printable(value[:200])
        raise InputError(f"{key}: {what} is not text: a part of a character is missing", "type it anew")


def threshold_of(asked: Mapping[str, Any]) -> float:
    """Return the least probability or cosine; 0 where it is not given.

    Raises:
        InputError: It is no number from -1 to 1.
    """
    value = asked.get("threshold", 0.0)
    if not isinstance(value, int | float) or not -1.0 <= value <= 1.0:
        raise InputError("threshold: expected a number from 0 to 1")
    return float(value)
