"""What people see: messages and progress on stderr, and the boundary where errors become exit codes."""

from __future__ import annotations

import errno
import functools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, ParamSpec, cast

import typer

from ..errors import ExitCode, ZeroshotError
from ..system import signals

if TYPE_CHECKING:
    from ..models.hub.download import Progress as Download

Arguments = ParamSpec("Arguments")

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
"""What writing to a disk that is full or broken ends with."""


def say(message: str) -> None:
    """Print one line for people on stderr."""
    text = "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in message)
    sys.stderr.write(
        text.encode(sys.stderr.encoding or "utf-8", "backslashreplace").decode(sys.stderr.encoding or "utf-8") + "\n"
    )
    sys.stderr.flush()


def warn(message: str) -> None:
    """Print a warning."""
    say(f"zeroshot: warning: {message}")


def reports_errors(command: Callable[Arguments, ExitCode | None]) -> Callable[Arguments, None]:
    """Turn what a command raises or returns into messages and an exit code.

    A `ZeroshotError` is one line and a hint; an interrupt is 130, SIGTERM 143; a reader that closed the pipe has had
    enough, which is no error. Anything else is a bug and keeps its traceback.
    """

    @functools.wraps(command)
    def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        signals.handle_stops()
        code: int
        try:
            code = command(*args, **kwargs) or ExitCode.OK
        except ZeroshotError as error:
            say(f"zeroshot: error: {error.message}")
            if error.hint:
                say(f"  try: {error.hint}")
            code = error.exit_code
        except KeyboardInterrupt as stopped:
            say("zeroshot: interrupted")
            code = signals.exit_code(stopped)
        except OSError as error:
            code = give_up_stdout(error)
        if code:
            raise typer.Exit(code)

    return run


def give_up_stdout(error: OSError) -> ExitCode:
    """Return the exit code for what could not be printed: the reader has had enough, or a disk is full.

    Raises:
        OSError: The error as given; it is about something else.
    """
    if not isinstance(error, BrokenPipeError) and (error.errno not in _FULL or error.filename is not None):
        raise error
    # The interpreter flushes stdout once more as it exits; give it somewhere to go.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if isinstance(error, BrokenPipeError):
        return ExitCode.OK
    say(f"zeroshot: error: cannot write stdout: {error.strerror}")
    say("  try: free some space")
    return ExitCode.ERROR


class Bar:
    """A progress bar with rate and time left on stderr; silent where that is no terminal.

    Args:
        unit: What is counted.
        total: How many there will be; None while that is not known.
        shares_terminal: Results are printed to the same terminal, so the bar steps aside for them.
    """

    def __init__(self, unit: str, total: int | None = None, *, shares_terminal: bool = False) -> None:
        self._shares = shares_terminal
        self._progress = None
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            self._progress = Progress(
                BarColumn(bar_width=None),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(compact=True),
                console=Console(stderr=True),
                transient=True,
            )
            self._unit = unit
            self._task = self._progress.add_task(unit, total=total, rate="")

    def __enter__(self) -> Bar:
        if self._progress:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress:
            self._progress.stop()

    def expect(self, total: int) -> None:
        """Say how many there will be, once that is known."""
        if self._progress:
            self._progress.update(self._task, total=total)

    def advance(self, count: int = 1) -> None:
        """Count some more as done."""
        if self._progress:
            self._progress.advance(self._task, count)
            speed = self._progress.tasks[0].speed
            self._progress.update(self._task, rate=f"{speed:.1f} {self._unit}/s" if speed else "")

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Take the bar off the terminal while results or messages are printed there."""
        if self._progress and self._shares:
            self._progress.stop()
            yield
            self._progress.start()
        else:
            yield

    def above(self, stream: BinaryIO) -> BinaryIO:
        """Return a stream that prints to `stream`, a terminal, above the bar."""
        return cast(BinaryIO, _Above(self, stream)) if self._progress and self._shares else stream

    def note(self, message: str) -> None:
        """Print a line for people above the bar."""
        if self._progress:
            self._progress.stop()
            say(message)
            self._progress.start()
        else:
            say(message)


class _Above:
    """Takes the bar off the terminal while something is printed there."""

    def __init__(self, bar: Bar, stream: BinaryIO) -> None:
        self._bar = bar
        self._stream = stream

    def write(self, data: bytes) -> int:
        """Print it at once."""
        with self._bar.aside():
            written = self._stream.write(data)
            self._stream.flush()
        return written

    def flush(self) -> None:
        """Do nothing: all is printed."""


@contextmanager
def download_bar() -> Iterator[Callable[[Download], None]]:
    """Show downloads: a bar with size, rate and time left on a terminal, else one line a file."""
    if not sys.stderr.isatty():
        named: set[str] = set()

        def name_once(download: Download) -> None:
            if download.name not in named:
                named.add(download.name)
                say(f"downloading {download.title}")

        yield name_once
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        tasks = {}

        def update(download: Download) -> None:
            if download.name not in tasks:
                tasks[download.name] = progress.add_task(download.name, total=download.size)
            progress.update(tasks[download.name], completed=download.done, total=download.size)

        yield update
