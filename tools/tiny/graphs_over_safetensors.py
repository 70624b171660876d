"""Graphs beside a checkpoint that read their weights from its safetensors file, as the built-in checkpoint has them.

ONNX lets an initialiser be a range of bytes in another file of the model's folder, and a safetensors file is its
tensors one after another, little-endian. Each parameter becomes such a range in the file's own precision with a cast
to float32 behind it, which ONNX Runtime folds when it loads the graph.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

from zeroshot.engines.export.graphs import Exportable, check_graphs, check_reference, trace, write_tokenizer
from zeroshot.engines.onnx_manifest import IMAGE_GRAPH, TEXT_GRAPH, ExportManifest
from zeroshot.errors import ModelError

_TYPES = {"F16": TensorProto.FLOAT16, "BF16": TensorProto.BFLOAT16, "F32": TensorProto.FLOAT}
_LARGEST_CONSTANT = 64 * 1024  # bytes; a causal mask of 77 x 77 has 24 KB


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor in a safetensors file.

    Attributes:
        dtype: ONNX's number of its type; None for one that the towers do not compute with.
        shape: Its shape.
        offset: Bytes from the file's start.
        length: Bytes.
    """

    dtype: int | None
    shape: tuple[int, ...]
    offset: int
    length: int


def write_graphs_over_safetensors(
    reference: Exportable, folder: Path, weights_name: str = "open_clip_model.safetensors"
) -> ExportManifest:
    """Add graphs to an open_clip folder that read their weights from its safetensors file: nothing is stored twice.

    Args:
        reference: The PyTorch engine that has loaded the folder, in float32 on the CPU.
        folder: The open_clip folder.
        weights_name: Its safetensors file.

    Raises:
        ModelError: The model cannot be exported, a weight is not in the file, or the graphs do not agree with it.
    """
    check_reference(reference)
    work = Path(tempfile.mkdtemp(prefix=".graphs-", dir=folder))
    try:
        settings = write_tokenizer(reference.tokenizer, reference.spec.context_length, work)
        text = trace(reference, work)
        stored = read_header(folder / weights_name)
        for graph in (IMAGE_GRAPH, TEXT_GRAPH):
            point_into(work / graph, weights_name, stored)
        # The folder may be moved or packaged: its name is given at load.
        spec = replace(reference.spec, model=folder.name, architecture=folder.name, source="")
        try:  # the graphs find their weights beside them only
            os.link(folder / weights_name, work / weights_name)
        except OSError:
            shutil.copyfile(folder / weights_name, work / weights_name)
        manifest = check_graphs(reference, spec, text, settings, weights_name, work)
        (work / weights_name).unlink()
        for path in work.iterdir():
            path.replace(folder / path.name)
        return manifest
    finally:
        shutil.rmtree(work, ignore_errors=True)


def read_header(path: Path) -> dict[str, StoredTensor]:
    """Return where each tensor of a safetensors file lies: 8 bytes of header length, the header as JSON, the tensors.

    Raises:
        ModelError: The file is no safetensors file.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        return {
            name: StoredTensor(_TYPES.get(entry["dtype"]), tuple(entry["shape"]), 8 + length + start, end - start)
            for name, entry in header.items()
            for start, end in [entry["data_offsets"]]
        }
    except (OSError, ValueError, KeyError, TypeError, MemoryError, OverflowError) as error:
        raise ModelError(f"{path} cannot be read as safetensors: {error}", "save the model again") from error


def point_into(path: Path, weights_name: str, stored: Mapping[str, StoredTensor]) -> None:
    """Replace a graph's weights by ranges of bytes in a safetensors file beside it.

    Raises:
        ModelError: A weight is not in that file.
    """
    model = onnx.load(str(path))
    graph = model.graph
    kept: list[TensorProto] = []
    casts: list[Any] = []
    ranged: dict[str, TensorProto] = {}
    for tensor in graph.initializer:
        # The traced module holds the model as its attribute `model` or `text`.
        found = stored.get(tensor.name.partition(".")[2]) or stored.get(f"text.{tensor.name.partition('.')[2]}")
        if found is None or tensor.data_type != TensorProto.FLOAT:
            if tensor.ByteSize() > _LARGEST_CONSTANT:
                raise ModelError(f"{weights_name} has no weight {tensor.name}", "make the graphs from this checkpoint")
            kept.append(tensor)
            continue
        if found.dtype is None or found.shape != tuple(tensor.dims):
            raise ModelError(f"{weights_name} has another {tensor.name}", "make the graphs from this checkpoint")
        ranged[tensor.name] = _range(tensor, found, weights_name)
    gathered = _gather_then_cast(graph, ranged)
    for name, tensor in ranged.items():
        kept.append(tensor)
        if tensor.data_type != TensorProto.FLOAT and name not in gathered:
            casts.append(helper.make_node("Cast", [tensor.name], [name], to=TensorProto.FLOAT))
    del graph.initializer[:]
    graph.initializer.extend(kept)
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    path.write_bytes(model.SerializeToString())


def _range(tensor: TensorProto, found: StoredTensor, weights_name: str) -> TensorProto:
    name = tensor.name if found.dtype == TensorProto.FLOAT else f"{tensor.name}:stored"
    ranged = TensorProto(name=name, data_type=found.dtype, dims=found.shape, data_location=TensorProto.EXTERNAL)
    for key, value in (("location", weights_name), ("offset", found.offset), ("length", found.length)):
        ranged.external_data.add(key=key, value=str(value))
    return ranged


def _gather_then_cast(graph: Any, ranged: Mapping[str, TensorProto]) -> set[str]:
    """Let look-ups read the stored table and cast the rows they find: a folded table would be 49,408 rows to cast.

    Returns:
        The weights that nothing but a look-up reads.
    """
    readers: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    names = {
        name
        for name, tensor in ranged.items()
        if tensor.data_type != TensorProto.FLOAT
        and all(node.op_type == "Gather" and node.input[0] == name for node in readers.get(name, []))
    }
    nodes = []
    for node in graph.node:
        nodes.append(node)
        if node.op_type == "Gather" and node.input[0] in names:
            found = node.output[0]
            node.input[0] = ranged[node.input[0]].name
            node.output[0] = f"{found}:stored"
            nodes.append(helper.make_node("Cast", [node.output[0]], [found], to=TensorProto.FLOAT))
    del graph.node[:]
    graph.node.extend(nodes)
    return names
