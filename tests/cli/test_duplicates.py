"""`zeroshot duplicates`: groups in every format, and the others moved aside and back."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from zeroshot.cli.main import app
from zeroshot.enums import Placement, PlanFormat
from zeroshot.output.render.sort_plan import write_plan
from zeroshot.sort.plan import Step


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images, one of them in three sizes below folders with equal names."""
    root = tmp_path / "images"
    for place in ("", "backup", "phone"):
        (root / place).mkdir(parents=True, exist_ok=True)
    cells = np.random.default_rng(0).integers(0, 256, (2, 6, 8, 3), dtype=np.uint8)
    one, other = (Image.fromarray(c).resize((320, 240), Image.Resampling.BICUBIC) for c in cells)
    one.save(root / "a.png")
    one.resize((160, 120)).save(root / "backup" / "a.png")
    one.resize((80, 60)).save(root / "phone" / "a.png")
    other.save(root / "b.png")
    return root


def run(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["duplicates", *arguments])
    assert result.exit_code == code, result.output
    return result.stdout


def test_each_format_has_the_same_rows(folder: Path) -> None:
    lines = [json.loads(line) for line in run(str(folder), "--format", "jsonl").splitlines()]
    assert [Path(line["path"]).relative_to(folder).as_posix() for line in lines] == [
        "a.png",
        "backup/a.png",
        "phone/a.png",
    ]
    assert [line["best"] for line in lines] == [True, False, False]
    assert {line["group"] for line in lines} == {1}
    document = json.loads(run(str(folder), "--format", "json"))
    assert document["images"] == lines
    assert document["searched"] == 4
    rows = list(csv.DictReader(io.StringIO(run(str(folder), "--format", "csv"))))
    assert [row["path"] for row in rows] == [line["path"] for line in lines]
    assert [row["best"] for row in rows] == ["true", "false", "false"]
    assert "320 x 240" in run(str(folder), "--format", "table")


def test_others_move_aside_and_come_back(folder: Path, tmp_path: Path) -> None:
    """Equal names get numbers, the best copy stays, and undo restores every byte."""
    before = {path: path.read_bytes() for path in folder.rglob("*.png")}
    aside = tmp_path / "aside"
    plan = run(str(folder), "--into", str(aside), "--dry-run")
    assert [line.endswith(f"(kept: {folder / 'a.png'})") for line in plan.splitlines()] == [True, True]
    assert all(re.match(r"move +[\d.]+%  ", line) for line in plan.splitlines())  # not behind paths, where it may break
    assert {path: path.read_bytes() for path in folder.rglob("*.png")} == before
    assert not aside.exists()
    run(str(folder), "--into", str(aside))
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png")) == ["a.png", "b.png"]
    assert len(list((aside / "001").iterdir())) == 2
    assert CliRunner().invoke(app, ["undo", str(aside)]).exit_code == 0
    assert {path: path.read_bytes() for path in folder.rglob("*.png")} == before


def test_many_groups_end_in_one_short_line(tmp_path: Path) -> None:
    """Folders are counted where there are many, so that how to take it back is not buried."""
    (tmp_path / "images").mkdir()
    for number in range(12):
        for name in ("a", "b"):
            Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / f"images/{number}{name}.png")
    aside = tmp_path / "aside"
    result = CliRunner().invoke(app, ["duplicates", str(tmp_path / "images"), "--into", str(aside)])
    assert result.stderr.splitlines()[:2] == [
        "zeroshot: 12 of 12 moved: into 12 folders",
        f"zeroshot: to take it back: zeroshot undo {aside}",
    ]


def test_a_second_run_leaves_what_lies_aside_alone(folder: Path, tmp_path: Path) -> None:
    """Where a group's folder exists already, newcomers get numbers and nothing is replaced."""
    aside = tmp_path / "aside"
    (aside / "001").mkdir(parents=True)
    (aside / "001" / "a.png").write_bytes(b"mine")
    run(str(folder), "--into", str(aside))
    assert (aside / "001" / "a.png").read_bytes() == b"mine"
    assert len(list((aside / "001").iterdir())) == 3


def test_the_folder_that_is_searched_takes_no_copies(folder: Path, tmp_path: Path) -> None:
    """However it is named: a second run would take what lies aside for images anew; one inside it is proposed."""
    (tmp_path / "link").symlink_to(folder)
    before = sorted(folder.rglob("*"))
    for into in (folder, tmp_path / "link"):
        result = CliRunner().invoke(app, ["duplicates", str(folder), "--into", str(into)])
        assert result.exit_code == 2
        assert f"try: --into {folder / 'duplicates'}" in result.stderr
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("columns", [60, 80, 100])
def test_a_narrow_plan_shows_which_copy_is_kept(columns: int) -> None:
    """The end of its path, which tells it from others, however little room there is."""
    step = Step("a/long/folder/x.jpg", Path("x.jpg"), Path("d/001/x.jpg"), Placement.MOVE, 1, 1, None, 1.0)
    kept = {step.path: "another/long/folder/of/images/IMG_0009.HEIC"}
    stream = io.BytesIO()
    write_plan([step], PlanFormat.TABLE, stream, width=columns, kept=kept)
    heading, row = stream.getvalue().decode().splitlines()[:2]
    assert heading.split()[-1] == "kept" and row.endswith("IMG_0009.HEIC") and len(row) <= columns


def test_images_that_lie_where_copies_go_are_counted(folder: Path) -> None:
    """What is below the target is left out of the search, and a line says how much that is."""
    (folder / "aside").mkdir()
    shutil.copy(next(folder.glob("*.png")), folder / "aside/mine.png")
    result = CliRunner().invoke(app, ["duplicates", str(folder), "--into", str(folder / "aside"), "--dry-run"])
    assert f"left out as if placed before: 1 image below {folder / 'aside'};" in result.stderr


def test_what_a_link_leads_out_to_stays(folder: Path, tmp_path: Path) -> None:
    """A folder that the input only links to is not the user's input: its images are listed, and not moved."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    Image.open(folder / "a.png").resize((100, 75)).save(elsewhere / "mine.png")
    (folder / "linked").symlink_to(elsewhere)
    assert "mine.png" in run(str(folder), "--format", "jsonl")
    result = CliRunner().invoke(app, ["duplicates", str(folder), "--into", str(tmp_path / "aside")])
    assert result.exit_code == 3
    assert "outside the input" in result.stderr
    assert (elsewhere / "mine.png").exists()
    assert not (folder / "phone" / "a.png").exists()


def test_a_link_that_loses_what_it_leads_to_is_named(folder: Path, tmp_path: Path) -> None:
    """A symbolic link to a copy that moves leads nowhere afterwards; the plan and the move say so, and only of it."""
    (folder / "link.png").symlink_to(folder / "phone" / "a.png")
    (folder / "kept.png").symlink_to(folder / "a.png")
    for more in (["--dry-run"], []):
        result = CliRunner().invoke(app, ["duplicates", str(folder), "--into", str(tmp_path / "aside"), *more])
        assert f"{folder / 'link.png'} leads to an image that moves" in result.stderr
        assert "kept.png" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--dry-run"], "--into"),
        (["--into", "aside", "--output", "x.jsonl"], "--output"),
        (["--into", "aside", "--format", "csv"], "--format"),
        (["--into", "aside", "--dry-run", "--format", "csv"], "csv"),
        (["--min-similarity", "0.2"], "0.2"),
        (["--exact", "--min-similarity", "0.985"], "--exact"),
    ],
)
def test_options_that_contradict_each_other_are_refused(folder: Path, arguments: list[str], word: str) -> None:
    result = CliRunner().invoke(app, ["duplicates", str(folder), *arguments])
    assert result.exit_code == 2
    assert word in result.stderr


def test_damaged_images_are_named_and_the_rest_is_grouped(folder: Path) -> None:
    for number in range(30):
        (folder / f"broken{number}.jpg").write_bytes(b"\xff\xd8\xff broken")
    result = CliRunner().invoke(app, ["duplicates", str(folder), "--format", "jsonl"])
    assert result.exit_code == 3
    assert len(result.stdout.splitlines()) == 3
    assert sum(f"broken{number}.jpg: " in result.stderr for number in range(30)) == 30


def test_a_folder_of_damaged_images_alone_names_them(tmp_path: Path) -> None:
    (tmp_path / "1.jpg").write_bytes(b"x")
    (tmp_path / "2.png").touch()
    result = CliRunner().invoke(app, ["duplicates", str(tmp_path)])
    assert (result.exit_code, result.exception.__class__) == (3, SystemExit)
    assert "1.jpg: " in result.stderr and "2.png: " in result.stderr
