"""``zeroshot prompts``: the template sets, and a check of them before any image is read."""

from __future__ import annotations

from typing import Annotated

import typer

from ..errors import ExitCode
from . import console, options, tune
from .completion import complete_prompts
from .label_options import read_labels

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
        f"for {templates.pictures}" if templates.pictures else "",
        f"from {templates.source}" if templates.source else "",
    ):
        if heading:
            typer.echo(f"# {heading}")
    for template in templates.templates:
        typer.echo(template)


@app.command("check", short_help="Look for faults in a template set, and in labels with it.")
@console.reports_errors
def check(
    name: Annotated[
        str, typer.Argument(help="A set's name, or a YAML file.", metavar="NAME|FILE", autocompletion=complete_prompts)
    ] = "general",
    labels: options.Labels = None,
    labels_file: options.LabelsFile = None,
    model: options.Model = None,
    pretrained: options.Pretrained = None,
) -> ExitCode:
    """Find missing placeholders, repeats, truncated labels, and labels whose features nearly coincide.

    Truncation and nearness are properties of a model: they are checked where labels are given.
    """
    from ..prompts import checks as checks
    from ..prompts.template_sets import load_unchecked

    label_set = read_labels(labels, labels_file) if labels or labels_file else None
    templates = load_unchecked(name)
    findings = checks.check_templates(templates)
    broken = any(finding.severity is checks.Severity.ERROR for finding in findings)
    if label_set and not broken:
        from ..engines.choose import load_encoder

        with console.loading(model) as on_progress:
            encoder = load_encoder(model, pretrained, on_progress=on_progress, warn=console.warn)
        findings += checks.check_with_model(encoder, label_set, templates)
    for finding in findings:
        typer.echo(f"{finding.severity}: {finding.message}")
    if not findings:
        count = len(templates.templates)
        checked = f"{count} template{'s' * (count > 1)}" + (", and the labels with this model:" if label_set else ":")
        typer.echo(f"{templates.name}: {checked} no problems found")
    return ExitCode.ERROR if broken else ExitCode.OK


app.command("tune", short_help="Choose templates that fit your images.")(tune.tune)
