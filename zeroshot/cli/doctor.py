"""``zeroshot doctor``: check this installation."""

from __future__ import annotations

import typer

from ..errors import ExitCode
from . import console


@console.reports_errors
def doctor() -> ExitCode:
    """Check versions, devices, the cache, and the answers of the built-in checkpoint; exit 1 if something is wrong."""
    from ..engines import installation_checks as examination

    sound = True
    checks = examination.examine()
    while True:
        with console.doing("checking"):  # PyTorch alone may take a quarter of a minute
            check = next(checks, None)
        if check is None:
            break
        sound &= check.ok
        typer.echo(f"{'ok ' if check.ok else 'BAD'} {check.name:<20} {check.detail}")
        if check.hint:
            typer.echo(f"    {'':<20} try: {check.hint}")
    return ExitCode.OK if sound else ExitCode.ERROR
