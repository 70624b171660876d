"""``zeroshot learn``: a few labelled images in, refined weights out."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ExitCode, UsageError, nearest
from . import console, labelled_image_options, option_groups, options
from .fitted_output import write_fitted
from .label_options import read_labels, read_templates
from .model_options import ModelOptions
from .option_values import check_document
from .pipeline_options import ImageOptions
from .prepare_classifier import prepare_classifier

if TYPE_CHECKING:
    from ..evaluation.labelled_folders import Dataset


@console.reports_errors
@option_groups.expand_option_groups
def learn(
    labels: options.Labels = None,
    labels_file: options.LabelsFile = None,
    no_words: Annotated[
        list[str] | None,
        typer.Option(
            "--no-words",
            help="This label's name means nothing to the model: learn it from its images alone; repeatable.",
            metavar="LABEL",
            rich_help_panel=options.Panel.LABELS,
        ),
    ] = None,
    prompts: options.Prompts = None,
    template: options.Template = None,
    seed: labelled_image_options.Seed = 0,
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="The file for the weights.", metavar="FILE", rich_help_panel=options.Panel.OUTPUT
        ),
        options.Use.WRITTEN,
    ] = Path("learned.json"),
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Write it even if the examples made it worse.", rich_help_panel=options.Panel.OUTPUT
        ),
    ] = False,
    format_: options.ReportFormatOption = None,
    *,
    data: labelled_image_options.LabelledOptions,
    model: ModelOptions,
    images: ImageOptions,
) -> ExitCode:
    """Refine a classifier by a few labelled images: a folder with one subfolder per label.

    What the labels' texts say is the start; examples move it as far as folds on the same images show to be good, which
    may be not at all. Writes a file for `--learned` of classify, eval, sort, explore and others. It is valid for the
    same model, prompts and labels only. With --labels, labels without images keep their texts.
    """
    check_document(output)
    template_set = read_templates(prompts, template)
    wanted = read_labels(labels, labels_file) if labels or labels_file is not None else None

    from ..classifier import build_manifest
    from ..evaluation import learned_file
    from ..evaluation.labelled_folders import match_labels
    from ..evaluation.learning import learn_from
    from ..learn.strength import count_fits
    from ..output.render import learning as render_learning

    with data.open() as source:
        if wanted:
            source = replace(source, dataset=match_labels(source.dataset, wanted, "--labels"))
        dataset = source.dataset
        wordless = _find_wordless(dataset, no_words or [])
        if source.templates and not prompts and not template:
            template_set = source.templates
        source.check_apart(output=output)
        pipeline = images.pipeline(as_stored=source.public)
        encoder = model.load_for(source.stored)
        texts = prepare_classifier(encoder, dataset.labels, template_set, None, pipeline.cache)
        encoded = labelled_image_options.encode(encoder, source, pipeline)
        with console.Bar("fits", count_fits(encoded.targets)) as bar:
            result = learn_from(encoded, texts, dataset.keys, wordless, seed, bar.advance)
        choices = images.choices(pipeline) | {"data": data.named, "seed": seed}
        manifest = build_manifest(encoder.spec, result.classifier, choices)
        names = tuple(dataset.labels.names[index] for index in wordless)
        document = learned_file.to_document(result, encoder.spec, names, dataset.keys, manifest)
        console.say_few(f"{a} and {b} are the same image with different labels" for a, b in result.contradictions)
        to_text = partial(render_learning.to_text, result)
        if not write_fitted(document, result.problems, to_text, output, format_, force=force):
            return ExitCode.ERROR
        return ExitCode.INCOMPLETE if encoded.failures else ExitCode.OK


def _find_wordless(dataset: Dataset, names: list[str]) -> tuple[int, ...]:
    """Return the indices of the labels whose words are not to be used.

    Raises:
        UsageError: There is no such label, or it has no images to be learned from.
    """
    from ..prompts.labels import normalise

    index_of = {
        normalise(word): index
        for index, (key, name) in enumerate(zip(dataset.keys, dataset.labels.names, strict=True))
        for word in (key, name)
    }
    present = set(dataset.targets.tolist())
    found = []
    for name in names:
        index = index_of.get(normalise(name))
        if index is None:
            raise UsageError(f"--no-words {name}: no such label{nearest(name, dataset.labels.names)}", "name a folder")
        if index not in present:
            raise UsageError(f"--no-words {name}: it has no images either", "add some to its folder")
        found.append(index)
    return tuple(dict.fromkeys(found))
