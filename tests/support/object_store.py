"""Real object stores on this machine: moto's S3 server, and one that misbehaves in front of it."""

from __future__ import annotations

import http.client
import threading
import urllib.request
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol
from urllib.parse import urlsplit

import pytest

INSTALL = "pip install '.[scale-test]'"
SECRET = "marker-secret-" + "zq" * 12
KEY_ID = "AKIAMARKERKEYID0001"


def need(*modules: str) -> None:
    """Skip a test whose parts are not installed, saying how they are."""
    for module in modules:
        pytest.importorskip(module, reason=f"{module} is not installed: {INSTALL}")


@contextmanager
def moto(monkeypatch: pytest.MonkeyPatch, bucket: str = "bucket") -> Iterator[str]:
    """Run an S3 server with a bucket, and set this process's environment to it; gives its address."""
    need("moto.server", "boto3", "obstore")
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        address = f"http://{host}:{port}"
        use_store(monkeypatch, address)
        reset = urllib.request.Request(f"{address}/moto-api/reset", method="POST")
        urllib.request.urlopen(reset).close()  # what it holds is the process's
        boto3.client("s3", endpoint_url=address).create_bucket(Bucket=bucket)
        yield address
    finally:
        server.stop()


def use_store(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """Have this process and its children reach their buckets at an address."""
    from zeroshot.images.sources import archive_cache, stores

    monkeypatch.setattr(stores, "_stores", {})
    monkeypatch.setattr(archive_cache, "_slots", OrderedDict())  # archives that an earlier test opened elsewhere
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_REGION", "us-east-1")


@dataclass
class Faults:
    """What goes wrong with requests whose path holds a text.

    Attributes:
        rules: Text, kind (a status; ``stall`` before an answer, ``halt`` or ``cut`` in the middle of it; ``whole`` for
            a store that gives no parts) and number of requests that it befalls.
        seen: How many requests there were for each rule's text.
        lock: Of these counts.
        ended: Lets go of what stalls.
    """

    rules: list[tuple[str, str, int]] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)
    ended: threading.Event = field(default_factory=threading.Event)

    def kind_for(self, path: str) -> str:
        with self.lock:
            for text, kind, times in self.rules:
                if text in path:
                    self.seen[text] += 1
                    return kind if self.seen[text] <= times else ""
        return ""


class Misfortune(Protocol):
    """Says what goes wrong with requests.

    Attributes:
        ended: Lets go of what stalls.
    """

    ended: threading.Event

    def kind_for(self, path: str) -> str:
        """Return a status, ``stall``, ``halt``, ``cut``, ``whole``, or nothing."""
        ...


@contextmanager
def misbehaving(
    address: str, faults: Misfortune, translate: Callable[[dict[str, str]], dict[str, str]] = dict
) -> Iterator[str]:
    """Stand in front of a store, and pass on what nothing befalls, headers translated; gives its own address."""
    behind = urlsplit(address).netloc

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments: Any) -> None:
            pass

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            kind = faults.kind_for(self.path)
            if kind.isdecimal():
                return self._send(int(kind), {}, b"<Error><Code>Fault</Code></Error>")
            if kind == "stall":
                faults.ended.wait(60)
                self.close_connection = True
                return None
            connection = http.client.HTTPConnection(behind, timeout=30)
            headers = {k: v for k, v in self.headers.items() if k.lower() not in ("connection", "transfer-encoding")}
            if kind == "whole":
                headers = {k: v for k, v in headers.items() if k.lower() != "range"}
            try:
                connection.request(self.command, self.path, body, translate(headers))
                answer = connection.getresponse()
                content = answer.read()
            except (OSError, http.client.HTTPException):  # the store was killed
                connection.close()
                self.close_connection = True
                return None
            kept = {
                k: v for k, v in answer.getheaders() if k.lower() not in ("connection", "transfer-encoding", "date")
            }
            connection.close()
            return self._send(answer.status, kept, content, kind)

        def _send(self, status: int, headers: dict[str, str], content: bytes, kind: str = "") -> None:
            self.send_response(status)
            length = headers.pop("Content-Length", headers.pop("content-length", str(len(content))))
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", length)
            self.end_headers()
            if self.command != "HEAD":
                with suppress(OSError):  # who asked was killed
                    self.wfile.write(content[: len(content) // 2] if kind in ("cut", "halt") else content)
            if kind == "halt":
                faults.ended.wait(60)
            if kind in ("cut", "halt"):
                self.close_connection = True

        do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _answer  # noqa: N815

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: Any) -> None:
            """Say nothing: who asked was killed."""

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        faults.ended.set()
        server.shutdown()
        server.server_close()
