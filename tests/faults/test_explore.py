"""Attacks on the live page: strangers' requests, ids that are paths, floods, folders that vanish, disks that fill."""

from __future__ import annotations

import asyncio
import errno
import http.client
import io
import json
import os
import resource
import shutil
import socket
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from support.explorer import Explorer, explore
from support.fakes import COLOURS, FakeEncoder
from zeroshot.errors import InputError
from zeroshot.explore import exports, server, view_json
from zeroshot.explore.background_encoding import Encoding
from zeroshot.explore.image_origins import Listing
from zeroshot.explore.security import Guard, Token, allowed_hosts

ATTACK = "<img src=x onerror=document.title='owned'>"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Six images in three colours, one of them with markup in its name, and one that is damaged."""
    folder = tmp_path / "images"
    folder.mkdir()
    for index, colour in enumerate(["red", "green", "blue"] * 2):
        Image.new("RGB", (40, 30), COLOURS[colour]).save(folder / f"{index}{'<b>' if index == 3 else ''}.png")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "secret.png").write_bytes((folder / "0.png").read_bytes())
    return folder


@pytest.fixture
def page(images: Path, tmp_path: Path) -> Iterator[Explorer]:
    with explore(FakeEncoder(), images, tmp_path / "corrections.csv") as explorer:
        yield explorer


def sort(page: Explorer, labels: str = "red, green, blue", **more: Any) -> dict[str, Any]:
    asked = {"labels": labels, "windows": [["0", 0, 50], ["all", 0, 50]], "threshold": 0}
    return page.post("sort", **(asked | more))


def wait_for_map(page: Explorer, view: str) -> tuple[int, bytes, dict[str, str]]:
    asked = json.dumps({"view": view}).encode()
    while True:
        found = page.ask("POST", "/api/map", asked, Authorization=f"Bearer {page.token.value}")
        if found[0] != 202:
            return found
        page.session.map._thread.join()  # type: ignore[union-attr]


def wait_for_job(page: Explorer) -> dict[str, Any]:
    page.application.actions._thread.join()  # type: ignore[union-attr]
    found: dict[str, Any] = page.post("changes")["job"]
    return found


class TestStrangers:
    """Who may not ask."""

    @pytest.mark.parametrize(
        "headers",
        [
            {"Host": "evil.example"},
            {"Host": "evil.example:{port}"},
            {"Host": "127.0.0.1"},
            {"Host": "127.0.0.1:1"},
            {"Host": "127.0.0.1:{port}@evil.example"},
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Origin": "http://127.0.0.1:1"},
            {"Origin": "http://localhost:{port}"},
            {"Origin": "http://127.0.0.1:{port}.evil.example"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
            {"Sec-Fetch-Site": "none"},
        ],
    )
    def test_foreign_requests_are_refused(self, page: Explorer, headers: dict[str, str]) -> None:
        """A foreign Host, Origin or site is refused even with the token, before anything is looked at."""
        named = {name: value.format(port=page.port) for name, value in headers.items()}
        status, body, _ = page.ask(
            "POST", "/api/start", b"{}", **{"Authorization": f"Bearer {page.token.value}", **named}
        )
        assert status == 403
        assert b"folder" not in body

    def test_the_page_itself_may_be_opened_by_its_address_only(self, page: Explorer) -> None:
        """Typed or opened by the terminal is well; a link, form or frame of another site is not."""
        assert page.ask("GET", "/", **{"Sec-Fetch-Site": "none"})[0] == 200
        assert page.ask("GET", "/", **{"Sec-Fetch-Site": "cross-site"})[0] == 403
        form = {"Sec-Fetch-Site": "cross-site", "Content-Type": "application/x-www-form-urlencoded"}
        assert page.ask("POST", "/api/uncorrect", b"a=b", **form)[0] == 403

    @pytest.mark.parametrize(
        "name",
        [
            "start",
            "changes",
            "sort",
            "rows",
            "ids",
            "failures",
            "search",
            "correct",
            "uncorrect",
            "image",
            "map",
            "thumbs",
        ],
    )
    @pytest.mark.parametrize("authorization", [None, "Bearer wrong", "Bearer ", "Basic {token}", "{token}", "Bearer é"])
    def test_the_token_is_needed(self, page: Explorer, name: str, authorization: str | None) -> None:
        """Without the token, or with another, nothing is answered; the token in the address or a cookie is none."""
        headers = {} if authorization is None else {"Authorization": authorization.format(token=page.token.value)}
        for path in (f"/api/{name}", f"/api/{name}?token={page.token.value}"):
            status, body, _ = page.ask("POST", path, b"{}", Cookie=f"token={page.token.value}", **headers)
            assert status == 401
            assert b"images" not in body

    @pytest.mark.parametrize("name", ["drop", "records", "plan", "carry-out", "undo", "command", "labels"])
    def test_nothing_is_written_without_the_token(self, page: Explorer, name: str, images: Path) -> None:
        """Neither uploads nor exports nor a sort begin."""
        before = sorted(images.parent.rglob("*"))
        assert page.ask("POST", f"/api/{name}", b"{}")[0] == 401
        assert sorted(images.parent.rglob("*")) == before

    def test_there_is_no_cookie_and_no_leave_for_others(self, page: Explorer) -> None:
        """No answer sets a cookie or lets another origin read it; the page runs only what it brings."""
        answers = [page.ask("GET", "/"), page.ask("OPTIONS", "/api/start", Origin="https://evil.example")]
        answers += [page.ask("GET", "/page/main.js"), page.ask("POST", "/api/start"), page.ask("GET", "/nothing")]
        for _, _, headers in answers:
            assert "set-cookie" not in headers and "access-control-allow-origin" not in headers
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["cross-origin-resource-policy"] == "same-origin"
        first, second = (page.ask("GET", "/")[2]["content-security-policy"] for _ in range(2))
        assert first.startswith("default-src 'none'; script-src 'nonce-") and "unsafe" not in first
        assert first != second

    def test_hosts_of_other_addresses(self) -> None:
        """Bound to all addresses, a literal address is ours and a name that was made to point here is not."""
        guard = Guard(None, allowed_hosts("0.0.0.0", 80), addresses=True)  # type: ignore[arg-type]
        assert guard._is_ours("192.168.1.5:80")
        assert not guard._is_ours("evil.example:80")
        assert not guard._is_ours("192.168.1.5:81")
        assert "example.org:8000" in allowed_hosts("example.org", 8000)
        assert allowed_hosts("127.0.0.1", 1) == {"127.0.0.1:1", "localhost:1", "[::1]:1"}


class TestMap:
    """The map, which knows images by their numbers."""

    def test_says_no_more_than_it_must(self, page: Explorer, monkeypatch: pytest.MonkeyPatch) -> None:
        """Six bytes an image, of so many images at most, and only with the token and for a view that is there."""
        monkeypatch.setattr(view_json, "MOST_DOTS", 4)
        view = sort(page)["view"]
        status, body, headers = wait_for_map(page, view)
        assert (status, len(body)) == (200, 6 * 4)
        assert headers["cache-control"] == "no-store"
        assert page.ask("POST", "/api/map", json.dumps({"view": view}).encode())[0] == 401
        assert page.post("map", view="v999")["status"] == 410
        assert page.post("image", view=view, image="x")["status"] == 400
        assert page.post("map", view=["v1"])["status"] == 400

    @pytest.mark.parametrize(
        "images", [[6], [-1], [0, 10**30], ["0"], [True], [0.5], [None], [[0]], "0", {"0": 1}, [0] * 50_001]
    )
    def test_numbers_that_are_no_image(self, page: Explorer, images: Any) -> None:
        """Neither shown nor corrected, not even the ones among them that are images."""
        view = sort(page)["view"]
        assert page.post("thumbs", images=images)["status"] == 400
        assert page.post("correct", view=view, images=images, label="red")["status"] == 400
        assert page.session.corrections.all() == {}

    def test_hostile_names_are_kept_as_text(self, page: Explorer) -> None:
        """A cluster's name is a label like any other."""
        view = sort(page)["view"]
        assert page.post("correct", view=view, images=[0, 1, 1], label=f"  {ATTACK}\n,x ")["images"] == 2
        assert {said.label for said in page.session.corrections.all().values()} == {f"{ATTACK} ,x"}


class TestIds:
    """Images by id."""

    @pytest.mark.parametrize(
        "name",
        [
            "../secret.png", "..%2fsecret.png", "%2e%2e/secret.png", "/etc/passwd", "0/../1", "-1", "1e0", "0x0", "",
            "99", "99999999999999999999999999", "%00", "0%00", "٣",
        ],
    )  # fmt: skip
    def test_paths_are_no_ids(self, page: Explorer, name: str) -> None:
        """Nothing but the number of an image leads to one, even with a right signature."""
        signature = page.token.sign(f"thumb/{name}")
        for kind in ("thumb", "large"):
            path = f"/{kind}/{name}?s={signature}".encode("ascii", "ignore").decode()
            status, body, _ = page.ask("GET", path)
            assert status in (401, 404, 307)
            assert not body.startswith(b"RIFF")

    def test_a_signature_is_for_one_address(self, page: Explorer) -> None:
        """That of another image, of another kind, of another token, or a part of it opens nothing."""
        good = page.token.sign("thumb/0")
        status, body, headers = page.ask("GET", f"/thumb/0?s={good}")
        assert (status, headers["content-type"], body[:4]) == (200, "image/webp", b"RIFF")
        for path in (
            *(f"/thumb/1?s={good}", f"/large/0?s={good}", f"/thumb/0?s={good[:-1]}", "/thumb/0", "/thumb/0?s="),
            f"/thumb/0?s={Token().sign('thumb/0')}",
        ):
            assert page.ask("GET", path)[0] == 401
        assert page.ask("GET", f"/thumb/0?s={good}", **{"Sec-Fetch-Site": "cross-site"})[0] == 403

    def test_modules_are_named_ones(self, page: Explorer) -> None:
        """Only the page's own modules are served, whatever is asked for."""
        assert page.ask("GET", "/page/main.js")[0] == 200
        for name in (
            "../routes.py",
            "..%2froutes.py",
            "index.html",
            "style",
            "explore.css",
            "%2e%2e%2f%2e%2e%2froutes.py",
        ):
            assert page.ask("GET", f"/page/{name}")[0] == 404

    @pytest.mark.parametrize(
        "asked",
        [
            b"[]", b"null", b"{", b"\xff", b'{"labels": 3}', b'{"labels": "a", "windows": [[1]]}',
            b'{"labels": "a", "windows": [["0", "x", 1]]}', b'{"labels": "a", "threshold": NaN}',
            b'{"labels": "a", "threshold": 1e999}', b'{"labels": "a", "threshold": "1"}', b'{"set": "../../secret"}',
            b'{"set": "/etc/passwd", "labels": "a"}', b'{"labels": "a", "templates": ["{}{}"]}', b"[" * 100000,
            b'{"labels": "a", "windows": [["0", 1e400, 1]]}',
        ],
    )  # fmt: skip
    def test_nonsense_is_refused_in_one_line(self, page: Explorer, asked: bytes) -> None:
        """Whatever is not as expected is an error of the asker, never one of the server."""
        status, body, _ = page.ask("POST", "/api/sort", asked, Authorization=f"Bearer {page.token.value}")
        assert status == 400, body
        assert sort(page)["status"] == 200

    def test_half_a_character_is_refused(self, page: Explorer, tmp_path: Path) -> None:
        """What JSON can spell and UTF-8 cannot is named in one line, wherever it stands."""
        view = sort(page)["view"]
        half = "\ud800"
        asked: list[tuple[str, dict[str, Any]]] = [
            ("plan", {"into": half}), ("correct", {"images": [0], "label": half}), ("sort", {"labels": half}),
            ("sort", {"labels": "a", "templates": [half]}), ("search", {"text": half}),
        ]  # fmt: skip
        for name, more in asked:
            answer = page.post(name, view=view, **more)
            assert answer["status"] == 400 and "\\ud800 is not text" in answer["error"]
        assert page.session.corrections.all() == {}

    def test_an_error_may_name_what_is_no_text(self, page: Explorer, tmp_path: Path) -> None:
        """A link leads to a folder whose name is not UTF-8: what goes wrong there is still one line."""
        real = tmp_path / os.fsdecode(b"\xff")
        real.mkdir()
        (tmp_path / "link").symlink_to(real)
        plan = page.post("plan", view=sort(page)["view"], into=str(tmp_path / "link/x"))
        (real / "x").write_bytes(b"")
        answer = page.post("carry-out", plan=plan["plan"])
        assert answer["status"] == 400 and "\\udcff" in answer["error"]

    def test_rows_and_views_that_are_not_there(self, page: Explorer) -> None:
        """They give an error or nothing; a view that is too old is to be made anew."""
        view = sort(page)["view"]
        rows = ["-1", "99", "pair-0-99", "pair-", "../x", "hits", ""]
        assert page.post("rows", view=view, windows=[[row, 0, 9] for row in rows])["rows"] == []
        assert page.post("rows", view="v999")["status"] == 410
        for row in rows:
            assert page.post("correct", view=view, row=row, ranges=[[0, 1]], label="x")["status"] == 400
        assert page.post("image", view=view, image=99)["status"] == 404
        assert page.post("rows", view=view, find=[99, -1])["found"] == [None, None]
        assert page.post("rows", view=view, find=[0, 1], find_in="1")["found"] == [None, ["1", 0]]
        assert page.post("rows", view=view, find=["0"])["status"] == 400
        assert page.post("rows", view=view, find=[10**30])["found"] == [None]
        for asked in ({"row": "9"}, {"row": "0", "end": 60_000}, {"row": "0", "start": "x"}):
            assert page.post("ids", view=view, **asked)["status"] == 400
        assert page.post("ids", view=view, row="0", start=-5, end=9)["images"] == [0, 3]
        assert page.post("search", images=[[1.0, 99]])["status"] == 400


def test_what_another_run_gave_out_opens_nothing(images: Path, tmp_path: Path) -> None:
    """After a restart on the same port with the same token, views, plans and images of before are refused."""
    found = []
    for run in range(2):
        if run:
            (images / "0.png").unlink()  # the numbers are those of other images from now on
        with explore(FakeEncoder(), images, tmp_path / f"{run}.csv") as page:
            token = Token("the same token each time")
            page.application._token = page.application._answers._token = token
            asked = {"labels": "red", "windows": [["0", 0, 9]]}
            headers = {"Authorization": f"Bearer {token.value}"}
            sorted_by = json.loads(page.ask("POST", "/api/sort", json.dumps(asked).encode(), **headers)[1])
            plan = {"view": sorted_by["view"], "into": str(tmp_path / "out"), "placement": "link"}
            key = json.loads(page.ask("POST", "/api/plan", json.dumps(plan).encode(), **headers)[1])["plan"]
            if found:
                view, plan_key, item = found
                for name in ("rows", "correct", "plan", "records", "image"):
                    body = json.dumps({"view": view, "images": [0], "label": "red", "image": 0}).encode()
                    assert page.ask("POST", f"/api/{name}", body, **headers)[0] == 410
                assert page.ask("POST", "/api/carry-out", json.dumps({"plan": plan_key}).encode(), **headers)[0] == 400
                assert page.ask("GET", f"/thumb/{item[0]}?s={item[2]}")[0] == 401
                assert page.session.corrections.all() == {} and not (tmp_path / "out").exists()
            found = [sorted_by["view"], key, sorted_by["rows"][0]["items"][0]]


def test_images_answer_while_labels_are_encoded(page: Explorer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list of new labels that takes long holds up no search, no image and no correction of what is shown."""
    view = sort(page)["view"]
    encode, begun, go_on = page.session.encoder.encode_texts, threading.Event(), threading.Event()

    def slow(texts: list[str]) -> Any:
        begun.set()
        go_on.wait(60)
        return encode(texts)

    monkeypatch.setattr(page.session.encoder, "encode_texts", slow)
    typed = threading.Thread(target=sort, args=(page, "one, two, three"))
    typed.start()
    assert begun.wait(60)
    try:
        assert page.post("image", view=view, image=1)["row"][0] == "green"
        assert page.post("search", images=[[1.0, 0]])["status"] == 200
        assert page.post("rows", view=view, windows=[["0", 0, 9]])["rows"][0]["total"] == 2
        assert page.post("correct", view=view, images=[0], label="blue")["images"] == 1
        assert sort(page, "")["status"] == 200
    finally:
        go_on.set()
        typed.join()


class TestMarkup:
    """Names that a careless page would run; the browser's part is in tests/pages."""

    def test_stays_text(self, page: Explorer) -> None:
        """Labels and file names are data of JSON, which no browser takes for a page."""
        found = sort(page, f"red {ATTACK}\ngreen")
        assert found["answers"][0] == f"red {ATTACK}"
        assert any("<b>" in item[3] for row in found["rows"] for item in row["items"])
        status, body, headers = page.ask("POST", "/api/sort", b"{}", Authorization=f"Bearer {page.token.value}")
        assert headers["content-type"] == "application/json" and status == 200 and body


class TestFloods:
    """Too much at once."""

    def test_a_huge_image_is_refused(self, page: Explorer) -> None:
        """More bytes than allowed are not read; a small file that unfolds to a giant is not decoded."""
        headers = {"Authorization": f"Bearer {page.token.value}"}
        assert page.ask("POST", "/api/drop", **headers, **{"Content-Length": "99000000000"})[0] == 413
        raw = zlib.compress(bytes(30001) * 10)
        giant = io.BytesIO()
        Image.new("1", (1, 1)).save(giant, "PNG")
        data = bytearray(giant.getvalue())
        data[16:24] = (30000).to_bytes(4, "big") * 2
        data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
        status, body, _ = page.ask("POST", "/api/drop", bytes(data) + raw, **headers)
        assert status == 400 and b"pixels" in body
        assert page.ask("POST", "/api/drop", b"not an image", **headers)[0] == 400
        whole = io.BytesIO()
        Image.new("RGB", (20, 20), COLOURS["blue"]).save(whole, "PNG")
        status, body, _ = page.ask("POST", "/api/drop", whole.getvalue(), **headers)
        hits = page.post("search", drops=[[1.0, json.loads(body)["drop"]]], windows=[["hits", 0, 2]], threshold=-1)
        assert [item[3] for item in hits["rows"][0]["items"]] == ["2.png", "5.png"]

    def test_connections_that_ask_for_nothing_are_ended(self, images: Path, tmp_path: Path) -> None:
        """Silent ones take all places, so that the page is refused; they are closed, and it is served again."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(server, "HEADER_SECONDS", 1.0)
            patch.setattr(server, "_MOST_CONNECTIONS", 8)
            with explore(FakeEncoder(), images, tmp_path / "c.csv") as page:
                silent = [socket.create_connection(("127.0.0.1", page.port)) for _ in range(10)]
                for connection in silent[:5]:
                    connection.sendall(b"POST /api/sort HTTP/1.1\r\nHost: x\r\n")  # and no end to its head
                assert page.post("changes")["status"] == 503
                for connection in silent:
                    connection.settimeout(60)
                    assert connection.recv(1) == b""
                    connection.close()
                assert page.post("changes")["status"] == 200
                kept = http.client.HTTPConnection("127.0.0.1", page.port, timeout=60)
                kept.request("GET", "/page/main.js")
                assert kept.getresponse().read()
                kept.sock.sendall(b"GET / HTTP/1.1\r\n")  # a second request on the same connection
                assert kept.sock.recv(1) == b""
                kept.close()

    def test_a_long_request_is_refused(self, page: Explorer) -> None:
        """A body beyond the limit is not read to its end, announced or not."""
        headers = {"Authorization": f"Bearer {page.token.value}"}
        assert page.ask("POST", "/api/sort", b" " * 1_100_000, **headers)[0] == 413

    @pytest.mark.slow
    @pytest.mark.slow
    def test_ten_thousand_requests_at_once(self, page: Explorer) -> None:
        """Each is answered or refused, and the server goes on."""
        sort(page)
        signature = page.token.sign("thumb/0")
        request = f"GET /thumb/0?s={signature} HTTP/1.1\r\nHost: 127.0.0.1:{page.port}\r\nConnection: close\r\n\r\n"
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        at_once = min(10_000, limit // 3 if limit > 0 else 10_000)

        async def one(gate: asyncio.Semaphore) -> str:
            async with gate:
                try:
                    reader, writer = await asyncio.open_connection("127.0.0.1", page.port)
                    writer.write(request.encode())
                    line = await reader.readline()
                    writer.close()
                    return line.split(b" ")[1].decode() if line else "closed"
                except (OSError, IndexError):
                    return "closed"

        async def all_of_them() -> list[str]:
            gate = asyncio.Semaphore(at_once)
            return await asyncio.gather(*(one(gate) for _ in range(10_000)))

        found = asyncio.run(all_of_them())
        assert set(found) <= {"200", "503", "closed"}
        # The last of the closed connections may still count when the next request comes.
        assert any(sort(page)["status"] == 200 for _ in range(50))

    @pytest.mark.slow
    def test_memory_is_flat_over_hours(self, page: Explorer) -> None:
        """Thousands of sorts, searches, corrections and polls leave no more behind than some dozens."""
        headers = {"Authorization": f"Bearer {page.token.value}"}
        session = page.session
        for index in range(300):
            view = sort(page, f"red thing {index}, blue")["view"]
            page.post("correct", view=view, row="all", ranges=[[0, 2]], label=f"l{index}")
            session.keep_drop(session.collection.features[0])
            session.search(f"word {index}", [], [])
            page.post("changes")
        assert page.ask("POST", "/api/changes", b"{}", **headers)[0] == 200
        assert len(session._views) <= 12 and len(session._drops) <= 32 and len(session._undo) <= 200
        assert len(session._columns._kept) <= 512


class TestTrouble:
    """What happens to folders and disks."""

    def test_a_folder_that_disappears(self, page: Explorer, images: Path, tmp_path: Path) -> None:
        """What was encoded can still be sorted and corrected; its images say that they are gone; a plan moves none."""
        view = sort(page)["view"]
        shutil.rmtree(images)
        assert page.post("changes")["there"] is False
        assert page.ask("GET", f"/thumb/1?s={page.token.sign('thumb/1')}")[0] == 404
        assert page.post("image", view=view, image=1)["problem"] == "no such file"
        assert page.post("correct", view=view, row="0", ranges=[[0, 1]], label="green")["images"] == 1
        plan = page.post("plan", view=view, into=str(tmp_path / "out"), placement="move")
        assert plan["steps"] == 0 and plan["stays"] == 7
        assert sorted(count for _, count in plan["reasons"]) == [1, 6]
        assert ["cannot be sorted: No such file or directory", 6] in plan["reasons"]
        assert not (tmp_path / "out").exists()

    def test_a_disk_that_fills_during_a_sort(
        self, page: Explorer, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The sort stops and says so; what was moved is known, and the button takes it back."""
        before = {path.name: path.read_bytes() for path in images.iterdir()}
        view = sort(page)["view"]
        plan = page.post("plan", view=view, into=str(tmp_path / "out"), placement="move")
        write, written = os.write, []

        def full(descriptor: int, data: bytes) -> int:
            if b'"begin"' in data:
                written.append(data)
                if len(written) == 4:
                    raise OSError(errno.ENOSPC, "No space left on device")
            return write(descriptor, data)

        monkeypatch.setattr(os, "write", full)
        assert page.post("carry-out", plan=plan["plan"])["status"] == 200
        job = wait_for_job(page)
        assert (job["done"], job["undoable"], job["running"]) == (3, True, False)
        assert "cannot write the journal" in job["error"] and job["hint"]
        assert page.session.collection.path(0).startswith(str(tmp_path / "out"))
        assert page.ask("GET", f"/thumb/0?s={page.token.sign('thumb/0')}")[0] == 200
        monkeypatch.undo()
        page.post("undo")
        job = wait_for_job(page)
        assert (job["done"], job["error"]) == (3, "")
        assert {path.name: path.read_bytes() for path in images.iterdir()} == before
        assert page.session.collection.path(0) == str(images / "0.png")

    def test_a_sort_follows_corrections_and_they_follow_the_images(
        self, page: Explorer, images: Path, tmp_path: Path
    ) -> None:
        """Corrected images go to the folder that the user said; moved, they keep what was said, and back again."""
        view = sort(page)["view"]
        page.post("correct", view=view, row="0", ranges=[[0, 1]], label="blue")
        found = sort(page)
        corrected = str(images / "0.png")
        assert found["accuracy"]["of"] == 1 and found["counts"] == [1, 2, 3]
        plan = page.post("plan", view=found["view"], into=str(tmp_path / "out"), placement="move")
        assert dict(plan["folders"]) == {"red": 1, "green": 2, "blue": 3}
        assert page.post("carry-out", plan="p999")["status"] == 400
        page.post("carry-out", plan=plan["plan"])
        wait_for_job(page)
        assert (tmp_path / "out/blue/0.png").exists() and not Path(corrected).exists()
        assert page.session.corrections.of(str(tmp_path / "out/blue/0.png")).label == "blue"
        assert not page.session.corrections.of(corrected)
        assert sort(page)["counts"] == [1, 2, 3]
        page.post("undo")
        wait_for_job(page)
        assert page.session.corrections.of(corrected).label == "blue"
        assert page.session.collection.path(0) == corrected
        assert page.post("undo")["status"] == 400

    def test_nothing_is_overwritten(self, page: Explorer, images: Path, tmp_path: Path) -> None:
        """A file where an image would go stays; a plan into a file, or none, is refused."""
        (tmp_path / "out/red").mkdir(parents=True)
        (tmp_path / "out/red/0.png").write_bytes(b"mine")
        view = sort(page)["view"]
        plan = page.post("plan", view=view, into=str(tmp_path / "out"), placement="copy")
        page.post("carry-out", plan=plan["plan"])
        wait_for_job(page)
        assert (tmp_path / "out/red/0.png").read_bytes() == b"mine"
        assert (tmp_path / "out/red/0 (2).png").exists()
        for into in ("", " ", str(images / "0.png"), "\0", "x" * 5000):
            assert page.post("plan", view=view, into=into, placement="move")["status"] == 400
        assert page.post("plan", view=view, into="x", placement="shred")["status"] == 400

    def test_a_full_disk_loses_no_earlier_correction(
        self, page: Explorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A correction that cannot be kept is an error that says so, and the next one works."""
        view = sort(page)["view"]
        page.post("correct", view=view, row="all", ranges=[[0, 1]], label="green")
        kept = (tmp_path / "corrections.csv").read_bytes()
        monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left")))
        answer = page.post("correct", view=view, row="all", ranges=[[1, 3]], label="green")
        assert answer["status"] == 400 and "No space left" in answer["error"] and answer["hint"]
        monkeypatch.undo()
        assert (tmp_path / "corrections.csv").read_bytes() == kept
        assert page.post("correct", view=view, row="all", ranges=[[1, 3]], label="green")["images"] == 2

    def test_names_that_are_no_text_do_not_keep_others_from_a_label(self, images: Path, tmp_path: Path) -> None:
        """A selection is labelled but for the images whose names are not UTF-8, which the error names."""
        shutil.copy(images / "0.png", images / os.fsdecode(b"z\xff.png"))
        with explore(FakeEncoder(), images, tmp_path / "c.csv") as page:
            view = sort(page)["view"]
            answer = page.post("correct", view=view, row="all", ranges=[[0, 7]], label="red")
            assert answer["status"] == 400 and "z\\udcff.png; kept for the other 6" in answer["error"]
            assert len(page.session.corrections.all()) == 6
            answer = page.post("correct", view=view, images=[6], label="red")
            assert answer["status"] == 400 and "kept for" not in answer["error"]
            assert page.post("uncorrect")["images"] == 6 and page.session.corrections.all() == {}

    def test_two_at_once_correct_one_after_the_other(self, page: Explorer, tmp_path: Path) -> None:
        """Tabs that correct at the same moment lose nothing, and see each other's."""
        view = sort(page)["view"]

        def tab(label: str) -> None:
            for index in range(6):
                page.post("correct", view=view, row="all", ranges=[[index, index + 1]], label=label)

        tabs = [threading.Thread(target=tab, args=(name,)) for name in ("one", "two", "three")]
        for thread in tabs:
            thread.start()
        for thread in tabs:
            thread.join()
        lines = (tmp_path / "corrections.csv").read_text().splitlines()
        assert len(lines) == 1 + page.post("changes")["version"]
        assert len(page.session.corrections.all()) == 6
        while page.post("uncorrect")["images"]:
            pass
        assert page.session.corrections.all() == {}


def test_exports_are_what_the_commands_read(page: Explorer, tmp_path: Path) -> None:
    """Labels lead back to the same labels, records are those of `classify`, the command names what was typed."""
    text = "red: crimson\ngreen\nbackground: blue"
    view = sort(page, text)["view"]
    from zeroshot.prompts.labels import parse_label_yaml

    labels = parse_label_yaml(page.post("labels", view=view)["yaml"], "x")
    assert labels.labels[0].aliases == ("crimson",) and labels.labels[2].background
    status, body, _ = page.ask(
        "POST", "/api/records", json.dumps({"view": view}).encode(), Authorization=f"Bearer {page.token.value}"
    )
    records = [json.loads(line) for line in body.splitlines()]
    assert status == 200 and len(records) == 7
    assert [record.get("label") for record in records] == ["red", "green", None, "red", "green", None, None]
    assert set(records[0]) == {"path", "status", "label", "probability", "top"}
    assert set(records[-1]) == {"path", "status", "error"}
    page.post("correct", view=view, images=[0], label="green")
    described = page.post("image", view=sort(page, text)["view"], image=0)
    status, body, _ = page.ask(
        "POST",
        "/api/records",
        json.dumps({"view": sort(page, text)["view"]}).encode(),
        Authorization=f"Bearer {page.token.value}",
    )
    corrected = json.loads(body.splitlines()[0])
    assert (corrected["label"], described["row"][0]) == ("green", "green")
    own = {name: probability for name, probability, *_ in described["top"]}
    assert corrected["probability"] == pytest.approx(own["green"], rel=1e-4)
    assert described["row"][1] == pytest.approx(own["green"], rel=1e-4)
    command = page.post("command", view=view, threshold=0.25)
    assert command["command"].startswith("zeroshot classify ") and command["needs_file"]
    assert command["command"].endswith("--labels-file labels.yaml --threshold 0.25")
    plain = page.post("command", view=sort(page, "red, it's green")["view"])
    assert "--labels 'red,it'\"'\"'s green'" in plain["command"]
    assert exports.export_labels(page.session.view(view)) == page.post("labels", view=view)["yaml"]


def test_what_is_not_encoded_yet_is_counted(page: Explorer, tmp_path: Path) -> None:
    """A plan says how many images it leaves out because they have no features yet."""
    page.session.collection._found += 3
    plan = page.post("plan", view=sort(page)["view"], into=str(tmp_path / "out"), placement="link")
    assert (plan["waiting"], plan["steps"]) == (3, 6)


def test_a_relative_folder_has_its_name_and_its_paths(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`explore .` is called by the folder's name, sorts beside it, and paths are relative again after an undo."""
    monkeypatch.chdir(images)
    with explore(FakeEncoder(), Path(), tmp_path / "c.csv") as page:
        start = page.post("start")
        assert (start["name"], start["into"]) == ("images", f"{images}-sorted")
        before = [page.session.collection.path(image) for image in range(6)]
        assert not Path(before[0]).is_absolute()
        plan = page.post("plan", view=sort(page)["view"], into=start["into"], placement="move")
        page.post("carry-out", plan=plan["plan"])
        wait_for_job(page)
        assert page.session.collection.path(0) == f"{images}-sorted/red/0.png"
        page.post("undo")
        wait_for_job(page)
        assert [page.session.collection.path(image) for image in range(6)] == before


@pytest.mark.parametrize("above", [False, True])
@pytest.mark.parametrize("into", ["inside/sorted", "beside"])
def test_a_link_to_the_folder_names_what_is_moved(images: Path, tmp_path: Path, above: bool, into: str) -> None:
    """A move into a folder that a link leads to doubles no image, and what was said is found at the next start."""
    link = tmp_path / "link"
    link.symlink_to(images.parent if above else images, target_is_directory=True)
    folder = link / "images" if above else link
    target = folder / "sorted" if into.startswith("inside") else folder.parent / "beside"
    with explore(FakeEncoder(), folder, tmp_path / "c.csv") as page:
        page.session.encoding = Encoding(page.session.collection, page.session.encoder, page.session.pipeline)
        page.post("correct", view=sort(page)["view"], images=[0], label="blue")
        plan = page.post("plan", view=sort(page)["view"], into=str(target), placement="move")
        page.post("carry-out", plan=plan["plan"])
        assert wait_for_job(page)["done"] == 6
        assert page.session.collection.path(0) == str(target / "blue/0.png")
        page.post("start")
        page.session.encoding.begin().join()
        assert (sort(page)["images"], sort(page)["accuracy"]["of"]) == (6, 1)
    with explore(FakeEncoder(), target, tmp_path / "c.csv") as page:
        assert sort(page)["accuracy"]["of"] == 1


def test_an_undo_below_a_link_leads_back(images: Path, tmp_path: Path) -> None:
    """Images, and what was said about them, have the names under which they were found."""
    link = tmp_path / "link"
    link.symlink_to(images, target_is_directory=True)
    with explore(FakeEncoder(), link, tmp_path / "c.csv") as page:
        page.post("correct", view=sort(page)["view"], images=[0], label="blue")
        plan = page.post("plan", view=sort(page)["view"], into=str(link / "sorted"), placement="move")
        page.post("carry-out", plan=plan["plan"])
        wait_for_job(page)
        page.post("undo")
        assert wait_for_job(page)["done"] == 6
        assert page.session.collection.path(0) == str(link / "0.png")
        assert list(page.session.corrections.all()) == [str(link / "0.png")]


def test_what_came_into_the_folder_is_there_when_the_page_is_loaded_again(page: Explorer, images: Path) -> None:
    """New images are encoded, one that was broken is read once it is whole, and no image is there twice."""
    page.session.encoding = Encoding(page.session.collection, page.session.encoder, page.session.pipeline)
    assert sort(page)["images"] == 6
    shutil.copy(images / "0.png", images / "new.png")
    shutil.copy(images / "1.png", images / "broken.png")
    page.post("start")
    page.session.encoding.begin().join()
    found = sort(page)
    assert (found["images"], found["counts"]) == (8, [3, 3, 2])
    assert page.post("changes")["progress"] == {
        "encoded": 8, "failed": 0, "found": 8, "finished": True, "note": "",
    }  # fmt: skip


def load_again(page: Explorer) -> None:
    """Load the page again, and wait until the folder is listed."""
    if page.session.encoding is None:
        page.session.encoding = Encoding(page.session.collection, page.session.encoder, page.session.pipeline)
    page.post("start")
    page.session.encoding.begin().join()


def test_what_is_gone_is_nowhere(page: Explorer, images: Path, tmp_path: Path) -> None:
    """A deleted image is in no row, search, map, count, export or plan; others keep their numbers; it may come back."""
    page.post("correct", view=sort(page)["view"], images=[0, 1], label="blue")
    data = (images / "0.png").read_bytes()
    version = page.post("changes")["version"]
    (images / "0.png").unlink()
    load_again(page)
    changes = page.post("changes")
    assert (changes["progress"]["encoded"], changes["progress"]["found"]) == (5, 6)  # and one that is broken
    assert changes["version"] != version
    found = sort(page)
    assert (found["images"], found["counts"], found["unknown"]) == (5, [1, 1, 3], 0)
    assert found["accuracy"]["of"] == 1 and sum(found["histogram"]) == 5
    assert sorted(item[0] for item in found["rows"][1]["items"]) == [1, 2, 3, 4, 5]
    assert sort(page, "")["images"] == 5
    hits = page.post("search", images=[[1.0, 3]], windows=[["hits", 0, 9]], threshold=-1)
    assert hits["rows"][0]["items"][0][0] == 3 and hits["rows"][0]["total"] == 5
    _, body, _ = wait_for_map(page, found["view"])
    numbers = np.frombuffer(body, "<u2").reshape(3, 6)
    assert (numbers[2] == 65534).tolist() == [True] + [False] * 5
    asked = json.dumps({"view": found["view"]}).encode()
    body = page.ask("POST", "/api/records", asked, Authorization=f"Bearer {page.token.value}")[1]
    records = [json.loads(line) for line in body.splitlines()]
    assert len(records) == 6 and str(images / "0.png") not in [record["path"] for record in records]
    assert [record["label"] for record in records[:5]] == ["blue", "blue", "red", "green", "blue"]
    plan = page.post("plan", view=found["view"], into=str(tmp_path / "out"), placement="link")
    assert (plan["steps"], plan["stays"], plan["waiting"]) == (5, 1, 0)
    assert page.post("correct", view=found["view"], images=[0, 2], label="red")["images"] == 1
    (images / "0.png").write_bytes(data)
    load_again(page)
    found = sort(page)
    assert (found["images"], found["counts"]) == (6, [2, 1, 3]) and found["accuracy"]["of"] == 3
    assert page.session.collection.find(str(images / "0.png")) == 6


@pytest.mark.parametrize("placement", ["link", "copy"])
def test_a_sort_inside_the_folder_that_is_taken_back_leaves_nothing(
    page: Explorer, images: Path, placement: str
) -> None:
    """Copies and links that are found when the page is loaded again are gone once they are taken back."""
    plan = page.post("plan", view=sort(page)["view"], into=str(images / "sorted"), placement=placement)
    page.post("carry-out", plan=plan["plan"])
    wait_for_job(page)
    load_again(page)
    assert sort(page)["images"] == 12
    page.post("undo")
    wait_for_job(page)
    load_again(page)
    assert (sort(page)["images"], page.post("changes")["progress"]["found"]) == (6, 7)


def test_a_folder_listed_while_it_is_sorted_doubles_nothing(page: Explorer, images: Path) -> None:
    """Moved images that are found at their new places before the sort has told of them stay single."""
    source, target = images / "0.png", images / "sorted/red/0.png"
    target.parent.mkdir(parents=True)
    source.rename(target)
    load_again(page)
    page.session.moved({str(source): str(target)})
    assert (sort(page)["images"], page.session.collection.path(0)) == (6, str(target))
    assert page.post("changes")["progress"]["found"] == 7


def test_a_folder_that_is_gone_keeps_what_was_encoded(page: Explorer, images: Path) -> None:
    """A disk that is not connected: a reload drops no image, and one after it is back changes nothing."""
    away = images.with_name("away")
    images.rename(away)
    load_again(page)
    changes = page.post("changes")
    assert (changes["there"], changes["progress"]["encoded"], sort(page)["images"]) == (False, 6, 6)
    away.rename(images)
    load_again(page)
    assert (page.post("changes")["there"], sort(page)["images"]) == (True, 6)


def test_a_file_that_changed_is_read_anew(page: Explorer, images: Path) -> None:
    """Its features, small and large image are those of its new content; what was said of it stays; others do too."""
    page.post("correct", view=sort(page)["view"], images=[1], label="green")
    thumb, large = (page.ask("GET", f"/{kind}/0?s={page.token.sign(f'{kind}/0')}")[1] for kind in ("thumb", "large"))
    before = page.session.collection.features
    version = page.post("changes")["version"]
    load_again(page)
    assert page.post("changes")["version"] == version
    Image.new("RGB", (40, 30), COLOURS["blue"]).save(images / "0.png")
    Image.new("RGB", (40, 30), COLOURS["red"]).save(images / "1.png")
    status = (images / "2.png").stat()
    os.utime(images / "2.png", ns=(status.st_atime_ns, status.st_mtime_ns + 1))  # and the same content
    load_again(page)
    changes = page.post("changes")
    assert (changes["progress"]["encoded"], changes["progress"]["found"], changes["version"]) == (6, 7, version + 3)
    found = sort(page)
    assert (found["images"], found["counts"]) == (6, [1, 2, 3])
    assert (found["accuracy"]["right"], found["accuracy"]["of"]) == (0, 1)  # labelled green, and red now
    blue = page.session.collection.find(str(images / "0.png"))
    assert page.session.collection.features[blue] == pytest.approx(before[2])
    assert [item[0] for item in found["rows"][1]["items"]].count(0) == 0
    for kind, old in (("thumb", thumb), ("large", large)):
        status_code, new, _ = page.ask("GET", f"/{kind}/{blue}?s={page.token.sign(f'{kind}/{blue}')}")
        assert status_code == 200 and new != old


def test_what_changed_since_it_was_encoded_is_not_sorted(page: Explorer, images: Path, tmp_path: Path) -> None:
    """Its label is that of what it was: it stays until it has been read again."""
    asked = {"into": str(tmp_path / "sorted"), "placement": "copy", "threshold": 0}
    whole = page.post("plan", view=sort(page)["view"], **asked)
    Image.new("RGB", (40, 30), COLOURS["blue"]).save(images / "0.png")
    plan = page.post("plan", view=sort(page)["view"], **asked)
    assert plan["steps"] == whole["steps"] - 1
    assert ["has changed since it was encoded (load the page again)", 1] in plan["reasons"]
    load_again(page)
    assert page.post("plan", view=sort(page)["view"], **asked)["steps"] == whole["steps"]


def test_a_listing_that_fails_keeps_what_failed_before(page: Explorer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that does not answer as the page is loaded again: nothing vanishes from the page and its exports."""
    before = page.post("changes")["progress"]

    def fail(*_: Any) -> Iterator[str]:
        raise InputError("cannot list it", "look")
        yield

    monkeypatch.setattr(Listing, "images", fail)
    load_again(page)
    progress = page.post("changes")["progress"]
    assert "cannot list it" in progress["note"]
    assert (progress["failed"], progress["found"]) == (before["failed"], before["found"]) and before["failed"]
    assert page.post("failures")["total"] == before["failed"]


def test_a_file_that_changed_and_cannot_be_read(page: Explorer, images: Path) -> None:
    """It is an image no longer, but one that failed, once; whole again it is there again."""
    data = (images / "0.png").read_bytes()
    (images / "0.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    load_again(page)
    assert sort(page)["images"] == 5
    progress = page.post("changes")["progress"]
    assert (progress["encoded"], progress["failed"], progress["found"]) == (5, 2, 7)
    (images / "0.png").write_bytes(data)
    load_again(page)
    assert sort(page)["images"] == 6 and page.post("failures")["total"] == 1


def test_a_moved_file_that_changed_is_read_anew(page: Explorer, images: Path, tmp_path: Path) -> None:
    """Outside of the folder, where no listing finds it."""
    plan = page.post("plan", view=sort(page)["view"], into=str(tmp_path / "out"), placement="move")
    page.post("carry-out", plan=plan["plan"])
    wait_for_job(page)
    load_again(page)
    assert sort(page)["counts"] == [2, 2, 2] and len(page.session.collection) == 6
    Image.new("RGB", (40, 30), COLOURS["blue"]).save(tmp_path / "out/red/0.png")
    load_again(page)
    assert sort(page)["counts"] == [1, 2, 3]
