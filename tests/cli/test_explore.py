"""`zeroshot explore` as it is typed: one address, one process a folder, and errors in one line."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from support.commands import run
from support.explorer import COMMAND, ask, running
from support.fakes import FakeModel
from support.fixtures import SaveImage
from unit.test_archives import make_tar, make_zip, png
from unit.test_web import Site, site  # noqa: F401 - a fixture
from zeroshot.explore.single_instance import state_folder


def test_serves_until_ctrl_c_and_one_process_a_folder(images: SaveImage, tmp_path: Path) -> None:
    """One address on stdout; a second one on the same folder, however it is named, says it and stops."""
    images("all/1.png", "red")
    (tmp_path / "link").symlink_to(tmp_path / "all")
    with running(tmp_path / "all", "--labels", r"red\, deep,blue") as (process, address):
        assert urlsplit(address).hostname == "127.0.0.1"
        assert ask(address, "start")["labels"] == "red\\, deep\nblue"
        second = subprocess.run(
            [*COMMAND, tmp_path / "link", "--model", "tiny", "--no-open"], capture_output=True, text=True
        )
        assert (second.returncode, second.stdout) == (1, "")
        assert f"is already open in another `zeroshot explore` at {address}" in second.stderr
        kept = list(Path(os.environ["ZEROSHOT_DATA"]).rglob("address"))
        assert len(kept) == 1 and kept[0].stat().st_mode & 0o077 == 0
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
        assert (process.returncode, out) == (0, "")
        assert "ended" in err and "Traceback" not in err
        assert kept[0].read_text() == ""
    with running(tmp_path / "all") as (process, again):
        assert again and again != address
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=120)
        assert process.returncode == 143


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "tgkill"), reason="this C library signals no single threads")
def test_a_signal_that_another_thread_takes_ends_it(images: SaveImage, tmp_path: Path) -> None:
    """The kernel may give it to any thread: the one that waits for the end looks for it by itself."""
    images("all/1.png", "red")
    with running(tmp_path / "all") as (process, address):
        while not ask(address, "changes")["progress"]["finished"]:
            pass
        others = sorted(int(task.name) for task in Path(f"/proc/{process.pid}/task").iterdir())[1:]
        assert ctypes.CDLL(None).tgkill(process.pid, others[-1], int(signal.SIGINT)) == 0
        assert process.wait(60) == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_a_stop_amid_encoding_ends_cleanly(
    images: SaveImage, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    """The batch in hand ends before the interpreter does: ended within the engine, the process would be aborted."""
    for index in range(160):
        images(f"all/{index}.png", (index, 9, 9))
    with running(tmp_path / "all", "--no-cache", "--batch-size", "4") as (process, address):
        while not ask(address, "changes")["progress"]["encoded"]:
            pass
        process.send_signal(number)
        _, err = process.communicate(timeout=120)
        assert (process.returncode, "terminate called" in err) == (code, False), err


@pytest.mark.parametrize("content", ['{"a": 1}', "no JSON", '{"format": "zeroshot-learned", "version": 1}'])
def test_a_calibration_that_is_none_is_refused_at_once(tmp_path: Path, fake_model: FakeModel, content: str) -> None:
    """As by `classify`, before any model is loaded."""
    (tmp_path / "c.json").write_text(content)
    result = run("explore", tmp_path, "--no-open", "--calibration", tmp_path / "c.json")
    assert result.exit_code == 1
    assert "c.json is not" in result.stderr
    assert not fake_model.calls


def test_images_are_encoded_while_the_page_is_open(
    images: SaveImage, tmp_path: Path, fake_model: FakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address is there before the first image has features, and what comes later is sorted too."""
    from zeroshot.explore import collection

    images("all/1.png", "red")
    seen: list[int] = []
    encode = collection.Collection.encode

    def late(self: collection.Collection, *arguments: object) -> None:
        seen.append(len(self))
        encode(self, *arguments)  # type: ignore[arg-type]
        seen.append(len(self))
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(collection.Collection, "encode", late)
    result = run("explore", tmp_path / "all", "--no-open")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("http://127.0.0.1:")
    assert seen == [0, 1]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["gone"], 1, "is not a folder"),
        ([".", "--host", "0.0.0.0"], 2, "--token"),
        ([".", "--token", "short"], 2, "at least 16"),
        ([".", "--token", "spaces and / slashes #"], 2, "at least 16"),
        ([".", "--labels", "a,a"], 2, "twice"),
        ([".", "--calibration", "gone.json"], 1, "cannot read gone.json"),
        ([".", "--corrections", "all/1.png"], 1, "not a table of corrections"),
        ([".", "--host", "256.1.1.1", "--token", "0123456789abcdef"], 1, "cannot listen"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str],
    code: int,
    said: str,
    images: SaveImage,
    tmp_path: Path,
    fake_model: FakeModel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What cannot be is said before any model is loaded."""
    images("all/1.png", "red")
    monkeypatch.chdir(tmp_path)
    result = run("explore", *arguments, "--no-open")
    assert result.exit_code == code, result.stderr
    assert said in result.stderr
    assert not fake_model.calls
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("given", "said", "hint"),
    [
        ("gone.zip", "cannot read gone.zip: no such file", "check the path"),
        ("bad.zip", "cannot read bad.zip: not a whole zip archive", "copy or create the archive again"),
        ("cut.tar", "cannot read cut.tar: damaged or cut short", "copy or create the archive again"),
        ("none.tar", "no images in none.tar", "images are found by their ending"),
        ("x.zip::1.png", "x.zip::1.png is not a folder, an archive", "name one of these"),
        ("1.png", "1.png is not a folder, an archive", "name one of these"),
        ("https://host/1.png", "is not a folder, an archive", "name one of these"),
        ("s3://bucket/1.png", "is one object, not a prefix", "s3://bucket/imgs/"),
    ],
)
def test_what_holds_no_images_is_one_line(
    given: str, said: str, hint: str, tmp_path: Path, fake_model: FakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the model is loaded: archives that are gone, damaged or without images, and what is one image."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "1.png").write_bytes(png())
    make_zip(tmp_path / "x.zip", [("1.png", png())])
    make_tar(tmp_path / "none.tar", [("notes.txt", b"text")])
    (tmp_path / "bad.zip").write_bytes(b"text")
    (tmp_path / "cut.tar").write_bytes((tmp_path / "none.tar").read_bytes()[:700])
    result = run("explore", given, "--no-open")
    assert (result.exit_code, result.stdout) == (1, "")
    error, remedy = result.stderr.splitlines()
    assert said in error and hint in remedy
    assert not fake_model.calls


@pytest.mark.parametrize("given", ["s3://bucket/imgs/?X-Amz-Signature=topsecret", "https://user:topsecret@host/x.zip"])
def test_an_address_with_a_secret_is_refused(given: str, fake_model: FakeModel) -> None:
    """Nothing is written, and no message holds it."""
    result = run("explore", given, "--no-open")
    assert result.exit_code == 2 and "topsecret" not in result.stderr
    assert not list(Path(os.environ["ZEROSHOT_DATA"]).rglob("*topsecret*")) and not fake_model.calls


def test_an_address_has_one_state_folder() -> None:
    """However it ends; a prefix, an archive below it and another bucket have their own."""
    places = ("s3://bucket/a/imgs", "s3://bucket/a/imgs/", "s3://bucket/imgs", "s3://other/a/imgs", "imgs")
    found = [state_folder(place) for place in places]
    assert found[0] == found[1] and len(set(found)) == 4
    assert all(folder.name.startswith("imgs-") for folder in found)


def test_an_archive_is_served(tmp_path: Path) -> None:
    """The address is printed, the command line names it and --archives, and a second one finds the first."""
    make_zip(tmp_path / "x.zip", [("1.png", png())])
    with running(tmp_path / "x.zip", "--labels", "red,blue", "--archives") as (_, address):
        while not ask(address, "changes")["progress"]["finished"]:
            pass
        view = ask(address, "sort", labels="red,blue")
        assert view["images"] == 1
        command = ask(address, "command", view=view["view"])["command"]
        assert command.startswith(f"zeroshot classify {tmp_path / 'x.zip'} ") and " --archives" in command
        second = subprocess.run(
            [*COMMAND, tmp_path / "x.zip", "--model", "tiny", "--no-open"], capture_output=True, text=True
        )
        assert second.returncode == 1 and f"already open in another `zeroshot explore` at {address}" in second.stderr


def test_an_archive_on_a_web_server_is_served(site: Site, tmp_path: Path, fake_model: FakeModel) -> None:  # noqa: F811
    """It is fetched once, however often the page is loaded; addresses of this machine need the option."""
    site.files["/x.zip"] = make_zip(tmp_path / "x.zip", [("1.png", png())]).read_bytes()
    refused = run("explore", f"{site.address}/x.zip", "--no-open")
    assert refused.exit_code == 1 and "--allow-private-hosts" in refused.stderr and not site.seen
    with running(f"{site.address}/x.zip", "--allow-private-hosts") as (_, address):
        for _ in range(2):
            start = ask(address, "start")
            assert (start["name"], start["copied"]) == ("x.zip", True)
            while not ask(address, "changes")["progress"]["finished"]:
                pass
        view = ask(address, "sort", labels="red,blue", windows=[["0", 0, 9]])
        (image,) = view["rows"][0]["items"]
        assert image[3] == "1.png" and site.seen == {"/x.zip": 1}
        command = ask(address, "command", view=view["view"])["command"]
        assert command.startswith(f"zeroshot classify {site.address}/x.zip ") and "--allow-private-hosts" in command


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without starlette and uvicorn there is one line that says what to install."""
    monkeypatch.setitem(sys.modules, "starlette", None)
    result = run("explore", tmp_path)
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].strip() == "try: pip install 'starlette>=0.41' 'uvicorn>=0.30'"
    assert len(result.stderr.splitlines()) == 2
