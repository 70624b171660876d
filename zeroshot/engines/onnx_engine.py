"""The torch-free engine for CPUs: the two graphs of an export, run by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

import numpy as np

from ..encoder import EncoderSpec, Features, Pixels
from ..enums import Engine, Precision
from ..errors import MORE_MEMORY, ModelError, ResourceError
from ..messages import as_many
from ..system.installed import available_cores, versions
from ..system.memory import is_out_of_memory
from .onnx_manifest import (
    BEGINNING,
    IMAGE_GRAPH,
    MANIFEST_NAME,
    REMAKE,
    TEXT_GRAPH,
    TOKENIZER_NAME,
    TOKENS,
    ExportManifest,
    check_at_load,
    check_tower,
    int8_name,
    read_manifest,
)
from .text_batches import TextBatch, plan_batches
from .tokens import BytePairTokenizer, HuggingFaceTokenizer, TokenIds, Tokenizer

# Token positions in one run of the text tower, on one thread: what fills matrix products and stays in its cache.
_POSITIONS = 1024

_IMAGES = 32
"""Images in one run of the image tower; more gain nothing."""

_Part = TypeVar("_Part")


def best_batch(threads: int, *, alone: bool) -> int:
    """Return how many images to encode together: 32, or the next multiple of the threads that run images one by one.

    Args:
        threads: Of the engine.
        alone: Each image is run by itself, on one thread: of 64 threads half would have nothing to do with 32 images.
    """
    return -(-_IMAGES // threads) * threads if alone else _IMAGES


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

    @property
    def best_batch(self) -> int:
        """How many images to encode together, by the threads."""
        return best_batch(self._threads, alone=self._int8)

    def encode_images(self, pixels: Pixels) -> Features:
        """Encode ``(n_images, height, width, 3)`` pixels to unit rows ``(n_images, dim)``."""
        if not len(pixels):
            return np.zeros((0, self.spec.dim), dtype=np.float32)
        rows = np.ascontiguousarray(pixels)
        if self._int8:
            return np.concatenate(self._at_once(self._run_images, [rows[i : i + 1] for i in range(len(rows))]))
        return self._run_images(rows)

    def encode_texts(self, texts: Sequence[str]) -> Features:
        """Encode sentences to unit rows ``(n_texts, dim)``; those of one beginning read it once."""
        texts = list(as_many(texts))
        tokenizer = self._tokenizer()
        tokens = tokenizer.encode(texts)
        lengths = self._lengths(tokens, tokenizer.pad_id)
        features = np.empty((len(texts), self.spec.dim), dtype=np.float32)
        if not len(texts):
            return features
        nothing = self._no_beginning()
        if self._int8:
            batches = [TextBatch(np.array([row]), int(length)) for row, length in enumerate(lengths)]
        else:
            positions = min(_POSITIONS, -(-int(lengths.sum()) // self._threads))
            batches = plan_batches(tokens, lengths, positions, self._spare() if nothing is not None else None)
        for batch, rows in zip(batches, self._at_once(partial(self._run_texts, tokens, nothing), batches), strict=True):
            features[batch.rows] = rows
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
        return np.asarray(np.minimum(last + self._spare(), width), dtype=np.int64)

    def _spare(self) -> int:
        """Return how many positions behind a sentence are read."""
        # Other vocabularies than CLIP's may pad with the id that ends a text, or with a higher one: the first is read.
        return max(self._manifest.text.spare, int(self._manifest.tokenizer["kind"] != "byte_pair"))

    def _tokenizer(self) -> Tokenizer:
        with self._lock:
            if self._tokens is None:
                self._tokens = open_tokenizer(self._manifest, self._folder, self._remedy)
            return self._tokens

    def _at_once(self, run: Callable[[_Part], Features], parts: Sequence[_Part]) -> list[Features]:
        """Run parts on one thread each, as many at once as there are threads.

        That takes less of the processor than parts on all of them: no thread waits for another. An 8-bit run has one
        scale for all its inputs, so that its parts are single rows: neighbours would change them.
        """
        if self._threads == 1 or len(parts) == 1:
            return [run(part) for part in parts]
        with ThreadPoolExecutor(self._threads, thread_name_prefix="encode") as pool:
            return list(pool.map(run, parts))

    def _run_images(self, pixels: Pixels) -> Features:
        return self._run(IMAGE_GRAPH, {"pixels": pixels})[0]

    def _no_beginning(self) -> Features | None:
        """Return what stands for no beginning, shape ``(n_states, 0, width)``; None for a graph that knows none."""
        shapes = {given.name: given.shape for given in self._session(TEXT_GRAPH).get_inputs()}
        if BEGINNING not in shapes:
            return None
        n_states, _, width = shapes[BEGINNING]
        return np.zeros((n_states, 0, width), dtype=np.float32)

    def _run_texts(self, tokens: TokenIds, nothing: Features | None, batch: TextBatch) -> Features:
        """Encode the sentences of a batch: two of them whole, the others from where the first has come to."""
        rows = tokens[batch.rows, : batch.length]
        if nothing is None:
            return self._run(TEXT_GRAPH, {TOKENS: rows})[0]
        if not batch.shared:
            return self._run(TEXT_GRAPH, {TOKENS: rows, BEGINNING: nothing})[0]
        head, (states,) = self._run(TEXT_GRAPH, {TOKENS: rows[:2], BEGINNING: nothing})
        beginning = np.ascontiguousarray(states[:, : batch.shared])
        rest, _ = self._run(TEXT_GRAPH, {TOKENS: rows[2:, batch.shared :], BEGINNING: beginning})
        return np.concatenate([head, rest])

    def _run(self, graph: str, inputs: Mapping[str, np.ndarray[Any, Any]]) -> tuple[Features, list[Any]]:
        """Run a tower; return unit rows, and the graph's other outputs."""
        session = self._session(graph)
        try:
            features, *rest = session.run(None, inputs)
        except Exception as error:  # onnxruntime raises classes of its C++ module, and RuntimeError
            if is_out_of_memory(error):
                raise ResourceError(f"{self.spec.model}: there is not enough memory", MORE_MEMORY) from error
            what = " ".join(str(error).split())[:200]
            raise ModelError(f"{self._folder / graph} does not run: {what}", self._remedy) from error
        if features.shape != (len(next(iter(inputs.values()))), self.spec.dim):
            raise ModelError(
                f"{self._folder / graph} gives features of length {features.shape[-1]}, and {MANIFEST_NAME} says"
                f" {self.spec.dim}",
                self._remedy,
            )
        # As torch.nn.functional.normalize, with its guard against a row of zeros.
        norms = np.maximum(np.linalg.norm(features, axis=1, keepdims=True), np.float32(1e-12))
        return np.asarray(features / norms, dtype=np.float32), rest

    def _session(self, graph: str) -> Any:
        with self._lock:
            if graph not in self._sessions:
                check_tower(self._manifest, self._folder, graph, int8=self._int8, remedy=self._remedy)
                path = self._folder / (int8_name(graph) if self._int8 else graph)
                alone = self._int8 or graph == TEXT_GRAPH  # a thread for each of several runs at once
                self._sessions[graph] = _open_session(path, 1 if alone else self._threads, self._remedy)
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
