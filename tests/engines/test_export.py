"""An export is PyTorch's model or no export at all; each family is built small, with random weights."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import stat
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graphs_over_safetensors import write_graphs_over_safetensors
from typer.testing import CliRunner

from support.models import SENTENCES, TEXT, VISION, make_encoder, vit
from zeroshot.cli.main import app
from zeroshot.encoder import Engine, Precision
from zeroshot.engines import onnx_engine, onnx_manifest
from zeroshot.engines.export import export_cache
from zeroshot.engines.export import graphs as export
from zeroshot.engines.export.quantise import quantise
from zeroshot.engines.torch_engine import TorchEncoder
from zeroshot.errors import ModelError
from zeroshot.features.cache_upkeep import FILE_NAME


def residual() -> TorchEncoder:
    from open_clip.model import CLIP

    return make_encoder(CLIP(64, {"layers": [1, 1, 1, 1], "width": 16, "image_size": 64, "head_width": 64}, TEXT), 64)


def convolutional() -> TorchEncoder:
    from open_clip.model import CLIP

    vision = {"timm_model_name": "efficientnet_b0", "timm_pool": "avg", "timm_proj": "linear", "image_size": 64}
    return make_encoder(CLIP(64, vision, {**TEXT, "context_length": 32}), 64, context_length=32)


def siglip() -> TorchEncoder:
    from open_clip.model import CustomTextCLIP

    vision = {"timm_model_name": "vit_tiny_patch16_224", "timm_pool": "", "timm_proj": "linear", "image_size": 224}
    text = {**TEXT, "context_length": 16, "no_causal_mask": True, "pool_type": "last", "proj_bias": True}
    return make_encoder(CustomTextCLIP(64, vision, text, init_logit_bias=-10), 224, context_length=16)


def mobile() -> TorchEncoder:
    from open_clip.model import CustomTextCLIP

    vision = {"timm_model_name": "fastvit_t8", "timm_pool": "avg", "timm_proj": "linear", "image_size": 64}
    return make_encoder(CustomTextCLIP(64, vision, {**TEXT, "no_causal_mask": True}), 64)


def custom_blocks() -> TorchEncoder:
    from open_clip.model import CustomTextCLIP

    return make_encoder(CustomTextCLIP(64, VISION, {**TEXT, "qk_norm": True, "scale_fc": True, "proj_bias": True}), 32)


def coca() -> TorchEncoder:
    from open_clip.coca_model import CoCa

    model = CoCa(
        64,
        {"context_length": 76, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 1},
        {**TEXT, "context_length": 76, "embed_cls": True, "output_tokens": True},
        {**VISION, "attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True},
    )
    return make_encoder(model, 32, context_length=76)


FAMILIES: list[tuple[Callable[[], TorchEncoder], bool]] = [
    (vit, True),
    (residual, True),
    (convolutional, True),
    (custom_blocks, True),
    (coca, True),
    (siglip, False),
    (mobile, False),
]


@pytest.fixture(autouse=True)
def _seed() -> None:
    import torch

    torch.manual_seed(0)


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> tuple[TorchEncoder, Path, Any]:
    """One model, a folder with its traced graphs, and what tracing returned."""
    import torch

    torch.manual_seed(0)
    reference, folder = vit(), tmp_path_factory.mktemp("traced")
    return reference, folder, export.trace(reference, folder)


@pytest.fixture
def traced_vit(traced: tuple[TorchEncoder, Path, Any], monkeypatch: pytest.MonkeyPatch) -> TorchEncoder:
    """A model that need not be traced again, for tests of what comes after that."""
    reference, graphs, text = traced

    def copy(_: Any, folder: Path) -> Any:
        for path in graphs.iterdir():
            shutil.copyfile(path, folder / path.name)
        return text

    monkeypatch.setattr(export, "trace", copy)
    return reference


@pytest.mark.slow
@pytest.mark.parametrize(("family", "dynamic"), FAMILIES, ids=lambda value: getattr(value, "__name__", ""))
def test_every_family_agrees_with_pytorch(family: Callable[[], TorchEncoder], dynamic: bool, tmp_path: Path) -> None:
    """Graphs give PyTorch's features on images and sentences that the export's own check did not see."""
    reference = family()
    manifest = export.write_export(reference, tmp_path / "export")
    assert manifest.text.dynamic is dynamic
    assert min(manifest.agreement.image, manifest.agreement.text) > onnx_manifest.MINIMUM_COSINE
    assert [path.name for path in tmp_path.iterdir()] == ["export"]  # no temporary folder stays
    encoder = onnx_engine.load(tmp_path / "export")
    pixels = np.random.default_rng(1).integers(0, 256, (3, *reference.spec.preprocessing.size, 3), dtype=np.uint8)
    np.testing.assert_allclose(encoder.encode_images(pixels), reference.encode_images(pixels), atol=2e-6)
    whole = reference.model.encode_text(reference.tokenizer(SENTENCES), normalize=True).detach().numpy()
    np.testing.assert_allclose(encoder.encode_texts(SENTENCES), whole, atol=2e-6)
    assert encoder.count_tokens(SENTENCES) == reference.count_tokens(SENTENCES)


def test_disagreement_is_refused_and_leaves_nothing(
    traced_vit: TorchEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reference whose features are not those of the traced model stops the export before its folder exists."""
    reference = traced_vit
    monkeypatch.setattr(reference, "encode_texts", lambda texts: -TorchEncoder.encode_texts(reference, texts))
    with pytest.raises(ModelError, match="differ from PyTorch"):
        export.write_export(reference, tmp_path / "export")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("tower", ["encode_images", "encode_texts"])
def test_features_that_are_no_numbers_are_refused(
    tower: str, traced_vit: TorchEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NaN, which is neither above nor below a bar, does not pass for agreement in either tower."""
    real = getattr(onnx_engine.OnnxEncoder, tower)
    monkeypatch.setattr(onnx_engine.OnnxEncoder, tower, lambda self, given: real(self, given) * np.float32("nan"))
    with pytest.raises(ModelError, match="differ from PyTorch"):
        export.write_export(traced_vit, tmp_path / "export")


def test_failed_export_keeps_the_one_before(
    traced_vit: TorchEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An export that is refused does not touch the folder of an earlier one that passed."""
    reference = traced_vit
    export.write_export(reference, tmp_path / "export")
    before = (tmp_path / "export" / onnx_manifest.MANIFEST_NAME).read_bytes()
    monkeypatch.setattr(onnx_manifest, "MINIMUM_COSINE", 1.1)
    with pytest.raises(ModelError):
        export.write_export(reference, tmp_path / "export")
    assert (tmp_path / "export" / onnx_manifest.MANIFEST_NAME).read_bytes() == before


def test_a_full_disk_is_not_the_models_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stays an error of the disk, whose hint is to free some space."""
    import torch

    def fails(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch.onnx, "export", fails)
    with pytest.raises(OSError, match="No space left"):
        export.write_export(vit(), tmp_path / "export")
    assert list(tmp_path.iterdir()) == []


def test_an_export_gives_way_to_another_at_once(
    traced_vit: TorchEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the earlier one is removed the new one is there; one that another process put there meanwhile stays."""
    folder = tmp_path / "export"
    export.write_export(traced_vit, folder)
    there: list[bool] = []
    remove = shutil.rmtree

    def looks(path: Path, **options: Any) -> None:
        there.append(onnx_manifest.is_export(folder))
        remove(path, **options)

    monkeypatch.setattr(shutil, "rmtree", looks)
    export.write_export(traced_vit, folder)
    assert there
    assert all(there)
    shutil.copytree(folder, tmp_path / "other")
    moved = tmp_path / "work"
    shutil.copytree(folder, moved)
    rename = Path.rename

    def overtaken(path: Path, target: Path) -> Path:
        if path == folder:  # the other process is quicker
            rename(folder, target)
            rename(tmp_path / "other", folder)
            raise FileNotFoundError(path)
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", overtaken)
    export_cache.put_in_place(moved, folder)
    assert onnx_manifest.is_export(folder)


def test_half_precision_reference_is_refused(tmp_path: Path) -> None:
    """Reference features come from float32 on the CPU, or the comparison would mean little."""
    reference = vit()
    reference._spec = replace(reference.spec, precision=Precision.BF16)
    with pytest.raises(ModelError, match="bf16"):
        export.write_export(reference, tmp_path / "export")


def test_unknown_tokenizer_is_refused(tmp_path: Path) -> None:
    """A tokenizer that cannot be rebuilt without open_clip keeps the model on PyTorch."""
    from open_clip.tokenizer import SimpleTokenizer

    reference = make_encoder(vit().model, 32, tokenizer=SimpleTokenizer(reduction_mask="simple"))
    with pytest.raises(ModelError, match="SimpleTokenizer cannot be exported"):
        export.write_export(reference, tmp_path / "export")


def test_hugging_face_tokenizer_travels_with_the_export(tmp_path: Path) -> None:
    """A model with a vocabulary of its own is exported with it and needs no transformers afterwards."""
    from open_clip.model import CustomTextCLIP
    from open_clip.tokenizer import HFTokenizer
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = ["<pad>", "</s>", "<unk>", "a", "dog", "cat", "photo", "of", "."]
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    fast = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
    fast.save_pretrained(tmp_path / "tokenizer")
    tokenizer = HFTokenizer(str(tmp_path / "tokenizer"), context_length=16, clean="canonicalize")
    text = {**TEXT, "context_length": 16, "vocab_size": 16, "no_causal_mask": True, "pool_type": "last"}
    reference = make_encoder(CustomTextCLIP(64, VISION, text), 32, context_length=16, tokenizer=tokenizer)
    manifest = export.write_export(reference, tmp_path / "export")
    assert manifest.tokenizer["kind"] == "hugging_face"
    encoder = onnx_engine.load(tmp_path / "export")
    np.testing.assert_allclose(encoder.encode_texts(SENTENCES), reference.encode_texts(SENTENCES), atol=2e-6)


@pytest.mark.parametrize(("padding", "pool"), [("<pad>", "argmax"), ("<end>", "argmax"), ("<end>", "eos")])
def test_a_vocabulary_that_pads_otherwise_than_clips(padding: str, pool: str, tmp_path: Path) -> None:
    """A text that ends with the id that pads, or is pooled at the padding, has PyTorch's features alone, too."""
    from open_clip.model import CustomTextCLIP
    from open_clip.tokenizer import HFTokenizer
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = ["<unk>", "a", "dog", "cat", "photo", "of", ".", "<end>", "<pad>"]
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(single="$A <end>", special_tokens=[("<end>", 7)])
    fast = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token=padding, eos_token="<end>", unk_token="<unk>")
    fast.save_pretrained(tmp_path / "tokenizer")
    tokenizer = HFTokenizer(str(tmp_path / "tokenizer"), context_length=16)
    text = {**TEXT, "context_length": 16, "vocab_size": 16, "pool_type": pool, "eos_id": 7}
    reference = make_encoder(CustomTextCLIP(64, VISION, text), 32, context_length=16, tokenizer=tokenizer)
    assert export.write_export(reference, tmp_path / "export").text.dynamic
    encoder = onnx_engine.load(tmp_path / "export")
    for sentence in SENTENCES:
        whole = reference.model.encode_text(tokenizer([sentence]), normalize=True).detach().numpy()
        np.testing.assert_allclose(encoder.encode_texts([sentence]), whole, atol=2e-6)
        np.testing.assert_allclose(reference.encode_texts([sentence]), whole, atol=2e-6)


def test_sentences_are_checked_alone_too(
    traced_vit: TorchEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tower that is wrong only at the length that a short sentence has does not pass."""
    monkeypatch.setattr(
        onnx_engine.OnnxEncoder, "_lengths", lambda self, tokens, _: np.full(len(tokens), 2 if len(tokens) == 1 else 77)
    )
    with pytest.raises(ModelError, match="differ from PyTorch"):
        export.write_export(traced_vit, tmp_path / "export")


@pytest.fixture(scope="module")
def half_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TorchEncoder]:
    """An open_clip folder in float16, and PyTorch's engine with the same rounded weights."""
    from safetensors.torch import save_file

    reference = convolutional()
    folder = tmp_path_factory.mktemp("checkpoint")
    state = {
        name: value.half() if value.is_floating_point() else value
        for name, value in reference.model.state_dict().items()
    }
    save_file(state, folder / "open_clip_model.safetensors")
    reference.model.load_state_dict(state)
    digest = hashlib.sha256((folder / "open_clip_model.safetensors").read_bytes()).hexdigest()
    reference._spec = replace(reference.spec, weights_sha256=digest)
    write_graphs_over_safetensors(reference, folder)
    return folder, reference


def test_graphs_over_safetensors_hold_no_weights(half_checkpoint: tuple[Path, TorchEncoder]) -> None:
    """The graphs beside a checkpoint are small, name no path of this machine, and agree with PyTorch."""
    folder, reference = half_checkpoint
    graphs = [folder / onnx_manifest.IMAGE_GRAPH, folder / onnx_manifest.TEXT_GRAPH]
    assert sum(path.stat().st_size for path in graphs) < 400_000
    assert sorted(path.name for path in folder.iterdir()) == [
        "image.onnx", "open_clip_model.safetensors", "text.onnx", "zeroshot.json",
    ]  # fmt: skip
    assert str(folder.parent) not in (folder / onnx_manifest.MANIFEST_NAME).read_text()
    encoder = onnx_engine.load(folder, model="tiny", source="built in")
    assert (encoder.spec.model, encoder.spec.source, encoder.spec.engine) == ("tiny", "built in", Engine.ONNX)
    assert encoder.spec.fingerprint == reference.spec.fingerprint
    pixels = np.random.default_rng(1).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    np.testing.assert_allclose(encoder.encode_images(pixels), reference.encode_images(pixels), atol=2e-6)
    np.testing.assert_allclose(encoder.encode_texts(SENTENCES), reference.encode_texts(SENTENCES), atol=2e-6)


def test_other_weights_under_the_graphs_are_noticed(half_checkpoint: tuple[Path, TorchEncoder], tmp_path: Path) -> None:
    """A replaced safetensors file, whose bytes would be read as wrong weights, is refused by its hash."""
    folder = shutil.copytree(half_checkpoint[0], tmp_path / "copy")
    weights = folder / "open_clip_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-100] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ModelError, match="not the file that the graphs were made for"):
        onnx_engine.load(folder)


def test_weights_absent_from_the_safetensors_are_an_error(tmp_path: Path) -> None:
    """Graphs are not written over a checkpoint that lacks one of the model's weights."""
    from safetensors.torch import save_file

    reference = vit()
    state = reference.model.state_dict()
    state.pop("token_embedding.weight")
    save_file(state, tmp_path / "open_clip_model.safetensors")
    with pytest.raises(ModelError, match="has no weight"):
        write_graphs_over_safetensors(reference, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["open_clip_model.safetensors"]


def test_manifest_is_versioned_json(half_checkpoint: tuple[Path, TorchEncoder]) -> None:
    """The manifest reads back as it was written and says its version."""
    folder, _ = half_checkpoint
    document = json.loads((folder / onnx_manifest.MANIFEST_NAME).read_text())
    assert document["format"] == onnx_manifest.FORMAT
    assert document["agreement"]["image"] > onnx_manifest.MINIMUM_COSINE
    manifest = onnx_manifest.read_manifest(folder)
    onnx_manifest.write_manifest(manifest, folder)
    assert onnx_manifest.read_manifest(folder) == manifest


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder with features of one kind and exports of four: good, old, interrupted and being written."""
    monkeypatch.setenv("ZEROSHOT_CACHE", str(tmp_path))
    (tmp_path / FILE_NAME).touch()
    kinds = (("a", "base", onnx_manifest.FORMAT), ("b", "large", 1), (".c-x", "", 0), (".d-x", "", 0))
    for name, model, version in kinds:
        folder = tmp_path / "exports" / name
        folder.mkdir(parents=True)
        (folder / onnx_manifest.IMAGE_GRAPH).write_bytes(b"graph")
        (folder / "image.onnx.data").write_bytes(bytes(2_000_000))
        if model:
            document = {"format": version, "spec": {"model": model}}
            (folder / onnx_manifest.MANIFEST_NAME).write_text(json.dumps(document))
        day = time.time() - 3.5 * 86_400
        os.utime(folder / onnx_manifest.IMAGE_GRAPH, (day, day))
    return tmp_path


def test_exports_are_shown_with_their_size_and_last_use(cache: Path) -> None:
    """`cache info` names each export, how large it is, when it was last used and which are of no use."""
    with export_cache.marked_busy(cache / "exports" / ".d-x"):
        shown = CliRunner().invoke(app, ["cache", "info"], catch_exceptions=False).stdout
    features, exports, *lines = shown.splitlines()
    assert features.startswith(f"{cache}: ")
    assert exports == f"{cache / 'exports'}: 8.0 MB"
    assert "  base: 2.0 MB, last use 3 days ago" in lines
    assert "  large: 2.0 MB, of no use to this version; `zeroshot cache clear --exports` removes it" in lines
    states = sorted(line.partition(" MB, ")[2] for line in lines if "not whole" in line)
    assert states[0] == "being written now"
    assert states[1].startswith("of no use")


def test_clearing_features_says_how_much_stays(cache: Path) -> None:
    """Without options exports are left, and named with their size and what removes them."""
    cleared = CliRunner().invoke(app, ["cache", "clear"], catch_exceptions=False)
    assert cleared.exit_code == 0
    assert not (cache / FILE_NAME).exists()
    assert len(list((cache / "exports").iterdir())) == 4
    assert "8.0 MB of exports stay; `zeroshot cache clear --exports` removes them" in cleared.stdout


def test_clearing_exports_takes_leftovers_too_but_none_that_is_being_made(cache: Path) -> None:
    """With the option exports and what interrupted ones left go, features stay, and so does work in progress."""
    with export_cache.marked_busy(cache / "exports" / ".d-x"):
        cleared = CliRunner().invoke(app, ["cache", "clear", "--exports"], catch_exceptions=False)
        assert [path.name for path in (cache / "exports").iterdir()] == [".d-x"]
    assert cleared.exit_code == 0
    assert f"removed 6.0 MB from {cache / 'exports'}" in cleared.stdout
    assert "being written" in cleared.stderr
    assert (cache / FILE_NAME).exists()
    CliRunner().invoke(app, ["cache", "clear", "--exports"], catch_exceptions=False)
    assert list((cache / "exports").iterdir()) == []


def test_an_export_is_marked_while_it_is_made(
    traced_vit: TorchEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While graphs are traced their folder is not one that may be removed; afterwards it is an export like others."""
    monkeypatch.setenv("ZEROSHOT_CACHE", str(tmp_path))
    during: list[bool] = []
    trace = export.trace

    def looks(reference: Any, folder: Path) -> Any:
        during.extend(entry.busy for entry in export_cache.list_exports())
        return trace(reference, folder)

    monkeypatch.setattr(export, "trace", looks)
    export.write_export(traced_vit, tmp_path / "exports" / "a")
    assert during == [True]
    (made,) = export_cache.list_exports()
    assert (made.model, made.usable, made.busy, made.days) == ("small", True, False, 0)
    assert made.size == sum(path.stat().st_size for path in (tmp_path / "exports" / "a").iterdir())


def test_an_export_can_be_read_by_whom_new_files_can(traced_vit: TorchEncoder, tmp_path: Path) -> None:
    """A cache folder may be shared: an export, 8-bit graphs included, has the rights that other new files get."""
    before = os.umask(0o027)
    try:
        export.write_export(traced_vit, tmp_path / "export")
        quantise(tmp_path / "export")
    finally:
        os.umask(before)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "export").iterdir()}
    assert modes == {0o640}
    assert stat.S_IMODE((tmp_path / "export").stat().st_mode) == 0o750


def test_rights_are_set_only_where_they_are_wrong(
    traced_vit: TorchEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files of another user have theirs already, and work in progress beside them is left alone."""
    export.write_export(traced_vit, tmp_path / "export")
    work = tmp_path / "export" / ".int8-of-another-process"
    work.mkdir(mode=0o700)
    changed: list[str] = []
    chmod = Path.chmod

    def notes(path: Path, mode: int) -> None:
        changed.append(path.name)
        chmod(path, mode)

    monkeypatch.setattr(Path, "chmod", notes)
    quantise(tmp_path / "export")
    assert not set(changed) - {"image.int8.onnx", "text.int8.onnx", "image.int8.onnx.data", "text.int8.onnx.data"}
    assert stat.S_IMODE(work.stat().st_mode) == 0o700
