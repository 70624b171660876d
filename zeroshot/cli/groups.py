"""Options that go together: a command asks for a group, the command line shows its options one by one.

What they are called and what they say is in `options`; here is what they become.
"""

from __future__ import annotations

import functools
import inspect
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from ..enums import Device, Engine, Precision
from ..errors import ExitCode, UsageError, nearest
from . import options
from .inputs import read_labels, read_learned, read_templates

if TYPE_CHECKING:
    from ..encoder import Encoder
    from ..evaluation.learned_file import LearnedFile
    from ..features.pipeline import Pipeline
    from ..prompts.labels import LabelSet
    from ..prompts.template_sets import TemplateSet

Command = Callable[..., ExitCode | None]


def expand_option_groups(command: Command) -> Command:
    """Let a command have parameters that are groups; typer sees the options of each behind the others.

    Raises:
        OutputError: From the returned function: a file to write is one that the command reads.
        UsageError: From the returned function: a group's values contradict each other.
    """
    signature = inspect.signature(command, eval_str=True)
    groups: dict[str, type[Any]] = {
        name: parameter.annotation
        for name, parameter in signature.parameters.items()
        if isinstance(parameter.annotation, type) and is_dataclass(parameter.annotation)
    }
    seen = [parameter for name, parameter in signature.parameters.items() if name not in groups]
    for group in groups.values():
        hints = get_type_hints(group, include_extras=True)
        for field in fields(group):
            one = inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default)
            seen.append(one.replace(annotation=hints[field.name]))
    uses = {parameter.name: use for parameter in seen if (use := find_use(parameter))}

    @functools.wraps(command)
    def run(**given: Any) -> ExitCode | None:
        _check_outputs(uses, given)
        made = {
            name: group(**{field.name: given.pop(field.name) for field in fields(group)})
            for name, group in groups.items()
        }
        return command(**given, **made)

    run.__signature__ = signature.replace(parameters=seen)  # type: ignore[attr-defined]
    return run


def find_use(parameter: inspect.Parameter) -> options.Use | None:
    """Return whether a parameter's file is read or written; None for a parameter that names no file."""
    return next((mark for mark in get_args(parameter.annotation) if isinstance(mark, options.Use)), None)


def _check_outputs(uses: dict[str, options.Use], given: dict[str, Any]) -> None:
    """Refuse an output that is another output or a file that the command reads, whichever option names it."""
    written = {f"--{name}": given[name] for name, use in uses.items() if use is options.Use.WRITTEN and given[name]}
    if not written:
        return
    from ..output.destination import check_apart

    read: list[str] = []
    for name, use in uses.items():
        values = given[name] if isinstance(given[name], list) else [given[name]]
        named = [str(value) for value in values if value] if use is not options.Use.WRITTEN else []
        read += named
        if use is options.Use.READ_FOLDER:
            read += [str(file) for folder in named if os.path.isdir(folder) for file in Path(folder).iterdir()]  # noqa: PTH112 - False for a name that cannot be looked up
    check_apart(written, read)


@dataclass(frozen=True, slots=True)
class ImageOptions:
    """How images are opened and fed to the encoder.

    Raises:
        UsageError: There is a time limit, and nothing that could be stopped by it.
    """

    no_exif: options.NoExif = False
    max_pixels: options.MaxPixels = None
    draft: options.Draft = False
    no_cache: options.NoCache = False
    batch_size: options.BatchSize = 32
    workers: options.Workers = None
    isolate: options.Isolate = False
    image_timeout: options.ImageTimeout = None

    def __post_init__(self) -> None:
        if self.image_timeout is not None and not self.isolate:
            raise UsageError("--image-timeout needs --isolate: a thread cannot be stopped", "add --isolate")

    def pipeline(self, *, as_stored: bool = False) -> Pipeline:
        """Return the pipeline, with the feature cache unless it is refused.

        Args:
            as_stored: Leave images as stored, whatever was asked for.
        """
        from ..features.cache import FeatureCache
        from ..features.pipeline import Pipeline
        from ..images.decode import DEFAULT_MAX_PIXELS, MOST_BYTES, DecodeOptions
        from ..images.isolate import DEFAULT_SECONDS, Isolation
        from ..system.installed import available_cores
        from ..system.memory import available_memory
        from .console import warn

        count = self.workers or available_cores()
        # Half of what there is: the other half is for the model, which is loaded later, and for its batches.
        memory = None if self.max_pixels or (free := available_memory()) is None else free // 2 // count
        most = self.max_pixels or DEFAULT_MAX_PIXELS
        decode_options = DecodeOptions(
            exif=not (self.no_exif or as_stored), max_pixels=most, memory=memory, draft=self.draft
        )
        limit = most * MOST_BYTES if memory is None else min(most * MOST_BYTES, memory)
        return Pipeline(
            self.batch_size,
            count,
            decode_options,
            None if self.no_cache else FeatureCache(warn=warn),
            isolation=Isolation(self.image_timeout or DEFAULT_SECONDS, limit) if self.isolate else None,
        )

    def choices(self, pipeline: Pipeline) -> dict[str, Any]:
        """Return what a manifest says about the way images were opened."""
        chosen: dict[str, Any] = {"exif": pipeline.decode_options.exif}
        chosen |= {"draft": True} if self.draft else {}
        chosen |= {"max_pixels": self.max_pixels} if self.max_pixels else {}
        return chosen


@dataclass(frozen=True, slots=True)
class LabelOptions:
    """The labels to choose among, and the templates that they are put into."""

    labels: options.Labels = None
    labels_file: options.LabelsFile = None
    prompts: options.Prompts = None
    template: options.Template = None

    def read(self) -> tuple[LabelSet, TemplateSet]:
        """Read both.

        Raises:
            LabelError: The labels cannot be used.
            PromptError: The templates cannot be used.
            UsageError: There are no labels, or the options contradict each other.
        """
        return read_labels(self.labels, self.labels_file), read_templates(self.prompts, self.template)


@dataclass(frozen=True, slots=True)
class LearnedLabelOptions(LabelOptions):
    """Labels and templates, or the weights that were learned for some, which bring both."""

    learned: options.Learned = None

    def read_all(self) -> tuple[LabelSet, TemplateSet, LearnedFile | None]:
        """Read labels and templates, and the learned weights, if there are some.

        Raises:
            InputError: The learned weights cannot be used.
            LabelError: The labels cannot be used.
            PromptError: The templates cannot be used.
            UsageError: There are no labels, or the options contradict each other.
        """
        learned = read_learned(self.learned)
        labels = read_labels(self.labels, self.labels_file, learned)
        return labels, read_templates(self.prompts, self.template, learned), learned


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """Which model is loaded, and where and how it runs.

    Raises:
        UsageError: The preprocessing cannot be used, or there is no such device.
    """

    model: options.Model = None
    pretrained: options.Pretrained = None
    preprocess: options.Preprocess = None
    device: options.DeviceOption = Device.AUTO
    precision: options.PrecisionOption = Precision.AUTO
    engine: options.EngineOption = Engine.AUTO

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
        from .console import loading, say, warn

        overrides = read_preprocess(self.preprocess)
        with loading(self.model) as on_progress:
            encoder = load_encoder(
                self.model,
                self.pretrained,
                device=self.device,
                precision=self.precision,
                engine=self.engine,
                preprocessing=overrides,
                on_progress=on_progress,
                warn=warn,
            )
        by_itself = (self.engine, self.precision) == (Engine.AUTO, Precision.AUTO)
        if by_itself and (encoder.spec.engine, encoder.spec.device) == (Engine.TORCH, "cpu") and sys.stderr.isatty():
            from ..models.resolvers import resolve

            pull = f"zeroshot models pull {resolve(self.model, self.pretrained, overrides).arguments}"
            say(f"zeroshot: `{pull}` once lets later runs start in a second, without PyTorch")
        return encoder

    def _check_device(self) -> None:
        """Refuse a device that cannot be there before PyTorch is imported, which takes many seconds."""
        from ..system.devices import missing_cuda, missing_mps

        check = {Device.CUDA: missing_cuda, Device.MPS: missing_mps}.get(self.device)
        if check and self.engine is not Engine.ONNX and (reason := check()):
            raise UsageError(f"--device {self.device}: {reason}", "--device auto; `zeroshot doctor` lists the devices")


@dataclass(frozen=True, slots=True)
class ModelListOptions:
    """The models that are compared, each run in the same way."""

    model: options.Models = None
    pretrained: options.Pretraineds = None
    preprocess: options.Preprocess = None
    device: options.DeviceOption = Device.AUTO
    precision: options.PrecisionOption = Precision.AUTO
    engine: options.EngineOption = Engine.AUTO

    def each(self) -> list[ModelOptions]:
        """Return each model with its weight tag.

        Raises:
            UsageError: There are tags, but not one for each model.
        """
        names: list[str | None] = [*self.model] if self.model else [None]
        tags: list[str | None] = [*self.pretrained] if self.pretrained else [None] * len(names)
        if len(tags) != len(names):
            raise UsageError(
                f"--pretrained is given {len(tags)} times for {len(names)} models",
                "give one for each --model, in order; '' for an alias",
            )
        return [
            ModelOptions(name, tag or None, self.preprocess, self.device, self.precision, self.engine)
            for name, tag in zip(names, tags, strict=True)
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
