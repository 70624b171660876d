"""The scripts in examples/ do what their first lines say, with the built-in checkpoint."""

from __future__ import annotations

import csv
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support import ROOT

EXAMPLES = ROOT / "examples"
pytestmark = pytest.mark.skipif(os.name == "nt", reason="the scripts are for a POSIX shell")


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with `zeroshot` on the PATH and `tiny` as the default model."""
    program = tmp_path / "bin" / "zeroshot"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m zeroshot "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("ZEROSHOT_MODEL", "tiny")
    return tmp_path


def run(folder: Path, script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [str(EXAMPLES / script), *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def images(folder: Path, *names: str) -> Path:
    """Copy examples into a folder, each under the label that is its name."""
    for name in names:
        (folder / name).mkdir(parents=True)
        shutil.copy(EXAMPLES / f"{name}.jpg", folder / name)
    return folder


def test_a_folder_becomes_a_table(shell: Path) -> None:
    """The table has a row for each image, also for one that cannot be read, and the script then still succeeds."""
    folder = images(shell / "phone", "bee", "coffee")
    (folder / "broken.jpg").write_bytes(b"not an image")
    done = run(shell, "classify_to_csv.sh", folder, "bee,coffee,rocket", "out.csv")
    assert done.returncode == 0, done.stderr
    with (shell / "out.csv").open(newline="", encoding="utf-8") as table:
        rows = {Path(row["path"]).name: row for row in csv.DictReader(table)}
    labels = {name: row["label"] for name, row in rows.items()}
    assert labels == {"bee.jpg": "bee", "coffee.jpg": "coffee", "broken.jpg": ""}
    assert rows["broken.jpg"]["error"]


def test_sorted_images_can_be_taken_back(shell: Path) -> None:
    """Images are linked into folders by label, and the command that the script prints removes them again."""
    folder = images(shell / "photos", "bee", "coffee")
    done = run(shell, "sort_with_review.sh", folder, "bee,coffee", shell / "sorted")
    assert done.returncode == 0, done.stderr
    assert {path.parent.name for path in (shell / "sorted").rglob("*.jpg")} == {"bee", "coffee"}
    undo = shlex.split(done.stdout.removeprefix("to undo: "))
    assert subprocess.run(undo, cwd=shell, capture_output=True).returncode == 0
    assert not list((shell / "sorted").rglob("*.jpg"))
    assert len(list(folder.rglob("*.jpg"))) == 2


@pytest.mark.parametrize(("swapped", "code"), [(False, 0), (True, 1)])
def test_a_bar_that_is_not_reached_fails(shell: Path, swapped: bool, code: int) -> None:
    """The exit code says whether the accuracy was reached; result and page are written either way."""
    folder = images(shell / "val", "bee", "coffee")
    if swapped:
        (folder / "bee" / "bee.jpg").rename(folder / "coffee" / "bee.jpg")
        (folder / "coffee" / "coffee.jpg").rename(folder / "bee" / "coffee.jpg")
    done = run(shell, "evaluate.sh", folder, "0.9")
    assert done.returncode == code, done.stderr
    assert json.loads((shell / "result.json").read_text(encoding="utf-8"))
    assert (shell / "report.html").stat().st_size > 0
