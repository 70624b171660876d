"""A pseudo-terminal: what a command shows to a user who sits there."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path

_ESCAPE = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")


def on_a_terminal(
    *arguments: object,
    columns: int = 80,
    cwd: Path | None = None,
    at: Callable[[bytes, subprocess.Popen[bytes]], None] = lambda shown, process: None,
    **streams: int,
) -> tuple[int, bytes]:
    """Run the command on a terminal of so many columns; return its exit code and every byte that it showed.

    Args:
        arguments: As typed after `zeroshot`.
        columns: The terminal's width.
        cwd: Where it runs.
        at: Told of what was shown so far, whenever there is more.
        streams: `stdout` or `stderr`, where one is not the terminal.
    """
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "NO_COLOR")}
    command = [sys.executable, "-m", "zeroshot", *map(str, arguments)]
    ends = {"stdin": slave, "stdout": slave, "stderr": slave} | streams
    process = subprocess.Popen(
        command, cwd=cwd, env=environment | {"TERM": "xterm-256color"}, start_new_session=True, **ends
    )
    os.close(slave)
    shown = b""
    while True:
        try:
            chunk = os.read(master, 65536)
        except OSError:  # how Linux says that the other end is closed
            break
        if not chunk:
            break
        shown += chunk
        at(shown, process)
    os.close(master)
    return process.wait(), shown


def screen(shown: bytes) -> list[str]:
    """Return the lines that are left on the terminal, without colours, as erasing and returning leave them."""
    lines = []
    for line in shown.replace(b"\r\n", b"\n").split(b"\n"):
        lines.append(_ESCAPE.sub(b"", line.rpartition(b"\x1b[2K")[2]).decode().removeprefix("\r"))
    return lines
