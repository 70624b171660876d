"""The server: bound to this machine, in a thread of its own, until it is told to stop."""

from __future__ import annotations

import errno
import socket
import threading
from asyncio import Protocol, TimerHandle, Transport
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ..errors import InputError, ZeroshotError
from .routes import Application
from .security import Guard, allowed_hosts, is_any_address

_MOST_CONNECTIONS = 400
_GRACE_SECONDS = 2
HEADER_SECONDS = 15
"""Until a connection has sent the head of its request; one that never does would keep the page's from its place."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server listens.

    Attributes:
        host: As bound.
        port: As bound.
        listener: The bound socket.
    """

    host: str
    port: int
    listener: socket.socket

    @property
    def address(self) -> str:
        """The page's address, without the token."""
        host = "127.0.0.1" if is_any_address(self.host) else self.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/"


def bind(host: str, port: int) -> Place:
    """Bind a port; 0 takes a free one.

    Raises:
        InputError: It is taken, or there is no such host.
    """
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(where)
        except BaseException:
            listener.close()
            raise
    except OSError as error:
        taken = error.errno in (errno.EADDRINUSE, errno.EACCES)
        hint = "--port N, or none" if taken else "an address of this machine, such as --host 0.0.0.0"
        raise InputError(f"cannot listen on {host}:{port}: {error.strerror or error}", hint) from error
    return Place(host, listener.getsockname()[1], listener)


def _protocol() -> type[Protocol]:
    """Return uvicorn's HTTP protocol, with an end to connections that ask for nothing."""
    import h11
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class Impatient(H11Protocol):
        _patience: TimerHandle | None = None

        def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._patience = self.loop.call_later(HEADER_SECONDS, transport.close)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.conn.their_state is not h11.IDLE:  # the head of a request is whole
                self._stop_waiting()
            elif self._patience is None and self.conn.trailing_data[0]:
                self._patience = self.loop.call_later(HEADER_SECONDS, self.transport.close)

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_waiting()
            super().connection_lost(exc)

        def _stop_waiting(self) -> None:
            if self._patience is not None:
                self._patience.cancel()
                self._patience = None

    return Impatient


@contextmanager
def serving(application: Application, place: Place) -> Iterator[None]:
    """Serve as long as the block lasts.

    Raises:
        ZeroshotError: The server does not start.
    """
    import uvicorn

    guard = Guard(application.build(), allowed_hosts(place.host, place.port), addresses=is_any_address(place.host))
    config = uvicorn.Config(
        guard,
        log_config=None,
        log_level="critical",  # a line for each request that is refused would hide the address
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="off",
        ws="none",
        http=_protocol(),
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([place.listener],), name="server", daemon=True)
    thread.start()
    try:
        while not server.started:
            if not thread.is_alive():
                raise ZeroshotError("the page's server did not start")
            thread.join(0.01)
        yield
    finally:
        server.should_exit = True
        thread.join(_GRACE_SECONDS + 3)
        application.close()
        place.listener.close()
