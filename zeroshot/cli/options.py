"""Options that several commands share, each described once: labels, inputs, output; headings of the help.

Those of models and of opening images stand in `model_options` and `pipeline_options`.
"""

from __future__ import annotations

from enum import Enum, StrEnum, auto
from pathlib import Path
from typing import Annotated

import typer

from ..enums import Format, ReportFormat, Score
from . import completion_values


class Panel(StrEnum):
    """The headings under which a command's help lists its options, in this order."""

    INPUTS = "Inputs"
    LABELS = "Labels"
    MODEL = "Model"
    OUTPUT = "Output"
    ADVANCED = "Advanced"


class Use(Enum):
    """Whether a command reads or writes the file that a parameter names; an output must not replace an input."""

    READ = auto()
    READ_FOLDER = auto()  # a file, or a folder whose files are all read
    WRITTEN = auto()


Paths = Annotated[
    list[str] | None,
    typer.Argument(help="Images and folders; `-` reads paths from stdin.", metavar="PATH", show_default=False),
    Use.READ,
]
Labels = Annotated[
    list[str] | None,
    typer.Option(
        "--labels",
        help=r"The labels, separated by commas; \, is a comma inside one; repeatable.",
        metavar="A,B,...",
        rich_help_panel=Panel.LABELS,
    ),
]
LabelsFile = Annotated[
    str | None,
    typer.Option(
        "--labels-file",
        help="Labels from a file: one per line (# begins a note), or YAML with aliases, prompts, background and "
        "groups; or `imagenet`.",
        metavar="FILE",
        autocompletion=completion_values.complete_labels_file,
        rich_help_panel=Panel.LABELS,
    ),
    Use.READ,
]
Prompts = Annotated[
    str | None,
    typer.Option(
        "--prompts",
        help="A template set by name, or a YAML file. [default: general]",
        metavar="NAME|FILE",
        autocompletion=completion_values.complete_prompts,
        rich_help_panel=Panel.LABELS,
    ),
    Use.READ,
]
SeveralPrompts = Annotated[
    list[str] | None,
    typer.Option(
        "--prompts",
        help="A template set by name, or a YAML file; repeatable, to compare. [default: general]",
        metavar="NAME|FILE",
        autocompletion=completion_values.complete_prompts,
        rich_help_panel=Panel.LABELS,
    ),
    Use.READ,
]
Template = Annotated[
    list[str] | None,
    typer.Option(
        "--template",
        help="A template with {} for the label, instead of a set; repeatable.",
        metavar="TEXT",
        rich_help_panel=Panel.LABELS,
    ),
]
ScoreOption = Annotated[
    Score | None,
    typer.Option(
        "--score",
        help="softmax: the labels compete. sigmoid: each on its own, for models trained so. [default: softmax]",
        rich_help_panel=Panel.OUTPUT,
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="Write here instead of stdout; the file appears when it is whole.",
        metavar="FILE",
        rich_help_panel=Panel.OUTPUT,
    ),
    Use.WRITTEN,
]
Report = Annotated[
    Path | None,
    typer.Option(
        "--report",
        help="Also write an HTML page: one file that needs no network.",
        metavar="FILE.html",
        rich_help_panel=Panel.OUTPUT,
    ),
    Use.WRITTEN,
]
TopK = Annotated[
    int,
    typer.Option(
        "--top-k", "--top", "-k", min=1, help="Labels listed for each image.", metavar="N", rich_help_panel=Panel.OUTPUT
    ),
]
Threshold = Annotated[
    float | None,
    typer.Option(
        "--threshold",
        min=0.0,
        max=1.0,
        help="Below this probability the label is null: unknown. [default: 0]",
        metavar="P",
        rich_help_panel=Panel.OUTPUT,
    ),
]
Calibration = Annotated[
    Path | None,
    typer.Option(
        "--calibration",
        help="Apply the temperature and threshold that `calibrate` fitted.",
        metavar="FILE",
        rich_help_panel=Panel.OUTPUT,
    ),
    Use.READ,
]
Learned = Annotated[
    Path | None,
    typer.Option(
        "--learned",
        help="Use the weights that `learn` wrote, with their labels and templates unless these are given.",
        metavar="FILE",
        rich_help_panel=Panel.LABELS,
    ),
    Use.READ,
]
Fields = Annotated[
    str | None,
    typer.Option(
        "--fields",
        help="More numbers for each label: similarity, logit.",
        metavar="A,B,...",
        rich_help_panel=Panel.OUTPUT,
    ),
]
From0 = Annotated[
    bool,
    typer.Option(
        "--from0",
        "-0",
        help="Lists of paths are separated by NUL, as `find -print0` writes them.",
        rich_help_panel=Panel.INPUTS,
    ),
]
FilesFrom = Annotated[
    str | None,
    typer.Option(
        "--files-from",
        help="Read paths from a file, one per line, after the other inputs.",
        metavar="FILE",
        rich_help_panel=Panel.INPUTS,
    ),
    Use.READ,
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude",
        help="Leave out images whose path below the input, or a part of it, matches: thumbs, '*.gif'; repeatable.",
        metavar="PATTERN",
        rich_help_panel=Panel.INPUTS,
    ),
]
Limit = Annotated[
    int | None,
    typer.Option("--limit", min=1, help="Read only the first images.", metavar="N", rich_help_panel=Panel.INPUTS),
]
Sample = Annotated[
    int | None,
    typer.Option(
        "--sample",
        min=1,
        help="Read only this many images, chosen at random, in their order; all are listed first.",
        metavar="N",
        rich_help_panel=Panel.INPUTS,
    ),
]
SampleSeed = Annotated[
    int,
    typer.Option(
        "--seed",
        min=0,
        help="Random seed: decides which --sample is chosen.",
        metavar="N",
        rich_help_panel=Panel.INPUTS,
    ),
]
Archives = Annotated[
    bool,
    typer.Option(
        "--archives",
        help="Also open the .tar, .zip and .parquet archives found inside folders.",
        rich_help_panel=Panel.INPUTS,
    ),
]
AllowPrivateHosts = Annotated[
    bool,
    typer.Option(
        "--allow-private-hosts",
        help="Allow http(s) addresses of this machine and of private networks.",
        rich_help_panel=Panel.ADVANCED,
    ),
]
FormatOption = Annotated[
    Format | None,
    typer.Option(
        "--format",
        "-f",
        help="How to write records. [default: the ending of --output, table on a terminal, else jsonl]",
        rich_help_panel=Panel.OUTPUT,
    ),
]
ReportFormatOption = Annotated[
    ReportFormat | None,
    typer.Option(
        "--format",
        "-f",
        help="How to write the result. [default: table on a terminal, else json]",
        rich_help_panel=Panel.OUTPUT,
    ),
]
PrintedFormatOption = Annotated[
    ReportFormat | None,  # not a default of table: typer would import pydantic to make one of it (0.1 s)
    typer.Option("--format", "-f", help="How to print it; json: one document. [default: table]"),
]
