"""The options that several commands share, each described once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..choices import Device, Engine, Field, Format, Interpolation, Precision, ResizeMode, Score
from ..errors import UsageError, nearest

if TYPE_CHECKING:
    from ..encode import Pipeline
    from ..encoder import Encoder

Labels = Annotated[
    str | None,
    typer.Option("--labels", help=r"The labels, separated by commas; \, is a comma inside one.", metavar="A,B,..."),
]
LabelsFile = Annotated[
    str | None,
    typer.Option(
        "--labels-file",
        help="Labels from a file: one a line, or YAML with aliases, prompts, background and groups; or `imagenet`.",
        metavar="FILE",
    ),
]
Prompts = Annotated[
    str | None,
    typer.Option("--prompts", help="A template set by name, or a YAML file. [default: general]", metavar="NAME|FILE"),
]
Template = Annotated[
    list[str] | None,
    typer.Option("--template", help="A template with {} for the label, instead of a set; repeatable.", metavar="TEXT"),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help="An alias (see `models list`), an architecture, hf-hub:ORG/REPO or a folder. "
        "[default: $ZEROSHOT_MODEL or base]",
        metavar="MODEL",
    ),
]
Pretrained = Annotated[
    str | None,
    typer.Option(
        "--pretrained", help="With an architecture: open_clip's weight tag, or a weights file.", metavar="TAG|FILE"
    ),
]
DeviceOption = Annotated[
    Device, typer.Option("--device", help="Where to run: cuda, mps or cpu; auto takes the first there is.")
]
PrecisionOption = Annotated[
    Precision,
    typer.Option(
        "--precision",
        help="Arithmetic of the towers; auto is fp16 on CUDA, else fp32. int8: about twice as fast on CPUs at a small, "
        "recorded cost in agreement with fp32; needs `models pull` first.",
    ),
]
EngineOption = Annotated[Engine, typer.Option("--engine", help="What runs the model.")]
BatchSize = Annotated[
    int,
    typer.Option(
        "--batch-size", min=1, max=4096, help="Pictures encoded together; no answer depends on it.", metavar="N"
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers", min=1, max=256, help="Workers that read and decode. [default: the cores available]", metavar="N"
    ),
]
Isolate = Annotated[
    bool,
    typer.Option(
        "--isolate",
        help="Decode in processes, one a worker: a picture that crashes or hangs its decoder is one failed record. "
        "Without it they are threads: a damaged file is a failed record too, but a crash ends the run (`classify "
        "--resume` continues it) and a hang stops it.",
    ),
]
PictureTimeout = Annotated[
    float | None,
    typer.Option(
        "--picture-timeout",
        min=0.1,
        max=86400,
        help="With --isolate: seconds that one picture may take. [default: 60]",
        metavar="SECONDS",
    ),
]
NoExif = Annotated[
    bool, typer.Option("--no-exif", help="Leave pictures as stored, not turned upright; published protocols do so.")
]
Draft = Annotated[
    bool,
    typer.Option(
        "--draft",
        help="Decode large JPEGs at a half, quarter or eighth of their size, at least twice the model's: several times "
        "as fast with a small model; probabilities move, by 0.01 on average.",
    ),
]
MaxPixels = Annotated[
    int | None,
    typer.Option(
        "--max-pixels",
        min=1,
        help="Refuse pictures with more pixels. [default: 178956970, or fewer if the memory at hand cannot hold them]",
        metavar="N",
    ),
]
ScoreOption = Annotated[
    Score | None,
    typer.Option(
        "--score",
        help="softmax: the labels compete. sigmoid: each on its own, for models trained so. [default: softmax]",
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", help="Write here instead of stdout; the file appears when it is whole.", metavar="FILE"
    ),
]
ImageMean = Annotated[
    str | None,
    typer.Option("--image-mean", help="For a weights file: mean of the channels, as R,G,B in 0..1.", metavar="R,G,B"),
]
ImageStd = Annotated[
    str | None, typer.Option("--image-std", help="For a weights file: deviation of the channels.", metavar="R,G,B")
]
InterpolationOption = Annotated[
    Interpolation | None, typer.Option("--interpolation", help="For a weights file: filter for resizing.")
]
ResizeModeOption = Annotated[
    ResizeMode | None, typer.Option("--resize-mode", help="For a weights file: how the shape is made to fit.")
]


From0 = Annotated[
    bool, typer.Option("--from0", "-0", help="Lists of paths are separated by NUL, as `find -print0` writes them.")
]
FilesFrom = Annotated[
    str | None,
    typer.Option("--files-from", help="Read paths from a file, one a line, after the other inputs.", metavar="FILE"),
]
FormatOption = Annotated[
    Format | None,
    typer.Option("--format", "-f", help="How to write records. [default: table on a terminal, else jsonl]"),
]
NoCache = Annotated[
    bool, typer.Option("--no-cache", help="Compute every feature anew, and store none (see `zeroshot cache`).")
]


def load(
    model: str | None,
    pretrained: str | None,
    device: Device,
    precision: Precision,
    engine: Engine,
    overrides: dict[str, Any] | None = None,
) -> Encoder:
    """Load the model that the options name, with a progress bar for its download."""
    from ..load import load_encoder
    from .console import download_bar, warn

    with download_bar() as on_progress:
        return load_encoder(
            model,
            pretrained,
            device=device,
            precision=precision,
            engine=engine,
            preprocessing=overrides or {},
            on_progress=on_progress,
            warn=warn,
        )


def make_pipeline(
    batch_size: int,
    workers: int | None,
    isolate: bool,
    picture_timeout: float | None,
    no_exif: bool,
    max_pixels: int | None,
    no_cache: bool,
    draft: bool = False,
) -> Pipeline:
    """Return how pictures are fed to the encoder, with the feature cache unless it is refused.

    Raises:
        UsageError: There is a time limit, and nothing that could be stopped by it.
    """
    if picture_timeout is not None and not isolate:
        raise UsageError("--picture-timeout needs --isolate: a thread cannot be stopped", "add --isolate")
    from ..cache.store import FeatureCache
    from ..encode import Pipeline, available_cores
    from ..pictures.decode import DEFAULT_MAX_PIXELS, MOST_BYTES, Opening
    from ..pictures.isolate import DEFAULT_SECONDS, Isolation
    from ..system.memory import available_memory
    from .console import warn

    count = workers or available_cores()
    # Half of what there is: the other half is for the model, which is loaded later, and for its batches.
    memory = None if max_pixels or (free := available_memory()) is None else free // 2 // count
    opening = Opening(exif=not no_exif, max_pixels=max_pixels or DEFAULT_MAX_PIXELS, memory=memory, draft=draft)
    most = opening.max_pixels * MOST_BYTES
    isolation = Isolation(picture_timeout or DEFAULT_SECONDS, most if memory is None else min(most, memory))
    return Pipeline(
        batch_size,
        count,
        opening,
        None if no_cache else FeatureCache(warn=warn),
        isolation=isolation if isolate else None,
    )


def preprocessing_overrides(
    mean: str | None, std: str | None, interpolation: Interpolation | None, resize_mode: ResizeMode | None
) -> dict[str, Any]:
    """Return the preprocessing that was given on the command line, under open_clip's keys."""
    given = {
        "mean": _triple(mean, "--image-mean"),
        "std": _triple(std, "--image-std"),
        "interpolation": interpolation,
        "resize_mode": resize_mode,
    }
    return {key: value for key, value in given.items() if value is not None}


def _triple(text: str | None, option: str) -> tuple[float, float, float] | None:
    if text is None:
        return None
    try:
        red, green, blue = (float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"{option} {text}: expected three numbers", f"{option} 0.48,0.46,0.41") from None
    return red, green, blue


def parse_fields(text: str | None) -> tuple[Field, ...]:
    """Parse ``similarity,logit``; the probability is always given, first.

    Raises:
        UsageError: Names the unknown field.
    """
    fields = [Field.PROBABILITY]
    for name in (part.strip() for part in (text or "").split(",") if part.strip()):
        if name not in list(Field):
            raise UsageError(
                f"--fields: unknown field {name!r}{nearest(name, Field)}", f"the fields are {', '.join(Field)}"
            )
        if Field(name) not in fields:
            fields.append(Field(name))
    return tuple(fields)


def parse_bar(text: str, known: tuple[str, ...]) -> tuple[str, float]:
    """Parse ``top1=0.8`` of ``--fail-under``.

    Raises:
        UsageError: The metric is unknown, or the value no number in [0, 1].
    """
    name, _, value = text.partition("=")
    if name not in known:
        raise UsageError(
            f"--fail-under {text}: unknown metric {name!r}{nearest(name, known)}", f"the metrics are {', '.join(known)}"
        )
    try:
        bar = float(value)
    except ValueError:
        bar = -1.0
    if not 0 <= bar <= 1:
        raise UsageError(
            f"--fail-under {text}: expected a number from 0 to 1 after `{name}=`", f"--fail-under {name}=0.8"
        )
    return name, bar
