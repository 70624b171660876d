"""The PyTorch engine against open_clip's own functions, for each kind of model, on images that are not square."""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from support.models import SENTENCES
from zeroshot.cli.main import app
from zeroshot.encoder import Device, Precision, Preprocessing, Score
from zeroshot.engines import torch_engine, torch_loading
from zeroshot.errors import ModelError, UsageError
from zeroshot.images.preprocess import fit, normalise
from zeroshot.models import checkpoint, resolvers, weights_hash
from zeroshot.models.configuration import read_config

LABELS = ["cat", "a rather long name of a dog", "bus"]
TEMPLATES = ["a photo of a {}.", "{}", "a drawing of the {} in the street at night, seen from above"]
CLIP_LIKE = {
    "mean": [0.48, 0.46, 0.41],
    "std": [0.27, 0.26, 0.28],
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}
SIGLIP_LIKE = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "squash"}
MOBILE_LIKE = {"mean": [0.0] * 3, "std": [1.0] * 3, "interpolation": "bilinear", "resize_mode": "shortest"}


@dataclass(frozen=True)
class Family:
    """One kind of model: open_clip's own configuration, with towers made small except for the first."""

    architecture: str
    preprocess: dict[str, Any]
    shrink: dict[str, dict[str, Any]]
    score: Score = Score.SOFTMAX


SMALL_TEXT = {"layers": 2, "width": 64, "heads": 4}
SMALL_VISION = {"layers": 2, "width": 64, "head_width": 32}
FAMILIES = {
    "ViT-B-32": Family("ViT-B-32", CLIP_LIKE, {}),
    "SigLIP": Family(
        "ViT-B-16-SigLIP",
        SIGLIP_LIKE,
        {
            # timm has no smaller tower with SigLIP's attention pooling
            "vision_cfg": {"timm_model_name": "vit_base_patch32_siglip_256", "image_size": 256},
            "text_cfg": {"layers": 2, "width": 64, "heads": 4, "vocab_size": 64},
        },
        Score.SIGMOID,
    ),
    "CoCa": Family(
        "coca_ViT-B-32",
        CLIP_LIKE,
        {"": {"embed_dim": 64}, "vision_cfg": SMALL_VISION, "text_cfg": SMALL_TEXT, "multimodal_cfg": SMALL_TEXT},
    ),
    # A causal tower of its own, as those of EVA02 and MobileCLIP-B.
    "EVA02": Family(
        "ViT-B-32",
        CLIP_LIKE,
        {"": {"custom_text": True, "embed_dim": 64}, "vision_cfg": SMALL_VISION, "text_cfg": SMALL_TEXT},
    ),
    "MobileCLIP": Family("MobileCLIP2-S0", MOBILE_LIKE, {"": {"embed_dim": 512}, "text_cfg": SMALL_TEXT}),
}


def save_tokenizer(folder: Path) -> None:
    """Write a small word-level tokenizer that transformers loads, as SigLIP folders carry theirs."""
    from tokenizers import Tokenizer, pre_tokenizers, processors
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    words = [
        "a",
        "photo",
        "of",
        "cat",
        "rather",
        "long",
        "name",
        "dog",
        "bus",
        "drawing",
        "the",
        "in",
        "street",
        "at",
        "night",
        "seen",
        "from",
        "above",
    ]
    tokenizer = Tokenizer(
        WordLevel({word: i for i, word in enumerate(["<pad>", "</s>", "<unk>", *words])}, unk_token="<unk>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=64
    ).save_pretrained(folder)


@pytest.fixture(scope="session", params=FAMILIES)
def family_folder(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    open_clip: ModuleType,
    save_model_folder: Callable[..., Path],
) -> tuple[Family, Path]:
    """A random-weights folder of each family."""
    family = FAMILIES[request.param]
    config = open_clip.get_model_config(family.architecture)
    for part, changes in family.shrink.items():
        (config[part] if part else config).update(changes)
    folder = tmp_path_factory.mktemp(request.param)
    if "hf_tokenizer_name" in config["text_cfg"]:
        save_tokenizer(folder)
    return family, save_model_folder(folder, config, family.preprocess, seed=3)


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Images with structure at every scale, none of them square."""
    folder = tmp_path_factory.mktemp("photographs")
    random = np.random.default_rng(0)
    paths = []
    for index, (width, height) in enumerate([(301, 120), (90, 333), (224, 300)]):
        coarse = Image.fromarray(random.integers(0, 256, (6, 5, 3), dtype=np.uint8)).resize((width, height))
        fine = random.integers(-20, 20, (height, width, 3))
        pixels = np.clip(np.asarray(coarse).astype(int) + fine, 0, 255).astype(np.uint8)
        paths.append(folder / f"{index}.png")
        Image.fromarray(pixels).save(paths[-1])
    return paths


@pytest.mark.slow
def test_classify_gives_open_clips_own_probabilities(
    family_folder: tuple[Family, Path], photographs: list[Path], open_clip: ModuleType
) -> None:
    """The command's probabilities equal open_clip's transform, tokenizer, builder and softmax to 1e-5."""
    family, folder = family_folder
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    model.eval()
    with torch.no_grad():
        tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
        weights = open_clip.build_zero_shot_classifier(model, tokenizer, LABELS, TEMPLATES)
        batch = torch.stack([transform(Image.open(path)) for path in photographs])
        logits = model.logit_scale.exp() * model.encode_image(batch, normalize=True) @ weights
        if model.logit_bias is not None:
            logits = logits + model.logit_bias
        expected = {"softmax": logits.softmax(dim=-1).numpy(), "sigmoid": logits.sigmoid().numpy()}
    for score in ("softmax", "sigmoid") if family.score is Score.SIGMOID else ("softmax",):
        arguments = ["classify", *map(str, photographs), "--labels", ",".join(LABELS), "--model", str(folder)]
        arguments += ["--format", "json", "--engine", "torch", "--score", score]
        result = CliRunner().invoke(app, [*arguments, *(f"--template={template}" for template in TEMPLATES)])
        assert result.exit_code == 0, result.output
        for record, row in zip(json.loads(result.stdout)["records"], expected[score], strict=True):
            found = {ranked["label"]: ranked["probability"] for ranked in record["top"]}
            assert [found[label] for label in LABELS] == pytest.approx(row, abs=1e-5)


@pytest.fixture(scope="session")
def family_encoder(family_folder: tuple[Family, Path]) -> torch_engine.TorchEncoder:
    """The family's folder, loaded once."""
    return load(family_folder[1])


@pytest.mark.slow
def test_answers_do_not_depend_on_the_batch(family_encoder: torch_engine.TorchEncoder) -> None:
    """An image alone and among others has the same features to 1e-5; so has a sentence among longer ones."""
    encoder = family_encoder
    height, width = encoder.spec.preprocessing.size
    pixels = np.random.default_rng(1).integers(0, 256, (5, height, width, 3), dtype=np.uint8)
    together = encoder.encode_images(pixels)
    assert together == pytest.approx(
        np.concatenate([encoder.encode_images(pixels[i : i + 1]) for i in range(5)]), abs=1e-5
    )
    texts = ["cat", "a photo of a dog", "bus " * 30]
    assert encoder.encode_texts(texts) == pytest.approx(
        np.concatenate([encoder.encode_texts([t]) for t in texts]), abs=1e-5
    )
    assert np.linalg.norm(together, axis=1) == pytest.approx(1, abs=1e-6)


def test_a_loaded_model_knows_itself(
    family_folder: tuple[Family, Path], family_encoder: torch_engine.TorchEncoder
) -> None:
    """The spec has the folder's preprocessing, the learned scale and bias, and what the model was trained for."""
    family, folder = family_folder
    spec = family_encoder.spec
    assert spec.preprocessing.mean == tuple(family.preprocess["mean"])
    assert spec.preprocessing.resize_mode == family.preprocess["resize_mode"]
    assert spec.score is family.score
    assert (spec.logit_bias is None) == (family.score is Score.SOFTMAX)
    assert spec.logit_scale == pytest.approx(1 / 0.07, rel=1e-4)  # open_clip's initial value
    assert spec.weights_sha256 == weights_hash.hash_file(folder / "open_clip_model.safetensors")


def load(folder: Path, **options: Any) -> torch_engine.TorchEncoder:
    return torch_loading.load(resolvers.obtain(resolvers.resolve(str(folder))), Device.CPU, **options)


@pytest.fixture(scope="session")
def small_folder(tmp_path_factory: pytest.TempPathFactory, save_model_folder: Callable[..., Path]) -> Path:
    """A plain CLIP of a few thousand parameters."""
    config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "patch_size": 16, "head_width": 16},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    }
    return save_model_folder(tmp_path_factory.mktemp("small"), config, CLIP_LIKE)


def test_models_are_loaded_for_inference(small_folder: Path) -> None:
    """open_clip creates models in training mode; ours is in evaluation mode and records no gradients."""
    encoder = load(small_folder)
    assert not encoder.model.training
    assert not any(parameter.requires_grad for parameter in encoder.model.parameters())


def test_half_precision_keeps_its_distance(small_folder: Path) -> None:
    """In bfloat16 features are still float32 unit rows, close to the full ones; float16 on a CPU is refused."""
    pixels = np.random.default_rng(2).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    half, full = load(small_folder, precision=Precision.BF16), load(small_folder)
    assert half.encode_images(pixels).dtype == np.float32
    assert (half.encode_images(pixels) * full.encode_images(pixels)).sum(axis=1) == pytest.approx(1, abs=1e-3)
    with pytest.raises(UsageError, match="needs a GPU"):
        load(small_folder, precision=Precision.FP16)


@pytest.mark.parametrize("precision", [Precision.AUTO, Precision.FP16, Precision.BF16])
def test_coca_runs_in_fp32_and_says_so_once(precision: Precision) -> None:
    """On CUDA, where the default is fp16, and wherever half precision is asked for; other models keep theirs."""
    coca = {"embed_dim": 8, "vision_cfg": {}, "text_cfg": {}, "multimodal_cfg": {}}
    assert torch_loading.choose_precision(precision, "cuda", coca) is Precision.FP32
    other = torch_loading.choose_precision(precision, "cuda", {})
    assert other is (Precision.FP16 if precision is Precision.AUTO else precision)


@pytest.mark.slow
def test_coca_answers_where_half_precision_is_asked_for(family_folder: tuple[Family, Path]) -> None:
    """open_clip's own CoCa fails in bf16; here it answers as in fp32, and one line says why."""
    family, folder = family_folder
    if family.architecture != "coca_ViT-B-32":
        pytest.skip("another family")
    warnings: list[str] = []
    half, full = load(folder, precision=Precision.BF16, warn=warnings.append), load(folder, warn=warnings.append)
    assert half.spec.precision is Precision.FP32
    assert np.array_equal(half.encode_texts(LABELS), full.encode_texts(LABELS))
    (warning,) = warnings
    assert "cannot run in half precision; it runs in fp32" in warning


def test_a_tower_that_does_not_run_is_one_error_before_the_first_row(
    small_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One dummy row goes first, once for each tower and only when something is encoded; what it raises is named."""
    encoder = load(small_folder)
    rows: list[int] = []

    def encode_image(planes: torch.Tensor, normalize: bool) -> torch.Tensor:
        rows.append(len(planes))
        return torch.ones(len(planes), 16)

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("expected scalar type Float but found Half\nand more")

    monkeypatch.setattr(encoder.model, "encode_image", encode_image)
    pixels = np.zeros((3, 32, 32, 3), dtype=np.uint8)
    assert rows == []
    encoder.encode_images(pixels)
    encoder.encode_images(pixels)
    assert rows == [1, 3, 3]
    failing = load(small_folder, precision=Precision.BF16)
    monkeypatch.setattr(failing.model, "encode_image", fail)
    monkeypatch.setattr(failing, "_text_tower", fail)
    with pytest.raises(ModelError, match="cannot encode images on cpu in bf16: expected scalar type Float") as error:
        failing.encode_images(pixels)
    assert error.value.hint == "--precision fp32"
    with pytest.raises(ModelError, match="cannot encode texts on cpu in bf16"):
        failing.encode_texts(["cat"])


def test_tokens_are_counted_before_truncation(small_folder: Path) -> None:
    """The count is the whole sentence's, with both control tokens, also beyond the context length."""
    encoder = load(small_folder)
    assert encoder.count_tokens(["cat", "cat " * 40]) == [3, 42]
    assert encoder.spec.context_length == 16
    assert "<end_of_text>" in encoder.spec.special_tokens


def test_weights_of_another_architecture_are_refused(small_folder: Path, tmp_path: Path) -> None:
    """What does not fit is named with both sides, not with a traceback."""
    config = json.loads((small_folder / "open_clip_config.json").read_text())
    config["model_cfg"]["vision_cfg"]["width"] = 64
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    (tmp_path / "open_clip_model.safetensors").write_bytes((small_folder / "open_clip_model.safetensors").read_bytes())
    with pytest.raises(ModelError, match="does not fit the architecture"):
        load(tmp_path)


def test_without_an_image_size_it_is_open_clips(tmp_path: Path, open_clip: ModuleType) -> None:
    """A tower that names no size gets open_clip's own transform to the last bit, whatever `preprocess_cfg` says."""
    config = {"embed_dim": 8, "vision_cfg": {"timm_model_name": "convnext_tiny"}, "text_cfg": {}}
    preprocess = {**CLIP_LIKE, "size": 256}
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}))
    how = read_config(tmp_path)[1]
    _, _, transform = open_clip.create_model_and_transforms(f"local-dir:{tmp_path}", load_weights=False)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 260, 3), dtype=np.uint8))
    assert np.array_equal(normalise(fit(image, how)[None], how)[0], transform(image).numpy())


def test_a_configuration_beyond_its_weights_is_refused_before_it_is_built(
    small_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Towers of 10^13 parameters beside a file of a few megabytes are one line, and no memory is taken for them."""
    import open_clip

    config = json.loads((small_folder / "open_clip_config.json").read_text())
    config["model_cfg"]["vision_cfg"] |= {"width": 65536, "layers": 1000}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    (tmp_path / "open_clip_model.safetensors").write_bytes((small_folder / "open_clip_model.safetensors").read_bytes())
    monkeypatch.setattr(open_clip, "create_model", lambda *_, **__: pytest.fail("it is built"))
    with pytest.raises(ModelError, match=r"describes 17,1.* parameters or more, and the file has"):
        load(tmp_path)


class _Payload:
    """What a hostile pickle does when it is loaded."""

    def __init__(self, target: str) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path(self.target),))


def test_a_pickle_that_runs_code_is_refused(small_folder: Path, tmp_path: Path) -> None:
    """Weights are read as tensors only; the code in the file does not run."""
    weights, target = tmp_path / "open_clip_pytorch_model.bin", tmp_path / "ran"
    (tmp_path / "open_clip_config.json").write_bytes((small_folder / "open_clip_config.json").read_bytes())
    for save in (pickle.dump, torch.save):
        with weights.open("wb") as file:
            save({"state_dict": _Payload(str(target))}, file)
        with pytest.raises(ModelError, match=r"could run code|damaged or no weights file"):
            load(tmp_path)
        assert not target.exists()


def test_tensors_in_torchs_own_format_load(small_folder: Path, tmp_path: Path) -> None:
    """A .bin of plain tensors gives the features of the same weights as safetensors."""
    from safetensors.torch import load_file

    (tmp_path / "open_clip_config.json").write_bytes((small_folder / "open_clip_config.json").read_bytes())
    torch.save(load_file(small_folder / "open_clip_model.safetensors"), tmp_path / "open_clip_pytorch_model.bin")
    assert np.array_equal(load(tmp_path).encode_texts(["cat"]), load(small_folder).encode_texts(["cat"]))


@pytest.mark.parametrize("damage", [b"", b"\x10\0\0\0\0\0\0\0{}", b"not safetensors at all, but long enough"])
def test_damaged_weights_are_named(small_folder: Path, tmp_path: Path, damage: bytes) -> None:
    """A weights file that is no safetensors file is one line."""
    (tmp_path / "open_clip_config.json").write_bytes((small_folder / "open_clip_config.json").read_bytes())
    (tmp_path / "open_clip_model.safetensors").write_bytes(damage)
    with pytest.raises(ModelError, match=r"open_clip_model\.safetensors is damaged"):
        load(tmp_path)


def test_quickgelu_follows_the_weight_tag(
    tmp_path: Path, open_clip: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ViT-B-32 / openai runs with QuickGELU although the architecture alone says GELU."""
    source = resolvers.resolve("ViT-B-32", "openai")
    weights = tmp_path / "w.safetensors"
    built: dict[str, Any] = {}

    class StopError(Exception):
        pass

    def create_model(name: str, **options: Any) -> None:
        built.update(options, name=name)
        raise StopError

    assert source.preprocessing is not None
    weights.write_bytes((2).to_bytes(8, "little") + b"{}")
    files = checkpoint.Files(source, open_clip.get_model_config("ViT-B-32"), source.preprocessing, weights, None)
    monkeypatch.setattr(open_clip, "create_model", create_model)
    with pytest.raises(ModelError):
        torch_loading.load(files, Device.CPU)
    assert built["quick_gelu"] is True


def test_torch_and_torchvision_of_different_builds_are_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    """The commonest broken installation gets its explanation and the command that fixes it."""

    class Broken:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "open_clip":
                raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.delitem(sys.modules, "open_clip", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    with pytest.raises(ModelError, match="different builds") as error:
        torch_loading.import_open_clip()
    assert "--force-reinstall torch torchvision" in error.value.hint


def test_normalising_on_the_device_is_the_same_arithmetic() -> None:
    """Pixels that travel as bytes and are scaled where the model is give the last bit of those scaled with numpy."""
    pixels = np.random.default_rng(0).integers(0, 256, (3, 5, 7, 3), dtype=np.uint8)
    how = Preprocessing((5, 7), (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
    mean, std = (torch.tensor(values)[:, None, None] for values in (how.mean, how.std))
    there = torch_engine.normalise_there(torch.from_numpy(pixels), mean, std)
    assert there.is_contiguous(memory_format=torch.channels_last)
    assert (there.numpy() == normalise(pixels, how)).all()


def test_a_batch_that_runs_out_of_memory_is_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Halves are tried until they fit; rows keep their order, and a single image that does not fit is an error."""
    room = 2

    def encode(self: object, pixels: np.ndarray) -> np.ndarray:
        if len(pixels) > room:
            raise torch.OutOfMemoryError("no room")
        return pixels[:, 0, 0, :1].astype(np.float32)

    monkeypatch.setattr(torch_engine.TorchEncoder, "_encode_images", encode)
    encoder = torch_engine.TorchEncoder.__new__(torch_engine.TorchEncoder)
    encoder._torch, encoder._probed = torch, {"image"}
    pixels = np.arange(7, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), dtype=np.uint8)
    assert encoder.encode_images(pixels)[:, 0].tolist() == list(range(7))
    room = 0
    with pytest.raises(ModelError, match="one image alone"):
        encoder.encode_images(pixels)


def test_a_batch_of_texts_that_runs_out_of_memory_is_halved(
    small_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows keep their places; one that does not fit alone is an error."""
    encoder = load(small_folder)
    expected = encoder.encode_texts(SENTENCES)
    whole, sizes, room = torch_engine.TorchEncoder._encode_rows, [], 2

    def encode(self: torch_engine.TorchEncoder, tokens: torch.Tensor, longest: int) -> np.ndarray:
        sizes.append(len(tokens))
        if len(tokens) > room:
            raise torch.OutOfMemoryError("no room")
        return whole(self, tokens, longest)

    monkeypatch.setattr(torch_engine.TorchEncoder, "_encode_rows", encode)
    np.testing.assert_allclose(encoder.encode_texts(SENTENCES), expected, atol=1e-6)
    assert max(sizes) == len(SENTENCES) and sum(size for size in sizes if size <= room) == len(SENTENCES)
    room = 0
    with pytest.raises(torch.OutOfMemoryError):
        encoder.encode_texts(SENTENCES)
