"""``zeroshot cache``: list and remove stored features and exports."""

from __future__ import annotations

from typing import Annotated

import typer

from ..errors import ExitCode, OutputError, UsageError
from . import console

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.command("info", short_help="Show where the cache is and what it holds.")
@console.reports_errors
def info() -> None:
    """Show where the cache is, and what features and exports it holds for each model."""
    from ..engines.export.export_cache import list_exports
    from ..features.cache import FeatureCache
    from ..system.user_folders import exports_folder

    store = FeatureCache(warn=console.warn)
    typer.echo(f"{store.path.parent}: {store.size() / 1e6:.1f} MB of features, in files named features-*")
    for entry in store.stored() if store.path.exists() else []:
        typer.echo(f"  {entry.model}: {entry.rows} rows, {entry.megabytes:.1f} MB, oldest use {entry.oldest} days ago")
    exports = list_exports()
    if exports:
        typer.echo(f"{exports_folder()}: {sum(kept.size for kept in exports) / 1e6:.1f} MB")
    for kept in exports:
        if kept.busy:
            state = "being written now"
        elif kept.usable:
            state = f"last use {kept.days} days ago"
        else:
            state = "of no use to this version; `zeroshot cache clear --exports` removes it"
        typer.echo(f"  {kept.model or 'an export that is not whole'}: {kept.size / 1e6:.1f} MB, {state}")


@app.command("clear", short_help="Remove every stored feature, or every export.")
@console.reports_errors
def clear(
    exports: Annotated[
        bool,
        typer.Option(
            "--exports", help="Remove exported models instead, and what interrupted exports left; features stay."
        ),
    ] = False,
) -> None:
    """Remove every stored feature; exports stay, and so do downloaded models, which are the hub's.

    `zeroshot models pull` makes an export again.
    """
    from ..engines.export.export_cache import list_exports, remove_exports
    from ..features.cache import FeatureCache
    from ..system.user_folders import exports_folder

    store = FeatureCache(warn=console.warn)
    try:
        if exports:
            removed, place = remove_exports(), exports_folder()
        else:
            removed, place = store.size(), store.path.parent
            store.clear()
    except OSError as error:
        raise OutputError(
            f"cannot remove {error.filename}: {error.strerror}", "$ZEROSHOT_CACHE names another folder"
        ) from error
    typer.echo(f"removed {removed / 1e6:.1f} MB from {place}")
    kept = list_exports()
    if any(export.busy for export in kept):
        console.say("an export that is being written now stays")
    if kept and not exports:
        size = sum(export.size for export in kept) / 1e6
        typer.echo(f"{size:.1f} MB of exports stay; `zeroshot cache clear --exports` removes them")


@app.command("prune", short_help="Remove what is old, or too much.")
@console.reports_errors
def prune(
    days: Annotated[
        int | None,
        typer.Option("--days", min=0, max=1_000_000, help="Remove what was not used for this many days.", metavar="N"),
    ] = None,
    max_size: Annotated[
        str | None,
        typer.Option(
            "--max-size", help="Keep at most this much on disk, most recently used first, such as 2GB.", metavar="SIZE"
        ),
    ] = None,
) -> ExitCode:
    """Remove features that are old, or too many; $ZEROSHOT_CACHE_MAX_SIZE keeps every run within a size."""
    from ..features.cache import FeatureCache
    from ..system.sizes import parse_size

    if days is None and max_size is None:
        raise UsageError("no option says what to remove", "zeroshot cache prune --days 30, or --max-size 2GB")
    troubles: list[str] = []
    store = FeatureCache(warn=troubles.append)
    most = None if max_size is None else parse_size(max_size, "--max-size")
    removed = store.prune(days=days, max_bytes=most) if store.path.exists() else 0
    if troubles:
        # What fixes it depends on what SQLite or the system say in their own words.
        said = troubles[0].removesuffix("; going on without it")
        if "is full" in said:
            hint = "free some space, or `zeroshot cache clear`"
        elif "another program" in said:
            hint = "move it away; $ZEROSHOT_CACHE names another folder"
        elif any(words in said for words in ("another version", "damaged", "malformed", "locked")):
            hint = "`zeroshot cache clear` removes all features; runs that use them go on without"
        else:
            hint = f"have {store.path.parent} and what is in it writable; $ZEROSHOT_CACHE names another folder"
        raise OutputError(said, hint)
    typer.echo(f"removed {removed} rows; {store.size() / 1e6:.1f} MB are kept")
    return ExitCode.OK
