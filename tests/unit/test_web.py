"""Images from web servers, from one on this machine: bounded, redirected to http(s) alone, no private address."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from support.commands import run
from support.fakes import FakeModel
from unit.test_archives import make_tar, png, problem, read
from zeroshot.images.sources import connections, stores, web

PRIVATE = "127.0.0.1 is an address of this machine or a private network (see `classify --allow-private-hosts`)"


class Site:
    """What the server does at each path, and how often it was asked for it."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.redirects: dict[str, str] = {}
        self.statuses: dict[str, list[int]] = {}
        self.cut: set[str] = set()
        self.unannounced: set[str] = set()
        self.seen: Counter[str] = Counter()
        self.address = ""

    def answer(self, to: BaseHTTPRequestHandler) -> None:
        path = to.path
        self.seen[path] += 1
        if statuses := self.statuses.get(path):
            to.send_error(statuses.pop(0))
        elif path in self.redirects:
            to.send_response(302)
            to.send_header("Location", self.redirects[path])
            to.send_header("Content-Length", "0")
            to.end_headers()
        elif path in self.files:
            content = self.files[path]
            to.send_response(200)
            if path not in self.unannounced:
                to.send_header("Content-Length", str(len(content)))
            to.end_headers()
            cut = path in self.cut
            self.cut.discard(path)
            to.wfile.write(content[: len(content) // 2] if cut else content)
        else:
            to.send_error(404)


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A web server on this machine; private addresses are not allowed yet."""
    monkeypatch.setattr(stores, "_FIRST_PAUSE", 0.001)
    monkeypatch.setattr(connections, "_private_allowed", False)
    there = Site()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *arguments: Any) -> None:
            pass

        def do_GET(self) -> None:
            there.answer(self)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    there.address = f"http://127.0.0.1:{server.server_address[1]}"
    yield there
    server.shutdown()
    server.server_close()


@pytest.fixture
def allowed(site: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    """The server, which may be read from."""
    monkeypatch.setattr(connections, "_private_allowed", True)
    return site


def test_addresses_of_this_machine_need_the_option(site: Site, fake_model: FakeModel) -> None:
    """Without --allow-private-hosts no request is made; with it the image, and the members of a tar, are read."""
    site.files["/a.png"] = png("red")
    labels = ("--labels", "red,green", "--model", "tiny", "--no-cache", "--format", "jsonl")
    refused = run("classify", f"{site.address}/a.png", *labels)
    assert refused.exit_code == 3 and PRIVATE in refused.stdout
    assert not site.seen
    read_it = run("classify", f"{site.address}/a.png", "--allow-private-hosts", *labels)
    assert read_it.exit_code == 0 and '"label": "red"' in read_it.stdout


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "192.168.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1", "fe80::1", "0.0.0.0"],
)
def test_a_name_that_leads_to_a_private_address_is_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What counts is the address that is connected to, also where only one of several is private."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    found = [(socket.AF_INET, 1, 6, "", ("93.184.216.34", 80)), (family, 1, 6, "", (address, 80))]
    monkeypatch.setattr(connections, "_private_allowed", False)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    monkeypatch.setattr(socket, "create_connection", lambda *_: pytest.fail("it connected"))
    assert problem("http://example.org/a.png") == PRIVATE.replace("127.0.0.1", "example.org")
    assert problem("https://example.org/a.png") == PRIVATE.replace("127.0.0.1", "example.org")


def test_a_redirect_into_a_private_network_is_refused(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The address after a redirect is checked as the first one is."""
    site.redirects["/a.png"] = "http://10.0.0.1/b.png"
    checked = connections._is_public
    monkeypatch.setattr(connections, "_is_public", lambda address: address == "127.0.0.1" or checked(address))
    assert problem(f"{site.address}/a.png") == PRIVATE.replace("127.0.0.1", "10.0.0.1")
    assert site.seen == {"/a.png": 1}


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x.png", "s3://bucket/x.png", "data:,x"])
def test_redirects_lead_to_http_alone(target: str, allowed: Site) -> None:
    """A redirect to any other scheme is one failure."""
    allowed.redirects["/a.png"] = target
    assert problem(f"{allowed.address}/a.png") == "the server answers HTTP 302"


def test_redirects_are_followed_and_end(allowed: Site) -> None:
    """A redirect to http is followed; one that leads to itself ends."""
    allowed.files["/b.png"] = png("blue")
    allowed.redirects |= {"/a.png": "/b.png", "/loop.png": "/loop.png"}
    assert read(f"{allowed.address}/a.png") == png("blue")
    assert problem(f"{allowed.address}/loop.png") == "the server answers HTTP 302"


@pytest.mark.parametrize("announced", [True, False])
def test_an_answer_is_bounded_in_bytes(announced: bool, allowed: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit holds for what is announced and for what comes."""
    monkeypatch.setattr(web, "MAX_IMAGE_BYTES", 1000)
    allowed.files |= {"/a.png": b"x" * 1000, "/b.png": b"x" * 1001}
    if not announced:
        allowed.unannounced |= {"/a.png", "/b.png"}
    assert read(f"{allowed.address}/a.png") == b"x" * 1000
    told = (
        "1,001 bytes is over the limit of 1,000" if announced else "the server sends more than the limit of 1,000 bytes"
    )
    assert problem(f"{allowed.address}/b.png").startswith(told)


def test_an_answer_is_bounded_in_time(allowed: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that does not answer is given up after the time for a request, as often as requests are made."""
    monkeypatch.setenv("ZEROSHOT_STORE_TIMEOUT", "0.1")
    monkeypatch.setenv("ZEROSHOT_STORE_TRIES", "2")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        name = f"http://127.0.0.1:{silent.getsockname()[1]}/a.png"
        assert problem(name) == "the server gave no usable answer in 2 tries: no answer in time"


def test_what_passes_is_asked_for_again(allowed: Site) -> None:
    """Overload and answers that are cut short are asked for again; what stays is one failure with its reason."""
    allowed.files["/a.png"] = png("green")
    allowed.statuses |= {"/a.png": [503, 500], "/denied.png": [403] * 9, "/never.png": [500] * 9}
    allowed.cut.add("/a.png")
    assert read(f"{allowed.address}/a.png") == png("green")
    assert allowed.seen["/a.png"] == 4
    assert problem(f"{allowed.address}/none.png") == "no such file on the server"
    assert problem(f"{allowed.address}/denied.png") == "the server denies access to it (HTTP 403)"
    assert problem(f"{allowed.address}/never.png") == "the server gave no usable answer in 5 tries: HTTP 500"
    assert (allowed.seen["/none.png"], allowed.seen["/denied.png"], allowed.seen["/never.png"]) == (1, 1, 5)


def test_an_address_that_cannot_be_used_is_asked_for_once(allowed: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A space in it is no matter of the server's, and its reason says how one is written."""
    monkeypatch.setattr(stores, "_pause", lambda _: pytest.fail("it was asked for again"))
    assert problem(f"{allowed.address}/a b.png") == "not an address that can be fetched; a space in it is written %20"
    assert problem("http://127.0.0.1:port/a.png") == "not an address that can be fetched"
    allowed.files["/a%20b.png"] = png("red")
    assert read(f"{allowed.address}/a%20b.png") == png("red")


def test_an_archive_on_a_server_is_opened(allowed: Site, tmp_path: Any) -> None:
    """A tar's members are read by their names."""
    allowed.files["/x.tar"] = make_tar(tmp_path / "x.tar", [("a.png", png("red"))]).read_bytes()
    assert read(f"{allowed.address}/x.tar::a.png") == png("red")


DRIPS = {
    "a header": (b"HTTP/1.1 200 OK\r\nX-A: ", b"a"),
    "nothing but 100 Continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "a chunk's extension": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3", b"; "),
    "trailers": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n", b"X-T: 1\r\n"),
    "a body": (b"HTTP/1.1 200 OK\r\n\r\n", b"a"),
    "the body of a redirect": (b"HTTP/1.1 302 F\r\nLocation: /b.png\r\n\r\n", b"a"),
}


@pytest.mark.parametrize("what", DRIPS)
@pytest.mark.parametrize("ending", ["png", "tar"])
def test_a_server_that_drips_gains_no_time(
    what: str, ending: str, allowed: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A byte now and then keeps no request open: it ends with the time for it, while the server still sends."""
    monkeypatch.setenv("ZEROSHOT_STORE_TIMEOUT", "0.3")
    monkeypatch.setenv("ZEROSHOT_STORE_TRIES", "1")
    first, drip = DRIPS[what]
    ended: list[bool] = []
    over = threading.Event()

    def serve(server: socket.socket) -> None:
        with suppress(OSError):
            while True:
                with server.accept()[0] as there:
                    there.recv(65536)
                    with suppress(OSError):
                        there.sendall(first)
                        for _ in range(100):
                            there.sendall(drip)
                            over.wait(0.02)
                        ended.append(True)

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, args=(server,), daemon=True).start()
        address = f"http://127.0.0.1:{server.getsockname()[1]}/a.{ending}"
        said = problem(f"{address}::a.png" if ending == "tar" else address)
        over.set()
        server.shutdown(socket.SHUT_RDWR)
    if "redirect" not in what:  # which is followed without its body, to the same server
        assert said.endswith("no answer in time") and not ended


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot send these signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stop_ends_what_waits_for_a_server(number: int, code: int) -> None:
    """A connection that is open is closed, and none is made again: the run ends at once, not with its minute."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/a.png"
        options = ("--allow-private-hosts", "--labels", "cat,dog", "--model", "tiny", "--no-cache")
        process = subprocess.Popen(
            [sys.executable, "-m", "zeroshot", "classify", address, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            with server.accept()[0] as there:
                there.recv(65536)
                process.send_signal(number)
                out, err = process.communicate(timeout=30)
        finally:
            process.kill()
    assert (process.returncode, out) == (code, b"") and err.strip() == b"zeroshot: interrupted"


def test_a_redirect_tells_no_secret(allowed: Site) -> None:
    """A redirect to an address with a password is not followed, and the password is in no message."""
    allowed.redirects["/a.png"] = "http://user:topsecret@127.0.0.1/a.png"
    said = problem(f"{allowed.address}/a.png")
    assert said == "the server redirects to an address with a user name or password in it"
