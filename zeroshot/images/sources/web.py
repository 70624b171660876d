"""Images from web servers: bounded in bytes and in time, and never from an address inside a private network.

Each connection is made to an address that was looked up and checked before, also after a redirect, so that a name
which leads elsewhere the second time gains nothing.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from ...errors import ImageError, UsageError
from .archives import check_size
from .blobs import MAX_IMAGE_BYTES
from .names import scheme_of
from .stores import DENIED, TransientError, request_seconds, with_retries

MAX_ARCHIVE_BYTES = 64 << 30
"""Largest archive that is fetched from a web server."""

ARCHIVE_SECONDS = 6 * 3600.0
"""How long fetching an archive may take."""

_CHUNK = 1 << 20
_TRANSIENT = (408, 425, 429, 500, 502, 503, 504)
_SECRETS = frozenset(
    (
        *("x-amz-signature", "x-amz-security-token", "x-goog-signature", "sig", "signature", "awsaccesskeyid"),
        *("token", "access_token", "api_key", "apikey", "key", "password"),
    )
)

_private_allowed = False


def allow_private_hosts(allowed: bool) -> None:
    """Say whether addresses of this machine and of private networks may be read from; for the whole process."""
    global _private_allowed
    _private_allowed = allowed


def check_address(name: str) -> None:
    """Refuse an address that holds a secret: names stand in records, manifests and messages.

    Raises:
        UsageError: It holds a password, or a signature in its query.
    """
    if "://" not in name or not ("@" in name or "?" in name) or not scheme_of(name):
        return
    parts = urlsplit(name)
    if parts.username or parts.password or "@" in parts.netloc:
        what = "a user name or password"
    elif any(key.lower() in _SECRETS for key, _ in parse_qsl(parts.query, keep_blank_values=True)):
        what = "a signature or key"
    else:
        return
    raise UsageError(
        f"the address of {parts.hostname} holds {what}, which would stand in every record",
        "s3://, gs:// and az:// take credentials from the environment",
    )


def fetch(name: str) -> bytes:
    """Return what an address holds, whole.

    Raises:
        ImageError: It cannot be had.
    """

    def get() -> bytes:
        content = b"".join(_stream(name, MAX_IMAGE_BYTES, request_seconds()))
        check_size(len(content))
        return content

    try:
        content: bytes = with_retries(get)
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


def _stream(name: str, most: int, seconds: float) -> Iterator[bytes]:
    """Make one request.

    Raises:
        FileNotFoundError: There is no such file.
        ImageError: The answer cannot be used, now or later.
        TransientError: It may be had later.
    """
    deadline = time.monotonic() + seconds
    request = urllib.request.Request(name, headers={"User-Agent": "zeroshot", "Accept-Encoding": "identity"})
    try:
        with _opener().open(request, timeout=min(seconds, request_seconds())) as answer:
            announced = answer.headers.get("Content-Length", "")
            if announced.isdecimal() and int(announced) > most:
                raise ImageError(f"{int(announced):,} bytes is over the limit of {most:,}")
            came = 0
            while chunk := answer.read1(_CHUNK):
                came += len(chunk)
                if came > most:
                    raise ImageError(f"the server sends more than the limit of {most:,} bytes")
                if time.monotonic() > deadline:
                    raise TransientError(f"it took longer than {seconds:g} s")
                yield chunk
            if announced.isdecimal() and came != int(announced):
                raise TransientError(f"{came:,} of {int(announced):,} bytes came")
    except urllib.error.HTTPError as error:
        if error.code in (404, 410):
            raise FileNotFoundError from None
        if error.code in (401, 403):
            raise ImageError(f"{DENIED} (HTTP {error.code})") from None
        if error.code in _TRANSIENT:
            raise TransientError(f"HTTP {error.code}") from None
        raise ImageError(f"the server answers HTTP {error.code}") from None
    except urllib.error.URLError as error:
        if isinstance(error.reason, ImageError):
            raise error.reason from None
        raise TransientError(_describe(error.reason)) from None
    except (OSError, http.client.HTTPException) as error:
        raise TransientError(_describe(error)) from None
    except ValueError as error:
        raise ImageError("not an address that can be fetched") from error


def _describe(error: object) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return (error.strerror if isinstance(error, OSError) else "") or type(error).__name__


def _checked_connection(address: tuple[str, int], timeout: Any) -> socket.socket:
    """Connect to a host whose addresses are all public ones, as `socket.create_connection`."""
    host, port = address
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for *_, place in found:
        if not _private_allowed and not _is_public(str(place[0])):
            raise ImageError(f"{host} is an address of this machine or a private network (--allow-private-hosts)")
    problem: OSError | None = None
    for *_, place in found:
        try:
            return socket.create_connection((str(place[0]), port), timeout)
        except OSError as error:
            problem = error
    raise problem or OSError(f"no address for {host}")


def _is_public(address: str) -> bool:
    place = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(place, "ipv4_mapped", None) or getattr(place, "sixtofour", None)
    return (mapped or place).is_global and not place.is_multicast


class _Http(http.client.HTTPConnection):
    def connect(self) -> None:
        self.sock = _checked_connection((self.host, self.port), self.timeout)


class _Https(http.client.HTTPSConnection):
    def connect(self) -> None:
        plain = _checked_connection((self.host, self.port), self.timeout)
        self.sock = ssl.create_default_context().wrap_socket(plain, server_hostname=self.host)


class _HttpHandler(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_Http, req)


class _HttpsHandler(urllib.request.HTTPSHandler):
    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_Https, req)


def _opener() -> urllib.request.OpenerDirector:
    """Return what follows redirects to http and https alone; a proxy would be asked to connect anywhere."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        _HttpHandler(),
        _HttpsHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(),
    ):
        opener.add_handler(handler)
    return opener
