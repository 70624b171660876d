"""The torch-free engine for CPUs: two ONNX graphs and a manifest, run by ONNX Runtime.

A folder that `export` made holds ``image.onnx`` (uint8 pixels to features), ``text.onnx`` (token ids to features)
and ``zeroshot.json``, which says everything else. Their weights lie beside them: in data files of their own, or, for
the built-in checkpoint, in the safetensors file that PyTorch reads too.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from ..choices import Engine, Interpolation, Precision, ResizeMode, Score
from ..encoder import EncoderSpec, Features, Pixels, Preprocessing
from ..errors import ModelError
from .tokens import BytePairTokenizer, HuggingFaceTokenizer, TokenIds, Tokenizer

MANIFEST_NAME = "zeroshot.json"
IMAGE_GRAPH = "image.onnx"
TEXT_GRAPH = "text.onnx"
TOKENIZER_NAME = "tokenizer.json"
FORMAT = 1
"""Version of the manifest; an export of another version is made anew."""

# Token positions in one run of the text tower: enough to fill the matrix products, few enough to keep memory flat.
_POSITIONS = 8192
_REMAKE = "remove the folder and export the model again with `zeroshot models pull`, or use --engine torch"


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
    """How near the graphs come to PyTorch on fixed pictures and sentences.

    Attributes:
        image: Lowest cosine between the two engines' features of one picture.
        text: The same for sentences.
        difference: Largest difference of any value of any unit row.
        torch: PyTorch's version.
    """

    image: float
    text: float
    difference: float
    torch: str


@dataclass(frozen=True, slots=True)
class ExportManifest:
    """The content of ``zeroshot.json``.

    Attributes:
        spec: The facts about the model; engine, device and versions are the loading process's own.
        text: How the text graph is fed.
        tokenizer: Its kind and the arguments that build it.
        sizes: Bytes of each file, to notice one that was cut short.
        weights_file: File of another owner that the graphs point into, checked by `EncoderSpec.weights_sha256`
            because an offset into other bytes would be read as weights; empty where the export has its own data.
        agreement: The check that the export passed.
        int8: How near the 8-bit graphs come to the float32 ones; None where there are none.
    """

    spec: EncoderSpec
    text: TextGraph
    tokenizer: dict[str, Any]
    sizes: dict[str, int]
    weights_file: str
    agreement: Agreement
    int8: Agreement | None = None


def int8_name(graph: str) -> str:
    """Return the name of a graph's 8-bit form."""
    return graph.replace(".onnx", ".int8.onnx")


def write_manifest(manifest: ExportManifest, folder: Path) -> None:
    """Write ``zeroshot.json`` into a folder."""
    document = {"format": FORMAT, **asdict(manifest)}
    (folder / MANIFEST_NAME).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> ExportManifest:
    """Read ``zeroshot.json`` and check that the files it names are whole.

    Raises:
        ModelError: There is none, it is of another version, or a file is missing or of another size.
    """
    path = folder / MANIFEST_NAME
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document.pop("format") != FORMAT:
            raise ModelError(f"{folder} was exported by another version of zeroshot", _REMAKE)
        manifest = ExportManifest(
            spec=_read_spec(document["spec"]),
            text=TextGraph(**document["text"]),
            tokenizer=dict(document["tokenizer"]),
            sizes={name: int(document["sizes"][name]) for name in {IMAGE_GRAPH, TEXT_GRAPH, *document["sizes"]}},
            weights_file=str(document["weights_file"]),
            agreement=Agreement(**document["agreement"]),
            int8=Agreement(**document["int8"]) if document.get("int8") else None,
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelError(f"{path} cannot be read: {error!r}", _REMAKE) from error
    for name, size in manifest.sizes.items():
        file = folder / name
        if not file.is_file() or file.stat().st_size != size:
            raise ModelError(f"{file} is missing or damaged", _REMAKE)
    return manifest


def _read_spec(document: dict[str, Any]) -> EncoderSpec:
    shape = document["preprocessing"]
    preprocessing = Preprocessing(
        size=(int(shape["size"][0]), int(shape["size"][1])),
        mean=tuple(shape["mean"]),
        std=tuple(shape["std"]),
        interpolation=Interpolation(shape["interpolation"]),
        resize_mode=ResizeMode(shape["resize_mode"]),
        fill_color=int(shape["fill_color"]),
    )
    return EncoderSpec(
        **{
            **document,
            "preprocessing": preprocessing,
            "special_tokens": tuple(document["special_tokens"]),
            "score": Score(document["score"]),
            "engine": Engine(document["engine"]),
            "precision": Precision(document["precision"]),
        }
    )


def is_export(folder: Path) -> bool:
    """Whether a folder holds graphs for this engine; says nothing about their health."""
    return all((folder / name).is_file() for name in (MANIFEST_NAME, IMAGE_GRAPH, TEXT_GRAPH))


def load(
    folder: Path,
    *,
    model: str = "",
    source: str = "",
    configuration: str = "",
    threads: int | None = None,
    int8: bool = False,
) -> OnnxEncoder:
    """Open an exported folder; each tower is read when it is first used.

    Args:
        folder: Holds the graphs and ``zeroshot.json``.
        model: The model as the person named it; empty for the name it was exported under.
        source: Where the weights came from; empty for what the export says.
        configuration: Hash of the model's configuration; empty for what the export says.
        threads: Threads of a tower; None for as many as this process may run on.
        int8: Run the 8-bit graphs.

    Raises:
        ModelError: The export is incomplete, damaged, was made for other weights, or has no 8-bit graphs.
    """
    manifest = read_manifest(folder)
    if int8 and manifest.int8 is None:
        raise ModelError(f"{model or manifest.spec.model} has no int8 export", "--precision fp32")
    if manifest.weights_file:
        with (folder / manifest.weights_file).open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != manifest.spec.weights_sha256:
            raise ModelError(f"{folder / manifest.weights_file} is not the file that the graphs were made for", _REMAKE)
    spec = replace(
        manifest.spec,
        model=model or manifest.spec.model,
        source=source or manifest.spec.source or str(folder),
        configuration=configuration or manifest.spec.configuration,
        engine=Engine.ONNX,
        device="cpu",
        precision=Precision.INT8 if int8 else manifest.spec.precision,
        agreement=asdict(manifest.int8 if int8 and manifest.int8 else manifest.agreement),
        versions={name: _version(name) for name in ("zeroshot", "onnxruntime", "numpy", "pillow")},
    )
    return OnnxEncoder(folder, replace(manifest, spec=spec), threads or usable_cores())


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def usable_cores() -> int:
    """Return the number of cores that this process may run on, which a container or taskset can limit."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def open_tokenizer(manifest: ExportManifest, folder: Path) -> Tokenizer:
    """Build the tokenizer that an export names.

    Raises:
        ModelError: It is of an unknown kind or damaged.
    """
    settings = dict(manifest.tokenizer)
    kind = settings.pop("kind", None)
    try:
        if kind == "byte_pair":
            return BytePairTokenizer(**settings)
        if kind == "hugging_face":
            return HuggingFaceTokenizer(folder / TOKENIZER_NAME, **settings)
    except TypeError as error:
        raise ModelError(f"{folder / MANIFEST_NAME}: unusable tokenizer: {error}", _REMAKE) from error
    raise ModelError(f"{folder / MANIFEST_NAME}: unknown tokenizer {kind!r}", _REMAKE)


class OnnxEncoder:
    """An exported model behind the seam.

    Args:
        folder: Holds the graphs.
        manifest: What they are.
        threads: Threads of each tower.
    """

    def __init__(self, folder: Path, manifest: ExportManifest, threads: int) -> None:
        self._folder = folder
        self._manifest = manifest
        self._threads = threads
        self._int8 = manifest.spec.precision is Precision.INT8
        self._sessions: dict[str, Any] = {}
        self._tokens: Tokenizer | None = None
        self._lock = Lock()  # towers are opened at first use, perhaps by two threads at once

    @property
    def spec(self) -> EncoderSpec:
        """The facts about the loaded model."""
        return self._manifest.spec

    def encode_images(self, pixels: Pixels) -> Features:
        """Encode ``(n_images, height, width, 3)`` pixels to unit rows ``(n_images, dim)``."""
        if not len(pixels):
            return np.zeros((0, self.spec.dim), dtype=np.float32)
        rows = np.ascontiguousarray(pixels)
        if self._int8:  # one at a time: a run has one scale for all its inputs, and neighbours would change it
            return np.concatenate([self._run(IMAGE_GRAPH, "pixels", rows[i : i + 1]) for i in range(len(rows))])
        return self._run(IMAGE_GRAPH, "pixels", rows)

    def encode_texts(self, texts: Sequence[str]) -> Features:
        """Encode sentences to unit rows ``(n_texts, dim)``, short ones together so that little padding is encoded."""
        tokenizer = self._tokenizer()
        tokens = tokenizer.encode(texts)
        lengths = self._lengths(tokens, tokenizer.pad_id)
        order = np.argsort(lengths, kind="stable")
        features = np.empty((len(texts), self.spec.dim), dtype=np.float32)
        stop = len(order)
        while stop:  # the longest first, so that memory reaches its peak at once and is reused
            longest = int(lengths[order[stop - 1]])
            start = stop - 1 if self._int8 else max(0, stop - max(1, _POSITIONS // longest))
            rows = order[start:stop]
            features[rows] = self._run(TEXT_GRAPH, "tokens", tokens[rows, :longest])
            stop = start
        return features

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Count each text's tokens before truncation, special ones included."""
        return self._tokenizer().count(texts)

    def _lengths(self, tokens: TokenIds, pad_id: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Return how many positions of each row have to be encoded."""
        width = tokens.shape[1]
        if not self._manifest.text.dynamic:
            return np.full(len(tokens), width, dtype=np.int64)
        # Counted from the end: the id that pads may also stand inside a sentence ("!" has CLIP's).
        last = width - np.argmax(tokens[:, ::-1] != pad_id, axis=1)
        return np.asarray(np.minimum(last + self._manifest.text.spare, width), dtype=np.int64)

    def _tokenizer(self) -> Tokenizer:
        with self._lock:
            if self._tokens is None:
                self._tokens = open_tokenizer(self._manifest, self._folder)
            return self._tokens

    def _run(self, graph: str, name: str, values: np.ndarray[Any, Any]) -> Features:
        (features,) = self._session(graph).run(None, {name: values})
        # As torch.nn.functional.normalize, with its guard against a row of zeros.
        norms = np.maximum(np.linalg.norm(features, axis=1, keepdims=True), np.float32(1e-12))
        return np.asarray(features / norms, dtype=np.float32)

    def _session(self, graph: str) -> Any:
        with self._lock:
            if graph not in self._sessions:
                path = self._folder / (int8_name(graph) if self._int8 else graph)
                self._sessions[graph] = _open_session(path, self._threads)
            return self._sessions[graph]


def _open_session(path: Path, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1  # the graphs are chains: operators have nothing to run beside
    # Idle threads sleep: spinning, they would take the cores that decode the next pictures.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # warnings about folded constants help nobody at a prompt
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises classes of its C++ module, and RuntimeError
        raise ModelError(f"{path} cannot be loaded: {' '.join(str(error).split())[:300]}", _REMAKE) from error
