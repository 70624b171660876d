"""Labelled images in archives: `eval`, `calibrate` and `learn` read them as they read a folder on a disk."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from support.commands import run
from support.fakes import FakeModel
from unit.test_archives import make_tar, make_zip, png

COLOURS = ("red", "green", "blue")
LABELLED = [(colour, number, colour if number else "red") for colour in COLOURS for number in range(15)]
MEMBERS = [(f"{folder}/{number}.png", png(shown)) for folder, number, shown in LABELLED]
"""Fifteen images of each of three labels, two of which show another."""


def write(root: Path, members: Iterable[tuple[str, bytes]] = MEMBERS) -> Path:
    for name, content in members:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def evaluated(place: object, *more: object) -> Any:
    outcome = run("eval", place, "--model", "tiny", "--no-cache", "--format", "json", *more)
    assert outcome.exit_code == 0, outcome.output
    return json.loads(outcome.stdout)


@pytest.mark.parametrize("make", [make_tar, make_zip])
@pytest.mark.parametrize("top", ["", "./", "val/"])
def test_an_archive_is_the_folder_that_it_was_made_of(
    make: Callable[..., Path], top: str, fake_model: FakeModel, tmp_path: Path
) -> None:
    """The same labels and numbers, whether the folder itself or its content was packed; members have their names."""
    path = make(tmp_path / ("x.tar" if make is make_tar else "x.zip"), [(top + name, data) for name, data in MEMBERS])
    there, here = evaluated(path), evaluated(write(tmp_path / "val"))
    assert there["metrics"] == here["metrics"] and there["metrics"]["top1"]["value"] == pytest.approx(43 / 45)
    assert there["labels"] == here["labels"] and there["confusion"] == here["confusion"]
    assert {each["path"] for each in there["predictions"]} == {f"{path}::{top}{name}" for name, _ in MEMBERS}


def test_what_learns_from_a_folder_learns_from_an_archive(fake_model: FakeModel, tmp_path: Path) -> None:
    """`calibrate` and `learn` write what they write of the folder; the archive is never replaced."""
    path = make_tar(tmp_path / "x.tar", MEMBERS)
    val = write(tmp_path / "val")
    for command in ("calibrate", "learn"):
        fitted = []
        for place in (path, val):
            written = tmp_path / f"{command}.json"
            outcome = run(command, place, "--model", "tiny", "-o", written, "--force")
            assert outcome.exit_code == 0, outcome.output
            document = json.loads(written.read_text())
            fitted.append({key: value for key, value in document.items() if key != "manifest"})
        assert fitted[0] == fitted[1]
    refused = run("eval", path, "--model", "tiny", "-o", path, "--format", "json")
    assert refused.exit_code != 0 and make_tar(tmp_path / "y.tar", MEMBERS).read_bytes() == path.read_bytes()


def test_labels_beside_images_are_read(fake_model: FakeModel, tmp_path: Path) -> None:
    """Numbers in .cls files, as webdataset has them, need words; an image without one is refused."""
    members = [(f"{n:03}.png", png(colour)) for n, colour in enumerate(COLOURS)]
    numbers = [(f"{n:03}.cls", str(n).encode()) for n in range(3)]
    path = make_tar(tmp_path / "x.tar", [*numbers, *members])
    (tmp_path / "names.txt").write_text("0\tred\n1\tgreen\n2\tblue\n")
    assert evaluated(path, "--label-names", tmp_path / "names.txt")["metrics"]["top1"]["value"] == 1
    without = run("eval", path, "--model", "tiny")
    assert without.exit_code == 1 and "--label-names FILE" in without.stderr
    make_tar(path, [*numbers[:2], *members])
    assert "002.png has no label" in run("eval", path, "--label-names", tmp_path / "names.txt").stderr
    make_tar(path, members)
    assert "no folders in" in run("eval", path, "--model", "tiny").stderr


def test_the_labels_of_a_parquet_file_are_its_column(fake_model: FakeModel, tmp_path: Path) -> None:
    """Names, or numbers that Hugging Face's description names; numbers without names and other columns are refused."""
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "x.parquet"

    def make(labels: list[Any], described: list[str] | None = None, column: str = "label") -> None:
        table = pyarrow.table(
            {"image": [{"bytes": png(colour), "path": None} for colour in ("green", "red")], column: labels}
        )
        if described:
            features = {column: {"_type": "ClassLabel", "names": described}}
            table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
        parquet.write_table(table, path)

    make(["green", "red"])
    assert evaluated(path)["metrics"]["top1"]["value"] == 1
    make([1, 0], ["red", "green"])
    found = evaluated(path)
    assert found["metrics"]["top1"]["value"] == 1 and found["predictions"][0]["path"].startswith(f"{path}::")
    for labels, described, column, said in (
        ([1, 0], None, "label", "--label-names FILE"),
        ([1, 2], ["red", "green"], "label", "row 1 has no label 2"),
        ([None, "red"], None, "label", "row 0 has no label"),
        ([0.5, 1.5], None, "label", "holds double"),
        (["red", "green"], None, "kind", "no column `label`"),
    ):
        make(labels, described, column)
        refused = run("eval", path, "--model", "tiny")
        assert refused.exit_code == 1 and said in refused.stderr, refused.output


def test_what_cannot_be_read_is_an_error(fake_model: FakeModel, tmp_path: Path) -> None:
    """Before a model is loaded: no archive, an empty one, a file of a web server, a secret in an address."""
    (tmp_path / "val.zip").touch()
    for place, said in (
        (tmp_path / "none.tar", "no such file"),
        (tmp_path / "val.zip", "no images in"),
        ("https://host/a.jpg", "cannot be listed"),
        ("https://host/a.tar?token=topsecret", "the address of host holds a signature or key"),
    ):
        refused = run("eval", place, "--model", "tiny")
        assert refused.exit_code in (1, 2) and said in refused.stderr and "topsecret" not in refused.stderr
    assert fake_model.calls == []


def test_template_sets_are_compared_on_an_archive(fake_model: FakeModel, tmp_path: Path) -> None:
    """`prompts check` takes the images of an archive as it takes a folder's, and names what it takes."""
    path, val = make_tar(tmp_path / "x.tar", MEMBERS), write(tmp_path / "val")
    options = ("--labels", "red,green,blue", "--model", "tiny", "--candidates", "plain", "--candidates", "general")
    there, here = (run("prompts", "check", place, *options) for place in (path, val))
    assert there.exit_code == 0 and there.stdout == here.stdout, there.output
