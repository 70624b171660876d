"""The options that several commands share, each described once."""

from __future__ import annotations

from enum import Enum, StrEnum, auto
from pathlib import Path
from typing import Annotated

import typer

from ..enums import Device, Engine, Format, Precision, ReportFormat, Resampler, Score
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
        help="Labels from a file: one a line, or YAML with aliases, prompts, background and groups; or `imagenet`.",
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
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help="An alias (see `models list`), an architecture, hf-hub:ORG/REPO or a folder. "
        "[default: $ZEROSHOT_MODEL or base]",
        metavar="MODEL",
        autocompletion=completion_values.complete_model,
        rich_help_panel=Panel.MODEL,
    ),
    Use.READ_FOLDER,
]
Pretrained = Annotated[
    str | None,
    typer.Option(
        "--pretrained",
        help="With an architecture: open_clip's weight tag, or a weights file.",
        metavar="TAG|FILE",
        autocompletion=completion_values.complete_pretrained,
        rich_help_panel=Panel.MODEL,
    ),
    Use.READ,
]
Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        "-m",
        help="An alias, an architecture, hf-hub:ORG/REPO or a folder; repeatable, to compare. "
        "[default: $ZEROSHOT_MODEL or base]",
        metavar="MODEL",
        autocompletion=completion_values.complete_model,
        rich_help_panel=Panel.MODEL,
    ),
    Use.READ_FOLDER,
]
Pretraineds = Annotated[
    list[str] | None,
    typer.Option(
        "--pretrained",
        help="With an architecture: open_clip's weight tag, or a weights file. "
        "With several --model: one for each, in order; '' for an alias.",
        metavar="TAG|FILE",
        autocompletion=completion_values.complete_pretrained,
        rich_help_panel=Panel.MODEL,
    ),
    Use.READ,
]
DeviceOption = Annotated[
    Device,
    typer.Option(
        "--device", help="Where to run: cuda, mps or cpu; auto takes the first there is.", rich_help_panel=Panel.MODEL
    ),
]
DevicesOption = Annotated[
    str,
    typer.Option(
        "--device",
        help="Where to run: cuda, mps or cpu; auto takes the first there is. cuda:1 is one GPU of several, cuda:0,1 or "
        "cuda:all runs on each of them.",
        metavar="DEVICE",
        autocompletion=completion_values.complete_device,
        rich_help_panel=Panel.MODEL,
    ),
]
PrecisionOption = Annotated[
    Precision,
    typer.Option(
        "--precision",
        help="Precision of the arithmetic; auto is fp16 on CUDA, else fp32. int8: about twice as fast on CPUs at a "
        "small, recorded cost in agreement with fp32; needs `models pull` first.",
        rich_help_panel=Panel.MODEL,
    ),
]
PrecisionsOption = Annotated[
    list[Precision] | None,
    typer.Option(
        "--precision",
        help="As of `classify`; repeatable, to compare, such as --precision fp32 --precision int8. [default: auto]",
        rich_help_panel=Panel.MODEL,
    ),
]
EngineOption = Annotated[Engine, typer.Option("--engine", help="What runs the model.", rich_help_panel=Panel.MODEL)]
Export = Annotated[
    bool,
    typer.Option(
        "--export/--no-export",
        help="After a CPU run with PyTorch, export the model as `models pull` does: later runs start much sooner. It "
        "stores as much as the weights.",
        envvar="ZEROSHOT_EXPORT",
        rich_help_panel=Panel.MODEL,
    ),
]
BatchSize = Annotated[
    int | None,
    typer.Option(
        "--batch-size",
        min=1,
        max=4096,
        help="Images encoded together; no answer depends on it, but --resume needs the same. [default: 32; on CUDA by "
        "the memory that is free; in int8 the next multiple of the cores]",
        metavar="N",
        rich_help_panel=Panel.ADVANCED,
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=1,
        max=256,
        help="Workers that read and decode. [default: the cores available]",
        metavar="N",
        rich_help_panel=Panel.ADVANCED,
    ),
]
Isolate = Annotated[
    bool,
    typer.Option(
        "--isolate",
        help="Decode in processes, one a worker: an image that crashes or hangs its decoder is one failed record. "
        "Without it they are threads: a damaged file is a failed record too, but a crash ends the run (`classify "
        "--resume` continues it) and a hang stops it.",
        rich_help_panel=Panel.ADVANCED,
    ),
]
ImageTimeout = Annotated[
    float | None,
    typer.Option(
        "--image-timeout",
        min=0.1,
        max=86400,
        help="With --isolate: seconds that one image may take. [default: 60]",
        metavar="SECONDS",
        rich_help_panel=Panel.ADVANCED,
    ),
]
NoExif = Annotated[
    bool,
    typer.Option(
        "--no-exif",
        help="Leave images as stored, not turned upright; published protocols do the same.",
        rich_help_panel=Panel.ADVANCED,
    ),
]
Draft = Annotated[
    bool,
    typer.Option(
        "--draft",
        help="Decode large JPEGs at a half, quarter or eighth of their size, at least twice the model's: decoding "
        "is several times as fast; probabilities move, by 0.01 on average.",
        rich_help_panel=Panel.ADVANCED,
    ),
]
Resize = Annotated[
    Resampler,
    typer.Option(
        "--resize",
        help="What resizes images: exact as open_clip does; fast (extra `fast`) with nearly the same values, "
        "which reads photographs in two thirds of the time.",
        rich_help_panel=Panel.ADVANCED,
    ),
]
MaxPixels = Annotated[
    int | None,
    typer.Option(
        "--max-pixels",
        min=1,
        help="Reject images with more pixels. [default: 178956970, or what fits into the available memory]",
        metavar="N",
        rich_help_panel=Panel.ADVANCED,
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
Preprocess = Annotated[
    str | None,
    typer.Option(
        "--preprocess",
        help="For a weights file without its own: open_clip's preprocess_cfg (mean, std, interpolation, resize_mode), "
        "as JSON or the file that holds it.",
        metavar="FILE|JSON",
        rich_help_panel=Panel.MODEL,
    ),
    Use.READ,
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
        help="Read paths from a file, one a line, after the other inputs.",
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
NoCache = Annotated[
    bool,
    typer.Option(
        "--no-cache",
        help="Compute all features again, and store none (see `zeroshot cache`).",
        rich_help_panel=Panel.ADVANCED,
    ),
]
