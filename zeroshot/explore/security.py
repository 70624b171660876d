"""Who may ask: the page that was given the token, from this machine, and nobody else.

A browser shows pages of strangers beside this one, and any of them may send requests to 127.0.0.1. So every request
must name a host that is ours (against DNS rebinding), must not come from another origin, and every answer that says
anything about the images needs the token, which no browser sends by itself: there is no cookie.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

MIN_TOKEN = 16
"""Least length of a token that a user gives."""

HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
)
"""Sent with every answer."""


class Token:
    """The secret of one run, and the signatures made from it.

    Args:
        given: By the user; a random one unless it is given.
    """

    def __init__(self, given: str | None = None) -> None:
        self.value = given or secrets.token_urlsafe(24)
        self._run = secrets.token_hex(8)  # the same number is another image in another run

    def matches(self, authorization: str) -> bool:
        """Say whether a header ``Authorization: Bearer ...`` carries the token."""
        scheme, _, value = authorization.partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(value.strip().encode(), self.value.encode())

    def sign(self, name: str) -> str:
        """Return the signature of an address, for what cannot send a header: an ``<img>``."""
        return hmac.new(self.value.encode(), f"{self._run}/{name}".encode(), hashlib.sha256).hexdigest()[:32]

    def signed(self, name: str, signature: str) -> bool:
        """Say whether a signature is that of an address."""
        return hmac.compare_digest(self.sign(name).encode(), signature.encode("utf-8", "replace"))


def new_nonce() -> str:
    """Return a number used once, for the page's own script and style."""
    return secrets.token_urlsafe(16)


def page_policy(nonce: str) -> str:
    """Return the content security policy of the page: what it brings itself, and nothing else."""
    return (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src 'self' blob: data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    )


def allowed_hosts(host: str, port: int) -> frozenset[str]:
    """Return the values of ``Host`` that are this server's."""
    names = {"127.0.0.1", "localhost", "[::1]"}
    if not _is_loopback(host):
        names.add(f"[{host}]" if ":" in host else host.lower())
        names.add(socket.gethostname().lower())
    return frozenset(f"{name}:{port}" for name in names) | (frozenset(names) if port == 80 else frozenset())


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_any_address(host: str) -> bool:
    """Say whether a host to bind stands for every address of the machine."""
    return host in ("0.0.0.0", "::")


class Guard:
    """Refuses whatever does not come from the page itself, before any of the application sees it.

    Args:
        app: What is guarded.
        hosts: Values of ``Host`` that are this server's, see `allowed_hosts`.
        addresses: Whether any literal address is this server's too (it is bound to all of the machine's). A name that
            an attacker has made point here is none.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str], *, addresses: bool = False) -> None:
        self._app = app
        self._hosts = frozenset(hosts)
        self._addresses = addresses

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it; every answer gets the headers that keep it to this page."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *HEADERS]
            await send(message)

        if reason := self._refusal(scope):
            from starlette.responses import JSONResponse

            await JSONResponse({"error": reason}, 403)(scope, receive, send_with_headers)
            return
        await self._app(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> str:
        headers: dict[bytes, list[bytes]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.lower(), []).append(value)
        hosts = headers.get(b"host", [])
        if len(hosts) != 1 or not self._is_ours(hosts[0].decode("latin-1")):
            return "this address is not this server's"
        for origin in headers.get(b"origin", []):
            scheme, _, rest = origin.decode("latin-1").partition("://")
            if scheme not in ("http", "https") or not self._is_ours(rest) or rest != hosts[0].decode("latin-1"):
                return "the request comes from another origin"
        for site in headers.get(b"sec-fetch-site", []):
            # "none" is an address that the user typed or opened, which only ever asks for the page itself.
            if site != b"same-origin" and not (site == b"none" and scope["path"] == "/"):
                return "the request comes from another site"
        return ""

    def _is_ours(self, host: str) -> bool:
        if host.lower() in self._hosts:
            return True
        if not self._addresses:
            return False
        name, _, port = host.rpartition(":")
        try:
            ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return False
        return port.isdigit() and any(known.endswith(f":{port}") for known in self._hosts)
