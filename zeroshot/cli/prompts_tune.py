"""``zeroshot prompts tune``: labelled images in, a template set chosen for them out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ExitCode
from . import completion_values, console, labelled_image_options, option_groups, options
from .label_options import read_templates
from .model_options import ModelOptions
from .option_values import check_yaml
from .pipeline_options import ImageOptions
from .prepare_classifier import prepare_classifier

if TYPE_CHECKING:
    from ..evaluation.tune import Tuning


@console.reports_errors
@option_groups.expand_option_groups
def tune(
    prompts: Annotated[
        str | None,
        typer.Option(
            "--prompts",
            help="The set to start from and compare with. [default: general]",
            metavar="NAME|FILE",
            autocompletion=completion_values.complete_prompts,
            rich_help_panel=options.Panel.LABELS,
        ),
        options.Use.READ,
    ] = None,
    candidates: Annotated[
        list[str] | None,
        typer.Option(
            "--candidates",
            help="A set whose templates may be chosen; repeatable. [default: every shipped set]",
            metavar="NAME|FILE",
            autocompletion=completion_values.complete_prompts,
            rich_help_panel=options.Panel.LABELS,
        ),
        options.Use.READ,
    ] = None,
    max_templates: Annotated[
        int,
        typer.Option(
            "--max-templates",
            min=1,
            help="Templates chosen at most.",
            metavar="N",
            rich_help_panel=options.Panel.LABELS,
        ),
    ] = 10,
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="The YAML set to write.", metavar="FILE.yaml", rich_help_panel=options.Panel.OUTPUT
        ),
        options.Use.WRITTEN,
    ] = Path("tuned.yaml"),
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Replace the output even if the chosen set is not better.",
            rich_help_panel=options.Panel.OUTPUT,
        ),
    ] = False,
    score: options.ScoreOption = None,
    seed: labelled_image_options.Seed = 0,
    *,
    data: labelled_image_options.LabelledOptions,
    model: ModelOptions,
    images: ImageOptions,
) -> ExitCode:
    """Choose templates that fit your images, and measure the choice on held-out images.

    Chooses on one half of the labelled images, compares with the starting set on the other half, and writes a
    set for `--prompts FILE`.
    """
    check_yaml(output)
    start_set = read_templates(prompts, None)

    from ..evaluation import tune as tuning
    from ..evaluation.holdout import halve

    with data.open() as source:
        dataset = source.dataset
        if source.templates and not prompts:
            start_set = source.templates
        templates = tuning.gather_candidates(start_set, candidates or [])
        source.check_apart(output=output)
        pipeline = images.pipeline(as_stored=source.public)
        encoder = model.load_for(source.stored)
        start = prepare_classifier(encoder, dataset.labels, start_set, score, pipeline.cache)
        encoded = labelled_image_options.encode(encoder, source, pipeline)
        with console.Bar("templates", len(templates)) as bar:
            result = tuning.tune(
                encoder, *halve(encoded, seed), start, dataset.keys, templates, max_templates, on_progress=bar.advance
            )
        _write(result, start_set.name, output, force=force)
        return ExitCode.INCOMPLETE if encoded.failures else ExitCode.OK


def _write(result: Tuning, start: str, output: Path, *, force: bool) -> None:
    """Write the set, unless a file would be replaced by one that is not better; print what was found."""
    from ..output.destination import open_output
    from ..output.render import tuning as render_tune

    if output.exists() and not result.better and not force:
        told = f"{output} exists and is left as it is, since the chosen set is not better; --force replaces it"
    else:
        with open_output(output) as stream:
            stream.write(render_tune.to_yaml(result, output.stem, start).encode("utf-8", "backslashreplace"))
        told = f"written to {output}: --prompts {output} uses it"
    with open_output(None) as stream:
        text = render_tune.to_text(result, start) + f"\n{told}\n"
        stream.write(text.encode("utf-8", "backslashreplace"))
