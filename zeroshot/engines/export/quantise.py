"""8-bit quantisation of exported graphs: about twice as fast on CPUs, at a small, measured difference.

ONNX Runtime's dynamic quantisation: the weights of matrix products become int8, a scale for each column, and their
inputs uint8 with a scale found at run time. Convolutions stay as they are; their 8-bit kernels are slower on CPUs.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...enums import Precision
from ...errors import ModelError
from ...system.installed import available_cores
from ..onnx_engine import OnnxEncoder, load
from ..onnx_manifest import (
    IMAGE_GRAPH,
    REMAKE,
    TEXT_GRAPH,
    ExportManifest,
    StoredFile,
    check_at_load,
    check_tower,
    int8_name,
    read_manifest,
    write_manifest,
)
from .export_cache import marked_busy, open_to_others
from .reference_inputs import measure_agreement

_PROTOBUF_LIMIT = 2**31  # bytes; larger graphs keep their weights in a file beside them


def quantise(folder: Path, remedy: str = REMAKE) -> ExportManifest:
    """Add 8-bit graphs to an export, and their agreement with the float32 ones to its manifest.

    Args:
        folder: An export with weights of its own.
        remedy: The hint of errors about the export: what fixes it.

    Raises:
        ModelError: The export is damaged, shares a checkpoint's weights, or a package is missing.
    """
    try:
        import onnx  # what onnxruntime.quantization is built on
        from onnxruntime import quantization
    except ImportError as error:
        raise ModelError(f"quantising needs a package that is missing: {error}", "pip install onnx") from error
    manifest = read_manifest(folder, remedy)
    if manifest.weights_file:
        raise ModelError(f"{manifest.spec.model} is small and fast as it is; it has no int8 form", "--precision fp32")
    check_at_load(manifest, folder, remedy=remedy)
    for graph in (IMAGE_GRAPH, TEXT_GRAPH):  # else damage would be measured against damage, and pass
        check_tower(manifest, folder, graph, remedy=remedy)
    with (
        marked_busy(folder),
        tempfile.TemporaryDirectory(prefix=".int8-", dir=folder) as work,
        _quiet(),
        _explaining(manifest.spec.model),
    ):
        made = Path(work, "made")
        made.mkdir()
        for graph in (IMAGE_GRAPH, TEXT_GRAPH):
            folded = Path(work, graph)
            _fold(folder / graph, folded)
            size = sum(path.stat().st_size for path in folded.parent.glob(f"{graph}*"))
            quantization.quantize_dynamic(
                folded,
                made / int8_name(graph),
                op_types_to_quantize=["MatMul", "Gemm"],
                per_channel=True,
                # Weights of 7 bits: on processors without VNNI, sums of two 8-bit products saturate at 16 bits.
                reduce_range=True,
                weight_type=quantization.QuantType.QInt8,
                use_external_data_format=size > _PROTOBUF_LIMIT,
                extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
            )
        files = {path.name: StoredFile.of(path) for path in made.iterdir()}
        for path in made.iterdir():
            path.replace(folder / path.name)
    manifest = replace(manifest, files={**manifest.files, **files})
    small = replace(manifest, spec=replace(manifest.spec, precision=Precision.INT8))
    encoder = OnnxEncoder(folder, small, available_cores())
    agreement = measure_agreement(load(folder), encoder, manifest.agreement.torch)
    manifest = replace(manifest, int8=agreement)
    write_manifest(manifest, folder)
    open_to_others(folder)
    return manifest


def _fold(path: Path, folded: Path) -> None:
    """Write a graph with its constants computed: transposed weights are what quantisation looks for."""
    import onnxruntime

    options: Any = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(folded)
    options.log_severity_level = 3
    entry = "session.optimized_model_external_initializers"
    options.add_session_config_entry(f"{entry}_file_name", f"{folded.name}.data")
    options.add_session_config_entry(f"{entry}_min_size_in_bytes", "1024")
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


@contextmanager
def _explaining(model: str) -> Iterator[None]:
    """Name what stops ONNX Runtime, whose errors do not tell a full disk from an operator it does not know."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:  # onnxruntime raises classes of its C++ module, and RuntimeError
        what = " ".join(str(error).split())[:300]
        raise ModelError(
            f"{model}: the 8-bit graphs cannot be made: {what}", "free some space, or --precision fp32"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the advice to pre-process, which is done here, that is logged through the root logger."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
