"""Choose an engine and load a model into it.

On a CPU the torch-free engine is taken wherever a checked export of the model is at hand: inside the package for the
built-in checkpoint, in the cache for those that `zeroshot models pull` has exported. Everything else is PyTorch's.
"""

from __future__ import annotations

import enum
import hashlib
import json
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ..encoder import Device, Encoder, Engine, Precision
from ..errors import ModelError, UsageError
from ..models import resolvers
from ..models.checkpoint import Files, Source
from ..models.hub import download
from ..models.weights_hash import hash_file
from ..system.user_folders import exports_folder
from . import onnx_engine, onnx_manifest

_ONNX_PRECISIONS = (Precision.AUTO, Precision.FP32, Precision.INT8)


def load_encoder(
    model: str | None = None,
    pretrained: str | None = None,
    *,
    device: Device = Device.AUTO,
    precision: Precision = Precision.AUTO,
    engine: Engine = Engine.AUTO,
    preprocessing: dict[str, Any] | None = None,
    on_progress: Callable[[download.Progress], None] | None = None,
    warn: Callable[[str], None] = lambda _: None,
) -> Encoder:
    """Load a model, downloading it on first use.

    Args:
        model: An alias (``tiny``, ``base``, ...), an open_clip architecture, ``hf-hub:ORG/REPO`` or a folder; None
            for ``$ZEROSHOT_MODEL``, else ``base``.
        pretrained: With an architecture: open_clip's weight tag or a weights file.
        device: Where to run.
        precision: Arithmetic of the towers.
        engine: What runs the towers.
        preprocessing: For a weights file whose preprocessing is not known: ``mean``, ``std``, ``interpolation``,
            ``resize_mode``.
        on_progress: Told of downloads.
        warn: Told, in one line, of an export that cannot be used, where PyTorch is taken instead, and of a precision
            that the model does not run in.

    Raises:
        ModelError: The model is unknown, cannot be had, or is unsafe or damaged.
        UsageError: The options contradict each other.
    """
    check_request(device, precision, engine)
    source = resolvers.resolve(model, pretrained, preprocessing)
    files = resolvers.obtain(source, on_progress)
    folder = None if engine is Engine.TORCH else find_export(files)
    built_in = files.folder == resolvers.builtin_folder()
    gpu = device is Device.AUTO and _has_gpu()
    chosen = choose_engine(device, precision, engine, export=folder is not None, built_in=built_in, gpu=gpu)
    if chosen is Choice.INT8:
        return _load_int8(files, folder)
    if folder is None and chosen is Choice.ONNX:
        raise ModelError(f"{source.model} has no export for --engine onnx", _remedy(files, None))
    if folder is not None and chosen in (Choice.ONNX, Choice.ONNX_ELSE_TORCH):
        try:
            _check_belongs(files, folder)
            return onnx_engine.load(
                folder,
                model=source.model,
                source=files.origin,
                configuration=files.configuration,
                remedy=_remedy(files, folder) + ("" if built_in else ", or use --engine torch"),
            )
        except ModelError as error:
            if chosen is Choice.ONNX:
                raise
            warn(f"{error.message}; going on with PyTorch ({_remedy(files, folder)})")
    from . import torch_loading

    return torch_loading.load(files, device, precision, warn)


class Choice(enum.Enum):
    """What a model is loaded into."""

    TORCH = enum.auto()
    ONNX = enum.auto()
    ONNX_ELSE_TORCH = enum.auto()  # with a warning, where the export cannot be used
    INT8 = enum.auto()


def check_request(device: Device, precision: Precision, engine: Engine) -> None:
    """Refuse options that contradict each other, before anything is looked up.

    Raises:
        UsageError: They do.
    """
    on_cpu = device in (Device.AUTO, Device.CPU)
    if engine is Engine.ONNX and not (on_cpu and precision in _ONNX_PRECISIONS):
        raise UsageError(
            "--engine onnx runs on the CPU in fp32 or int8", "leave out --device and --precision, or --engine torch"
        )
    if precision is Precision.INT8 and (engine is Engine.TORCH or not on_cpu):
        raise UsageError(
            "--precision int8 is for the torch-free engine, on the CPU", "leave out --engine and --device, or use fp32"
        )


def choose_engine(
    device: Device, precision: Precision, engine: Engine, *, export: bool, built_in: bool, gpu: bool
) -> Choice:
    """Return what a model is loaded into, by options that `check_request` let pass and by what there is.

    Args:
        device: As asked.
        precision: As asked.
        engine: As asked.
        export: There are graphs of the model.
        built_in: It is the checkpoint inside the package, whose graphs are part of the installation.
        gpu: PyTorch is likely to find a GPU.
    """
    if precision is Precision.INT8:
        return Choice.INT8
    if engine is Engine.ONNX:
        return Choice.ONNX
    suits = device in (Device.AUTO, Device.CPU) and precision in _ONNX_PRECISIONS
    if engine is Engine.TORCH or not suits or not export:
        return Choice.TORCH
    if built_in:  # done before torch is imported, GPU or not
        return Choice.ONNX
    return Choice.TORCH if device is Device.AUTO and gpu else Choice.ONNX_ELSE_TORCH


def _load_int8(files: Files, folder: Path | None) -> Encoder:
    """Load the 8-bit graphs of a model's export, making them on first use."""
    if folder is None:
        raise ModelError(f"{files.source.model} has no export to make 8-bit graphs of", _remedy(files, None))
    remedy = _remedy(files, folder)
    _check_belongs(files, folder)
    if onnx_manifest.read_manifest(folder, remedy).int8 is None:
        from .export import quantise

        with _explaining(folder):
            quantise.quantise(folder, remedy)
    return onnx_engine.load(
        folder,
        model=files.source.model,
        source=files.origin,
        configuration=files.configuration,
        int8=True,
        remedy=remedy,
    )


def _check_belongs(files: Files, folder: Path) -> None:
    """Refuse an export in a model's own folder whose weights or configuration have changed since.

    The name of one in the cache holds all that decides its graphs, and the package's own does not change.

    Raises:
        ModelError: It was made of something else, or its manifest cannot be read.
    """
    if folder != files.folder or folder == resolvers.builtin_folder():
        return
    remedy = _remedy(files, folder)
    spec = onnx_manifest.read_manifest(folder, remedy).spec
    made_of = (spec.configuration, spec.preprocessing, spec.weights_sha256)
    if made_of != (files.configuration, files.preprocessing, hash_file(files.weights)):
        raise ModelError(f"the export in {folder} was made of other weights or another configuration", remedy)


def _remedy(files: Files, folder: Path | None) -> str:
    """Return the hint that fixes a model's export in a folder, or the lack of one (None)."""
    if files.folder == resolvers.builtin_folder():
        return "install zeroshot again: a file of the package is missing or damaged"
    pull = f"`zeroshot models pull {files.source.arguments}`"
    if files.source.folder is None and not files.source.pretrained and not files.source.repository:
        pull += " with the --preprocess of this run"
    if folder is None:
        return f"{pull} makes one"
    if folder == files.folder:  # it is preferred to one in the cache, so that making that would not help
        return f"remove {folder / onnx_manifest.MANIFEST_NAME}, then {pull} exports the model again"
    return f"{pull} exports it again"


def find_export(files: Files) -> Path | None:
    """Return the folder of a model's export: its own, or one in the cache; None if there is none."""
    if files.folder is not None and onnx_manifest.is_export(files.folder):
        return files.folder
    folder = export_folder(files)
    return folder if onnx_manifest.is_export(folder) else None


def read_agreements(source: Source) -> dict[Precision, onnx_manifest.Agreement]:
    """Return how near a model's graphs come: in fp32 to PyTorch, in int8 (where they were made) to those in fp32."""
    folder = find_export(resolvers.obtain(source))
    if folder is None:
        return {}
    try:
        manifest = onnx_manifest.read_manifest(folder)
    except ModelError:  # as was said when the model was loaded
        return {}
    found = {Precision.FP32: manifest.agreement}
    return found if manifest.int8 is None else found | {Precision.INT8: manifest.int8}


def lacks_int8(source: Source) -> bool:
    """Whether 8-bit graphs could be made of a model's export and were not yet."""
    return resolvers.obtain(source).folder != resolvers.builtin_folder() and list(read_agreements(source)) == [
        Precision.FP32
    ]


def export_folder(files: Files) -> Path:
    """Return the place in the cache for a model's export, named by a hash of everything that decides its graphs."""
    decisive = [hash_file(files.weights), files.config, asdict(files.preprocessing), files.source.quick_gelu]
    decisive += [files.tokenizer] if files.tokenizer else []
    return exports_folder() / hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


def export_model(
    source: Source,
    on_progress: Callable[[download.Progress], None] | None = None,
    on_loaded: Callable[[int], None] = lambda _: None,
) -> Path:
    """Download a model with everything it needs, and export it for the torch-free engine.

    Args:
        source: The model.
        on_progress: Told of downloads.
        on_loaded: Told, once PyTorch has the model, of the bytes that the export will take.

    Returns:
        The folder of the export.

    Raises:
        ModelError: It cannot be had or loaded, or its export does not agree with PyTorch and was refused.
    """
    from . import torch_loading
    from .export import graphs

    files = resolvers.obtain(source, on_progress, refresh=True)
    encoder = torch_loading.load(files, Device.CPU, Precision.FP32)
    on_loaded(graphs.stored_bytes(encoder))
    return _write_export(files, encoder)


def export_loaded(source: Source, encoder: Encoder) -> Path | None:
    """Export a model that PyTorch has loaded already, in float32 on the CPU.

    Args:
        source: What the encoder was loaded from.
        encoder: PyTorch's.

    Returns:
        The folder of the export; None where the model has one, sound or not: `models pull` makes that anew.

    Raises:
        ModelError: It cannot be exported, or its export does not agree with PyTorch and was refused.
    """
    files = resolvers.obtain(source)
    return None if find_export(files) else _write_export(files, encoder)


def _write_export(files: Files, encoder: Any) -> Path:
    from .export import graphs

    folder = export_folder(files)
    with _explaining(folder):
        graphs.write_export(encoder, folder)
    return folder


def time_opening(folder: Path) -> float:
    """Return the seconds until an export has encoded its first image and sentence."""
    begin = time.monotonic()
    encoder = onnx_engine.load(folder)
    encoder.encode_images(np.zeros((1, *encoder.spec.preprocessing.size, 3), dtype=np.uint8))
    encoder.encode_texts(["a photo"])
    return time.monotonic() - begin


@contextmanager
def _explaining(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ModelError(
            f"the export cannot be written to {folder}: {error.strerror or error}",
            "free some space, or set ZEROSHOT_CACHE to another folder",
        ) from error


def _has_gpu() -> bool:
    """Whether PyTorch is likely to find a GPU; asking it would cost the import that is to be saved."""
    return shutil.which("nvidia-smi") is not None or (platform.system(), platform.machine()) == ("Darwin", "arm64")
