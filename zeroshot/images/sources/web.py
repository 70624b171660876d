"""Images from web servers: bounded in bytes and in time, and never from an address inside a private network."""

from __future__ import annotations

import http.client
import time
import urllib.error
from collections.abc import Iterator

from ...errors import ImageError
from .archives import check_size
from .byte_ranges import MAX_IMAGE_BYTES
from .connections import Deadline, open_address
from .stores import SERVER, TransientError, request_seconds, with_retries

MAX_ARCHIVE_BYTES = 64 << 30
"""Largest archive that is fetched from a web server."""

ARCHIVE_SECONDS = 6 * 3600.0
"""How long fetching an archive may take."""

_CHUNK = 1 << 20
_TRANSIENT = (408, 425, 429, 500, 502, 503, 504)


def fetch(name: str) -> bytes:
    """Return what an address holds, whole.

    Raises:
        ImageError: It cannot be had.
    """

    def get() -> bytes:
        content = b"".join(_stream(name, MAX_IMAGE_BYTES))
        check_size(len(content))
        return content

    try:
        content: bytes = with_retries(get, SERVER)
    except FileNotFoundError:
        raise ImageError("no such file on the server") from None
    return content


def fetch_parts(name: str) -> Iterator[bytes]:
    """Yield what an address holds, for archives.

    Raises:
        ImageError: It cannot be had.
    """
    try:
        yield from _stream(name, MAX_ARCHIVE_BYTES, ARCHIVE_SECONDS)
    except FileNotFoundError:
        raise ImageError("no such file on the server") from None
    except TransientError as error:
        raise ImageError(f"could not be fetched: {error.reason}") from error


def _stream(name: str, most: int, seconds: float | None = None) -> Iterator[bytes]:
    """Make one request.

    Args:
        name: The address.
        most: Bytes that it may hold.
        seconds: How long that may take where each `_CHUNK` of it has the time of a request; None: all of it has that.

    Raises:
        FileNotFoundError: There is no such file.
        ImageError: The answer cannot be used, now or later.
        TransientError: It may be had later.
    """
    deadline, end = Deadline(request_seconds()), time.monotonic() + (seconds or 0)
    try:
        with open_address(name, deadline) as answer:
            announced = answer.headers.get("Content-Length", "")
            if announced.isdecimal() and int(announced) > most:
                raise ImageError(f"{int(announced):,} bytes is over the limit of {most:,}")
            came = since = 0
            while chunk := answer.read1(_CHUNK):
                came += len(chunk)
                if came > most:
                    raise ImageError(f"the server sends more than the limit of {most:,} bytes")
                yield chunk
                since += len(chunk)
                if seconds is not None and since >= _CHUNK:
                    since = 0
                    deadline.renew(min(request_seconds(), end - time.monotonic()))
            if announced.isdecimal() and came != int(announced):
                raise TransientError(f"{came:,} of {int(announced):,} bytes came")
    except urllib.error.HTTPError as error:
        if error.code in (404, 410):
            raise FileNotFoundError from None
        if error.code in (401, 403):
            raise ImageError(f"{SERVER} denies access to it (HTTP {error.code})") from None
        if error.code in _TRANSIENT:
            raise TransientError(f"HTTP {error.code}") from None
        raise ImageError(f"{SERVER} answers HTTP {error.code}") from None
    except urllib.error.URLError as error:
        if isinstance(error.reason, ImageError):
            raise error.reason from None
        raise TransientError(_describe(error.reason)) from None
    except http.client.InvalidURL as error:
        how = "; a space in it is written %20" if " " in name else ""
        raise ImageError(f"not an address that can be fetched{how}") from error
    except (OSError, http.client.HTTPException) as error:
        raise TransientError(_describe(error)) from None
    except ValueError as error:
        raise ImageError("not an address that can be fetched") from error


def _describe(error: object) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return (error.strerror if isinstance(error, OSError) else "") or type(error).__name__
