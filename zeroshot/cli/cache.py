"""``zeroshot cache``: what is kept, and getting rid of it."""

from __future__ import annotations

from typing import Annotated

import typer

from ..errors import ExitCode, OutputError, UsageError
from . import console

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.command("info", short_help="Show where the cache is and what it holds.")
@console.reports_errors
def info() -> None:
    """Show where the cache is, its size, and what it holds for each model."""
    from ..cache.store import FeatureCache

    store = FeatureCache(warn=console.warn)
    typer.echo(f"{store.path}: {store.size() / 1e6:.1f} MB")
    for entry in store.stored() if store.path.exists() else []:
        typer.echo(f"  {entry.model}: {entry.rows} rows, {entry.megabytes:.1f} MB, oldest use {entry.oldest} days ago")


@app.command("clear")
@console.reports_errors
def clear() -> None:
    """Remove every stored feature; models and exports stay."""
    from ..cache.store import FeatureCache

    store = FeatureCache(warn=console.warn)
    size = store.size()
    try:
        store.clear()
    except OSError as error:
        raise OutputError(
            f"cannot remove {error.filename}: {error.strerror}", "$ZEROSHOT_CACHE names another folder"
        ) from error
    typer.echo(f"removed {size / 1e6:.1f} MB from {store.path.parent}")


@app.command("prune")
@console.reports_errors
def prune(
    days: Annotated[
        int | None,
        typer.Option("--days", min=0, max=1_000_000, help="Remove what was not used for so many days.", metavar="N"),
    ] = None,
    megabytes: Annotated[
        float | None, typer.Option("--megabytes", min=0, help="Keep at most so much, the last used first.", metavar="N")
    ] = None,
) -> ExitCode:
    """Remove what is old, or too much."""
    from ..cache.store import FeatureCache

    if days is None and megabytes is None:
        raise UsageError("nothing says what to remove", "zeroshot cache prune --days 30, or --megabytes 500")
    troubles: list[str] = []
    store = FeatureCache(warn=troubles.append)
    removed = store.prune(days=days, megabytes=megabytes) if store.path.exists() else 0
    if troubles:
        raise OutputError(
            troubles[0].removesuffix("; going on without it"), "free some space, or `zeroshot cache clear`"
        )
    typer.echo(f"removed {removed} rows; {store.size() / 1e6:.1f} MB are kept")
    return ExitCode.OK
