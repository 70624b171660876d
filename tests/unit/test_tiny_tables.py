"""The tables that the built-in checkpoint is trained from name nothing that is held back, and their rules hold."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import yaml
from PIL import Image

from support import ROOT

RESERVED = {"EliSchwartz/imagenet-sample-images", "InputBlackBoxOutput/popular-animals-dataset", "lqhl/Painting-Finder"}
HELD_BACK = {
    "MachineLearning2020/Homework2-Caltech101",
    "alexeygrigorev/clothing-dataset",
    "aizadaaskar/dl-homework",
    "martinwestin/flower_classification",
}


@pytest.fixture(scope="module")
def photos() -> Iterator[ModuleType]:
    """The module that reads `photo_sources.yaml`."""
    sys.path.insert(0, str(ROOT / "tools" / "tiny"))
    try:
        yield importlib.import_module("photo_selection")
    finally:
        sys.path.remove(str(ROOT / "tools" / "tiny"))


def test_the_table_names_what_is_held_back_and_trains_with_none_of_it(photos: ModuleType) -> None:
    """Reserved and held-back repositories are all listed, and no source is one of them."""
    table = photos.read_table()
    assert set(table["reserved"]) >= RESERVED
    assert set(photos.held_back_repositories(table)) >= RESERVED | HELD_BACK
    assert not {source["repo"] for source in table["sources"]} & (RESERVED | HELD_BACK)


@pytest.mark.parametrize("repo", sorted(RESERVED | HELD_BACK))
def test_a_source_that_is_held_back_is_refused(photos: ModuleType, repo: str, tmp_path: Path) -> None:
    """A table that would train with a held-back repository is an error that names it, whatever the case."""
    table = yaml.safe_load((ROOT / "tools" / "tiny" / "photo_sources.yaml").read_text())
    table["sources"].append({"repo": repo.upper(), "cap": 1, "classes": {"cat": "*"}})
    (tmp_path / "photo_sources.yaml").write_text(yaml.safe_dump(table))
    with pytest.raises(ValueError, match="held back"):
        photos.read_table(tmp_path / "photo_sources.yaml")


def test_no_word_of_the_tables_is_held_out(photos: ModuleType) -> None:
    """Neither everyday words nor the usual names of photographs hold one of the 33 words."""
    held_out, is_allowed = photos.held_out_words(), sys.modules["photo_sources"].is_allowed
    assert len(held_out) == 33
    everyday = yaml.load((ROOT / "tools" / "tiny" / "word_classes.yaml").read_text(), yaml.BaseLoader)
    texts = list(everyday)  # what a word is made of are names of classes, which no text shows
    texts += [words.split(", ")[0] for source in photos.read_table()["sources"] for words in source.get("classes", {})]
    assert [text for text in texts if not is_allowed(text, held_out)] == []
    assert not is_allowed("two Puppies", held_out | {"puppy"})


def _draw(seed: int, folder: Path, name: str, size: int = 64) -> Image.Image:
    """Write and return an image of its own pattern."""
    folder.mkdir(parents=True, exist_ok=True)
    cells = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    image = Image.fromarray(cells).resize((size, size), Image.Resampling.BICUBIC)
    image.save(folder / name, quality=90)
    return image


def _collect(photos: ModuleType, root: Path, n_own: int, n_copies: int) -> list[str]:
    """Return the names that a source keeps which holds ``n_copies`` of what is held back, smaller and recompressed."""
    table = {
        "reserved": [],
        "everyday": [],
        "held_back": {"held": {"repo": "a/held", "cap": 100, "classes": {"cat": "*"}}},
        "sources": [{"repo": "a/source", "cap": 1000, "classes": {"dog": "*"}}],
    }
    for i in range(8):
        copy = _draw(i, root / "held", f"{i}.jpg", 128)
        if i < n_copies:
            (root / "source").mkdir(exist_ok=True)
            copy.resize((90, 90)).save(root / "source" / f"copy{i}.jpg", quality=60)
    for i in range(n_own):
        _draw(1000 + i, root / "source", f"own{i}.jpg")
    (root / "photos").mkdir()
    _draw(2000, root / "photos", "a.jpg").resize((50, 50)).save(root / "source" / "photo.jpg", quality=60)
    kept = photos.collect(root, root / "photos", table, frozenset())
    return sorted(photo.name for photo in kept if photo.split in ("train", "val"))


def test_what_equals_a_held_back_photograph_is_dropped(photos: ModuleType, tmp_path: Path) -> None:
    """A smaller, recompressed copy of a held-back photograph, or of one of the fifty, is no training image."""
    kept = _collect(photos, tmp_path, n_own=98, n_copies=1)
    assert kept == sorted(f"own{i}.jpg" for i in range(98))


def test_a_source_that_is_a_copy_of_a_held_back_set_is_refused(photos: ModuleType, tmp_path: Path) -> None:
    """Where more than a few photographs of a source are held back, none of it is used, and the error names it."""
    with pytest.raises(ValueError, match=r"too many photographs are held back: a/source \(9%\)"):
        _collect(photos, tmp_path, n_own=69, n_copies=6)


def test_the_longest_prompts_fit_the_text_tower() -> None:
    """Each of open_clip's eighty templates has room for each of ImageNet's names in the 32 tokens of the checkpoint."""
    import open_clip

    config = json.loads((ROOT / "zeroshot" / "models" / "checkpoints" / "tiny" / "open_clip_config.json").read_text())
    tokens = open_clip.tokenizer.SimpleTokenizer().encode
    frames = [template("{}") for template in open_clip.OPENAI_IMAGENET_TEMPLATES]
    longest = max(len(tokens(frame.replace("{}", ""))) for frame in frames)
    longest += max(len(tokens(name)) for name in open_clip.IMAGENET_CLASSNAMES)
    assert longest + 2 <= config["model_cfg"]["text_cfg"]["context_length"] == 32
