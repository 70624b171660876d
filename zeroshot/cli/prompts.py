"""``zeroshot prompts``: the template sets, and a check of them before any image is read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ExitCode, InputError, UsageError
from . import console, option_groups, options, tune
from .completion import complete_prompts
from .folder_statistics import stack
from .label_options import read_labels
from .model_options import ModelOptions
from .pipeline_options import ImageOptions

if TYPE_CHECKING:
    from ..prompts.labels import LabelSet

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
@console.reports_errors
def list_() -> None:
    """List the shipped template sets."""
    from ..prompts import template_sets

    sets = [template_sets.load_templates(name) for name in template_sets.list_names()]
    for templates in sets:
        default = " (default)" if templates.name == template_sets.DEFAULT else ""
        typer.echo(f"{templates.name:<13} {len(templates.templates):>3}  {templates.description}{default}")


@app.command("show")
@console.reports_errors
def show(
    name: Annotated[
        str, typer.Argument(help="A set's name, or a YAML file.", metavar="NAME|FILE", autocompletion=complete_prompts)
    ],
) -> None:
    """Print a template set."""
    from ..prompts import template_sets

    templates = template_sets.load_templates(name)
    for heading in (
        templates.description,
        f"for {templates.images}" if templates.images else "",
        f"from {templates.source}" if templates.source else "",
    ):
        if heading:
            typer.echo(f"# {heading}")
    for template in templates.templates:
        typer.echo(template)


@app.command("check", short_help="Look for faults in a template set, or compare all sets on a folder.")
@console.reports_errors
@option_groups.expand_option_groups
def check(
    name: Annotated[
        str,
        typer.Argument(
            help="A set's name, a YAML file, or a folder of images to compare all sets on.",
            metavar="NAME|FILE|DIR",
            autocompletion=complete_prompts,
        ),
    ] = "general",
    labels: options.Labels = None,
    labels_file: options.LabelsFile = None,
    candidates: Annotated[
        list[str] | None,
        typer.Option(
            "--candidates",
            help="With a folder: a set to compare; repeatable. [default: every shipped set]",
            metavar="NAME|FILE",
            autocompletion=complete_prompts,
            rich_help_panel=options.Panel.LABELS,
        ),
        options.Use.READ,
    ] = None,
    *,
    model: ModelOptions,
    images: ImageOptions,
) -> ExitCode:
    """Find missing placeholders, repeats, truncated labels, and labels whose features nearly coincide.

    Truncation and nearness are properties of a model: they are checked where labels are given. With a folder of images,
    which need no labels of their own: how far the sets agree on them and how sure they are, beside random words.
    """
    from ..prompts import checks as checks
    from ..prompts.template_sets import list_names, load_unchecked

    label_set = read_labels(labels, labels_file) if labels or labels_file else None
    if name not in list_names() and Path(name).is_dir():
        return _compare_on(name, label_set, candidates, model, images)
    if candidates:
        raise UsageError("--candidates are compared on a folder of images", "zeroshot prompts check DIR --labels A,B")
    templates = load_unchecked(name)
    findings = checks.check_templates(templates)
    broken = any(finding.severity is checks.Severity.ERROR for finding in findings)
    if label_set and not broken:
        findings += checks.check_with_model(model.load(), label_set, templates)
    for finding in findings:
        typer.echo(f"{finding.severity}: {finding.message}")
    if not findings:
        count = len(templates.templates)
        checked = f"{count} template{'s' * (count > 1)}" + (", and the labels with this model:" if label_set else ":")
        typer.echo(f"{templates.name}: {checked} no problems found")
    return ExitCode.ERROR if broken else ExitCode.OK


def _compare_on(
    folder: str, labels: LabelSet | None, candidates: list[str] | None, model: ModelOptions, images: ImageOptions
) -> ExitCode:
    """Print how template sets answer on a folder's images."""
    from ..evaluation.prompt_fit import RANDOM_SETS, score_sets
    from ..features.pipeline import encode_blocks
    from ..images.paths import find_images
    from ..output.render.prompt_fit import to_text
    from ..prompts.template_sets import list_names, load_templates

    if labels is None:
        raise UsageError("no labels: what the images may be is not read from folders' names here", "--labels cat,dog")
    sets = [load_templates(source) for source in candidates or list_names()]
    pipeline = images.pipeline()
    encoder = model.load()
    failures, blocks = [], []
    with console.Bar("images") as bar:
        for block in encode_blocks(encoder, find_images([folder]), pipeline):
            failures += [f"{block.paths[place]}: {error}" for place, error in sorted(block.errors.items())]
            blocks.append(block)
            bar.advance(len(block.paths))
    console.say_few(failures)
    features = stack(blocks)
    if features is None:
        raise InputError(f"no image of {folder} could be read", "check the folder")
    with console.Bar("sets", len(sets) + RANDOM_SETS) as bar:
        scores = score_sets(encoder, labels, sets, features, pipeline.cache, bar.advance)
    typer.echo(to_text(scores, len(features), len(labels.labels)), nl=False)
    return ExitCode.INCOMPLETE if failures else ExitCode.OK


app.command("tune", short_help="Choose templates that fit your images.")(tune.tune)
