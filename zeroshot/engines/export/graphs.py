"""Exports PyTorch models to ONNX graphs for the torch-free engine, and checks them against PyTorch.

Only the PyTorch side calls this. The graphs are traced by torch's TorchScript exporter, ``dynamo=False``. It is
deprecated, and still the better one here: a tenth of the time, half the nodes, the same graphs from torch 2.4 on,
no need of onnxscript, and each parameter stays one initialiser under its own name, which the graphs over a
safetensors file depend on. Should torch drop it, exporting fails with a `ModelError` and PyTorch stays in use.
"""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from ...encoder import Encoder, EncoderSpec
from ...enums import Precision
from ...errors import ModelError
from ...system.durable_files import sync_file
from ...system.installed import available_cores
from ..onnx_engine import OnnxEncoder, open_tokenizer
from ..onnx_manifest import (
    BEGINNING,
    IMAGE_GRAPH,
    STATES,
    TEXT_GRAPH,
    TOKENIZER_NAME,
    TOKENS,
    Agreement,
    ExportManifest,
    StoredFile,
    TextGraph,
    write_manifest,
)
from .export_cache import marked_busy, open_to_others, put_in_place
from .reference_inputs import REFERENCE_TEXTS, measure_agreement, reference_images

_OPSET = 17  # the first with LayerNormalization
_SMALL = 1024  # bytes; scalars and constants of shape arithmetic stay inside the graph
_KEEP_TORCH = "use --engine torch, which needs no export"


class Exportable(Encoder, Protocol):
    """The parts of the PyTorch engine that exporting uses."""

    @property
    def model(self) -> Any:
        """open_clip's module, in evaluation mode."""
        ...

    @property
    def tokenizer(self) -> Any:
        """open_clip's tokenizer for it."""
        ...


def write_export(reference: Exportable, folder: Path) -> ExportManifest:
    """Export a loaded open_clip model into a folder, if its graphs agree with PyTorch.

    The folder appears complete or not at all; one that is there already is replaced.

    Args:
        reference: The PyTorch engine around the model, in float32 on the CPU.
        folder: Where the export goes.

    Raises:
        ModelError: The model cannot be exported, or its graphs do not agree with it.
    """
    check_reference(reference)
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        with marked_busy(work):
            settings = write_tokenizer(reference.tokenizer, reference.spec.context_length, work)
            text = trace(reference, work)
            made = _gather([work / graph for graph in (IMAGE_GRAPH, TEXT_GRAPH)])
            for path in work.iterdir():
                if path not in made and path.name != TOKENIZER_NAME:
                    path.unlink()
            manifest = check_graphs(reference, reference.spec, text, settings, "", work)
            for path in work.iterdir():
                sync_file(path)  # after a power cut, a file of the right size must not be full of zeros
            open_to_others(work)
            put_in_place(work, folder)
        return manifest
    finally:
        shutil.rmtree(work, ignore_errors=True)


def stored_bytes(reference: Exportable) -> int:
    """Return how many bytes an export of a model takes, but for its graphs and vocabulary."""
    return sum(4 * parameter.numel() for parameter in reference.model.parameters())


def _gather(paths: Sequence[Path]) -> list[Path]:
    """Move each graph's weights into one data file beside it, which ONNX Runtime maps instead of parsing.

    Returns:
        The files that make up the graphs. A graph above 2 GB arrives with a file for each weight; those are not
        among them.
    """
    onnx = _import_onnx()
    made = []
    for path in paths:
        graph = onnx.load(str(path))
        data = path.with_name(f"{path.name}.data")
        onnx.save_model(graph, str(path), save_as_external_data=True, location=data.name, size_threshold=_SMALL)
        made += [path, data] if data.exists() else [path]
    return made


def _import_onnx() -> Any:
    try:
        import onnx
    except ImportError as error:
        raise ModelError(f"exporting needs a package that is missing: {error}", "pip install onnx") from error
    return onnx


def check_reference(reference: Encoder) -> None:
    """Refuse an engine that is no reference for graphs.

    Raises:
        ModelError: It does not run in float32 on the CPU, or a package for exporting is missing.
    """
    _import_onnx()
    spec = reference.spec
    if spec.device != "cpu" or spec.precision is not Precision.FP32:
        raise ModelError(f"{spec.model} is loaded on {spec.device} in {spec.precision}", "export from --device cpu")


def write_tokenizer(tokenizer: Any, context_length: int, folder: Path) -> dict[str, Any]:
    """Return what rebuilds open_clip's tokenizer without it, writing its vocabulary where that is needed."""
    clean = next((name for name in ("lower", "whitespace", "canonicalize") if _cleans_as(tokenizer, name)), None)
    if hasattr(tokenizer, "bpe_ranks") and clean and not tokenizer.reduction_fn:
        return {"kind": "byte_pair", "context_length": context_length, "clean": clean}
    backend = getattr(getattr(tokenizer, "tokenizer", None), "backend_tokenizer", None)
    if backend is None or clean is None or tokenizer.tokenizer_mode:
        raise ModelError(f"the tokenizer {type(tokenizer).__name__} cannot be exported", _KEEP_TORCH)
    hugging = tokenizer.tokenizer
    backend.no_truncation()
    backend.no_padding()
    backend.save(str(folder / TOKENIZER_NAME))
    return {
        "kind": "hugging_face",
        "context_length": context_length,
        "clean": clean,
        "pad_id": int(hugging.pad_token_id),
        "padding_side": str(hugging.padding_side),
        "truncation_side": str(hugging.truncation_side),
        "zeroed_id": int(hugging.sep_token_id) if tokenizer.strip_sep_token else None,
    }


def _cleans_as(tokenizer: Any, name: str) -> bool:
    from open_clip.tokenizer import get_clean_fn

    return hasattr(tokenizer, "clean_fn") and tokenizer.clean_fn is get_clean_fn(name)


def check_graphs(
    reference: Exportable, spec: EncoderSpec, text: TextGraph, settings: dict[str, Any], weights_file: str, folder: Path
) -> ExportManifest:
    """Compare the graphs in a folder with PyTorch and write the manifest.

    Raises:
        ModelError: Token ids differ, or features do.
    """
    import torch

    files = {path.name: StoredFile.of(path) for path in sorted(folder.iterdir())}
    unchecked = Agreement(image=0.0, text=0.0, difference=2.0, torch=str(torch.__version__))
    manifest = ExportManifest(spec, text, settings, files, weights_file, unchecked)
    if (
        open_tokenizer(manifest, folder).encode(REFERENCE_TEXTS) != reference.tokenizer(list(REFERENCE_TEXTS)).numpy()
    ).any():
        raise ModelError(f"{reference.spec.model}: the exported tokenizer gives other ids", _KEEP_TORCH)
    agreement = measure_agreement(reference, OnnxEncoder(folder, manifest, available_cores()), unchecked.torch)
    if not agreement.passes:
        raise ModelError(
            f"{reference.spec.model}: the exported graphs differ from PyTorch (cosine {agreement.image:.6f} for "
            f"images, {agreement.text:.6f} for texts, largest difference {agreement.difference:.1e})",
            _KEEP_TORCH,
        )
    manifest = replace(manifest, agreement=agreement)
    write_manifest(manifest, folder)
    return manifest


def trace(reference: Exportable, folder: Path) -> TextGraph:
    """Trace both towers into a folder and return how the text graph is fed."""
    import torch

    from .towers import ResumedText, image_tower, text_tower, traceable_attention

    spec = reference.spec
    pixels = torch.from_numpy(reference_images(*spec.preprocessing.size)[:2])
    text, how = text_tower(reference.model, spec.context_length)
    width = min(9, spec.context_length) if how.dynamic else spec.context_length
    tokens = reference.tokenizer(list(REFERENCE_TEXTS[2:4]))[:, :width]
    axes: dict[str, dict[int, str]] = {TOKENS: {0: "n_texts", **({1: "n_positions"} if how.dynamic else {})}}
    axes["features"] = {0: "n_texts"}
    sentences = [tokens]
    if isinstance(text, ResumedText):
        sentences = [tokens[:, 2:], text.example()]
        axes |= {BEGINNING: {1: "n_before"}, STATES: {1: "n_positions"}}
    image_axes = {"pixels": {0: "n_images"}, "features": {0: "n_images"}}
    with _quiet(), traceable_attention():
        for path, tower, inputs, open_axes in (
            (folder / IMAGE_GRAPH, image_tower(reference.model, spec.preprocessing), [pixels], image_axes),
            (folder / TEXT_GRAPH, text, sentences, axes),
        ):
            try:
                _trace(tower, inputs, open_axes, path)
            except OSError:  # a full disk says nothing about the model
                raise
            except Exception as error:  # the exporter raises anything, from any operator
                what = " ".join(str(error).split())[:300]
                raise ModelError(f"{spec.model} cannot be exported: {what}", _KEEP_TORCH) from error
    return how


def _trace(tower: Any, inputs: Sequence[Any], axes: Mapping[str, Mapping[int, str]], path: Path) -> None:
    """Trace one tower; the axes that are left open name its inputs and outputs, in order."""
    import torch

    outputs = [name for name in axes if name in ("features", STATES)]
    torch.onnx.export(
        tower.eval(),
        tuple(inputs),
        str(path),
        input_names=[name for name in axes if name not in outputs],
        output_names=outputs,
        dynamic_axes={name: dict(names) for name, names in axes.items()},
        opset_version=_OPSET,
        # ONNX Runtime folds at load; here it would part the initialisers from the parameters.
        do_constant_folding=False,
        training=torch.onnx.TrainingMode.PRESERVE,
        dynamo=False,
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's deprecation and the tracer's remarks on shapes; the reference inputs are compared."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
