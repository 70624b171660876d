"""What can go wrong for a user, and the exit code that says so.

Everything that a user can fix is a `ZeroshotError`: one line that names what was wrong and which value, and a
hint that names the command or option to try. Any other exception is a bug and keeps its traceback.
"""

from __future__ import annotations

import difflib
import enum
from collections.abc import Iterable


class ExitCode(enum.IntEnum):
    """How a process ends."""

    OK = 0
    ERROR = 1
    USAGE = 2
    INCOMPLETE = 3  # results are complete, but some inputs could not be read
    INTERRUPTED = 130  # Ctrl-C: 128 + SIGINT, as shells report it


MORE_MEMORY = "a smaller --batch-size, fewer --workers, a smaller model, or a machine or limit with more memory"
"""The hint where memory runs out."""


class ZeroshotError(Exception):
    """A mistake that a user can fix.

    Args:
        message: One line: what was wrong, and which value.
        hint: One line: the command or option that fixes it; empty when there is nothing to try.
    """

    exit_code = ExitCode.ERROR

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(ZeroshotError):
    """Options that contradict each other or make no sense."""

    exit_code = ExitCode.USAGE


class InputError(ZeroshotError):
    """A path, folder or list of paths that cannot be used."""


class LabelError(ZeroshotError):
    """Labels that are empty, repeated or cannot be told apart."""


class PromptError(ZeroshotError):
    """A template or template set that cannot be used."""


class ModelError(ZeroshotError):
    """A checkpoint that is unknown, absent, damaged, unsafe or does not fit its configuration."""


class OutputError(ZeroshotError):
    """Results that cannot be written."""


class ResourceError(ZeroshotError):
    """The machine or a limit of the process gives no more memory, files or threads."""


class ImageError(ZeroshotError):
    """One image that cannot be read; it becomes one failed record and never ends a run."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the known name closest to a mistyped one, or nothing."""
    by_folded = {candidate.casefold(): str(candidate) for candidate in known}
    close = difflib.get_close_matches(name.casefold(), list(by_folded), n=1, cutoff=0.6)
    return f"; did you mean {by_folded[close[0]]!r}?" if close else ""
