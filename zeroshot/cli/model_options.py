"""Which model a command loads, and where and how it runs."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..enums import Device, Engine, Precision
from ..errors import UsageError, nearest
from . import completion_values, options

if TYPE_CHECKING:
    from ..distribute.finished_features import StoredFeatures
    from ..encoder import Encoder
    from ..evaluation.learned_file import LearnedFile
    from ..models.checkpoint import Source
    from ..models.hub.download import Progress as Download

Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help="An alias (see `models list`), an architecture, hf-hub:ORG/REPO or a folder. "
        "[default: $ZEROSHOT_MODEL or base]",
        metavar="MODEL",
        autocompletion=completion_values.complete_model,
        rich_help_panel=options.Panel.MODEL,
    ),
    options.Use.READ_FOLDER,
]
Pretrained = Annotated[
    str | None,
    typer.Option(
        "--pretrained",
        help="With an architecture: open_clip's weight tag, or a weights file.",
        metavar="TAG|FILE",
        autocompletion=completion_values.complete_pretrained,
        rich_help_panel=options.Panel.MODEL,
    ),
    options.Use.READ,
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
        rich_help_panel=options.Panel.MODEL,
    ),
    options.Use.READ_FOLDER,
]
Pretraineds = Annotated[
    list[str] | None,
    typer.Option(
        "--pretrained",
        help="With an architecture: open_clip's weight tag, or a weights file. "
        "With several --model: one for each, in order; '' for an alias.",
        metavar="TAG|FILE",
        autocompletion=completion_values.complete_pretrained,
        rich_help_panel=options.Panel.MODEL,
    ),
    options.Use.READ,
]
DeviceOption = Annotated[
    Device,
    typer.Option(
        "--device",
        help="Where to run: cuda, mps or cpu; auto takes the first there is.",
        rich_help_panel=options.Panel.MODEL,
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
        rich_help_panel=options.Panel.MODEL,
    ),
]
PrecisionOption = Annotated[
    Precision,
    typer.Option(
        "--precision",
        help="Precision of the arithmetic; auto is fp16 on CUDA, else fp32. int8: about twice as fast on CPUs at a "
        "small, recorded cost in agreement with fp32; needs `models pull` first.",
        rich_help_panel=options.Panel.MODEL,
    ),
]
PrecisionsOption = Annotated[
    list[Precision] | None,
    typer.Option(
        "--precision",
        help="As of `classify`; repeatable, to compare, such as --precision fp32 --precision int8. [default: auto]",
        rich_help_panel=options.Panel.MODEL,
    ),
]
EngineOption = Annotated[
    Engine, typer.Option("--engine", help="What runs the model.", rich_help_panel=options.Panel.MODEL)
]
Export = Annotated[
    bool,
    typer.Option(
        "--export/--no-export",
        help="After a CPU run with PyTorch, export the model as `models pull` does: later runs start much sooner. It "
        "stores as much as the weights.",
        envvar="ZEROSHOT_EXPORT",
        rich_help_panel=options.Panel.MODEL,
    ),
]
Preprocess = Annotated[
    str | None,
    typer.Option(
        "--preprocess",
        help="For a weights file without its own: open_clip's preprocess_cfg (mean, std, interpolation, resize_mode), "
        "as JSON or the file that holds it.",
        metavar="FILE|JSON",
        rich_help_panel=options.Panel.MODEL,
    ),
    options.Use.READ,
]


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """Which model is loaded, and where and how it runs.

    Raises:
        UsageError: The preprocessing cannot be used, or there is no such device.
    """

    model: Model = None
    pretrained: Pretrained = None
    preprocess: Preprocess = None
    device: DevicesOption = Device.AUTO.value
    precision: PrecisionOption = Precision.AUTO
    engine: EngineOption = Engine.AUTO
    export: Export = False

    def __post_init__(self) -> None:
        self._check_device()
        read_preprocess(self.preprocess)

    def load(self) -> Encoder:
        """Load the model, with a progress bar for its download.

        Raises:
            ModelError: It cannot be had.
            UsageError: Options contradict each other.
        """
        from ..engines.choose import load_encoder
        from ..system.accelerators import parse_devices, show_only
        from .console import loading, warn

        begin = time.monotonic()

        def downloading(progress: Download) -> None:
            nonlocal begin
            begin = time.monotonic()  # what a download takes is none of PyTorch's
            on_progress(progress)

        overrides, devices = read_preprocess(self.preprocess), parse_devices(self.device)
        how: dict[str, Any] = {"precision": self.precision, "engine": self.engine, "preprocessing": overrides}
        how |= {"model": self.model, "pretrained": self.pretrained}
        with loading(self.model) as on_progress:
            if len(devices.indices) > 1:
                from ..engines.multi_device import load_on_several
                from ..models.resolvers import obtain

                obtain(self.source(), on_progress)  # once, before many look for it
                return load_on_several(devices, warn, **how)
            if devices.indices:
                show_only(devices.kind, devices.indices[0])
            encoder = load_encoder(device=devices.kind, on_progress=downloading, warn=warn, **how)
        if encoder.spec.engine is Engine.TORCH or sys.stderr.isatty():
            from .export_after_run import follow_up

            follow_up(encoder, self, time.monotonic() - begin)
        return encoder

    def source(self) -> Source:
        """Return what the model is loaded from.

        Raises:
            ModelError: There is none of the name.
        """
        from ..models.resolvers import resolve

        return resolve(self.model, self.pretrained, read_preprocess(self.preprocess))

    def or_learned(self, learned: LearnedFile | None) -> ModelOptions:
        """Return the options with the model that weights were learned for, where none is named.

        Another model would be downloaded, only for the weights to be refused with it.
        """
        import os

        from ..models.resolvers import DEFAULT_ALIAS, ENVIRONMENT
        from .console import note

        if learned is None or self.model or self.pretrained or os.environ.get(ENVIRONMENT):
            return self
        if learned.fitted.model != DEFAULT_ALIAS:
            note(f"model {learned.fitted.model}, which {learned.source} was learned for (--model names another)")
        return replace(self, model=learned.fitted.model, pretrained=learned.pretrained)

    def load_for(self, run: StoredFeatures | None, learned: LearnedFile | None = None) -> Encoder:
        """Load a model as `load`; where none is named, the one of a run, or the one that weights were learned for.

        Raises:
            ModelError: It cannot be had.
            UsageError: Options contradict each other.
        """
        if run is None or self.model or self.pretrained or run.model["preprocessing"]:
            return self.or_learned(learned).load()
        return replace(self, model=run.model["model"], pretrained=run.model["pretrained"]).load()

    def _check_device(self) -> None:
        """Refuse a device that cannot be there before PyTorch is imported, which takes many seconds."""
        from ..system.accelerators import missing_cuda, missing_mps, parse_devices

        check = {Device.CUDA: missing_cuda, Device.MPS: missing_mps}.get(parse_devices(self.device).kind)
        if check and self.engine is not Engine.ONNX and (reason := check()):
            raise UsageError(f"--device {self.device}: {reason}", "--device auto; `zeroshot doctor` lists the devices")


@dataclass(frozen=True, slots=True)
class ModelListOptions:
    """The models that are compared, each run in the same way."""

    model: Models = None
    pretrained: Pretraineds = None
    preprocess: Preprocess = None
    device: DevicesOption = Device.AUTO.value
    precision: PrecisionsOption = None
    engine: EngineOption = Engine.AUTO
    export: Export = False

    def each(self) -> list[ModelOptions]:
        """Return each model with its weight tag, in every precision.

        Raises:
            UsageError: There are tags, but not one for each model; or a precision is given twice.
        """
        names: list[str | None] = [*self.model] if self.model else [None]
        tags: list[str | None] = [*self.pretrained] if self.pretrained else [None] * len(names)
        if len(tags) != len(names):
            raise UsageError(
                f"--pretrained is given {len(tags)} times for {len(names)} models",
                "give one for each --model, in order; '' for an alias",
            )
        pairs = list(zip(names, tags, strict=True))
        if len(set(pairs)) < len(pairs):
            raise UsageError("a model is given twice with --model", "name each once")
        precisions = self.precision or [Precision.AUTO]
        if len(set(precisions)) < len(precisions):
            raise UsageError("a precision is given twice with --precision", "name each once")
        return [
            ModelOptions(name, tag or None, self.preprocess, self.device, precision, self.engine, self.export)
            for name, tag in pairs
            for precision in precisions
        ]


_PREPROCESS_KEYS = ("mean", "std", "interpolation", "resize_mode", "fill_color")
"""The keys of open_clip's ``preprocess_cfg`` that decide something here; the size is the vision tower's."""


_IGNORED_KEYS = ("size", "mode")
"""Keys of files that open_clip writes: the vision tower says the size, and images are RGB always."""


def read_preprocess(given: str | None) -> dict[str, Any]:
    """Read ``--preprocess``: JSON, or the file that holds it, which may be a whole ``open_clip_config.json``.

    Raises:
        UsageError: It is no object, or a key or value is none of open_clip's.
    """
    if given is None:
        return {}
    import json

    from ..errors import ModelError
    from ..models.configuration import read_preprocessing

    example = """--preprocess '{"mean": [0.48, 0.46, 0.41], "std": [0.27, 0.26, 0.28], "resize_mode": "squash"}\'"""
    try:
        text = given if given.lstrip().startswith("{") else Path(given).read_text(encoding="utf-8")
        document = json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or f"no JSON: {error}"
        raise UsageError(f"--preprocess {given}: {reason}", example) from error
    found = document.get("preprocess_cfg", document) if isinstance(document, dict) else document
    if not isinstance(found, dict) or not found:
        raise UsageError(f"--preprocess {given}: expected an object with keys such as mean and std", example)
    for key in found:
        if key not in (*_PREPROCESS_KEYS, *_IGNORED_KEYS):
            raise UsageError(
                f"--preprocess: unknown key {key!r}{nearest(str(key), _PREPROCESS_KEYS)}",
                f"the keys are {', '.join(_PREPROCESS_KEYS)}",
            )
    values = {key: value for key, value in found.items() if key in _PREPROCESS_KEYS and value is not None}
    try:  # each value for itself: what is not given comes from the model
        read_preprocessing({"mean": 0.5, "std": 0.5, **values}, {"vision_cfg": {}})
    except ModelError as error:
        raise UsageError(f"--preprocess {given}: {error.message}", example) from error
    return values
