"""A stand-in for the Hugging Face hub: enough of its HTTP for the real client, and faults on demand.

    with serve({"org/model": {"open_clip_config.json": b"{}"}}) as server:
        subprocess.run([...], env={**os.environ, "HF_ENDPOINT": server.url, "HF_HUB_CACHE": str(tmp_path)})

As on the hub, large files (weights) carry the SHA-256 of their content as tag, the others a git hash.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

COMMIT = "c0ffee" * 6 + "c0de"
_LARGE = (".safetensors", ".bin", ".model")


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it came in; header names are in lower case."""

    method: str
    path: str
    headers: dict[str, str]


@dataclass(slots=True)
class Faults:
    """What goes wrong; set a field at any time.

    Attributes:
        cut_after: Drop the connection after so many bytes of a body; counts down `cuts`.
        cuts: How many bodies `cut_after` applies to.
        stall_after: Send so many bytes of a body, then nothing more.
        silent: Answer no request at all.
        corrupt: Send other bytes of the same length.
        refuse: Answer with this status; counts down `refusals`.
        refusals: How many requests `refuse` applies to.
        error_code: The hub's ``X-Error-Code`` for it: ``GatedRepo``, ``RepoNotFound``, ...
        ignore_range: Send the whole file whatever range is asked for.
        elsewhere: Redirect large files to another host, as the hub does to its storage.
        page: Answer everything with a web page, as the login page of a hotel's network does.
        endless: Send zeros behind the body of a large file for as long as somebody reads; `Server.sent` counts them.
        no_size: State the size of no file.
        listing: Answer the question which files there are with this.
        headers: Headers of files that replace the right ones.
    """

    cut_after: int | None = None
    cuts: int = 1
    stall_after: int | None = None
    silent: bool = False
    corrupt: bool = False
    refuse: int | None = None
    refusals: int = 1_000_000
    error_code: str | None = None
    ignore_range: bool = False
    elsewhere: bool = False
    page: bool = False
    endless: bool = False
    no_size: bool = False
    listing: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Server:
    """A running stand-in."""

    url: str
    repos: dict[str, dict[str, bytes]]
    requests: list[Request] = field(default_factory=list)
    faults: Faults = field(default_factory=Faults)
    stop: threading.Event = field(default_factory=threading.Event)
    sent: int = 0

    def bodies(self, name: str) -> list[Request]:
        """The requests for a file's content, redirects not counted."""
        wanted = "/storage/" if self.faults.elsewhere else "/resolve/"
        return [
            request
            for request in self.requests
            if request.method == "GET" and request.path.endswith(f"/{name}") and wanted in request.path
        ]


def etag(name: str, content: bytes) -> str:
    """The hub's tag of a file: SHA-256 for a large one, git's hash for another."""
    if name.endswith(_LARGE):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@contextmanager
def serve(repos: dict[str, dict[str, bytes]]) -> Iterator[Server]:
    """Serve repositories (name to file name to content) on a free local port until the block ends."""

    class Handler(_Handler):
        hub = Server("", repos)

    http = _Listener(("127.0.0.1", 0), Handler)
    Handler.hub.url = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield Handler.hub
    finally:
        Handler.hub.stop.set()
        http.shutdown()
        http.server_close()
        thread.join()


class _Listener(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # clients that hang up are part of the tests


class _Handler(BaseHTTPRequestHandler):
    hub: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are two writes; waiting for the first costs 40 ms a request

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _answer(self) -> None:
        path, faults = unquote(self.path), self.hub.faults
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.hub.requests.append(Request(self.command, path, headers))
        if faults.silent:
            self.hub.stop.wait(60)
            self.close_connection = True
        elif faults.page:
            self._send(200, b"<html>Please log in</html>", {"Content-Type": "text/html"})
        elif faults.refuse is not None and faults.refusals > 0:
            faults.refusals -= 1
            self._send(faults.refuse, b"", {"X-Error-Code": faults.error_code} if faults.error_code else {})
        elif path.startswith("/api/models/"):
            self._send_listing(path.removeprefix("/api/models/").partition("/revision/")[0])
        else:
            repo, _, rest = path[1:].partition("/storage/" if "/storage/" in path else "/resolve/")
            self._send_file(repo, *rest.partition("/")[::2], stored="/storage/" in path)

    def _send_listing(self, repo: str) -> None:
        files = self.hub.repos.get(repo)
        if files is None:
            self._send(401, b"", {"X-Error-Code": "RepoNotFound"})
            return
        if self.hub.faults.listing is not None:
            self._send(200, self.hub.faults.listing, {"Content-Type": "application/json"})
            return
        listing = {"id": repo, "sha": COMMIT, "siblings": [{"rfilename": name} for name in files]}
        self._send(200, json.dumps(listing).encode(), {"Content-Type": "application/json"})

    def _send_file(self, repo: str, revision: str, name: str, *, stored: bool) -> None:
        faults, files = self.hub.faults, self.hub.repos.get(repo)
        if files is None:
            self._send(401, b"", {"X-Error-Code": "RepoNotFound"})
            return
        if revision not in ("main", COMMIT):
            self._send(404, b"", {"X-Error-Code": "RevisionNotFound"})
            return
        if name not in files:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
            return
        content = files[name]
        tag = etag(name, content)
        headers = {"ETag": f'"{tag}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        if name.endswith(_LARGE):
            headers |= {"X-Linked-Etag": f'"{tag}"', "X-Linked-Size": str(len(content))}
            if faults.elsewhere and not stored:
                # Another name for the same port is another host to the client.
                host = self.hub.url.replace("127.0.0.1", "localhost")
                self._send(302, b"", headers | {"Location": f"{host}/{repo}/storage/{revision}/{name}"})
                return
        if faults.no_size:
            headers.pop("X-Linked-Size", None)
        headers |= faults.headers
        if faults.corrupt:
            content = bytes(255 - byte for byte in content)
        asked = self.headers.get("Range")
        if asked and not faults.ignore_range:
            start = int(asked.removeprefix("bytes=").partition("-")[0])
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self._send(206, content[start:], headers)
        else:
            self._send(200, content, headers)

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        faults = self.hub.faults
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        large = "X-Linked-Etag" in headers and status != 302
        if large and (faults.endless or faults.no_size):
            self.send_header("Connection", "close")
        else:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if large and faults.endless:
            self.wfile.write(body)
            while not self.hub.stop.is_set() and self.hub.sent < 10**9:
                self.wfile.write(bytes(1 << 20))
                self.hub.sent += 1 << 20
        elif large and faults.stall_after is not None:
            self.wfile.write(body[: faults.stall_after])
            self.wfile.flush()
            self.hub.stop.wait(60)
            self.close_connection = True
        elif large and faults.cut_after is not None and faults.cuts > 0:
            faults.cuts -= 1
            self.wfile.write(body[: faults.cut_after])
            self.wfile.flush()
            self.close_connection = True
        else:
            self.wfile.write(body)
