"""The manifest of an export, ``zeroshot.json``: written with the graphs, read before them.

A folder that `export` made holds ``image.onnx`` (uint8 pixels to features), ``text.onnx`` (token ids to features)
and ``zeroshot.json``, which says everything else. Their weights lie beside them: in data files of their own, or, for
the built-in checkpoint, in the safetensors file that PyTorch reads too.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..encoder import EncoderSpec
from ..errors import ModelError
from ..system.durable_files import hash_content
from . import onnx_manifest_fields as fields

MANIFEST_NAME = "zeroshot.json"
IMAGE_GRAPH = "image.onnx"
TEXT_GRAPH = "text.onnx"
TOKENIZER_NAME = "tokenizer.json"
TOKENS = "tokens"
"""Input of text graphs: ids, ``(n_texts, n_positions)``."""
BEGINNING = "beginning"
"""Input of text graphs that go on from a beginning their texts share: its keys and values, ``(n, n_before, width)``,
two a layer."""
STATES = "states"
"""Their second output: the same of the first text's own positions."""
FORMAT = 3
"""Version of the manifest; an export of another version is made anew."""

REMAKE = "export the model again with `zeroshot models pull`, or use --engine torch"
"""What fixes an export whose model is not known; `load` says it with the model's name."""

MINIMUM_COSINE = 0.99999
"""Below this, on any reference image or sentence, an export is refused."""
MAXIMUM_DIFFERENCE = 1e-4
"""Likewise above this difference of any value of a unit row: the features of some models are all nearly parallel."""

_SMALL = (IMAGE_GRAPH, TEXT_GRAPH, TOKENIZER_NAME)


@dataclass(frozen=True, slots=True)
class TextGraph:
    """What the text graph needs to know about its rows.

    Attributes:
        dynamic: It reads any number of positions: a causal tower, which never looks beyond a sentence's end.
        spare: Positions beyond the longest sentence that it has to be given all the same.
    """

    dynamic: bool
    spare: int = 0


@dataclass(frozen=True, slots=True)
class Agreement:
    """How near the graphs come to PyTorch on fixed images and sentences.

    Attributes:
        image: Lowest cosine between the two engines' features of one image.
        text: The same for sentences.
        difference: Largest difference of any value of any unit row.
        torch: PyTorch's version.
    """

    image: float
    text: float
    difference: float
    torch: str

    @property
    def passes(self) -> bool:
        """Whether the graphs agree with PyTorch's model; NaN never does."""
        near = self.image > MINIMUM_COSINE and self.text > MINIMUM_COSINE  # min() would lose a NaN
        return near and self.difference < MAXIMUM_DIFFERENCE


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file's size and hash when the export was made.

    Attributes:
        size: In bytes; compared where reading the file would take too long.
        sha256: Of its content, hexadecimal.
    """

    size: int
    sha256: str

    @staticmethod
    def of(path: Path) -> StoredFile:
        """Read them from a file."""
        return StoredFile(path.stat().st_size, hash_content(path))


@dataclass(frozen=True, slots=True)
class ExportManifest:
    """The content of ``zeroshot.json``.

    Attributes:
        spec: The facts about the model; engine, device and versions are the loading process's own.
        text: How the text graph is fed.
        tokenizer: Its kind and the arguments that build it.
        files: What each file was, by name.
        weights_file: File of another owner that the graphs point into, where an offset into other bytes would be read
            as weights; empty where the export has its own data.
        agreement: The check that the export passed.
        int8: How near the 8-bit graphs come to the float32 ones; None where there are none.
    """

    spec: EncoderSpec
    text: TextGraph
    tokenizer: dict[str, Any]
    files: dict[str, StoredFile]
    weights_file: str
    agreement: Agreement
    int8: Agreement | None = None


def int8_name(graph: str) -> str:
    """Return the name of a graph's 8-bit form."""
    return graph.replace(".onnx", ".int8.onnx")


def write_manifest(manifest: ExportManifest, folder: Path) -> None:
    """Write ``zeroshot.json`` into a folder; it replaces an earlier one atomically."""
    document = {"format": FORMAT, **asdict(manifest)}
    beside = folder / f".{MANIFEST_NAME}.{os.getpid()}"
    beside.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    beside.replace(folder / MANIFEST_NAME)


def read_manifest(folder: Path, remedy: str = REMAKE) -> ExportManifest:
    """Read ``zeroshot.json``.

    Args:
        folder: Of the export.
        remedy: The hint of errors: what fixes this export.

    Raises:
        ModelError: There is none, it is of another version, or it cannot be understood.
    """
    path = folder / MANIFEST_NAME
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document.pop("format") != FORMAT:
            raise ModelError(f"{folder} was exported by another version of zeroshot", remedy)
        spec, stored = fields.spec(document["spec"]), document["files"]
        spare = fields.whole(document["text"], "spare", 0, spec.context_length)
        weights_file = fields.text(document, "weights_file")
        return ExportManifest(
            spec=spec,
            text=TextGraph(dynamic=fields.truth(document["text"], "dynamic"), spare=spare),
            tokenizer=fields.tokenizer(document["tokenizer"], spec.context_length),
            files={fields.file_name(name): _read_file(stored[name]) for name in (IMAGE_GRAPH, TEXT_GRAPH, *stored)},
            weights_file=fields.file_name(weights_file) if weights_file else "",
            agreement=_read_agreement(document["agreement"]),
            int8=_read_agreement(document["int8"]) if document.get("int8") else None,
        )
    except (OSError, ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read: {_explained(error)}", remedy) from error
    except ModelError as error:
        if error.hint == remedy:
            raise
        raise ModelError(f"{path} cannot be read: {error.message}", remedy) from error


def _explained(error: Exception) -> str:
    return str(error) if isinstance(error, ValueError) else repr(error)


def check_at_load(manifest: ExportManifest, folder: Path, *, int8: bool = False, remedy: str = REMAKE) -> None:
    """Check the files that a run will use: the small ones and shared weights by content, data by size.

    Data is most of an export, and a run that finds its features in the cache never reads it: `check_tower` does.

    Args:
        manifest: Of the export.
        folder: Of the export.
        int8: The run uses the 8-bit graphs, else the float32 ones.
        remedy: The hint of errors.

    Raises:
        ModelError: Names the file that is missing, damaged or of another checkpoint.
    """
    towers = {name for graph in (IMAGE_GRAPH, TEXT_GRAPH) for name in _tower_files(manifest, graph, int8)}
    for name in manifest.files:
        if name in towers or name in (TOKENIZER_NAME, manifest.weights_file):
            small = name in _SMALL or name == manifest.weights_file
            _check_file(manifest, folder, name, by_content=small, remedy=remedy)


def check_tower(
    manifest: ExportManifest, folder: Path, graph: str, *, int8: bool = False, remedy: str = REMAKE
) -> None:
    """Check the content of what `check_at_load` left of a tower: its data, or its 8-bit graph.

    Args:
        manifest: Of the export.
        folder: Of the export.
        graph: `IMAGE_GRAPH` or `TEXT_GRAPH`.
        int8: Its 8-bit form.
        remedy: The hint of errors.

    Raises:
        ModelError: Names the file that is missing or damaged.
    """
    for name in _tower_files(manifest, graph, int8):
        if name not in _SMALL:
            _check_file(manifest, folder, name, by_content=True, remedy=remedy)


def _tower_files(manifest: ExportManifest, graph: str, int8: bool) -> list[str]:
    """Return the names of a graph and of the data beside it, which begins with the graph's name."""
    form = int8_name(graph) if int8 else graph
    return [name for name in manifest.files if name == form or name.startswith(f"{form}.")]


def _check_file(manifest: ExportManifest, folder: Path, name: str, *, by_content: bool, remedy: str) -> None:
    path, stored = folder / name, manifest.files[name]
    try:
        whole = path.stat().st_size == stored.size and not (by_content and hash_content(path) != stored.sha256)
    except FileNotFoundError:
        whole = False
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}", remedy) from error
    if not whole:
        foreign = name == manifest.weights_file
        what = "is not the file that the graphs were made for" if foreign else "is missing or damaged"
        raise ModelError(f"{path} {what}", remedy)


def _read_file(document: dict[str, Any]) -> StoredFile:
    return StoredFile(size=fields.whole(document, "size", 0, 2**50), sha256=fields.sha256(document, "sha256"))


def _read_agreement(document: dict[str, Any]) -> Agreement:
    image, text, difference = (fields.number(document, key) for key in ("image", "text", "difference"))
    return Agreement(image=image, text=text, difference=difference, torch=fields.text(document, "torch"))


def is_export(folder: Path) -> bool:
    """Whether a folder holds readable graphs for this engine; their content is not checked."""
    # os.path, for which a folder that only its owner may look into is one without files, not an error.
    return all(os.path.isfile(folder / name) for name in (MANIFEST_NAME, IMAGE_GRAPH, TEXT_GRAPH))  # noqa: PTH113
