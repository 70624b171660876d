"""Connections to web servers: to checked addresses, bounded in time whatever the server sends, and ended by a stop.

Each connection is made to an address that was looked up and checked before, also after a redirect, so that a name
which leads elsewhere the second time gains nothing.
"""

from __future__ import annotations

import http.client
import io
import ipaddress
import socket
import ssl
import time
import urllib.request
from contextlib import suppress
from email.message import Message
from typing import IO, Any

from ...errors import ImageError
from ...system.signals import at_stop, stopping
from .address_secrets import find_secret
from .stores import STOPPED

_CONNECT_SECONDS = 10.0

_private_allowed = False
_open: dict[int, socket.socket] = {}
"""Sockets that threads may be waiting at. A stop reads it in the middle of anything: single steps alone change it."""


def allow_private_hosts(allowed: bool) -> None:
    """Say whether addresses of this machine and of private networks may be read from; for the whole process."""
    global _private_allowed
    _private_allowed = allowed


class Deadline:
    """When an answer has to be there; a server that sends a byte now and then gains no time.

    Args:
        seconds: From now.
    """

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def renew(self, seconds: float) -> None:
        """Begin anew, since enough has come."""
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Return the seconds that are left.

        Raises:
            TimeoutError: None.
        """
        if stopping():
            raise ImageError(STOPPED)
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left


def open_address(address: str, deadline: Deadline) -> http.client.HTTPResponse:
    """Ask for an address; redirects are followed to http and https alone, and no proxy is asked to connect anywhere.

    Raises:
        OSError: What `urllib.request` raises.
        ImageError: It leads to a private network.
    """
    opener = urllib.request.OpenerDirector()
    for handler in (
        _HttpHandler(deadline),
        _HttpsHandler(deadline),
        _Redirects(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(),
    ):
        opener.add_handler(handler)
    request = urllib.request.Request(address, headers={"User-Agent": "zeroshot", "Accept-Encoding": "identity"})
    answer: http.client.HTTPResponse = opener.open(request, timeout=deadline.left())
    return answer


@at_stop
def _cut() -> None:
    """End what threads wait for; the wait itself then fails."""
    for sock in list(_open.values()):
        with suppress(OSError):
            socket.socket.shutdown(sock, socket.SHUT_RDWR)  # SSLSocket's own would go on in plain text


def _connect(address: tuple[str, int], deadline: Deadline) -> socket.socket:
    """Connect to a host whose addresses are all public ones, as `socket.create_connection`."""
    host, port = address
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for *_, place in found:
        if not _private_allowed and not _is_public(str(place[0])):
            where = "is an address of this machine or a private network (see `classify --allow-private-hosts`)"
            raise ImageError(f"{host} {where}")
    problem: OSError | None = None
    for *_, place in found:
        try:
            return socket.create_connection((str(place[0]), port), min(deadline.left(), _CONNECT_SECONDS))
        except OSError as error:
            problem = error
    raise problem or OSError(f"no address for {host}")


def _is_public(address: str) -> bool:
    place = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(place, "ipv4_mapped", None) or getattr(place, "sixtofour", None)
    return (mapped or place).is_global and not place.is_multicast


class _TimedReader(io.RawIOBase):
    """What comes from a socket, each read of which may take what is left of the time."""

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        self._sock = sock
        self._raw = sock.makefile("rb", buffering=0)
        self._deadline = deadline
        _open[id(self)] = sock

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(self._deadline.left())
        count: int | None = self._raw.readinto(buffer)
        if not count and stopping():
            raise ImageError(STOPPED)
        return count

    def close(self) -> None:
        _open.pop(id(self), None)
        self._raw.close()
        super().close()


class _Http(http.client.HTTPConnection):
    def __init__(self, host: str, *, deadline: Deadline, **options: Any) -> None:
        super().__init__(host, **options)
        self._deadline = deadline
        self.response_class = _response_class(deadline)

    def connect(self) -> None:
        self.sock = _connect((self.host, self.port), self._deadline)
        self.sock.settimeout(self._deadline.left())


class _Https(_Http, http.client.HTTPSConnection):
    def connect(self) -> None:
        super().connect()
        plain = self.sock
        # The handshake as a whole has the socket's time.
        self.sock = ssl.create_default_context().wrap_socket(
            plain, server_hostname=self.host, do_handshake_on_connect=False
        )
        _open[id(self)] = self.sock
        try:
            self.sock.do_handshake()
            self.sock.settimeout(self._deadline.left())
        finally:
            _open.pop(id(self), None)


def _response_class(deadline: Deadline) -> Any:
    class Response(http.client.HTTPResponse):
        def __init__(self, sock: socket.socket, *arguments: Any, **options: Any) -> None:
            super().__init__(sock, *arguments, **options)
            self.fp.close()
            self.fp = io.BufferedReader(_TimedReader(sock, deadline))

    return Response


class _HttpHandler(urllib.request.HTTPHandler):
    def __init__(self, deadline: Deadline) -> None:
        super().__init__()
        self._deadline = deadline

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_Http, req, deadline=self._deadline)  # type: ignore[arg-type]


class _HttpsHandler(urllib.request.HTTPSHandler):
    def __init__(self, deadline: Deadline) -> None:
        super().__init__()
        self._deadline = deadline

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_Https, req, deadline=self._deadline)  # type: ignore[arg-type]


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a redirect without its body, which may have no end; a signature in it is the server's own matter."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        fp.close()
        if find_secret(newurl) == "a user name or password":
            raise ImageError("the server redirects to an address with a user name or password in it")
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]
