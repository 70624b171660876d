"""``zeroshot prompts``: the template sets, and a check of them before any image is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..enums import ReportFormat
from ..errors import ExitCode, InputError, UsageError
from ..messages import count_of
from . import console, option_groups, options, prompts_tune
from .completion_values import complete_prompts
from .input_options import InputOptions
from .label_options import read_labels
from .model_options import ModelOptions
from .option_values import choose_report_format
from .pipeline_options import ImageOptions
from .prior_and_neighbours import stack

if TYPE_CHECKING:
    from ..prompts.labels import LabelSet
    from ..prompts.template_sets import TemplateSet

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
            help="A set's name, a YAML file, or images to compare all sets on: a folder, archive or store.",
            metavar="NAME|FILE|DIR",
            autocompletion=complete_prompts,
        ),
        options.Use.READ_FOLDER,
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
    format_: Annotated[
        ReportFormat | None,
        typer.Option(
            "--format",
            "-f",
            help="With a folder: how to write it; json: one document. [default: the ending of --output, else table]",
            rich_help_panel=options.Panel.OUTPUT,
        ),
    ] = None,
    output: options.Output = None,
    archives: options.Archives = False,
    *,
    model: ModelOptions,
    images: ImageOptions,
) -> ExitCode:
    """Find missing placeholders, repeats, truncated labels, and labels whose features nearly coincide.

    Truncation and nearness are properties of a model: they are checked where labels are given. With a folder of images,
    which need no labels of their own: how far the sets agree on them and how sure they are, beside random words.
    """
    from ..images.sources.image_names import is_archive, scheme_of
    from ..prompts import prompt_checks
    from ..prompts.template_sets import list_names, load_unchecked

    label_set = read_labels(labels, labels_file) if labels or labels_file else None
    if name not in list_names() and (Path(name).is_dir() or is_archive(name) or scheme_of(name)):
        form = choose_report_format(format_, output) if output else format_ or ReportFormat.TABLE
        inputs = InputOptions(paths=[name], archives=archives)
        return _compare_on(inputs, _check_choice(label_set), candidates, _Written(form, output), model, images)
    of_images = {"--candidates": candidates, "--format": format_, "--output": output, "--archives": archives}
    for option, given in of_images.items():
        if given:
            raise UsageError(f"{option} is of a comparison on images", "zeroshot prompts check DIR --labels A,B")
    templates = load_unchecked(name)
    findings = prompt_checks.check_templates(templates)
    broken = any(finding.severity is prompt_checks.Severity.ERROR for finding in findings)
    if label_set and not broken:
        findings += prompt_checks.check_with_model(model.load(), label_set, templates)
    for finding in findings:
        typer.echo(f"{finding.severity}: {finding.message}")
    if not findings:
        checked = count_of(len(templates.templates), "template") + (
            ", and the labels with this model:" if label_set else ":"
        )
        typer.echo(f"{templates.name}: {checked} no problems found")
    return ExitCode.ERROR if broken else ExitCode.OK


@dataclass(frozen=True, slots=True)
class _Written:
    """How a comparison is written, and where."""

    form: ReportFormat
    output: Path | None


def _check_choice(labels: LabelSet | None) -> LabelSet:
    """Return the labels, if there are some to choose among.

    Raises:
        UsageError: There are none, or one.
    """
    if labels is None:
        raise UsageError("no labels: what the images may be is not read from folders' names here", "--labels cat,dog")
    if len(labels.answers) < 2:
        raise UsageError(
            f"one label, {labels.answers[0][0]}: every set gives it to every image", "name two labels or more"
        )
    return labels


def _load_sets(candidates: list[str] | None) -> list[TemplateSet]:
    """Return the sets to compare.

    Raises:
        UsageError: There is one, which has no others to agree with, or one is given twice.
    """
    from ..prompts.template_sets import check_names_differ, list_names, load_templates

    names = candidates or list_names()
    if len(set(names)) < len(names):
        raise UsageError("a set is given twice with --candidates", "name each once")
    if len(names) < 2:
        raise UsageError(
            f"--candidates {names[0]}: one set has no others to agree with", "name two, or leave --candidates out"
        )
    sets = [load_templates(source) for source in names]
    check_names_differ(sets, names)
    return sets


def _compare_on(
    inputs: InputOptions,
    labels: LabelSet,
    candidates: list[str] | None,
    written: _Written,
    model: ModelOptions,
    images: ImageOptions,
) -> ExitCode:
    """Write how template sets answer on a folder's images."""
    sets = _load_sets(candidates)
    (folder,) = inputs.paths or [""]
    inputs.check()

    from ..evaluation.template_agreement import RANDOM_SETS, score_sets
    from ..features.pipeline import encode_blocks
    from ..output.destination import check_output, open_output
    from ..output.render import template_agreement as render_prompt_fit
    from ..output.render.evaluation import encode
    from ..results import Failure

    check_output(written.output)
    pipeline = images.pipeline()
    encoder = model.load()
    failures, blocks = [], []
    with console.Bar("images") as bar:
        for block in encode_blocks(encoder, inputs.find(bar=bar), pipeline):
            failures += [Failure(block.paths[place], error) for place, error in sorted(block.errors.items())]
            blocks.append(block)
            bar.advance(len(block.paths))
    console.say_few(f"{failure.path}: {failure.error}" for failure in failures)
    features = stack(blocks)
    if features is None:
        raise InputError(f"no image of {folder} could be read", "check the folder")
    with console.Bar("sets", len(sets) + RANDOM_SETS) as bar:
        scores = score_sets(encoder, labels, sets, features, pipeline.cache, bar.advance)
    with open_output(written.output) as stream:
        if written.form is ReportFormat.JSON:
            choices = images.choices(pipeline) | {"data": folder}
            document = render_prompt_fit.to_document(scores, len(features), labels, encoder.spec, choices, failures)
            stream.write(encode(document))
        else:
            text = render_prompt_fit.to_text(scores, len(features), len(labels.answers))
            stream.write(text.encode("utf-8", "backslashreplace"))
    return ExitCode.INCOMPLETE if failures else ExitCode.OK


app.command("tune", short_help="Choose templates that fit your images.")(prompts_tune.tune)
