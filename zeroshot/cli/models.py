"""``zeroshot models``: list models, describe one, download one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..enums import ReportFormat
from . import console, option_groups, options
from .completion_values import complete_model
from .model_options import ModelOptions, Preprocess, Pretrained, read_preprocess

if TYPE_CHECKING:
    from ..engines.onnx_manifest import Agreement
    from ..models.checkpoint import Files, Source

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

LIST_FORMAT = "zeroshot-models"
LIST_VERSION = 1

Name = Annotated[
    str | None,
    typer.Argument(
        help="As --model takes it. [default: $ZEROSHOT_MODEL, else base]",
        metavar="MODEL",
        show_default=False,
        autocompletion=complete_model,
    ),
]


@app.command("list")
@console.reports_errors
def list_(
    every: Annotated[
        bool, typer.Option("--all", help="Also every architecture and weight tag that open_clip knows.")
    ] = False,
    format_: options.PrintedFormatOption = None,
) -> None:
    """List the short names, with size, licence and accuracy."""
    from ..models.aliases import ALIASES

    if format_ is ReportFormat.JSON:
        typer.echo(_list_as_json(every))
        return
    typer.echo(f"{'name':<9}{'size':>8}  {'ImageNet':<9} {'licence':<15} what it is")
    for alias in ALIASES:
        size = f"{alias.megabytes} MB"
        typer.echo(f"{alias.name:<9}{size:>8}  {alias.accuracy or '-':<9} {alias.licence:<15} {alias.note}")
        if alias.architecture:
            typer.echo(f"{'':<18} {alias.architecture} / {alias.pretrained} ({alias.source})")
    typer.echo("\nImageNet: top-1 in percent with open_clip's 80 templates, as its publishers report it.")
    typer.echo("What tiny is good for, measured: zeroshot models info tiny")
    if every:
        from ..models import open_clip_tables

        typer.echo("\n--model ARCHITECTURE --pretrained TAG:")
        for architecture, tag in open_clip_tables.list_pretrained():
            typer.echo(f"{architecture} {tag}")


def _list_as_json(every: bool) -> str:
    """Return the table as a document: sizes in MB, accuracies in percent, null where the table has a dash."""
    import json

    from ..models.aliases import ALIASES

    models = [
        {
            "name": alias.name,
            "architecture": alias.architecture or None,
            "pretrained": alias.pretrained or None,
            "megabytes": alias.megabytes,
            "imagenet_top1": float(alias.accuracy) if alias.accuracy else None,
            "licence": alias.licence,
            "source": alias.source,
            "note": alias.note,
        }
        for alias in ALIASES
    ]
    document: dict[str, Any] = {"format": LIST_FORMAT, "version": LIST_VERSION, "models": models}
    if every:
        from ..models import open_clip_tables

        document["pretrained"] = [
            {"architecture": architecture, "pretrained": tag}
            for architecture, tag in open_clip_tables.list_pretrained()
        ]
    return json.dumps(document, indent=1, ensure_ascii=False)


@app.command("pull", short_help="Download a model, and export it for quick starts.")
@console.reports_errors
@option_groups.expand_option_groups
def pull(
    model: Name = None,
    pretrained: Pretrained = None,
    export: Annotated[
        bool, typer.Option(help="Also export it for the torch-free engine, which starts in about a second.")
    ] = True,
    preprocess: Preprocess = None,
) -> None:
    """Download a model, so that later runs need no network, and export it for quick starts on a CPU."""
    from ..models import resolvers
    from ..models.weights_hash import hash_file

    source = resolvers.resolve(model, pretrained, read_preprocess(preprocess))
    if source.folder == resolvers.builtin_folder():
        typer.echo(f"{source.model} is inside the package, there is nothing to download")
        return
    with console.loading(source.model) as on_progress:
        files = resolvers.obtain(source, on_progress, refresh=True)
    typer.echo(f"{source.model}: {files.weights.stat().st_size / 1e6:.0f} MB, sha256 {hash_file(files.weights)}")
    if export:
        _export(source, files)


def _export(source: Source, files: Files) -> None:
    """Export a model, and say what that stores, how long it takes, and what it gains."""
    from ..engines import choose
    from ..system.sizes import in_bytes
    from ..system.user_folders import exports_folder

    begin, loaded = time.monotonic(), 0.0

    def tell(size: int) -> None:
        nonlocal loaded
        loaded = time.monotonic() - begin
        console.say(f"exporting for the torch-free engine, which will store {in_bytes(size)} in {exports_folder()} ...")

    with console.doing(f"exporting {source.model} with PyTorch"):
        folder = choose.export_model(source, on_loaded=tell)
        seconds, opened = time.monotonic() - begin, choose.time_opening(folder)
    stored = in_bytes(sum(path.stat().st_size for path in folder.iterdir()))
    typer.echo(f"exported in {seconds:.0f} s to {folder}, {stored}; CPU runs will use it")
    typer.echo(f"ready to encode in {opened:.1f} s, instead of {loaded:.1f} s with PyTorch")
    preferred = choose.find_export(files)
    if preferred != folder:
        console.warn(
            f"but {preferred} holds an export of its own, which is preferred: remove its zeroshot.json to use this"
        )


@app.command("info", short_help="Show what a model is, and its card.")
@console.reports_errors
@option_groups.expand_option_groups
def info(
    model: Name = None,
    pretrained: Pretrained = None,
    format_: options.PrintedFormatOption = None,
    preprocess: Preprocess = None,
) -> None:
    """Show what a model is: activation, preprocessing, context length, hashes; and its card, if it has one."""
    from dataclasses import asdict

    from ..engines import choose
    from ..output.render.json_lines import to_json

    asked = ModelOptions(model, pretrained, preprocess)
    spec = asked.load().spec
    agreements = choose.read_agreements(asked.source())
    if format_ is ReportFormat.JSON:
        measured = {str(precision): asdict(agreement) for precision, agreement in agreements.items()}
        document = asdict(spec) | {"fingerprint": spec.fingerprint, "agreements": measured}
        typer.echo(to_json(document, indent=1).decode())
        return
    how = spec.preprocessing
    for name, value in {
        "model": spec.model,
        "architecture": f"{spec.architecture} {spec.pretrained}".strip(),
        "source": spec.source,
        "weights sha256": spec.weights_sha256,
        "fingerprint": spec.fingerprint,
        "preprocessing": f"{how.size[1]} x {how.size[0]}, {how.resize_mode}, {how.interpolation}",
        "mean, std": f"{', '.join(f'{v:.5g}' for v in how.mean)}; {', '.join(f'{v:.5g}' for v in how.std)}",
        "activation": spec.activation,
        "context length": spec.context_length,
        "feature length": spec.dim,
        "logit scale": f"{spec.logit_scale:.6g}",
        "logit bias": "none" if spec.logit_bias is None else f"{spec.logit_bias:.6g}",
        "trained with": spec.score,
        "runs on": f"{spec.engine}, {spec.device}, {spec.precision}",
        **{f"{precision} graphs": _describe(agreement) for precision, agreement in agreements.items()},
    }.items():
        typer.echo(f"{name:<15} {value}")
    folder = asked.source().folder
    card = folder / "README.md" if folder else None
    if card and card.is_file():
        typer.echo("\n" + card.read_text(encoding="utf-8", errors="replace"))


def _describe(agreement: Agreement) -> str:
    """Return how near graphs come to PyTorch's model, or 8-bit ones to those in float32, on fixed inputs."""
    return (
        f"lowest cosine {agreement.image:.6f} for images, {agreement.text:.6f} for texts,"
        f" largest difference {agreement.difference:.1e}"
    )
