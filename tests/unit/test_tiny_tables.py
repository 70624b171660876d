"""The tables that the built-in checkpoint is trained from name nothing that is held back, and their rules hold."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import yaml

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
    """The module that reads `photographs.yaml`."""
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        yield importlib.import_module("tiny_photos")
    finally:
        sys.path.remove(str(ROOT / "tools"))


def test_the_table_names_what_is_held_back_and_trains_with_none_of_it(photos: ModuleType) -> None:
    """Reserved and held-back repositories are all listed, and no source is one of them."""
    table = photos.read_table()
    assert set(table["reserved"]) >= RESERVED
    assert set(photos.held_back_repositories(table)) >= RESERVED | HELD_BACK
    assert not {source["repo"] for source in table["sources"]} & (RESERVED | HELD_BACK)


@pytest.mark.parametrize("repo", sorted(RESERVED | HELD_BACK))
def test_a_source_that_is_held_back_is_refused(photos: ModuleType, repo: str, tmp_path: Path) -> None:
    """A table that would train with a held-back repository is an error that names it, whatever the case."""
    table = yaml.safe_load((ROOT / "tools" / "photographs.yaml").read_text())
    table["sources"].append({"repo": repo.upper(), "cap": 1, "classes": {"cat": "*"}})
    (tmp_path / "photographs.yaml").write_text(yaml.safe_dump(table))
    with pytest.raises(ValueError, match="held back"):
        photos.read_table(tmp_path / "photographs.yaml")


def test_no_word_of_the_tables_is_held_out(photos: ModuleType) -> None:
    """Neither everyday words nor the usual names of photographs hold one of the 33 words."""
    held_out = photos.held_out_words()
    assert len(held_out) == 33
    everyday = yaml.load((ROOT / "tools" / "everyday.yaml").read_text(), yaml.BaseLoader)
    texts = list(everyday)  # what a word is made of are names of classes, which no text shows
    texts += [words.split(", ")[0] for source in photos.read_table()["sources"] for words in source.get("classes", {})]
    assert [text for text in texts if not photos.is_allowed(text, held_out)] == []
    assert not photos.is_allowed("two Puppies", held_out | {"puppy"})
