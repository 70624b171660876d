"""What commands read and write, looked at before they begin, and `zeroshot cache`, as they are typed."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from support.commands import run
from support.fakes import FakeModel
from zeroshot.features.cache import FeatureCache
from zeroshot.system.user_folders import cache_folder


def test_the_cache_is_shown_shrunk_and_emptied(folder: Path) -> None:
    """`info` counts rows for each model, `prune` and `clear` remove them, and all three take an empty cache."""
    for command in (["info"], ["prune", "--days", 0], ["clear"]):
        assert run("cache", *command).exit_code == 0, command
    run("classify", folder, "--labels", "red,blue")
    assert "fake: " in run("cache", "info").stdout
    assert run("cache", "prune").exit_code == 2
    assert "removed 0 rows" in run("cache", "prune", "--days", 30).stdout
    assert "removed 0 rows" not in run("cache", "prune", "--days", 0).stdout
    assert run("cache", "clear").exit_code == 0
    assert "fake: " not in run("cache", "info").stdout


@pytest.mark.parametrize("size", ["2 apples", "-1", "", "1e9", "GB"])
def test_a_size_that_is_none_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch, size: str) -> None:
    """The option is named with what it takes; so is the variable, by every command that keeps features."""
    refused = run("cache", "prune", "--max-size", size)
    assert (refused.exit_code, "--max-size=2GB" in refused.stderr) == (2, True)
    if size:
        monkeypatch.setenv("ZEROSHOT_CACHE_MAX_SIZE", size)
        refused = run("classify", folder, "--labels", "red,blue")
        assert (refused.exit_code, "$ZEROSHOT_CACHE_MAX_SIZE=2GB" in refused.stderr) == (2, True)


def test_what_cannot_be_pruned_says_what_to_do(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Space fixes a full disk, and only that; `info` names the folder whose size it tells."""
    run("classify", folder, "--labels", "red,blue")
    assert run("cache", "info").stdout.startswith(f"{cache_folder()}: ")
    for reason, hint in (
        ("attempt to write a readonly database", "writable"),
        ("disk is full", "free some space"),
        ("another version of zeroshot made it", "`zeroshot cache clear`"),
    ):

        def fail(self: FeatureCache, *_: object, reason: str = reason) -> float:
            raise sqlite3.OperationalError(reason)

        monkeypatch.setattr(FeatureCache, "_delete_beyond", fail)
        refused = run("cache", "prune", "--max-size", "1MB")
        assert (refused.exit_code, reason in refused.stderr) == (1, True)
        assert hint in refused.stderr.splitlines()[-1]


def test_clearing_what_is_not_there(fake_model: FakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder on a read-only disk refuses to remove a file even where there is none; that is no error."""

    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise OSError(30, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "unlink", refuse)
    assert run("cache", "clear").exit_code == 0


def test_a_file_that_would_be_lost_is_refused_before_the_model_is_loaded(
    fake_model: FakeModel, folder: Path, tmp_path: Path
) -> None:
    """An output that is an image below an input, or the list of inputs, is not written."""
    (tmp_path / "list").write_text(f"{folder}\n")
    for command in (["search", folder, "red"], ["classify", folder, "--labels", "a,b"]):
        for lost in (folder / "1.png", tmp_path / "list"):
            before = lost.read_bytes()
            refused = run(*command, "--files-from", tmp_path / "list", "--output", lost)
            assert (refused.exit_code, fake_model.calls) == (1, [])
            assert f"--output {lost} is a" in refused.stderr
            assert lost.read_bytes() == before


def test_a_separator_without_a_list_is_refused(fake_model: FakeModel, folder: Path) -> None:
    """Who forgets `-` would wait for answers about paths that nobody reads."""
    for command in (["search", folder, "red"], ["classify", folder, "--labels", "a,b"]):
        refused = run(*command, "--from0")
        assert (refused.exit_code, fake_model.calls) == (2, [])
        assert "there is no list" in refused.stderr
    assert run("search", "-", "red", "--from0", stdin=os.fsencode(folder / "1.png")).exit_code == 0


_COUNT_LISTED = """
import sys
from zeroshot.cli.input_options import InputOptions
inputs = InputOptions(files_from=sys.argv[1])
inputs.check()
print(sum(1 for _ in inputs.find()))
"""


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
def test_a_list_in_a_pipe_is_opened_once(fake_model: FakeModel, folder: Path, tmp_path: Path) -> None:
    """To look whether it can be read would take the pipe from its writer."""
    os.mkfifo(tmp_path / "pipe")
    writer = subprocess.Popen(["/bin/sh", "-c", 'yes "$0" | head -20000 > "$1"', folder / "1.png", tmp_path / "pipe"])
    try:
        command = [sys.executable, "-c", _COUNT_LISTED, tmp_path / "pipe"]
        assert subprocess.run(command, capture_output=True, timeout=60).stdout.strip() == b"20000"
        assert writer.wait(10) == 0
    finally:
        writer.kill()
