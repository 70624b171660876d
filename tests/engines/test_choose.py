"""Which engine a model is loaded into: by the options, and by what export of it there is."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from support.fixtures import SaveModelFolder
from support.models import CONFIG, PREPROCESS, flip_a_bit
from zeroshot.cli.main import app
from zeroshot.encoder import Device, Encoder, Engine, Precision
from zeroshot.engines import choose as engines
from zeroshot.engines import onnx_manifest
from zeroshot.errors import ModelError, UsageError, ZeroshotError
from zeroshot.models import resolvers
from zeroshot.models.checkpoint_files import CONFIG_NAME
from zeroshot.system.user_folders import cache_folder

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
    export = engines.export_model(resolvers.resolve(str(folder)))
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

    (export / onnx_manifest.IMAGE_GRAPH).write_bytes(b"cut short")
    assert load(folder).spec.engine is Engine.TORCH
    with pytest.raises(ModelError, match="damaged"):
        load(folder, engine=Engine.ONNX)


def make_old(path: Path) -> None:
    """Make an export's manifest one of the format before this one."""
    document = json.loads(path.read_text())
    document["format"] = 1
    document["sizes"] = {name: file["size"] for name, file in document.pop("files").items()}
    path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("name", "spoil", "what"),
    [
        (onnx_manifest.IMAGE_GRAPH, flip_a_bit, "image.onnx is missing or damaged"),
        (onnx_manifest.TEXT_GRAPH, flip_a_bit, "text.onnx is missing or damaged"),
        (f"{onnx_manifest.TEXT_GRAPH}.data", Path.unlink, "text.onnx.data is missing or damaged"),
        (onnx_manifest.MANIFEST_NAME, make_old, "another version"),
    ],
)
def test_a_bad_export_costs_a_line_and_pulling_replaces_it(
    folder: Path, name: str, spoil: Callable[[Path], None], what: str
) -> None:
    """Left to choose, PyTorch runs and one line says why; asked for, it is an error; either names what fixes it."""
    export = engines.export_model(resolvers.resolve(str(folder)))
    spoil(export / name)
    warnings: list[str] = []
    assert load(folder, warn=warnings.append).spec.engine is Engine.TORCH
    (warning,) = warnings
    assert what in warning
    pull = f"`zeroshot models pull {folder}` exports it again"
    assert f"going on with PyTorch ({pull})" in warning
    for options in ({"engine": Engine.ONNX}, {"precision": Precision.INT8}):
        with pytest.raises(ModelError, match=what) as caught:
            load(folder, **options)
        assert caught.value.hint.startswith(pull)
        assert ("--engine torch" in caught.value.hint) is ("engine" in options)
    assert engines.export_model(resolvers.resolve(str(folder))) == export
    assert load(folder, warn=warnings.append).spec.engine is Engine.ONNX
    assert load(folder, precision=Precision.INT8).encode_texts(SENTENCES).shape == (2, 32)
    assert len(warnings) == 1


@pytest.mark.parametrize("name", ["image.onnx.data", "image.int8.onnx"])
def test_damaged_weights_of_an_export_are_never_used(folder: Path, name: str) -> None:
    """Weights with another bit are an error where images are first encoded, which pulling fixes; texts still work."""
    export = engines.export_model(resolvers.resolve(str(folder)))
    options = {"precision": Precision.INT8} if "int8" in name else {}
    load(folder, **options)
    flip_a_bit(export / name)
    encoder = load(folder, **options)
    assert encoder.encode_texts(SENTENCES).shape == (2, 32)
    with pytest.raises(ModelError, match=f"{name} is missing or damaged") as caught:
        encoder.encode_images(np.zeros((1, 32, 32, 3), np.uint8))
    assert f"`zeroshot models pull {folder}` exports it again" in caught.value.hint
    engines.export_model(resolvers.resolve(str(folder)))
    assert load(folder, **options).encode_images(np.zeros((1, 32, 32, 3), np.uint8)).shape == (1, 32)


def test_8_bit_graphs_are_not_made_of_damaged_weights(folder: Path) -> None:
    """Damage measured against damage would pass: the weights are checked before they are made smaller."""
    export = engines.export_model(resolvers.resolve(str(folder)))
    flip_a_bit(export / "text.onnx.data")
    with pytest.raises(ModelError, match=r"text\.onnx\.data is missing or damaged"):
        load(folder, precision=Precision.INT8)


def test_agreements_are_those_of_the_manifest(folder: Path) -> None:
    """In fp32 from the export on, in int8 once there are such graphs; before an export, and built in, none lacks."""
    source = resolvers.resolve(str(folder))
    shutil.rmtree(engines.export_folder(resolvers.obtain(source)), ignore_errors=True)
    assert (engines.read_agreements(source), engines.lacks_int8(source)) == ({}, False)
    export = engines.export_model(source)
    assert list(engines.read_agreements(source)) == [Precision.FP32]
    assert engines.lacks_int8(source)
    measured = load(folder, precision=Precision.INT8).spec.agreement
    manifest = onnx_manifest.read_manifest(export)
    assert engines.read_agreements(source) == {Precision.FP32: manifest.agreement, Precision.INT8: manifest.int8}
    assert asdict(engines.read_agreements(source)[Precision.INT8]) == measured
    assert not engines.lacks_int8(source)
    tiny = resolvers.resolve("tiny")
    assert (list(engines.read_agreements(tiny)), engines.lacks_int8(tiny)) == ([Precision.FP32], False)
    shown = CliRunner().invoke(app, ["models", "info", str(folder)]).stdout
    assert f"int8 graphs     lowest cosine {manifest.int8.image:.6f} for images" in shown


def test_damage_to_the_8_bit_form_is_none_to_the_other(folder: Path) -> None:
    """The float32 graphs are used though the 8-bit ones are cut short."""
    export = engines.export_model(resolvers.resolve(str(folder)))
    load(folder, precision=Precision.INT8)
    (export / "image.int8.onnx").write_bytes(b"cut short")
    assert load(folder).spec.engine is Engine.ONNX
    with pytest.raises(ModelError, match=r"image\.int8\.onnx is missing or damaged"):
        load(folder, precision=Precision.INT8)


def test_the_hint_for_an_export_in_the_models_own_folder_mends_it(folder: Path, tmp_path: Path) -> None:
    """Such an export is preferred to the cache's, so it has to give way before pulling helps."""
    own = shutil.copytree(folder, tmp_path / "own")
    shutil.copytree(engines.export_model(resolvers.resolve(str(folder))), own, dirs_exist_ok=True)
    assert load(own).spec.engine is Engine.ONNX
    flip_a_bit(own / onnx_manifest.IMAGE_GRAPH)
    with pytest.raises(ModelError, match="damaged") as caught:
        load(own, engine=Engine.ONNX)
    manifest = own / onnx_manifest.MANIFEST_NAME
    assert caught.value.hint.startswith(f"remove {manifest}, then `zeroshot models pull {own}` exports the model again")
    manifest.unlink()
    engines.export_model(resolvers.resolve(str(own)))
    assert load(own, engine=Engine.ONNX).spec.engine is Engine.ONNX


def change_configuration(own: Path) -> None:
    document = {"model_cfg": CONFIG, "preprocess_cfg": {**PREPROCESS, "mean": [0.9, 0.4, 0.1]}}
    (own / CONFIG_NAME).write_text(json.dumps(document))


def change_heads(own: Path) -> None:
    text = {**CONFIG["text_cfg"], "heads": 4}  # type: ignore[dict-item]
    (own / CONFIG_NAME).write_text(
        json.dumps({"model_cfg": {**CONFIG, "text_cfg": text}, "preprocess_cfg": PREPROCESS})
    )


def change_weights(own: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(own / "open_clip_model.safetensors")
    save_file(
        {name: tensor.flip(0).contiguous() for name, tensor in tensors.items() if tensor.dim()}
        | {name: tensor for name, tensor in tensors.items() if not tensor.dim()},
        own / "open_clip_model.safetensors",
    )


def change_tokenizer(own: Path) -> None:
    (own / "tokenizer_config.json").write_text("{}")


@pytest.mark.parametrize("change", [change_configuration, change_heads, change_weights, change_tokenizer])
def test_an_export_beside_other_weights_is_not_used(
    folder: Path, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    """What has changed in a model's folder since an export was put there is not answered for by that export."""
    own = shutil.copytree(folder, tmp_path / "own")
    shutil.copytree(engines.export_model(resolvers.resolve(str(folder))), own, dirs_exist_ok=True)
    assert load(own).spec.engine is Engine.ONNX
    assert load(own, precision=Precision.INT8).spec.precision is Precision.INT8
    change(own)
    warnings: list[str] = []
    encoder = load(own, warn=warnings.append)
    assert encoder.spec.engine is Engine.TORCH
    (warning,) = warnings
    assert "other weights or another configuration; going on with PyTorch (remove" in warning
    for options in ({"engine": Engine.ONNX}, {"precision": Precision.INT8}):
        with pytest.raises(ModelError, match="other weights or another configuration"):
            load(own, **options)


@pytest.mark.parametrize(("key", "value"), [("image", 0.9), ("text", float("nan")), ("difference", 0.1)])
def test_an_export_that_failed_its_check_is_not_used(folder: Path, key: str, value: float) -> None:
    """Wherever such an export comes from, PyTorch is taken."""
    export = engines.export_model(resolvers.resolve(str(folder)))
    manifest = export / onnx_manifest.MANIFEST_NAME
    document = json.loads(manifest.read_text())
    document["agreement"][key] = value
    manifest.write_text(json.dumps(document))
    warnings: list[str] = []
    assert load(folder, warn=warnings.append).spec.engine is Engine.TORCH
    assert "does not agree with PyTorch" in warnings[0]
    for options in ({"engine": Engine.ONNX}, {"precision": Precision.INT8}):
        with pytest.raises(ModelError, match="does not agree with PyTorch"):
            load(folder, **options)


def test_the_hint_for_a_damaged_package_is_to_install_it_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The built-in checkpoint cannot be pulled."""
    tiny = shutil.copytree(resolvers.builtin_folder(), tmp_path / "tiny")
    monkeypatch.setattr(resolvers, "builtin_folder", lambda: tiny)
    flip_a_bit(tiny / onnx_manifest.IMAGE_GRAPH)
    with pytest.raises(ModelError, match="damaged") as caught:
        engines.load_encoder("tiny")
    assert caught.value.hint.startswith("install zeroshot again")
    (tiny / onnx_manifest.IMAGE_GRAPH).unlink()
    with pytest.raises(ModelError, match="no export") as caught:
        engines.load_encoder("tiny", engine=Engine.ONNX)
    assert caught.value.hint.startswith("install zeroshot again")


AUTO, ALWAYS = (Device.AUTO, Precision.AUTO, Engine.AUTO), (False, True)


@pytest.mark.parametrize(
    ("request_", "exports", "built_in", "gpus", "chosen"),
    [
        # Left to choose: the export on a CPU, PyTorch on a GPU or where there is no export.
        (AUTO, (False,), (False,), ALWAYS, engines.Choice.TORCH),
        (AUTO, (True,), (False,), (False,), engines.Choice.ONNX_ELSE_TORCH),
        (AUTO, (True,), (False,), (True,), engines.Choice.TORCH),
        # The built-in checkpoint is done before torch is imported; without its graphs the package is damaged.
        (AUTO, (True,), (True,), ALWAYS, engines.Choice.ONNX),
        ((Device.CPU, Precision.AUTO, Engine.AUTO), (True,), (False,), ALWAYS, engines.Choice.ONNX_ELSE_TORCH),
        ((Device.CPU, Precision.FP32, Engine.AUTO), (True,), (False,), ALWAYS, engines.Choice.ONNX_ELSE_TORCH),
        ((Device.CPU, Precision.FP32, Engine.AUTO), (False,), (False,), ALWAYS, engines.Choice.TORCH),
        # What only PyTorch has.
        ((Device.CUDA, Precision.AUTO, Engine.AUTO), ALWAYS, ALWAYS, ALWAYS, engines.Choice.TORCH),
        ((Device.MPS, Precision.FP32, Engine.AUTO), ALWAYS, ALWAYS, ALWAYS, engines.Choice.TORCH),
        ((Device.CPU, Precision.BF16, Engine.AUTO), ALWAYS, ALWAYS, ALWAYS, engines.Choice.TORCH),
        ((Device.AUTO, Precision.FP16, Engine.AUTO), ALWAYS, ALWAYS, ALWAYS, engines.Choice.TORCH),
        # What was asked for is done, or an error.
        ((Device.CPU, Precision.AUTO, Engine.TORCH), ALWAYS, ALWAYS, ALWAYS, engines.Choice.TORCH),
        ((Device.AUTO, Precision.AUTO, Engine.ONNX), ALWAYS, ALWAYS, ALWAYS, engines.Choice.ONNX),
        ((Device.CPU, Precision.FP32, Engine.ONNX), ALWAYS, ALWAYS, ALWAYS, engines.Choice.ONNX),
        ((Device.AUTO, Precision.INT8, Engine.AUTO), ALWAYS, ALWAYS, ALWAYS, engines.Choice.INT8),
        ((Device.CPU, Precision.INT8, Engine.ONNX), ALWAYS, ALWAYS, ALWAYS, engines.Choice.INT8),
    ],
)
def test_the_engine_follows_from_the_request_and_the_files(
    request_: tuple[Device, Precision, Engine],
    exports: tuple[bool, ...],
    built_in: tuple[bool, ...],
    gpus: tuple[bool, ...],
    chosen: engines.Choice,
) -> None:
    """The choice as a table: options, whether there is an export, whether it is the package's, whether a GPU."""
    engines.check_request(*request_)
    for export, package, gpu in itertools.product(exports, built_in, gpus):
        found = engines.choose_engine(*request_, export=export, built_in=package, gpu=gpu)
        assert found is chosen, (export, package, gpu)


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
        engines.export_model(resolvers.resolve(str(folder)))
    assert "ZEROSHOT_CACHE" in caught.value.hint


def test_a_folder_of_an_unknown_user_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """`~nobody-of-this-name/x` is a name like another, not the end of the program."""
    monkeypatch.setenv("ZEROSHOT_CACHE", "~nobody-of-this-name/x")
    assert cache_folder() == Path("~nobody-of-this-name/x")
    with pytest.raises(ZeroshotError):
        resolvers.resolve("~nobody-of-this-name/model")
