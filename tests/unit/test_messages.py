"""A string where several are wanted is one, never its characters."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from support.fakes import FakeEncoder
from support.fixtures import SaveImage
from zeroshot.engines.choose import load_encoder
from zeroshot.features.pipeline import encode_batches
from zeroshot.images.paths import find_images
from zeroshot.messages import shell_word
from zeroshot.prompts.labels import Label
from zeroshot.prompts.template_sets import from_templates


def test_paths(images: SaveImage, tmp_path: Path) -> None:
    """One path is found, and encoded, as a list of it would be."""
    path = str(images("x/a.png"))
    assert list(find_images(str(tmp_path / "x"))) == [path]
    ((one,),) = encode_batches(FakeEncoder(), path)
    assert (one.path, one.error) == (path, "")


def test_texts() -> None:
    """One text has one row and one count of tokens."""
    encoder = load_encoder("tiny")
    assert np.array_equal(encoder.encode_texts("cat"), encoder.encode_texts(["cat"]))
    assert encoder.encode_texts("cat").shape[0] == len(encoder.count_tokens("cat")) == 1


def test_labels_and_templates() -> None:
    """One alias, one prompt and one template are one."""
    assert Label("cat", "kitty").words == ("cat", "kitty")  # type: ignore[arg-type]
    assert Label("cat", prompts="a cat").prompts == ("a cat",)  # type: ignore[arg-type]
    assert from_templates("a {}").templates == ("a {}",)


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
@pytest.mark.parametrize(
    "name", ["plain", "two words", "it's", "e\x1b[31mx", "a\nb", "b\\'\t", "\u202e\xad\U0001f600", "\udcff\n"]
)
def test_a_word_for_the_shell_is_that_word(name: str) -> None:
    """What a message says to type gives the name back, and holds nothing that a terminal would act on."""
    word = shell_word(name)
    assert word.isprintable()
    environment = os.environ | {"LC_ALL": "C.UTF-8"}
    found = subprocess.run(["bash", "-c", f"printf %s {word}"], capture_output=True, check=True, env=environment)
    assert os.fsdecode(found.stdout) == name
