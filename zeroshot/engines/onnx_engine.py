"""The torch-free engine for CPUs: the two graphs of an export, run by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from ..encoder import EncoderSpec, Features, Pixels
from ..enums import Engine, Precision
from ..errors import MORE_MEMORY, ModelError, ResourceError
from ..messages import as_many
from ..system.installed import available_cores, versions
from ..system.memory import is_out_of_memory
from .onnx_manifest import (
    IMAGE_GRAPH,
    MANIFEST_NAME,
    REMAKE,
    TEXT_GRAPH,
    TOKENIZER_NAME,
    ExportManifest,
    check_at_load,
    check_tower,
    int8_name,
    read_manifest,
)
from .tokens import BytePairTokenizer, HuggingFaceTokenizer, TokenIds, Tokenizer

# Token positions in one run of the text tower: enough to fill the matrix products, few enough to keep memory flat.
_POSITIONS = 8192


def load(
    folder: Path,
    *,
    model: str = "",
    source: str = "",
    configuration: str = "",
    threads: int | None = None,
    int8: bool = False,
    remedy: str = REMAKE,
) -> OnnxEncoder:
    """Open an exported folder; each tower is read, and its data checked, when it is first used.

    Args:
        folder: Holds the graphs and ``zeroshot.json``.
        model: The model as the user named it; empty for the name it was exported under.
        source: Where the weights came from; empty for what the export says.
        configuration: Hash of the model's configuration; empty for what the export says.
        threads: Threads of a tower; None for as many as this process may run on.
        int8: Run the 8-bit graphs.
        remedy: The hint of errors about the export: what fixes it.

    Raises:
        ModelError: The export is incomplete, damaged, was made for other weights, has no 8-bit graphs, or
            did not pass its check.
    """
    manifest = read_manifest(folder, remedy)
    if not manifest.agreement.passes:
        raise ModelError(f"the export in {folder} does not agree with PyTorch", remedy)
    if int8 and manifest.int8 is None:
        raise ModelError(f"{model or manifest.spec.model} has no int8 export", "--precision fp32")
    check_at_load(manifest, folder, int8=int8, remedy=remedy)
    spec = replace(
        manifest.spec,
        model=model or manifest.spec.model,
        source=source or manifest.spec.source or str(folder),
        configuration=configuration or manifest.spec.configuration,
        engine=Engine.ONNX,
        device="cpu",
        precision=Precision.INT8 if int8 else manifest.spec.precision,
        agreement=asdict(manifest.int8 if int8 and manifest.int8 else manifest.agreement),
        versions=versions(("zeroshot", "onnxruntime", "numpy", "pillow")),
    )
    return OnnxEncoder(folder, replace(manifest, spec=spec), threads or available_cores(), remedy)


def open_tokenizer(manifest: ExportManifest, folder: Path, remedy: str = REMAKE) -> Tokenizer:
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
        raise ModelError(f"{folder / MANIFEST_NAME}: unusable tokenizer: {error}", remedy) from error
    raise ModelError(f"{folder / MANIFEST_NAME}: unknown tokenizer {kind!r}", remedy)


class OnnxEncoder:
    """An exported model as an `Encoder`.

    Args:
        folder: Holds the graphs.
        manifest: What they are.
        threads: Threads of each tower.
        remedy: The hint of errors about the export.
    """

    def __init__(self, folder: Path, manifest: ExportManifest, threads: int, remedy: str = REMAKE) -> None:
        self._folder = folder
        self._manifest = manifest
        self._threads = threads
        self._remedy = remedy
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
        if self._int8:
            return np.concatenate(self._run_alone(IMAGE_GRAPH, "pixels", [rows[i : i + 1] for i in range(len(rows))]))
        return self._run(IMAGE_GRAPH, "pixels", rows)

    def encode_texts(self, texts: Sequence[str]) -> Features:
        """Encode sentences to unit rows ``(n_texts, dim)``, short ones together so that little padding is encoded."""
        texts = list(as_many(texts))
        tokenizer = self._tokenizer()
        tokens = tokenizer.encode(texts)
        lengths = self._lengths(tokens, tokenizer.pad_id)
        order = np.argsort(lengths, kind="stable")
        features = np.empty((len(texts), self.spec.dim), dtype=np.float32)
        if self._int8 and len(order):
            alone = [tokens[row : row + 1, : lengths[row]] for row in order]
            features[order] = np.concatenate(self._run_alone(TEXT_GRAPH, "tokens", alone))
            return features
        stop = len(order)
        while stop:  # the longest first, so that memory reaches its peak at once and is reused
            longest = int(lengths[order[stop - 1]])
            start = max(0, stop - max(1, _POSITIONS // longest))
            rows = order[start:stop]
            features[rows] = self._run(TEXT_GRAPH, "tokens", tokens[rows, :longest])
            stop = start
        return features

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Count each text's tokens before truncation, special ones included."""
        texts = list(as_many(texts))
        return self._tokenizer().count(texts)

    def _lengths(self, tokens: TokenIds, pad_id: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Return how many positions of each row have to be encoded."""
        width = tokens.shape[1]
        if not self._manifest.text.dynamic:
            return np.full(len(tokens), width, dtype=np.int64)
        # Counted from the end: the id that pads may also stand inside a sentence ("!" has CLIP's).
        last = width - np.argmax(tokens[:, ::-1] != pad_id, axis=1)
        # Other vocabularies than CLIP's may pad with the id that ends a text, or with a higher one: the first is read.
        spare = max(self._manifest.text.spare, int(self._manifest.tokenizer["kind"] != "byte_pair"))
        return np.asarray(np.minimum(last + spare, width), dtype=np.int64)

    def _tokenizer(self) -> Tokenizer:
        with self._lock:
            if self._tokens is None:
                self._tokens = open_tokenizer(self._manifest, self._folder, self._remedy)
            return self._tokens

    def _run_alone(self, graph: str, name: str, rows: Sequence[np.ndarray[Any, Any]]) -> list[Features]:
        """Run rows one by one, each on one thread, as many at once as there are threads.

        An 8-bit run has one scale for all its inputs, so that neighbours would change a row. Rows of their own on one
        thread each take less of the processor than a batch on all of them: no thread waits for another.
        """
        run = partial(self._run, graph, name)
        if self._threads == 1 or len(rows) == 1:
            return [run(row) for row in rows]
        with ThreadPoolExecutor(self._threads, thread_name_prefix="encode") as pool:
            return list(pool.map(run, rows))

    def _run(self, graph: str, name: str, values: np.ndarray[Any, Any]) -> Features:
        session = self._session(graph)
        try:
            (features,) = session.run(None, {name: values})
        except Exception as error:  # onnxruntime raises classes of its C++ module, and RuntimeError
            if is_out_of_memory(error):
                raise ResourceError(f"{self.spec.model}: there is not enough memory", MORE_MEMORY) from error
            what = " ".join(str(error).split())[:200]
            raise ModelError(f"{self._folder / graph} does not run: {what}", self._remedy) from error
        if features.shape != (len(values), self.spec.dim):
            raise ModelError(
                f"{self._folder / graph} gives features of length {features.shape[-1]}, and {MANIFEST_NAME} says"
                f" {self.spec.dim}",
                self._remedy,
            )
        # As torch.nn.functional.normalize, with its guard against a row of zeros.
        norms = np.maximum(np.linalg.norm(features, axis=1, keepdims=True), np.float32(1e-12))
        return np.asarray(features / norms, dtype=np.float32)

    def _session(self, graph: str) -> Any:
        with self._lock:
            if graph not in self._sessions:
                check_tower(self._manifest, self._folder, graph, int8=self._int8, remedy=self._remedy)
                path = self._folder / (int8_name(graph) if self._int8 else graph)
                self._sessions[graph] = _open_session(path, 1 if self._int8 else self._threads, self._remedy)
            return self._sessions[graph]


def _open_session(path: Path, threads: int, remedy: str) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1  # the graphs are chains: operators have nothing to run beside
    # Idle threads sleep: spinning, they would take the cores that decode the next images.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # warnings about folded constants do not concern users
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises classes of its C++ module, and RuntimeError
        if is_out_of_memory(error):
            raise ResourceError(f"there is not enough memory to load {path}", MORE_MEMORY) from error
        raise ModelError(f"{path} cannot be loaded: {' '.join(str(error).split())[:300]}", remedy) from error
