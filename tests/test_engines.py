"""Which engine a model is loaded into: by the options, and by what export of it there is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import SaveModelFolder

from zeroshot import load as engines
from zeroshot import models
from zeroshot.cache.folder import cache_folder
from zeroshot.encoder import Device, Encoder, Engine, Precision
from zeroshot.engines import export_manifest
from zeroshot.errors import ModelError, UsageError, ZeroshotError

CONFIG = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}
PREPROCESS = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "shortest"}
SENTENCES = ["a cat", "a photo of a rather long dog"]


@pytest.fixture(scope="module")
def folder(save_model_folder: SaveModelFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model_folder(tmp_path_factory.mktemp("models") / "small", CONFIG, PREPROCESS)


def load(folder: Path, **options: object) -> Encoder:
    return engines.load_encoder(str(folder), device=Device.CPU, **options)  # type: ignore[arg-type]


def test_an_export_is_taken_on_a_cpu_and_not_when_it_is_damaged(folder: Path) -> None:
    """Before `models pull` it is PyTorch, afterwards the export, with the same features; a broken export is left."""
    before = load(folder)
    assert before.spec.engine is Engine.TORCH
    with pytest.raises(ModelError, match="no export"):
        load(folder, engine=Engine.ONNX)
    with pytest.raises(ModelError, match="no export"):
        load(folder, precision=Precision.INT8)
    export = engines.export_model(models.resolve(str(folder)))
    after = load(folder)
    assert after.spec.engine is Engine.ONNX
    assert load(folder, engine=Engine.TORCH).spec.engine is Engine.TORCH
    np.testing.assert_allclose(after.encode_texts(SENTENCES), before.encode_texts(SENTENCES), atol=1e-5)

    small = load(folder, precision=Precision.INT8)
    assert (small.spec.engine, small.spec.precision) == (Engine.ONNX, Precision.INT8)
    assert small.spec.agreement is not None
    cosines = (small.encode_texts(SENTENCES) * before.encode_texts(SENTENCES)).sum(axis=1)
    assert (cosines > 0.95).all()
    assert (cosines < 1).all()
    assert load(folder).spec.precision is Precision.FP32

    (export / export_manifest.IMAGE_GRAPH).write_bytes(b"cut short")
    assert load(folder).spec.engine is Engine.TORCH
    with pytest.raises(ModelError, match="damaged"):
        load(folder, engine=Engine.ONNX)
    manifest = export / export_manifest.MANIFEST_NAME
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "format": 0}))
    assert load(folder).spec.engine is Engine.TORCH


@pytest.mark.parametrize(
    "options",
    [
        {"engine": Engine.ONNX, "precision": Precision.BF16},
        {"engine": Engine.ONNX, "device": Device.CUDA},
        {"engine": Engine.TORCH, "precision": Precision.INT8},
        {"device": Device.CUDA, "precision": Precision.INT8},
    ],
)
def test_options_that_contradict_each_other(options: dict[str, object]) -> None:
    """They are refused before anything is loaded."""
    with pytest.raises(UsageError):
        engines.load_encoder("tiny", **options)  # type: ignore[arg-type]


def test_the_built_in_model_has_no_int8_form() -> None:
    """Its graphs are small and share the weights of the safetensors file; the error says what to do."""
    with pytest.raises(ModelError, match="no int8 form") as caught:
        engines.load_encoder("tiny", precision=Precision.INT8)
    assert "--precision fp32" in caught.value.hint


def test_an_export_that_cannot_be_written(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache folder that is none is named, with the way out."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ZEROSHOT_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(ModelError, match="cannot be written") as caught:
        engines.export_model(models.resolve(str(folder)))
    assert "ZEROSHOT_CACHE" in caught.value.hint


def test_a_folder_of_an_unknown_user_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """`~nobody-of-this-name/x` is a name like another, not the end of the program."""
    monkeypatch.setenv("ZEROSHOT_CACHE", "~nobody-of-this-name/x")
    assert cache_folder() == Path("~nobody-of-this-name/x")
    with pytest.raises(ZeroshotError):
        models.resolve("~nobody-of-this-name/model")
