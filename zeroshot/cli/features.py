"""``zeroshot features``: writes the features of images to a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ExitCode
from . import console, option_groups, options
from .input_options import InputOptions, summarise_failures
from .model_options import ModelOptions
from .pipeline_options import ImageOptions

if TYPE_CHECKING:
    from ..encoder import Features


@console.reports_errors
@option_groups.expand_option_groups
def features(
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="The file to write.", metavar="FILE.npz|FILE.parquet"),
        options.Use.WRITTEN,
    ],
    *,
    inputs: InputOptions,
    model: ModelOptions,
    images: ImageOptions,
) -> ExitCode:
    """Write the features of images to a file, for programs of your own."""
    import numpy as np

    from ..features.pipeline import encode_blocks
    from ..output.destination import check_output, open_output
    from ..output.features_file import FeatureTable, check_target, write_features
    from ..results import Failure

    check_target(output)
    inputs.check(runs=True)
    check_output(output)
    pipeline = images.pipeline()
    encoder = model.load_for(inputs.open_run())
    read: list[str] = []
    failures: list[Failure] = []
    parts: list[Features] = []
    with console.Bar("images") as bar:
        sources, fed = inputs.find_or_reuse(encoder.spec, pipeline, {"--output": output}, bar=bar)
        for block in encode_blocks(encoder, sources, fed):
            failures += [Failure(block.paths[place], error) for place, error in sorted(block.errors.items())]
            read += [path for place, path in enumerate(block.paths) if place not in block.errors]
            parts.append(block.features)
            bar.advance(len(block.paths))
    rows = np.concatenate(parts) if parts else np.zeros((0, encoder.spec.dim), dtype=np.float32)
    table = FeatureTable(tuple(read), rows, tuple(failures), encoder.spec, images.choices(pipeline))
    with open_output(output) as stream:
        write_features(table, stream, output.suffix)
    return summarise_failures(failures, len(read))
