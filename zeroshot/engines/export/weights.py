"""Storage of an exported graph's weights: a data file of its own, or a checkpoint's safetensors file.

Imports onnx at the top: only `graphs` imports this, when it exports.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

from ...errors import ModelError

_TYPES = {"F16": TensorProto.FLOAT16, "BF16": TensorProto.BFLOAT16, "F32": TensorProto.FLOAT}
_LARGEST_CONSTANT = 64 * 1024  # bytes; a causal mask of 77 x 77 has 24 KB
_SMALL = 1024  # bytes; scalars and constants of shape arithmetic stay inside the graph


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


def gather(paths: Sequence[Path]) -> list[Path]:
    """Move each graph's weights into one data file beside it, which ONNX Runtime maps instead of parsing.

    Returns:
        The files that make up the graphs. A graph above 2 GB arrives with a file for each weight; those are not
        among them.
    """
    made = []
    for path in paths:
        graph = onnx.load(str(path))
        data = path.with_name(f"{path.name}.data")
        onnx.save_model(graph, str(path), save_as_external_data=True, location=data.name, size_threshold=_SMALL)
        made += [path, data] if data.exists() else [path]
    return made


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
