"""Prints for users: messages and progress on stderr, and the boundary where errors become exit codes."""

from __future__ import annotations

import errno
import functools
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, BinaryIO, ParamSpec

import typer

from ..errors import MORE_MEMORY, ExitCode, ZeroshotError
from ..messages import and_more, printable
from ..system import signals
from ..system.memory import is_out_of_memory
from . import console, status_line
from .status_line import StatusLine

if TYPE_CHECKING:
    from ..results import Failure

if TYPE_CHECKING:
    from ..models.hub.download import Progress as Download

Arguments = ParamSpec("Arguments")

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
"""What writing to a disk that is full or broken ends with."""

_RATE_SECONDS = 30.0
"""The rate of a bar is that of so many seconds."""

_LEAST_BAR = 10
"""Columns below which a bar says nothing."""

_last: list[str] = []
"""Notes that wait for the end of the command."""

_afterwards: list[Callable[[], None]] = []
"""What is done once the command has ended well."""


def say(message: str) -> None:
    """Print one line on stderr."""
    status_line.print_error(printable(message).encode(sys.stderr.encoding or "utf-8", "backslashreplace") + b"\n")


def note(message: str) -> None:
    """Print what is neither a warning nor an error, unless --quiet."""
    if not status_line.quiet:
        say(f"zeroshot: {message}")


def note_last(message: str) -> None:
    """Print as `note`, but once the command ends where its rows stand on the same terminal."""
    if sys.stdout.isatty() and sys.stderr.isatty():
        _last.append(message)
    else:
        note(message)


def do_afterwards(work: Callable[[], None]) -> None:
    """Have something done once the command has ended well, and its results are complete."""
    _afterwards.append(work)


def end_stdout() -> None:
    """Let whoever reads stdout see its end, though the command goes on."""
    sys.stdout.flush()
    if not sys.stdout.isatty():
        with suppress(OSError):  # a stream that is no file has no number, which is an OSError too
            number = sys.stdout.fileno()
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)


def be_quiet() -> None:
    """Print only warnings and errors until the command ends."""
    status_line.quiet = True


def warn(message: str) -> None:
    """Print a warning."""
    say(f"zeroshot: warning: {message}")


class Few:
    """Prints the first lines of what may be many, and how many more there are.

    Args:
        quiet: Print none of them.
        only_here: No record or document holds them, so that all are printed where stderr is no terminal.
    """

    MOST = 20
    """Lines printed one by one."""

    def __init__(self, *, quiet: bool = False, only_here: bool = False) -> None:
        self._quiet = quiet
        self._only_here = only_here
        self._everything = only_here and not sys.stderr.isatty()
        self._count = 0

    def say(self, message: str) -> None:
        """Print one line, if it is one of the first."""
        self._count += 1
        if not self._quiet and (self._everything or self._count <= self.MOST):
            note(message)

    def say_rest(self) -> None:
        """Say how many were not printed."""
        if not self._quiet and not self._everything and self._count > self.MOST:
            how = " (2> FILE keeps all of these lines)" if self._only_here else ""
            note(f"... {and_more(self._count - self.MOST)}{how}")


def say_few(messages: Iterable[str]) -> None:
    """Print many lines; on a terminal the first of them, and how many more there are."""
    few = Few(only_here=True)
    for message in messages:
        few.say(message)
    few.say_rest()


def reports_errors(command: Callable[Arguments, ExitCode | None]) -> Callable[Arguments, None]:
    """Turn what a command raises or returns into messages and an exit code.

    A `ZeroshotError` is one line and a hint; an interrupt is 130, SIGTERM 143; a reader that closed the pipe has had
    enough, which is no error. Anything else is a bug and keeps its traceback.
    """

    @functools.wraps(command)
    def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        signals.handle_stops()
        status_line.quiet = False
        _last.clear()
        _afterwards.clear()
        code: int
        try:
            with signals.kept():
                code = command(*args, **kwargs) or ExitCode.OK
                for work in _afterwards:
                    work()
        except ZeroshotError as error:
            say(f"zeroshot: error: {error.message}")
            if error.hint:
                say(f"  try: {error.hint}")
            code = error.exit_code
        except KeyboardInterrupt as stopped:
            status_line.erase_echo()
            say("zeroshot: interrupted")
            code = signals.exit_code(stopped)
        except Exception as error:
            if is_out_of_memory(error):
                say("zeroshot: error: there is not enough memory")
                say(f"  try: {MORE_MEMORY}")
                code = ExitCode.ERROR
            elif isinstance(error, PermissionError) and error.filename:
                say(f"zeroshot: error: {os.fsdecode(error.filename)}: no permission to look there")
                say("  try: another path, or change the permissions of its folder")
                code = ExitCode.ERROR
            elif isinstance(error, OSError):
                code = give_up_stdout(error)
            else:
                raise
        for message in _last:
            note(message)
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
    """

    def __init__(self, unit: str, total: int | None = None) -> None:
        self._unit = unit
        self._total = total
        self._done = 0
        self._samples: deque[tuple[float, int]] = deque()
        self._line = StatusLine(self._text)

    def __enter__(self) -> Bar:
        self._line.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._line.__exit__(*exception)

    def expect(self, total: int) -> None:
        """Say how many there will be, once that is known."""
        self._total = total

    def begin_at(self, done: int) -> None:
        """Say how many were done by an earlier run, which tell nothing about the rate of this one."""
        self._done = done
        self._samples.clear()

    def advance(self, count: int = 1) -> None:
        """Count some more as done."""
        self._done += count

    def above(self, stream: BinaryIO) -> BinaryIO:
        """Return a stream that prints to `stream`, a terminal, above the bar."""
        return self._line.above(stream)

    def _text(self) -> str:
        now = time.monotonic()
        self._samples.append((now, self._done))
        while now - self._samples[0][0] > _RATE_SECONDS:
            self._samples.popleft()
        begin, before = self._samples[0]
        rate = (self._done - before) / (now - begin) if now > begin else 0.0
        parts = [f"{self._done}/{self._total}" if self._total is not None else f"{self._done} {self._unit}"]
        parts += [f"{rate:.1f} {self._unit}/s"] if rate else []
        if rate and self._total is not None:
            parts.append(_clock(max(0, self._total - self._done) / rate))
        text = "  ".join(parts)
        columns = columns_of_status()
        room = columns - len(text) - 2
        if self._total and room >= _LEAST_BAR:
            filled = round(room * min(1.0, self._done / self._total))
            text = "━" * filled + "─" * (room - filled) + "  " + text
        return text[:columns]


def columns_of_stderr() -> int:
    """Return the width of the terminal that stderr is, in columns; 80 where that is not known."""
    with suppress(ValueError, KeyError):
        if (given := int(os.environ["COLUMNS"])) > 0:
            return given
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def columns_of_status() -> int:
    """Return how wide the status line can be, so that the ``^C`` that a terminal shows behind it wraps no line."""
    return columns_of_stderr() - 3


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


@contextmanager
def doing(what: str) -> Iterator[None]:
    """Name on a terminal what is being done, and for how many seconds already, as long as the block lasts."""
    begin = time.monotonic()
    with StatusLine(lambda: f"{what} ... {time.monotonic() - begin:.0f} s"[: columns_of_status()]):
        yield


@contextmanager
def loading(model: str | None) -> Iterator[Callable[[Download], None]]:
    """Name the model that is being loaded, and show its downloads; one line per file where stderr is no terminal."""
    from ..models.resolvers import default_model

    name = model or default_model()
    downloads: dict[str, Download] = {}
    begin = time.monotonic()

    def update(download: Download) -> None:
        if download.name not in downloads:
            say(f"downloading {download.title}")
        downloads[download.name] = download

    def text() -> str:
        seconds = time.monotonic() - begin
        for download in list(downloads.values()):
            if download.size and download.done < download.size:
                share = 100 * download.done / download.size
                return f"{share:.0f}% of {download.title} ... {seconds:.0f} s"[: columns_of_status()]
        engine = " with PyTorch" if "torch" in sys.modules else ""
        return f"loading {name}{engine} ... {seconds:.0f} s"[: columns_of_status()]

    with StatusLine(text):
        yield update


def name_failures(failures: Sequence[Failure], total: int) -> ExitCode:
    """Name the images that could not be read, the first ones of many, and return the exit code for them."""
    console.say_few(f"{failure.path}: {failure.error}" for failure in failures)
    if failures:
        console.say(f"zeroshot: {len(failures)} of {total} inputs could not be read")
    return ExitCode.INCOMPLETE if failures else ExitCode.OK
