"""``zeroshot prompts tune``: labelled images in, a template set chosen for them out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import ExitCode
from . import console, groups, labelled, options
from .inputs import prepare_classifier, read_templates


@console.reports_errors
@groups.expand_option_groups
def tune(
    folder: labelled.Folder = None,
    targets: labelled.Targets = None,
    label_names: labelled.LabelNames = None,
    all_labels: labelled.AllLabels = False,
    split: labelled.Split = labelled.SPLIT,
    prompts: Annotated[
        str | None,
        typer.Option(
            "--prompts", help="The set to start from and compare with. [default: general]", metavar="NAME|FILE"
        ),
        options.Use.READ,
    ] = None,
    candidates: Annotated[
        list[str] | None,
        typer.Option(
            "--candidates",
            help="A set whose templates may be chosen; repeatable. [default: every shipped set]",
            metavar="NAME|FILE",
        ),
        options.Use.READ,
    ] = None,
    max_templates: Annotated[
        int, typer.Option("--max-templates", min=1, help="Templates chosen at most.", metavar="N")
    ] = 10,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The YAML set to write.", metavar="FILE.yaml"), options.Use.WRITTEN
    ] = Path("tuned.yaml"),
    force: Annotated[
        bool, typer.Option("--force", help="Replace the output even if the chosen set is not better.")
    ] = False,
    model: options.Model = None,
    pretrained: options.Pretrained = None,
    score: options.ScoreOption = None,
    seed: labelled.Seed = 0,
    *,
    images: groups.ImageOptions,
    running: groups.EngineOptions,
    preprocess_overrides: groups.WeightsFileOptions,
) -> ExitCode:
    """Choose templates that fit your images, and measure the choice on held-out images.

    Chooses on one half of the labelled images, compares with the starting set on the other half, and writes a
    set for `--prompts FILE`.
    """
    start_set = read_templates(prompts, None)

    from ..evaluation import tune as tuning
    from ..evaluation.holdout import halve
    from ..output.destination import check_apart, check_output, open_output
    from ..output.render import tuning as render_tune

    with labelled.open_source(folder, targets, label_names, all_labels, split) as source:
        dataset = source.dataset
        if source.templates and not prompts:
            start_set = source.templates
        templates = tuning.gather_candidates(start_set, candidates or [])
        check_apart({"--output": output}, source.files_read)
        check_output(output)
        pipeline = images.pipeline(as_stored=source.public)
        encoder = running.load(model, pretrained, preprocess_overrides)
        start = prepare_classifier(encoder, dataset.labels, start_set, score, pipeline.cache)
        data = labelled.encode(encoder, source, pipeline)
        with console.Bar("templates", len(templates)) as bar:
            result = tuning.tune(
                encoder, *halve(data, seed), start, dataset.keys, templates, max_templates, on_progress=bar.advance
            )
        kept = output.exists() and not result.better and not force
        if not kept:
            document = render_tune.to_yaml(result, output.stem, start_set.name)
            with open_output(output) as stream:
                stream.write(document.encode("utf-8", "backslashreplace"))
        told = f"written to {output}: --prompts {output} uses it"
        if kept:
            told = f"{output} exists and is left as it is, since the chosen set is not better; --force replaces it"
        with open_output(None) as stream:
            text = render_tune.to_text(result, start_set.name) + f"\n{told}\n"
            stream.write(text.encode("utf-8", "backslashreplace"))
        return ExitCode.INCOMPLETE if data.failures else ExitCode.OK
