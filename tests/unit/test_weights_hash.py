"""Weights are known by their hash, and damage to a download is noticed where it is asked for."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from zeroshot.engines.safe_weights import check_weights
from zeroshot.errors import ModelError
from zeroshot.models import weights_hash


def test_a_cached_file_lends_its_name_as_hash(tmp_path: Path) -> None:
    """The hub's cache names blobs by their SHA-256, which saves reading gigabytes; other files are read."""
    blob = tmp_path / "blobs" / ("ab" * 32)
    blob.parent.mkdir()
    blob.write_bytes(b"x")
    (tmp_path / "link").symlink_to(blob)
    assert weights_hash.hash_file(tmp_path / "link") == "ab" * 32
    (tmp_path / "plain").write_bytes(b"")
    assert weights_hash.hash_file(tmp_path / "plain").startswith("e3b0c44298fc1c14")


def test_weights_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    """What the disk or its rights refuse is an error with the file's name, not a traceback."""
    with pytest.raises(ModelError, match=r"weights\.pt cannot be read"):
        weights_hash.hash_file(tmp_path / "weights.pt")


@pytest.fixture
def link(tmp_path: Path) -> Path:
    """A file in the hub's cache: a link to a blob that has the hash of its content as name."""
    content = b"weights" * 1000
    blob = tmp_path / "blobs" / hashlib.sha256(content).hexdigest()
    blob.parent.mkdir()
    blob.write_bytes(content)
    link = tmp_path / "open_clip_model.safetensors"
    link.symlink_to(blob)
    return link


def test_a_download_that_was_damaged_later_is_noticed(link: Path) -> None:
    """Pulling compares its content with its name; what has to be removed first is the blob behind the link."""
    blob = link.resolve()
    weights_hash.check_download(link)
    blob.write_bytes(b"Weights" + blob.read_bytes()[7:])
    with pytest.raises(ModelError, match="no longer what was downloaded") as raised:
        weights_hash.check_download(link)
    assert raised.value.hint == f"remove {blob}, then `zeroshot models pull` downloads it again"


def test_a_file_of_ones_own_has_nothing_to_be_compared_with(tmp_path: Path) -> None:
    """Only the hub's cache says what a file should be."""
    own = tmp_path / "mine.safetensors"
    own.write_bytes(b"weights")
    weights_hash.check_download(own)
    assert weights_hash.how_to_replace(own) == "replace it by a good copy, or give another file"


def test_the_hint_for_damaged_weights_says_what_to_remove(link: Path) -> None:
    """Pulling alone would find the damaged file in the cache and leave it."""
    with pytest.raises(ModelError, match=r"open_clip_model\.safetensors is damaged") as raised:
        check_weights(link)
    assert str(link.resolve()) in raised.value.hint
