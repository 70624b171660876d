"""CLIP and SigLIP folders in the format of transformers give transformers' own features."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from zeroshot.encoder import Device, Interpolation, ResizeMode
from zeroshot.engines import choose, torch_engine, torch_loading
from zeroshot.enums import Engine, Score
from zeroshot.errors import ModelError
from zeroshot.images.preprocess import normalise
from zeroshot.models import resolvers

WORDS = ["a", "photo", "of", "the", "cat", "dog", "bus", "in", "street"]
TEXTS = ["cat", "a photo of the dog", "the bus in the street of the cat and more and more", ""]
TOWER = {"hidden_size": 32, "intermediate_size": 85, "num_hidden_layers": 2, "num_attention_heads": 2}
CLIP_IMAGES = {
    "image_mean": [0.48, 0.46, 0.41],
    "image_std": [0.27, 0.26, 0.28],
    "resample": 3,
    "size": {"shortest_edge": 32},
    "crop_size": {"height": 32, "width": 32},
    "do_center_crop": True,
}
SIGLIP_IMAGES = {
    "image_mean": [0.5] * 3,
    "image_std": [0.5] * 3,
    "resample": 2,
    "size": {"height": 32, "width": 32},
}


def save_words(folder: Path, context_length: int) -> Any:
    """Write a small tokenizer of whole words and return it; the end of a text has the highest id, as in CLIP."""
    from tokenizers import Tokenizer, pre_tokenizers, processors
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: index for index, word in enumerate(["<pad>", "<unk>", *WORDS, "</s>"])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    end = [("</s>", vocabulary["</s>"])]
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=end)
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=context_length,
    )
    made.save_pretrained(folder)
    return made


def build(kind: str, folder: Path, **changes: Any) -> tuple[Any, Any]:
    """Save a random model of transformers with its tokenizer and processor; return both."""
    import transformers

    torch.manual_seed(5)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = save_words(folder, 12)
    size = {"image_size": 32, "patch_size": 8}
    text = {**TOWER, "vocab_size": len(tokenizer), "max_position_embeddings": 12, **changes.pop("text", {})}
    vision = {**TOWER, "num_hidden_layers": 3, **size, **changes.pop("vision", {})}
    if kind == "clip":
        text["eos_token_id"] = tokenizer.eos_token_id
        config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)
        model = transformers.CLIPModel(config)
    else:
        model = transformers.SiglipModel(transformers.SiglipConfig(text_config=text, vision_config=vision))
    with torch.no_grad():
        for parameter in model.parameters():  # biases and norms away from 0 and 1, which would hide a wrong name
            parameter.add_(torch.randn_like(parameter) * 0.05)
    model.eval().save_pretrained(folder)
    images = CLIP_IMAGES if kind == "clip" else SIGLIP_IMAGES
    (folder / "preprocessor_config.json").write_text(json.dumps(images))
    return model, tokenizer


def load(folder: Path) -> torch_engine.TorchEncoder:
    return torch_loading.load(resolvers.obtain(resolvers.resolve(str(folder))), Device.CPU)


def unit(rows: Any) -> Any:
    features = getattr(rows, "pooler_output", rows)
    return torch.nn.functional.normalize(features, dim=-1).numpy()


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("clip", {}),
        ("clip", {"text": {"hidden_act": "gelu"}, "vision": {"hidden_act": "gelu", "layer_norm_eps": 1e-3}}),
        ("siglip", {}),
        ("siglip", {"text": {"hidden_act": "gelu"}, "vision": {"hidden_act": "gelu", "num_attention_heads": 4}}),
    ],
    ids=["CLIP", "CLIP with GELU", "SigLIP", "SigLIP with another GELU"],
)
def test_features_are_transformers_own(tmp_path: Path, kind: str, changes: dict[str, Any]) -> None:
    """Images and texts have the features that transformers gives them to 1e-5, and the same scale and bias."""
    model, tokenizer = build(kind, tmp_path / "model", **changes)
    encoder = load(tmp_path / "model")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    tokens = tokenizer(TEXTS, padding="max_length", max_length=12, truncation=True, return_tensors="pt").input_ids
    with torch.no_grad():
        planes = torch.from_numpy(normalise(pixels, encoder.spec.preprocessing))
        images, texts = unit(model.get_image_features(pixel_values=planes)), unit(model.get_text_features(tokens))
    assert encoder.encode_images(pixels) == pytest.approx(images, abs=1e-5)
    assert encoder.encode_texts(TEXTS) == pytest.approx(texts, abs=1e-5)
    assert encoder.spec.logit_scale == pytest.approx(float(model.logit_scale.exp()), rel=1e-5)
    how = encoder.spec.preprocessing
    if kind == "clip":
        assert (encoder.spec.score, encoder.spec.logit_bias) == (Score.SOFTMAX, None)
        assert (how.resize_mode, how.interpolation) == (ResizeMode.SHORTEST, Interpolation.BICUBIC)
    else:
        assert encoder.spec.score is Score.SIGMOID
        assert encoder.spec.logit_bias == pytest.approx(float(model.logit_bias), rel=1e-5)
        assert (how.resize_mode, how.interpolation) == (ResizeMode.SQUASH, Interpolation.BILINEAR)
    assert how.mean == tuple((CLIP_IMAGES if kind == "clip" else SIGLIP_IMAGES)["image_mean"])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_such_a_folder_is_exported_like_any_other(tmp_path: Path, kind: str) -> None:
    """After `models pull` the torch-free engine runs it, with the same features."""
    build(kind, tmp_path / "model")
    before = load(tmp_path / "model").encode_texts(TEXTS)
    choose.export_model(resolvers.resolve(str(tmp_path / "model")))
    after = choose.load_encoder(str(tmp_path / "model"), device=Device.CPU)
    assert after.spec.engine is Engine.ONNX
    np.testing.assert_allclose(after.encode_texts(TEXTS), before, atol=1e-5)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "clip"
    build("clip", folder)
    return folder


@pytest.mark.parametrize(
    ("file", "keys", "value", "message"),
    [
        ("config.json", ("model_type",), "bert", "model_type is 'bert'"),
        ("config.json", ("vision_config", "hidden_act"), "relu", "hidden_act is quick_gelu and relu"),
        ("config.json", ("vision_config", "num_channels"), 4, "num_channels is 4"),
        ("config.json", ("vision_config", "num_attention_heads"), 5, "not a multiple of num_attention_heads"),
        ("config.json", ("vision_config", "hidden_size"), "32", "cannot be used"),
        ("config.json", ("vision_config", "hidden_size"), 0, "cannot be used"),
        ("config.json", ("text_config", "num_hidden_layers"), 10**9, r"text_cfg\.layers is 1000000000"),
        ("config.json", ("vision_config",), 3, "cannot be used"),
        ("preprocessor_config.json", ("size",), {"shortest_edge": 40}, "not the vision tower's 32"),
        ("preprocessor_config.json", ("crop_size",), 30, "crop_size is 30"),
        ("preprocessor_config.json", ("resample",), 0, "resample is 0"),
        ("preprocessor_config.json", ("do_normalize",), False, "do_normalize is false"),
        ("preprocessor_config.json", ("image_mean",), [0.5], "mean is"),
    ],
    ids=str,
)
def test_what_open_clip_has_not_is_refused_by_name(
    saved: Path, tmp_path: Path, file: str, keys: tuple[str, ...], value: object, message: str
) -> None:
    """Another kind of model, activation or preprocessing is one error that names it, and never another answer."""
    folder = shutil.copytree(saved, tmp_path / "model")
    document = json.loads((folder / file).read_text())
    place = document
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    (folder / file).write_text(json.dumps(document))
    with pytest.raises(ModelError, match=message):
        resolvers.obtain(resolvers.resolve(str(folder)))


def test_without_a_processor_nothing_is_guessed(saved: Path, tmp_path: Path) -> None:
    """How images are prepared is read, or asked for; newer folders have it inside the processor's file."""
    folder = shutil.copytree(saved, tmp_path / "model")
    content = json.loads((folder / "preprocessor_config.json").read_text())
    before = resolvers.obtain(resolvers.resolve(str(folder))).preprocessing
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(ModelError, match=r"has no preprocessor_config\.json"):
        resolvers.obtain(resolvers.resolve(str(folder)))
    (folder / "processor_config.json").write_text(json.dumps({"image_processor": content}))
    assert resolvers.obtain(resolvers.resolve(str(folder))).preprocessing == before
