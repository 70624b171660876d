"""From a model's name to its parts, without torch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from zeroshot.encoder import Interpolation, ResizeMode
from zeroshot.errors import ModelError, UsageError
from zeroshot.models import open_clip_tables, resolvers
from zeroshot.models.checkpoint_files import CONFIG_NAME
from zeroshot.models.configuration import check_sizes

CONFIG = {"embed_dim": 8, "vision_cfg": {"image_size": 32}, "text_cfg": {}}
PREPROCESS = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.2], "interpolation": "bilinear", "resize_mode": "squash"}


def make_folder(
    folder: Path, document: object = None, weights: tuple[str, ...] = ("open_clip_model.safetensors",)
) -> Path:
    folder.mkdir(exist_ok=True)
    given = {"model_cfg": CONFIG, "preprocess_cfg": PREPROCESS} if document is None else document
    (folder / CONFIG_NAME).write_text(json.dumps(given))
    for name in weights:
        (folder / name).write_bytes(b"weights")
    return folder


def test_the_default_is_base_and_the_environment_overrides_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a name the alias ``base`` is taken, or what $ZEROSHOT_MODEL says."""
    monkeypatch.delenv(resolvers.ENVIRONMENT, raising=False)
    assert (resolvers.resolve(None).architecture, resolvers.resolve(None).pretrained) == (
        "ViT-B-32-256",
        "datacomp_s34b_b86k",
    )
    monkeypatch.setenv(resolvers.ENVIRONMENT, "openai")
    assert resolvers.resolve(None).pretrained == "openai"


def test_every_alias_is_a_pair_that_open_clip_knows() -> None:
    """No alias points at an architecture or tag that open_clip lacks."""
    for alias in resolvers.ALIASES:
        if alias.architecture:
            assert (alias.architecture, alias.pretrained) in open_clip_tables.list_pretrained()


def test_every_pair_of_open_clip_gets_the_activation_and_preprocessing_of_its_tag() -> None:
    """All 196 pairs resolve, QuickGELU follows the tag or the architecture, and preprocessing is the tag's."""
    quick = 0
    for architecture, tag in open_clip_tables.list_pretrained():
        source = resolvers.resolve(architecture, tag)
        config = open_clip_tables.pretrained_config(architecture, tag)
        model = open_clip_tables.model_config(architecture)
        assert source.quick_gelu == bool(config.get("quick_gelu") or model.get("quick_gelu"))
        quick += source.quick_gelu and not model.get("quick_gelu", False)
        assert source.preprocessing is not None
        assert source.preprocessing.resize_mode == config["resize_mode"]
        assert source.preprocessing.mean == pytest.approx(config["mean"])
        assert source.repository
    assert quick > 20  # the pairs whose architecture alone would be loaded with the wrong activation


@pytest.mark.parametrize(
    ("architecture", "tag", "mode", "interpolation", "mean"),
    [
        ("ViT-B-16-SigLIP", "webli", ResizeMode.SQUASH, Interpolation.BICUBIC, 0.5),
        ("PE-Core-B-16", "meta", ResizeMode.SQUASH, Interpolation.BILINEAR, 0.5),
        ("MobileCLIP2-S0", "dfndr2b", ResizeMode.SHORTEST, Interpolation.BILINEAR, 0.0),
    ],
)
def test_families_have_their_own_preprocessing(
    architecture: str, tag: str, mode: ResizeMode, interpolation: Interpolation, mean: float
) -> None:
    """SigLIP squashes with mean 0.5, PE is bilinear, MobileCLIP2-S0 does not normalise."""
    how = resolvers.resolve(architecture, tag).preprocessing
    assert how is not None
    assert (how.resize_mode, how.interpolation, how.mean) == (mode, interpolation, (mean,) * 3)


def test_a_weights_file_of_a_family_with_one_preprocessing_gets_it(tmp_path: Path) -> None:
    """SigLIP weights in a file are squashed, not cropped as OpenAI's."""
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(b"")
    how = resolvers.resolve("ViT-B-16-SigLIP", str(weights)).preprocessing
    assert how is not None
    assert how.resize_mode is ResizeMode.SQUASH


def test_a_weights_file_of_unknown_preprocessing_asks_for_it(tmp_path: Path) -> None:
    """An architecture without published weights never gets OpenAI's preprocessing in silence."""
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(b"")
    untagged = next(
        name
        for name in open_clip_tables.list_architectures()
        if name not in {architecture for architecture, _ in open_clip_tables.list_pretrained()}
    )
    with pytest.raises(UsageError, match="preprocessing of these weights is not known"):
        resolvers.resolve(untagged, str(weights))
    given = {"mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6), "interpolation": "bilinear", "resize_mode": "longest"}
    how = resolvers.resolve(untagged, str(weights), given).preprocessing
    assert how is not None
    assert (how.mean, how.std, how.resize_mode) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6), ResizeMode.LONGEST)


def test_a_weights_file_whose_activation_is_open_asks_for_it(tmp_path: Path) -> None:
    """ViT-B-32 was trained with both activations, and a file does not say which; the quickgelu name settles it."""
    weights = tmp_path / "w.pt"
    weights.write_bytes(b"")
    with pytest.raises(UsageError, match="QuickGELU"):
        resolvers.resolve("ViT-B-32", str(weights))
    assert resolvers.resolve("ViT-B-32-quickgelu", str(weights)).quick_gelu is True


def test_naming_the_preprocessing_of_a_weights_file_changes_no_activation(tmp_path: Path) -> None:
    """All of ViT-L-14-336's published weights were trained with QuickGELU, however much is said of the images."""
    weights = tmp_path / "w.pt"
    weights.write_bytes(b"")
    given = {"mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6), "interpolation": "bilinear", "resize_mode": "longest"}
    for overrides in ({}, given):
        assert resolvers.resolve("ViT-L-14-336", str(weights), overrides).quick_gelu is True
    assert resolvers.resolve("ViT-B-32", str(weights), given).quick_gelu is False


def test_preprocessing_is_not_taken_where_a_configuration_says_it(tmp_path: Path) -> None:
    """A folder, a repository and the built-in checkpoint say it themselves; what is given beside it would be lost."""
    (tmp_path / "open_clip_config.json").write_text("{}")
    for name in (str(tmp_path), f"local-dir:{tmp_path}", "hf-hub:some/model", "tiny"):
        with pytest.raises(UsageError, match="interpolation cannot be given"):
            resolvers.resolve(name, None, {"interpolation": "bilinear"})


RESOLVED_BY = {
    "built_in": (("tiny", None),),
    "alias": (("base", None), ("openai", None)),
    "hub": (("hf-hub:org/repo", None), ("hf-hub:org/repo@v1.0", None), ("hf-hub:org/repo@refs/pr/3", None)),
    "folder": (("{folder}", None), ("local-dir:{folder}", None)),
    "tag": (("ViT-B-32", "openai"), ("ViT-B/32", "openai"), ("base", "datacomp_s34b_b86k")),
    "file": (("ViT-B-32-256", "{file}"), ("base", "{file}")),
}


def test_each_name_is_resolved_by_one(tmp_path: Path) -> None:
    """The table of resolvers in its order; the others leave a name alone, and the first that knows it decides."""
    folder, file = make_folder(tmp_path / "m"), tmp_path / "w.pt"
    file.write_bytes(b"weights")
    assert [resolver.__name__.removeprefix("_resolve_") for resolver in resolvers.RESOLVERS] == list(RESOLVED_BY)
    for index, (expected, requests) in enumerate(RESOLVED_BY.items()):
        for name, pretrained in requests:
            given = [text.format(folder=folder, file=file) for text in (name, pretrained or "")]
            request = resolvers.Request(*given)
            assert all(resolver(request) is None for resolver in resolvers.RESOLVERS[:index]), (expected, name)
            source = resolvers.RESOLVERS[index](request)
            assert source == resolvers.resolve(*given)
            assert source is not None


def test_a_revision_is_part_of_a_name() -> None:
    """What stands behind the @ is the revision; neither part may lead out of the cache's folder."""
    source = resolvers.resolve("hf-hub:org/repo@v1")
    assert (source.repository, source.revision) == ("org/repo", "v1")
    assert resolvers.resolve("hf-hub:org/repo").revision == ""
    for name in (
        "org/repo@",
        "org/repo@../../x",
        "org/repo@/x",
        "../x",
        "org/..",
        "org/repo@a@b",
        "org/repo/x",
        "o/r e",
    ):
        with pytest.raises(ModelError, match="names no repository"):
            resolvers.resolve(f"hf-hub:{name}")


def test_an_architecture_gets_one_recommendation() -> None:
    """Of ViT-B-32's many weights one is named, the way to the others beside it, also for a mistyped tag."""
    for pretrained in (None, "openaii"):
        with pytest.raises((UsageError, ModelError)) as refused:
            resolvers.resolve("ViT-B-32", pretrained)
        assert refused.value.hint.startswith("--pretrained datacomp_xl_s13b_b90k; `zeroshot models list --all`")
        assert "laion" not in refused.value.hint
    for architecture in open_clip_tables.list_architectures():
        with pytest.raises(UsageError) as refused:
            resolvers.resolve(architecture)
        tags = [tag for known, tag in open_clip_tables.list_pretrained() if known == architecture]
        assert not tags or any(refused.value.hint.startswith(f"--pretrained {tag}") for tag in tags)


def test_a_repository_without_its_prefix_is_told_so() -> None:
    """The hint is the whole option."""
    with pytest.raises(ModelError) as refused:
        resolvers.resolve("laion/CLIP-ViT-B-32-laion2B-s34B-b79K")
    assert "--model hf-hub:laion/CLIP-ViT-B-32-laion2B-s34B-b79K for" in refused.value.hint


def test_names_that_are_nearly_right_are_corrected() -> None:
    """A mistyped model or tag is answered with the nearest known one."""
    with pytest.raises(ModelError, match="did you mean 'ViT-B-32-256'"):
        resolvers.resolve("ViT-B32-256", "x")
    with pytest.raises(ModelError, match="did you mean 'tiny'"):
        resolvers.resolve("tinny")
    with pytest.raises(ModelError, match="did you mean 'datacomp_s34b_b86k'"):
        resolvers.resolve("ViT-B-32-256", "datacomp_s34b")


def test_the_built_in_checkpoint_takes_no_other_weights() -> None:
    """It is found, and says so."""
    with pytest.raises(UsageError, match="tiny says already which weights"):
        resolvers.resolve("tiny", "openai")


def test_a_name_says_which_weights_or_asks(tmp_path: Path) -> None:
    """An architecture needs a tag; a folder, a repository and a weights file alone are told what is wrong."""
    with pytest.raises(UsageError, match="without weights") as error:
        resolvers.resolve("ViT-B-32-256")
    assert "datacomp_s34b_b86k" in error.value.hint
    with pytest.raises(UsageError, match="says already which weights"):
        resolvers.resolve("hf-hub:org/repo", "openai")
    with pytest.raises(ModelError, match="names no repository"):
        resolvers.resolve("hf-hub:repo")
    (tmp_path / "w.safetensors").write_bytes(b"")
    with pytest.raises(UsageError, match="does not say its architecture"):
        resolvers.resolve(str(tmp_path / "w.safetensors"))


def test_a_folder_is_read_with_its_own_preprocessing(tmp_path: Path) -> None:
    """Configuration and preprocessing come from the folder, the size from the vision tower."""
    files = resolvers.obtain(resolvers.resolve(str(make_folder(tmp_path / "m"))))
    assert files.preprocessing.size == (32, 32)
    assert files.preprocessing.mean == (0.5, 0.4, 0.3)
    assert files.weights.name == "open_clip_model.safetensors"


def test_the_image_size_is_the_vision_towers_alone(tmp_path: Path) -> None:
    """Without one it is 224, as in open_clip, whatever `preprocess_cfg` says; height and width may differ."""
    for given, size in (({}, (224, 224)), ({"image_size": 64}, (64, 64)), ({"image_size": [64, 32]}, (64, 32))):
        config = {"model_cfg": {**CONFIG, "vision_cfg": given}, "preprocess_cfg": {**PREPROCESS, "size": 256}}
        files = resolvers.obtain(resolvers.resolve(str(make_folder(tmp_path / "m", config))))
        assert files.preprocessing.size == size


SIZES = "whole number from 1 to"


@pytest.mark.parametrize(
    ("part", "key", "value", "hint"),
    [
        *(("vision_cfg", "image_size", value, SIZES) for value in ("224", 0, -5, 224.0, True, None, [224], [224, 0])),
        ("vision_cfg", "image_size", 10**9, SIZES),
        ("vision_cfg", "layers", 10**9, SIZES),
        ("vision_cfg", "layers", [3, 4, 6], SIZES),
        ("text_cfg", "layers", 10**9, SIZES),
        ("text_cfg", "width", -64, SIZES),
        ("text_cfg", "vocab_size", 1e30, SIZES),
        ("text_cfg", "context_length", "77", SIZES),
        ("text_cfg", "heads", 0, SIZES),
        ("text_cfg", "mlp_ratio", 1e9, "number above 0"),
        ("multimodal_cfg", "layers", 10**9, SIZES),
    ],
)
def test_sizes_that_no_model_has_are_refused_by_name(
    tmp_path: Path, part: str, key: str, value: object, hint: str
) -> None:
    """Text, zero, negative and absurd sizes are named with their value, before anything is built of them."""
    model = {**CONFIG, part: {**CONFIG.get(part, {}), key: value}}  # type: ignore[dict-item]
    folder = make_folder(tmp_path / "m", {"model_cfg": model, "preprocess_cfg": PREPROCESS})
    with pytest.raises(ModelError, match=rf"{part}\.{key} is ") as refused:
        resolvers.obtain(resolvers.resolve(str(folder)))
    assert json.dumps(value) in refused.value.message
    assert hint in refused.value.hint


def test_every_architecture_of_open_clip_is_within_the_limits() -> None:
    """What is refused is absurd, not merely large."""
    for architecture in open_clip_tables.list_architectures():
        check_sizes(open_clip_tables.model_config(architecture), Path(architecture))


@pytest.mark.parametrize(
    ("key", "value"),
    [("mean", [0.5, 0.5]), ("mean", [0.5, 0.5, "x"]), ("std", 0), ("std", [0.2, 0.2, -1]), ("fill_color", 300)],
)
def test_preprocessing_that_would_fail_every_image_is_refused_by_name(tmp_path: Path, key: str, value: object) -> None:
    """A value that makes no image is named when the model is loaded."""
    document = {"model_cfg": CONFIG, "preprocess_cfg": {**PREPROCESS, key: value}}
    with pytest.raises(ModelError, match=f"unusable preprocessing: {key} is "):
        resolvers.obtain(resolvers.resolve(str(make_folder(tmp_path / "m", document))))


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "lacks"),
        ({"model_cfg": {}}, "lacks"),
        ({"model_cfg": CONFIG}, "no preprocess_cfg"),
        ({"model_cfg": CONFIG, "preprocess_cfg": {"mean": [0.5], "std": 1}}, "unusable preprocessing"),
        ({"model_cfg": CONFIG, "preprocess_cfg": {**PREPROCESS, "resize_mode": "stretch"}}, "unusable preprocessing"),
    ],
)
def test_a_broken_configuration_is_named(tmp_path: Path, document: object, message: str) -> None:
    """What a folder's configuration lacks is said, not guessed."""
    with pytest.raises(ModelError, match=message):
        resolvers.obtain(resolvers.resolve(str(make_folder(tmp_path / "m", document))))


def test_a_folder_with_no_or_several_weights_is_refused(tmp_path: Path) -> None:
    """Which weights to load is never a guess."""
    with pytest.raises(ModelError, match="no weights"):
        resolvers.resolve(str(make_folder(tmp_path / "none", weights=())))
    with pytest.raises(ModelError, match=r"several weights \(a.bin, b.bin\)"):
        resolvers.resolve(str(make_folder(tmp_path / "two", weights=("a.bin", "b.bin"))))
    with pytest.raises(ModelError, match=r"no open_clip_config\.json"):
        resolvers.resolve(str(tmp_path))


def test_what_weights_are_computed_with_is_part_of_a_model(tmp_path: Path) -> None:
    """Other heads over the same weights, or another tokenizer beside them, are another model to every cache."""
    folder = make_folder(tmp_path / "m", {"model_cfg": CONFIG, "preprocess_cfg": PREPROCESS})

    def configuration() -> str:
        return resolvers.obtain(resolvers.resolve(str(folder))).configuration

    before = configuration()
    assert configuration() == before
    (folder / "tokenizer.json").write_text("{}")
    with_tokenizer = configuration()
    (folder / "tokenizer.json").write_text('{"other": 1}')
    other_tokenizer = configuration()
    document = {"model_cfg": {**CONFIG, "text_cfg": {"heads": 2}}, "preprocess_cfg": PREPROCESS}
    (folder / CONFIG_NAME).write_text(json.dumps(document))
    assert len({before, with_tokenizer, other_tokenizer, configuration()}) == 4


def test_a_checkpoint_is_named_as_pulling_takes_it(tmp_path: Path) -> None:
    """What a hint says after `models pull` resolves to the same checkpoint."""
    weights = tmp_path / "my weights.pt"
    weights.write_bytes(b"weights")
    folder = make_folder(tmp_path / "a folder")
    for model, pretrained, arguments in (
        ("base", None, "base"),
        ("ViT-B-32", "openai", "ViT-B-32 --pretrained openai"),
        ("hf-hub:org/model", None, "hf-hub:org/model"),
        (str(folder), None, f"'{folder}'"),
        ("ViT-B-32-256", str(weights), f"ViT-B-32-256 --pretrained '{weights}'"),
    ):
        assert resolvers.resolve(model, pretrained).arguments == arguments


@pytest.mark.parametrize(("model", "pretrained"), [("n" * 300, None), ("ViT-B-32", "n" * 300)])
def test_a_name_that_no_file_can_have_is_an_unknown_model(model: str, pretrained: str | None) -> None:
    """A name longer than file systems allow is refused like any other that means nothing."""
    with pytest.raises(ModelError):
        resolvers.resolve(model, pretrained)
