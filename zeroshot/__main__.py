"""Entry point of ``zeroshot`` and ``python -m zeroshot``: prepares the standard streams and calls `cli.main`."""

from __future__ import annotations

import io
import os
import sys


def main() -> None:
    """Run the command line."""
    _open_what_is_closed()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Files and pipes hold UTF-8, whatever the encoding of the system.
        sys.stdout.reconfigure(encoding=None if sys.stdout.isatty() else "utf-8", errors="backslashreplace")
    try:
        from .system.signals import kept

        with kept():
            from .cli.main import app

            app()
    except KeyboardInterrupt:  # before a command handles it
        sys.exit(130)
    except OSError as error:  # of help that is printed before there is a command
        from .cli.console import give_up_stdout

        sys.exit(give_up_stdout(error))
    finally:
        # The interpreter waits for threads that read images, and would show where a signal meets it there.
        if signals := sys.modules.get("zeroshot.system.signals"):
            signals.exit_at_once()


def _open_what_is_closed() -> None:
    """Open the null device for a standard stream that was closed (``<&-``, ``>&-``).

    Otherwise the next file that is opened gets its number, and what is printed lands in that file.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free, which is this one
            setattr(sys, name, open(null, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


if __name__ == "__main__":
    main()
