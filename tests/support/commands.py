"""Commands run in this process, as they are typed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from typer.testing import CliRunner, Result

from zeroshot.cli import main
from zeroshot.cli.main import app


def run(*arguments: object, stdin: bytes | None = None) -> Result:
    """Run a command in this process, as it is typed."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)


def every_command() -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield each command's words and what Typer makes of it."""
    for name in main._COMMANDS:
        command = main._load(name)
        if hasattr(command, "commands"):
            yield from (((name, sub), found) for sub, found in command.commands.items())
        else:
            yield (name,), command
