"""Commands run in this process, as they are typed."""

from __future__ import annotations

from typer.testing import CliRunner, Result

from zeroshot.cli import app


def run(*arguments: object, stdin: bytes | None = None) -> Result:
    """Run a command in this process, as it is typed."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)
