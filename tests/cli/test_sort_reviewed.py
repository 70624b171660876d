"""`sort --from FILE`: images sorted by the labels of a results file."""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.test_sort import files
from support.commands import every_command, run
from support.fakes import FakeModel
from zeroshot.cli import sort_reviewed
from zeroshot.cli.input_options import InputOptions
from zeroshot.cli.label_options import LearnedLabelOptions
from zeroshot.cli.model_options import ModelOptions
from zeroshot.cli.pipeline_options import ImageOptions
from zeroshot.output.read_records import read_records

SaveImage = Callable[..., Path]


@pytest.fixture
def answers(images: SaveImage, tmp_path: Path) -> Path:
    """Five images, and a file that gives each a label."""
    rows = []
    for number, label in enumerate(["cat", "cat", "dog", "dog", "dog"], 1):
        image = images(f"src/{'thumbs/' if number == 2 else ''}{number}.png", "red", (number, 9))
        rows.append({"path": str(image), "label": label, "probability": 0.5 + number / 20})
    file = tmp_path / "a.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_chosen_images_alone_are_sorted(answers: Path, tmp_path: Path) -> None:
    """--exclude, --sample, --seed and --limit choose among the file's images; what is left out is not moved."""
    out = tmp_path / "out"
    done = run("sort", "--from", answers, "--into", out, "--move", "--exclude", "thumbs", "--limit", 2)
    assert (done.exit_code, files(out)) == (0, ["cat/1.png", "dog/3.png"])
    assert files(tmp_path / "src") == ["4.png", "5.png", "thumbs/2.png"]
    seen = set()
    for seed in range(6):
        target = tmp_path / f"seed{seed}"
        assert run("sort", "--from", answers, "--into", target, "--sample", 1, "--seed", seed).exit_code in (0, 3)
        seen.add(tuple(files(target)))
    assert len(seen) > 1


@pytest.mark.parametrize("form", ["csv", "tsv", "json", "jsonl"])
def test_a_confirmed_unknown_keeps_its_label(
    form: str, fake_model: FakeModel, images: SaveImage, tmp_path: Path
) -> None:
    """Whoever writes a label where there was none has decided, also for the likeliest: the threshold is not asked."""
    table = tmp_path / f"a.{form}"
    image = images("src/1.png", (140, 120, 120))
    words = ["classify", image, "--labels", "red,blue", "--threshold", "0.999999", "--output", table]
    assert run(*words).exit_code == 0
    text = table.read_text()
    filled = text.replace('"label": null', '"label": "red"', 1)
    if form in ("csv", "tsv"):
        mark = "," if form == "csv" else "\t"
        filled = text.replace(f"1.png{mark}{mark}", f"1.png{mark}red{mark}", 1)
    assert filled != text
    table.write_text(filled)
    assert run("sort", "--from", table, "--into", tmp_path / "out", "--threshold", "0.999999").exit_code == 0
    assert files(tmp_path / "out") == ["red/1.png"]


def test_an_exclude_that_matches_nothing_is_named(answers: Path, tmp_path: Path) -> None:
    """A misspelt pattern would leave out nothing, unseen; one that matched is not named."""
    out = tmp_path / "out"
    done = run("sort", "--from", answers, "--into", out, "--exclude", "thumb", "--exclude", "5.png")
    assert "zeroshot: --exclude thumb matched nothing\n" in done.stderr
    assert "--exclude 5.png" not in done.stderr
    assert len(files(out)) == 4


def test_a_seed_without_a_sample_is_refused(answers: Path, tmp_path: Path) -> None:
    """It would be ignored, with a file of labels and without."""
    for given in (["--from", answers], [tmp_path / "src", "--labels", "a,b"]):
        done = run("sort", *given, "--into", tmp_path / "out", "--seed", 3)
        assert (done.exit_code, "--seed chooses a sample" in done.stderr) == (2, True)


REFUSED = {
    "paths": ["x.jpg"],
    "files_from": ["--files-from", "x.txt"],
    "from0": ["--from0"],
    "archives": ["--archives"],
    "labels": ["--labels", "a,b"],
    "labels_file": ["--labels-file", "x.txt"],
    "prompts": ["--prompts", "plain"],
    "template": ["--template", "a {}"],
    "learned": ["--learned", "x.npz"],
    "model": ["--model", "tiny"],
    "pretrained": ["--pretrained", "x"],
    "preprocess": ["--preprocess", '{"mean": 0.4}'],
    "device": ["--device", "cpu"],
    "precision": ["--precision", "fp32"],
    "engine": ["--engine", "torch"],
    "export": ["--export"],
    "no_exif": ["--no-exif"],
    "max_pixels": ["--max-pixels", "1000"],
    "draft": ["--draft"],
    "resize": ["--resize", "fast"],
    "no_cache": ["--no-cache"],
    "batch_size": ["--batch-size", "3"],
    "workers": ["--workers", "3"],
    "isolate": ["--isolate"],
    "image_timeout": ["--isolate", "--image-timeout", "5"],
    "calibration": ["--calibration", "x.json"],
    "score": ["--score", "sigmoid"],
}
"""What of each parameter that says nothing with --from is typed."""


def test_every_option_of_sort_either_applies_or_is_refused() -> None:
    """A new option has to be given its place here, so that none is ignored in silence."""
    (command,) = [found for words, found in every_command() if words == ("sort",)]
    names = {parameter.name for parameter in command.params} - {"help"}
    assert names == sort_reviewed.APPLIED | set(REFUSED)
    assert not sort_reviewed.APPLIED & set(REFUSED)


@pytest.mark.parametrize("name", REFUSED)
def test_options_without_a_meaning_are_refused(answers: Path, tmp_path: Path, name: str) -> None:
    """Each is named, before anything is moved."""
    done = run("sort", "--from", answers, "--into", tmp_path / "out", "--move", *REFUSED[name])
    option = {"paths": "images are named too", "image_timeout": "--image-timeout"}.get(name, REFUSED[name][0])
    assert done.exit_code == 2, done.stderr
    assert option in done.stderr and "--from" in done.stderr
    assert files(tmp_path / "src") == ["1.png", "3.png", "4.png", "5.png", "thumbs/2.png"]


def test_groups_of_sort_are_those_that_are_looked_through() -> None:
    """Every group that `sort` has is handed to the check, field by field."""
    from zeroshot.cli.sort import sort

    groups = (InputOptions, LearnedLabelOptions, ModelOptions, ImageOptions)
    inside = {field.name for group in groups for field in dataclasses.fields(group)}
    outside = {"into", "from_", "copy", "move", "dry_run", "format_", "threshold", "calibration", "score"}
    assert set(inspect.signature(sort).parameters) == inside | outside


def plan(file: Path, tmp_path: Path, *options: object) -> dict[str, tuple[str, float | None]]:
    """Return the folder and the probability of each image that would be sorted, by its name."""
    shown = run("sort", "--from", file, "--into", tmp_path / "out", "--dry-run", "-f", "jsonl", *options)
    assert shown.exit_code in (0, 3), shown.output + str(shown.exception)
    rows = [row for row in map(json.loads, shown.stdout.splitlines()) if "target" in row]
    return {Path(row["path"]).name: (Path(row["target"]).parent.name, row["probability"]) for row in rows}


@pytest.mark.parametrize("ending", ["jsonl", "csv", "tsv"])
def test_labels_set_by_hand_are_kept(fake_model: FakeModel, images: SaveImage, tmp_path: Path, ending: str) -> None:
    """A threshold judges what was measured: a label typed over another has no probability and is not reviewed."""
    for name, colour in (("1", "red"), ("2", "blue"), ("3", "grey")):
        images(f"src/{name}.png", colour)
    file = tmp_path / f"a.{ending}"
    labels = ["--labels", "red,green,blue", "--no-cache"]
    assert run("classify", tmp_path / "src", *labels, "--output", file).exit_code == 0
    lines = file.read_text().splitlines()
    mark = {"jsonl": '"label": "red", "prob', "csv": ",red,", "tsv": "\tred\t"}[ending]
    place = next(number for number, line in enumerate(lines) if "1.png" in line)
    lines[place] = lines[place].replace(mark, mark.replace("red", "green"), 1)
    file.write_text("\n".join(lines) + "\n")
    found = plan(file, tmp_path, "--threshold", 0.9999)
    assert found["1.png"] == ("green", None)
    assert found["3.png"][0] == "_review" and found["3.png"][1] is not None


def test_no_number_is_shown_that_nobody_measured(answers: Path, tmp_path: Path) -> None:
    """A table without probabilities prints none, and its labels pass any threshold."""
    table = tmp_path / "a.csv"
    table.write_text(f"path,label\n{tmp_path}/src/1.png,cat\n")
    assert plan(table, tmp_path, "--threshold", 0.9) == {"1.png": ("cat", None)}
    assert "%" not in run("sort", "--from", table, "--into", tmp_path / "out", "--dry-run").stdout


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl"])
def test_two_labels_for_one_image_are_refused(answers: Path, tmp_path: Path, ending: str) -> None:
    """Both lines are named, also where the second name is a link; the same label twice is no contradiction."""
    (tmp_path / "link.png").symlink_to(tmp_path / "src/1.png")
    pairs = [(f"{tmp_path}/src/1.png", "cat"), (f"{tmp_path}/src/3.png", "dog"), (f"{tmp_path}/link.png", "dog")]
    mark = {"csv": ",", "tsv": "\t"}.get(ending, "")
    lines = [mark.join(pair) for pair in [("path", "label"), *pairs]]
    if ending == "jsonl":
        lines = [json.dumps({"path": path, "label": label}) for path, label in pairs]
    file = tmp_path / f"two.{ending}"
    file.write_text("\n".join(lines) + "\n")
    refused = run("sort", "--from", file, "--into", tmp_path / "out", "--move")
    here, before = (4, 2) if ending != "jsonl" else (3, 1)
    assert refused.exit_code == 1
    assert f"line {here}: {tmp_path}/link.png is 'dog' here and 'cat' in line {before}" in refused.stderr
    assert not (tmp_path / "out").exists()


def test_labels_are_read_as_they_are_meant(answers: Path, tmp_path: Path) -> None:
    """Blanks go, case is the first one's and said, and _review is where images without a label lie."""
    table = tmp_path / "typed.csv"
    rows = [
        "path,label",
        *(f"{tmp_path}/src/{name}" for name in ("1.png,Bee", "3.png, bee ", "4.png,bee", "5.png,_review")),
    ]
    table.write_text("\n".join(rows) + "\n")
    done = run("sort", "--from", table, "--into", tmp_path / "out")
    assert files(tmp_path / "out") == ["Bee/1.png", "Bee/3.png", "Bee/4.png", "_review/5.png"]
    assert "labels that differ in case are one: bee as Bee" in done.stderr


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("path;label;probability\r\n{0}/1.png;cat;0,75\r\n", "utf-8-sig"),
        ("Path\tLabel\tProbability\r\n{0}/1.png\tcat\t75%\r\n", "utf-16"),
        ('"path","label","probability"\r\n"{0}/1.png","cat","0.75"\r\n\r\n', "cp1252"),
    ],
)
def test_tables_that_spreadsheets_save(answers: Path, tmp_path: Path, text: str, encoding: str) -> None:
    """Semicolons, tabs in UTF-16, decimal commas and percentages are read."""
    table = tmp_path / "sheet.csv"
    table.write_bytes(text.format(tmp_path / "src").encode(encoding))
    assert plan(table, tmp_path) == {"1.png": ("cat", 0.75)}


@pytest.mark.skipif(sys.platform != "linux", reason="other systems take no such names")
@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl"])
def test_names_that_are_not_utf_8_keep_apart(
    fake_model: FakeModel, images: SaveImage, tmp_path: Path, ending: str
) -> None:
    """A byte's escape, and a file literally named like one, come back as two images, whatever precedes them."""
    content = {"red": images("red.png", "red").read_bytes(), "blue": images("blue.png", "blue").read_bytes()}
    folder = tmp_path / "src"
    folder.mkdir()
    colours = {}
    for number in range(4):
        slashes = b"\\" * number
        for name, colour in ((b"udce9", "blue"), (b"\xe9", "red")):
            file = os.fsencode(folder) + b"/a" + slashes + name + b".png"
            Path(os.fsdecode(file)).write_bytes(content[colour])
            colours[file] = colour
    table = tmp_path / f"t.{ending}"
    assert run("classify", folder, "--labels", "red,blue", "--no-cache", "-o", table).exit_code == 0
    records, _ = read_records(table)
    assert {os.fsencode(record.path): record.label for record in records} == colours
