"""Where results go: a file appears under its name only when it is whole."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from zeroshot.errors import OutputError
from zeroshot.output.destination import check_apart, check_local, check_output, open_output, partial_path
from zeroshot.system.durable_files import BusyError, open_locked


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_renamed_when_whole(tmp_path: Path) -> None:
    """While it is written there is only the partial file; afterwards only the file."""
    target = tmp_path / "out.jsonl"
    target.write_text("old")
    with open_output(target) as stream:
        stream.write(b"new")
        assert target.read_text() == "old"
        assert names(tmp_path) == ["out.jsonl", "out.jsonl.partial"]
    assert target.read_text() == "new"
    assert names(tmp_path) == ["out.jsonl"]


def test_error_leaves_nothing_behind(tmp_path: Path) -> None:
    """After an error the old file stands and the partial one is gone; the error is the one that was raised."""
    target = tmp_path / "out.jsonl"
    target.write_text("old")
    with pytest.raises(RuntimeError, match="mine"), open_output(target) as stream:
        stream.write(b"half")
        raise RuntimeError("mine")
    assert target.read_text() == "old"
    assert names(tmp_path) == ["out.jsonl"]


def test_interrupt_keeps_what_there_is(tmp_path: Path) -> None:
    """Interrupted, the records so far are in the partial file, and the name is not taken."""
    target = tmp_path / "out.jsonl"
    with pytest.raises(KeyboardInterrupt), open_output(target) as stream:
        stream.write(b"one record\n")
        raise KeyboardInterrupt
    assert names(tmp_path) == ["out.jsonl.partial"]
    assert partial_path(target).read_bytes() == b"one record\n"


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    """A disk that fills up is an error that names the file, and leaves no half of it."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, failing, full)
    with (
        pytest.raises(OutputError, match=r"cannot write .*out.jsonl: No space left") as caught,
        open_output(tmp_path / "out.jsonl") as stream,
    ):
        stream.write(b"x")
    assert caught.value.hint
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "what"),
    [("", "cannot write .*: it is a folder"), ("no/such/out", "No such file"), ("file/out", "Not a directory")],
)
def test_refused(tmp_path: Path, name: str, what: str) -> None:
    """A folder, or a file in a folder that does not exist, is refused before anything is written, or even made."""
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=what), open_output(tmp_path / name):
        raise AssertionError
    with pytest.raises(OutputError, match=what):
        check_output(tmp_path / name)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such locks, and no FIFOs")
def test_checking_leaves_everything_as_it_is(tmp_path: Path) -> None:
    """Whether a file can be written is found out without a trace; what another run has or left is not touched."""
    check_output(None)
    check_output(Path(os.devnull))
    check_output(tmp_path / "new")
    assert names(tmp_path) == []
    (tmp_path / "out").write_text("old")
    partial_path(tmp_path / "out").write_text("interrupted")
    check_output(tmp_path / "out")
    assert [path.read_text() for path in sorted(tmp_path.iterdir())] == ["old", "interrupted"]
    with open_output(tmp_path / "out") as stream:
        stream.write(b"new")
        with pytest.raises(OutputError, match="another run is writing"):
            check_output(tmp_path / "out")
    assert (tmp_path / "out").read_text() == "new"
    os.mkfifo(tmp_path / "pipe")
    check_output(tmp_path / "pipe")


def test_a_folder_that_nobody_may_write_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Permissions are those of the system at the moment, which only making a file there tells."""
    opened = os.open

    def refuse(path: object, flags: int, *mode: int) -> int:
        if flags & os.O_CREAT:
            raise PermissionError(13, "Permission denied")
        return opened(path, flags, *mode)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(OutputError, match=r"cannot write .*out: Permission denied"):
        check_output(tmp_path / "out")


def test_names_that_no_file_can_have(tmp_path: Path) -> None:
    """A name that is too long, or that leads in a circle, is refused in one line."""
    (tmp_path / "loop").symlink_to("loop")
    for name in ("n" * 300, "n" * 250, "loop"):
        with pytest.raises(OutputError, match="cannot write"), open_output(tmp_path / name):
            raise AssertionError
    assert names(tmp_path) == ["loop"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such locks")
def test_locked_until_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the partial file has its name, or is gone after an error, no other run can take it for its own."""
    tried = []

    def after_another_run(method: Callable[..., object]) -> Callable[..., object]:
        def tried_first(partial: Path, *arguments: object, **options: object) -> object:
            with pytest.raises(BusyError):
                open_locked(partial)
            tried.append(partial)
            return method(partial, *arguments, **options)

        return tried_first

    for name in ("replace", "unlink"):
        monkeypatch.setattr(Path, name, after_another_run(getattr(Path, name)))
    with open_output(tmp_path / "out") as stream:
        stream.write(b"x")
    with pytest.raises(RuntimeError), open_output(tmp_path / "out"):
        raise RuntimeError
    assert tried == [tmp_path / "out.partial"] * 2


def test_link_stays_a_link(tmp_path: Path) -> None:
    """Written through a link, the file it points to is new and the link still points there."""
    (tmp_path / "real").touch()
    (tmp_path / "link").symlink_to("real")
    with open_output(tmp_path / "link") as stream:
        stream.write(b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"


@pytest.mark.skipif(not Path("/dev/null").is_char_device(), reason="no devices here")
def test_devices_stay_devices() -> None:
    """A device is written to, never replaced by a file of its name."""
    with open_output(Path("/dev/null")) as stream:
        stream.write(b"x")
    assert Path("/dev/null").is_char_device()


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="no /dev/full here")
def test_full_device() -> None:
    """A write that fails as late as closing is an error of the same kind."""
    with (
        pytest.raises(OutputError, match="cannot write /dev/full: No space left"),
        open_output(Path("/dev/full")) as out,
    ):
        out.write(b"x")


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="no /dev/full here")
def test_full_stdout() -> None:
    """Stdout on a full disk is one error, and nothing more is said as the interpreter exits."""
    code = (
        "from zeroshot.output.destination import open_output\nfrom zeroshot.errors import OutputError\n"
        "try:\n with open_output(None) as out: out.write(b'x')\n"
        "except OutputError as error: raise SystemExit(error.message)"
    )
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "cannot write stdout: No space left on device\n"


def test_closed_pipe_is_not_ours() -> None:
    """A reader that has had enough is told apart from a disk that is full."""
    with pytest.raises(BrokenPipeError), open_output(None):
        raise BrokenPipeError


def test_stdout_stays_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stdout is flushed, not closed."""
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw))
    with open_output(None) as stream:
        stream.write(b"x")
    assert raw.getvalue() == b"x"
    sys.stdout.write("y")


def test_a_file_that_takes_the_place_of_another_is_refused(tmp_path: Path) -> None:
    """Two outputs of one name, an output that the run reads, and an image: all but the last writer would be lost."""
    out, read, image = tmp_path / "out", tmp_path / "list", tmp_path / "a.JPG"
    read.touch()
    image.touch()
    (tmp_path / "link").symlink_to("list")
    (tmp_path / "a.partial").touch()
    check_apart({"--output": out, "--report": None, "--plots": tmp_path / "b.jpg"}, [read, None, tmp_path, "no\0name"])
    check_apart({"--output": Path(os.devnull), "--report": Path(os.devnull)}, [os.devnull])
    for written, message in (
        ({"--output": out, "--report": tmp_path / "sub" / ".." / "out"}, "--output and --report name the same file"),
        ({"--output": tmp_path / "link"}, "--output .*link is a file that this run reads"),
        ({"--output": tmp_path / "a"}, "--output .*a is written to .*a.partial first, a file that this run reads"),
        ({"--output": out, "--report": tmp_path / "out.partial"}, "--output and --report name the same file"),
        ({"--report": image}, "--report .*a.JPG is an image, which would be lost"),
    ):
        with pytest.raises(OutputError, match=message):
            check_apart(written, [str(read), tmp_path / "a.partial"])


def test_an_address_is_no_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named as it was typed; a folder that is called so, and is there, is a folder."""
    monkeypatch.chdir(tmp_path)
    for address in ("s3://b/x.jsonl", "gs://b/x.jsonl", "https://host/x.jsonl"):
        for check in (check_output, check_local):
            with pytest.raises(OutputError, match=f"cannot write {address}: outputs are files and folders"):
                check(Path(address))
    (tmp_path / "s3:" / "b").mkdir(parents=True)
    check_output(Path("s3://b/x.jsonl"))


def test_no_file_is_called_as_stdout_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`-` is stdin where paths are read; a file of that name is not what anybody means, and is hard to remove."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OutputError, match="cannot write -: it stands for stdout"):
        check_output(Path("-"))
    with pytest.raises(OutputError, match="cannot write -"), open_output(Path("-")):
        raise AssertionError
    assert names(tmp_path) == []
