"""8-bit graphs are an addition to an export, with their measured agreement beside them."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from support.models import SENTENCES, vit
from zeroshot.encoder import BatchingEncoder, Precision
from zeroshot.engines import onnx_engine, onnx_manifest
from zeroshot.engines.export import graphs, reference_inputs
from zeroshot.engines.export.quantise import quantise
from zeroshot.errors import ModelError

pytestmark = pytest.mark.skipif("int8" not in [str(p) for p in Precision], reason="--precision int8 is not offered")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("models") / "export"
    graphs.write_export(vit(), path)
    return path


def test_int8_before_quantising_is_refused(folder: Path) -> None:
    """An export without 8-bit graphs says so."""
    with pytest.raises(ModelError, match="no int8 export"):
        onnx_engine.load(folder, int8=True)


def test_what_stops_onnxruntime_is_an_error_with_a_hint(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is a failure of its C++ module like any other; nothing of it stays."""
    from onnxruntime import quantization

    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("[ONNXRuntimeError] : 1 : FAIL : Failed to write external initializers")

    before = sorted(folder.iterdir())
    monkeypatch.setattr(quantization, "quantize_dynamic", fails)
    with pytest.raises(ModelError, match=r"8-bit graphs cannot be made: .*Failed to write") as caught:
        quantise(folder)
    assert "free some space" in caught.value.hint
    assert sorted(folder.iterdir()) == before


def test_agreement_is_measured_and_kept(folder: Path) -> None:
    """The manifest says how near the 8-bit graphs come, and the float32 graphs stay what they were."""
    before = onnx_engine.load(folder).encode_texts(SENTENCES)
    manifest = quantise(folder)
    assert manifest.int8 is not None
    assert 0.95 < min(manifest.int8.image, manifest.int8.text) < 1
    assert onnx_manifest.read_manifest(folder) == manifest
    encoder, small = onnx_engine.load(folder), onnx_engine.load(folder, int8=True)
    assert str(small.spec.precision) == "int8"
    assert small.spec.fingerprint != encoder.spec.fingerprint
    np.testing.assert_array_equal(encoder.encode_texts(SENTENCES), before)
    assert (np.einsum("nd,nd->n", small.encode_texts(SENTENCES), before) > 0.95).all()
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_neighbours_change_nothing(folder: Path) -> None:
    """An image's and a sentence's 8-bit features are the same alone as among others, in whatever order."""
    if onnx_manifest.read_manifest(folder).int8 is None:
        quantise(folder)
    small = onnx_engine.load(folder, int8=True)
    images = reference_inputs.reference_images(*small.spec.preprocessing.size)
    together = small.encode_images(images)
    for index in range(len(images)):
        np.testing.assert_array_equal(small.encode_images(images[index : index + 1])[0], together[index])
    np.testing.assert_array_equal(small.encode_texts(SENTENCES[::-1])[::-1], small.encode_texts(SENTENCES))
    np.testing.assert_array_equal(small.encode_texts(SENTENCES[:1])[0], small.encode_texts(SENTENCES)[0])
    assert small.encode_texts([]).shape == (0, small.spec.dim)


def test_rows_run_alone_and_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every run has one row, on one thread of the session; as many rows run at once as there are threads."""
    if onnx_manifest.read_manifest(folder).int8 is None:
        quantise(folder)
    both, sizes, threads = threading.Barrier(2, timeout=60), [], []
    opened = onnx_engine._open_session

    def open_session(path: Path, n_threads: int, remedy: str) -> Any:
        session = opened(path, n_threads, remedy)
        threads.append(n_threads)

        def run(outputs: None, inputs: dict[str, Any]) -> Any:
            sizes.append(len(next(iter(inputs.values()))))
            both.wait()  # comes back only if another row runs meanwhile
            return session.run(outputs, inputs)

        return SimpleNamespace(run=run, get_inputs=session.get_inputs)

    small = onnx_engine.load(folder, int8=True, threads=2)
    images = reference_inputs.reference_images(*small.spec.preprocessing.size)
    expected = small.encode_images(images), small.encode_texts(SENTENCES)
    monkeypatch.setattr(onnx_engine, "_open_session", open_session)
    watched = onnx_engine.load(folder, int8=True, threads=2)
    np.testing.assert_array_equal(watched.encode_images(images), expected[0])
    np.testing.assert_array_equal(watched.encode_texts(SENTENCES), expected[1])
    assert sizes == [1] * (len(images) + len(SENTENCES))
    assert threads == [1, 1]


@pytest.mark.parametrize(
    ("threads", "alone", "batch"),
    [(2, True, 32), (3, True, 33), (24, True, 48), (64, True, 64), (100, True, 100), (3, False, 32), (64, False, 32)],
)
def test_each_thread_has_as_many_images_as_another(threads: int, alone: bool, batch: int) -> None:
    """Where images are run one by one: with 32 of them, 24 threads would wait for 8, and 32 of 64 have none."""
    assert onnx_engine.best_batch(threads, alone=alone) == batch


def test_the_batch_in_int8_follows_the_threads(folder: Path) -> None:
    """As the pipeline asks for it; in float32 all threads share each batch."""
    if onnx_manifest.read_manifest(folder).int8 is None:
        quantise(folder)
    small, encoder = onnx_engine.load(folder, int8=True, threads=24), onnx_engine.load(folder, threads=24)
    assert isinstance(small, BatchingEncoder)
    assert (small.best_batch, encoder.best_batch) == (48, 32)
