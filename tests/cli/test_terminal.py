"""What a terminal shows: a status line that steps aside for results, costs little and leaves nothing behind."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer

from support import ROOT
from support.terminal import on_a_terminal, screen
from zeroshot.cli import console, status_line

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no pseudo-terminals")

EXAMPLE = ROOT / "examples" / "cat.jpg"
CLASSIFY = ["--labels", "cat,bee", "--model", "tiny"]


class Terminal(io.TextIOWrapper):
    """Text that is kept, and is said to be shown on a terminal."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8")

    def isatty(self) -> bool:
        return True

    @property
    def shown(self) -> bytes:
        self.flush()
        return self.buffer.getvalue()  # type: ignore[attr-defined]


class Screen(io.BytesIO):
    """The same for bytes."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    fake = Terminal()
    for module in (console, status_line):
        monkeypatch.setattr(module, "sys", SimpleNamespace(stderr=fake, modules=sys.modules))
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TERM", "xterm-256color")
    return fake


def test_the_table_and_the_bar_do_not_mix(tmp_path: Path) -> None:
    """What is left on the terminal is the table, with no piece of the status line before, beside or behind it."""
    from support.terminal import on_a_terminal, screen

    shutil.copy(EXAMPLE, tmp_path)
    (tmp_path / "film.mov").touch()
    code, shown = on_a_terminal("classify", tmp_path, *CLASSIFY, cwd=tmp_path)
    lines = screen(shown)
    assert code == 0
    assert b"loading tiny" in shown
    assert lines[0].startswith("path ")
    assert "cat.jpg" in lines[1]
    assert any("1 file was passed over" in line for line in lines[2:])  # behind the rows
    assert not any("images/s" in line or "loading" in line for line in lines)


@pytest.mark.parametrize("chosen", [[], ["--paths"], ["-f", "jsonl"]])
def test_reasons_are_whole_behind_the_rows(tmp_path: Path, chosen: list[str]) -> None:
    """What the table has no room for, and what has no record, is named once behind it; the rest is not repeated."""
    (tmp_path / "long.tar.gz").write_text("no image")
    (tmp_path / "short.jpg").write_bytes(b"")
    names = ["long.tar.gz", "short.jpg"]
    code, shown = on_a_terminal("classify", *names, *CLASSIFY, *chosen, cwd=tmp_path)
    lines = screen(shown)
    reason = "long.tar.gz: a compressed tar cannot be read from the middle; unpack it, or store it as .tar"
    assert code == 3
    assert lines.count(f"zeroshot: {reason}") == (chosen != ["-f", "jsonl"])
    assert ("zeroshot: short.jpg: the file is empty (0 bytes)" in lines) == (chosen == ["--paths"])


@pytest.mark.parametrize("columns", [60, 200])
def test_a_plan_is_a_table_on_a_terminal(tmp_path: Path, columns: int) -> None:
    """One line an image, within the width, what a reviewed one nearly was, each that stays once, and a total."""
    (tmp_path / "photos").mkdir()
    for name in ("cat", "bee"):
        shutil.copy(EXAMPLE.with_name(f"{name}.jpg"), tmp_path / "photos" / f"{name}.jpg")
    (tmp_path / "photos" / "broken.jpg").write_bytes(b"")
    labels = ["--labels", "cat,rocket", "--model", "tiny", "--threshold", "0.95", "--into", "out"]
    code, shown = on_a_terminal("sort", tmp_path / "photos", *labels, "--dry-run", columns=columns, cwd=tmp_path)
    lines = [line for line in screen(shown) if line]
    assert code == 3 and max(map(len, lines[:3])) <= columns
    assert lines[0].split() == ["link", "to", "prob."]
    assert [line.split()[:2] for line in lines[1:3]] == [
        ["photos/bee.jpg", "_review/bee.jpg"],
        ["photos/cat.jpg", "cat/cat.jpg"],
    ]
    assert "nearly " in lines[1] and "nearly" not in lines[2]
    assert sum("broken.jpg" in line for line in lines) == 1
    assert lines[-1].startswith("zeroshot: 2 of 3 would be placed: 1 in ")
    assert not (tmp_path / "out").exists()


def test_an_interrupt_leaves_no_bar_behind(tmp_path: Path) -> None:
    """After Ctrl-C the last lines are what was found and that it was interrupted."""
    from support.terminal import on_a_terminal, screen

    sent: list[bool] = []
    os.mkfifo(tmp_path / "list")

    def interrupt(shown: bytes, process: subprocess.Popen[bytes]) -> None:
        if b"runners-up" in shown and not sent:
            sent.append(True)
            process.send_signal(2)

    # Nobody writes into the pipe, so that the run waits, with its bar on the terminal, until it is interrupted.
    keeper = os.open(tmp_path / "list", os.O_RDWR)
    code, shown = on_a_terminal("classify", "--files-from", "list", *CLASSIFY, cwd=tmp_path, at=interrupt)
    os.close(keeper)
    assert code == 130
    assert b"0 images" in shown
    assert not any("0 images" in line for line in screen(shown)[:-1])
    assert screen(shown)[-2:] == ["zeroshot: interrupted", ""]


def test_an_interrupt_while_no_line_is_shown_begins_a_line(terminal: Terminal) -> None:
    """The ``^C`` that the terminal itself shows is erased."""

    @console.reports_errors
    def command() -> None:
        raise KeyboardInterrupt

    with pytest.raises(typer.Exit):
        command()
    assert terminal.shown == b"\r\x1b[2Kzeroshot: interrupted\n"


def test_the_bar_is_painted_at_most_ten_times_a_second(terminal: Terminal) -> None:
    """However many records come: they are printed in batches, in order, each followed by one painting."""
    out = Screen()
    begin = time.monotonic()
    with console.Bar("images", 5000) as bar:
        stream = bar.above(out)
        for number in range(5000):
            stream.write(b"%d\n" % number)
            bar.advance()
    paintings = terminal.shown.count(b"/5000")
    assert paintings <= (time.monotonic() - begin) / 0.1 + 2
    assert out.getvalue().split() == [b"%d" % number for number in range(5000)]
    assert terminal.shown.endswith(b"\r\x1b[2K")


def test_a_message_is_printed_above_the_bar(terminal: Terminal) -> None:
    """The bar is erased, the message keeps a line of its own, and a line is never wider than the terminal."""
    with console.Bar("images", 10) as bar:
        bar.advance(3)
        console.say("something happened")
    assert b"\r\x1b[2Ksomething happened\n" in terminal.shown
    assert all(
        len(line.decode().strip("\r") + "^C") < 60
        for line in terminal.shown.replace(b"\n", b"\x1b[2K").split(b"\x1b[2K")
    )


def test_a_terminal_that_takes_nothing_ends_the_run(terminal: Terminal) -> None:
    """What the painting thread could not print is raised where the records come from."""

    class Gone(Screen):
        def write(self, data: object) -> int:
            raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output"), console.Bar("images") as bar:
        bar.above(Gone()).write(b"lost")


def test_what_takes_long_is_named(terminal: Terminal) -> None:
    """Loading names its model at once; so does whatever else is wrapped."""
    with console.loading("base"):
        assert b"loading base" in terminal.shown
    with console.doing("encoding the prompts of 3 labels"):
        assert b"encoding the prompts of 3 labels ... " in terminal.shown
    assert terminal.shown.endswith(b"\r\x1b[2K")
