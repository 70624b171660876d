"""`zeroshot classify` as it is typed: records, formats, messages and exit codes, with a model of colours."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from support.fakes import FakeEncoder, FakeModel
from zeroshot.cli.main import app

SaveImage = Callable[..., Path]


def run(*arguments: object, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(app, ["classify", *map(str, arguments)], input=stdin)


def lines(result: Result) -> list[dict[str, object]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_a_folder_gives_a_line_a_image_in_natural_order(
    fake_model: FakeModel, images: SaveImage, tmp_path: Path
) -> None:
    """Piped output is jsonl with the contract's keys, 2 before 10."""
    for name, colour in [("10.png", "blue"), ("2.png", "red"), ("sub/1.png", "green")]:
        images(name, colour)
    result = run(tmp_path, "--labels", "red,green,blue")
    assert result.exit_code == 0
    found = lines(result)
    assert [(Path(str(line["path"])).name, line["label"]) for line in found] == [
        ("2.png", "red"),
        ("10.png", "blue"),
        ("1.png", "green"),
    ]
    assert list(found[0]) == ["path", "status", "label", "probability", "top"]


def test_five_hundred_images_with_twenty_bad_ones(fake_model: FakeModel, images: SaveImage, tmp_path: Path) -> None:
    """500 inputs give 500 records in order, 20 of them failures in their places, and exit code 3."""
    colours = ["red", "green", "blue"]
    first = {colour: images(f"{colour}.png", colour).read_bytes() for colour in colours}
    folder = tmp_path / "all"
    folder.mkdir()
    for index in range(500):
        good = first[colours[index % 3]]
        (folder / f"{index}.png").write_bytes(good[: len(good) // 2] if index % 25 == 7 else good)
    result = run(folder, "--labels", ",".join(colours), "--batch-size", 7)
    assert result.exit_code == 3
    found = lines(result)
    assert [Path(str(line["path"])).stem for line in found] == [str(index) for index in range(500)]
    for index, line in enumerate(found):
        if index % 25 == 7:
            assert set(line) == {"path", "status", "error"}
        else:
            assert line["label"] == colours[index % 3]
    assert sum("error" in line for line in found) == 20
    assert "20 of 500 inputs could not be read" in result.stderr


def test_paths_come_from_stdin_and_lists(fake_model: FakeModel, images: SaveImage, tmp_path: Path) -> None:
    """``-`` reads lines, ``--from0`` NUL-separated names with newlines, ``--files-from`` a file after the inputs."""
    red, odd = images("red.png", "red"), images("a\nb.png", "blue")
    assert [line["path"] for line in lines(run("-", "--labels", "red,blue", stdin=os.fsencode(red) + b"\n"))] == [
        str(red)
    ]
    result = run("-", "--from0", "--labels", "red,blue", stdin=b"\0".join([os.fsencode(odd), os.fsencode(red)]))
    assert [(line["path"], line["label"]) for line in lines(result)] == [(str(odd), "blue"), (str(red), "red")]
    (tmp_path / "list").write_text(f"{red}\n")
    result = run(odd, "--files-from", tmp_path / "list", "--labels", "red,blue")
    assert [line["path"] for line in lines(result)] == [str(odd), str(red)]


def test_a_name_of_invalid_utf8_survives(fake_model: FakeModel, images: SaveImage, tmp_path: Path) -> None:
    """The bytes of a file's name come back from the JSON as they were."""
    raw = os.fsencode(tmp_path) + b"/\xff\xfe.png"
    images("x.png", "red").rename(os.fsdecode(raw))
    result = run(tmp_path, "--labels", "red,blue")
    assert os.fsencode(str(lines(result)[0]["path"])) == raw


def test_one_missing_path_is_one_failed_record(fake_model: FakeModel, images: SaveImage) -> None:
    """The other inputs are classified all the same; the exit code says that one is missing."""
    red = images("red.png", "red")
    result = run("nowhere.png", red, "--labels", "red,blue")
    assert result.exit_code == 3
    assert [line.get("error", line.get("label")) for line in lines(result)] == ["no such file", "red"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nowhere", "--labels", "a,b"], 1, "no such file or folder: nowhere"),
        (["EMPTY", "--labels", "a,b"], 1, "no images in"),
        (["IMAGE"], 2, "no labels"),
        (["IMAGE", "--labels", ""], 2, "no labels"),
        (["IMAGE", "--labels", "a,,b"], 2, "label 2 is empty"),
        (["IMAGE", "--labels", "cat,Cat "], 2, "labels are given twice"),
        (["IMAGE", "--labels", "a", "--labels-file", "b"], 2, "both --labels and --labels-file"),
        (["IMAGE", "--labels", "a,b", "--prompts", "generel"], 1, "did you mean 'general'?"),
        (["IMAGE", "--labels", "a,b", "--template", "no placeholder"], 2, "has no placeholder"),
        (["IMAGE", "--labels", "a,b", "--prompts", "photo", "--template", "{}"], 2, "both --prompts and --template"),
        (["IMAGE", "--labels", "a,b", "--fields", "logits"], 2, "did you mean 'logit'?"),
        (["IMAGE", "--labels", "a,b", "--score", "sigmoid"], 2, "was trained with a softmax"),
        (["IMAGE", "--labels", "a,b", "--output", "FOLDER"], 1, "is a folder"),
        (["--labels", "a,b"], 2, "no images"),
        (["-", "--files-from", "-", "--labels", "a,b"], 2, "stdin is named twice"),
        (["IMAGE", "--labels-file", "nofile.txt"], 1, "cannot read nofile.txt"),
    ],
)
def test_mistakes_are_one_line_and_a_hint(
    fake_model: FakeModel, images: SaveImage, tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    """Each mistake names the value and says what to try, prints nothing on stdout, and has its exit code."""
    (tmp_path / "empty").mkdir()
    places = {"IMAGE": images("p.png"), "EMPTY": tmp_path / "empty", "FOLDER": tmp_path}
    result = run(*(places.get(argument, argument) for argument in arguments))
    assert (result.exit_code, result.stdout) == (code, "")
    error, hint = result.stderr.splitlines()
    assert error.startswith("zeroshot: error: ")
    assert message in error
    assert hint.startswith("  try: ")


def test_the_json_document_has_its_contract(fake_model: FakeModel, images: SaveImage) -> None:
    """One versioned document: manifest, records, summary; the manifest repeats everything that decided the answers."""
    result = run(
        images("red.png", "red"), "missing.png", "--labels", "red,blue", "--format", "json", "--threshold", 0.1
    )
    document = json.loads(result.stdout)
    assert list(document) == ["format", "version", "manifest", "records", "summary"]
    assert (document["format"], document["version"]) == ("zeroshot-classify", 1)
    assert document["summary"] == {"inputs": 2, "failed": 1, "complete": True}
    assert list(document["manifest"]) == ["model", "prompts", "labels", "options"]
    assert {"model", "weights_sha256", "preprocessing", "device", "precision", "versions", "fingerprint"} <= set(
        document["manifest"]["model"]
    )
    assert {"name", "sha256", "templates"} <= set(document["manifest"]["prompts"])
    assert document["manifest"]["options"] == {"score": "softmax", "top_k": 2, "threshold": 0.1, "exif": True}


def test_fields_and_top_k_choose_the_numbers(fake_model: FakeModel, images: SaveImage) -> None:
    """Similarity and logit stand beside the probability, for the answer and each ranked label, to 6 digits."""
    result = run(images("red.png", "red"), "--labels", "red,green,blue", "--fields", "similarity,logit", "--top-k", 2)
    (line,) = lines(result)
    assert list(line) == ["path", "status", "label", "probability", "similarity", "logit", "top"]
    top = line["top"]
    assert isinstance(top, list)
    assert [list(ranked) for ranked in top] == [["label", "probability", "similarity", "logit"]] * 2
    assert all(value == float(f"{value:.6g}") for ranked in top for key, value in ranked.items() if key != "label")


def test_csv_and_tsv_have_a_row_a_record(fake_model: FakeModel, images: SaveImage) -> None:
    """A header, then path, label, probability, error and the ranked labels."""
    red = images('a,"b.png', "red")
    result = run(red, "missing.png", "--labels", r"red\, bright,blue", "--format", "csv")
    header, answer, failure = csv.reader(io.StringIO(result.stdout))
    assert header == [
        "path",
        "label",
        "probability",
        "error",
        "status",
        "label_1",
        "probability_1",
        "label_2",
        "probability_2",
    ]
    assert answer[:2] == [str(red), "red, bright"]
    assert failure[0] == "missing.png"
    assert failure[3] == "no such file"
    assert run(red, "--labels", "red,blue", "--format", "tsv").stdout.splitlines()[1].split("\t")[1] == "red"


def test_the_output_file_appears_whole(fake_model: FakeModel, images: SaveImage, tmp_path: Path) -> None:
    """--output writes what stdout would have had, and leaves no partial file."""
    red, target = images("red.png", "red"), tmp_path / "out.jsonl"
    on_stdout = run(red, "--labels", "red,blue").stdout
    assert run(red, "--labels", "red,blue", "--output", target).stdout == ""
    assert target.read_text() == on_stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.jsonl", "red.png"]


def test_below_the_threshold_the_label_is_null(fake_model: FakeModel, images: SaveImage) -> None:
    """Unknown is null; the probability and the ranked labels are still there."""
    (line,) = lines(run(images("grey.png", (120, 120, 120)), "--labels", "red,green,blue", "--threshold", 0.9))
    assert line["label"] is None
    assert line["top"]


def test_background_and_groups_come_from_the_label_file(
    fake_model: FakeModel, images: SaveImage, tmp_path: Path
) -> None:
    """A background label takes the image but is never reported; a group's probability is its members' sum."""
    labels = tmp_path / "labels.yaml"
    labels.write_text("labels: {red: [crimson], green: , blue: }\nbackground: [black]\ngroups: {cold: [green, blue]}\n")
    green, black = images("green.png", "green"), images("black.png", "black")
    plain = lines(run(green, "--labels", "red,green,blue,black"))[0]
    first, second = lines(run(green, black, "--labels-file", labels))
    assert first["label"] == "cold"
    shares = {ranked["label"]: ranked["probability"] for ranked in plain["top"]}  # type: ignore[union-attr,attr-defined]
    assert first["probability"] >= shares["green"]  # type: ignore[operator]
    assert second["label"] is None
    assert {ranked["label"] for ranked in second["top"]} == {"red", "cold"}  # type: ignore[union-attr,attr-defined]


def test_what_the_model_would_misread_is_said_first(fake_model: FakeModel, images: SaveImage) -> None:
    """Underscores, truncation and a single label are warned of on stderr; results are printed all the same."""
    red = images("red.png", "red")
    assert "underscores" in run(red, "--labels", "dark_red,blue").stderr
    assert "one label alone" in run(red, "--labels", "red").stderr
    fake_model.encoder = FakeEncoder(context_length=8)
    result = run(red, "--labels", "red and a great many words after it that nobody reads,blue", "--template", "{}")
    assert "longer than the 8 tokens" in result.stderr
    assert result.exit_code == 0


def test_outputs_are_looked_at_before_the_model_is_loaded(
    fake_model: FakeModel, images: SaveImage, tmp_path: Path
) -> None:
    """Also those of --resume, one file for two options, and a calibration that is not there."""
    asked = [images("red.png", "red"), "--labels", "red,blue"]
    for options, message in (
        (["--output", tmp_path / "no" / "out", "--resume"], "No such file or directory"),
        (["--output", tmp_path, "--resume"], "it is a folder"),
        (["--output", os.devnull, "--resume"], "not a regular file"),
        (["--output", tmp_path / "out", "--resume", "--format", "json"], "which --resume and --append cannot continue"),
        (["--output", tmp_path / "out", "--report", tmp_path / "out"], "--output and --report name the same file"),
        (["--calibration", tmp_path / "none"], "none: No such file or directory"),
    ):
        refused = run(*asked, *options)
        expected = 2 if "json" in options else 1
        assert (refused.exit_code, fake_model.calls) == (expected, []), options
        assert message in refused.stderr
        assert "  try: " in refused.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["red.png"]


def test_looking_at_an_output_leaves_what_can_be_continued(
    fake_model: FakeModel, images: SaveImage, tmp_path: Path
) -> None:
    """The records of an interrupted run are there after the look, and are continued."""
    asked = [images("red.png", "red"), images("blue.png", "blue"), "--labels", "red,blue", "--batch-size", 1]
    asked += ["--output", tmp_path / "out", "--resume"]
    assert run(*asked).exit_code == 0
    whole = (tmp_path / "out").read_bytes()
    (tmp_path / "out").unlink()
    (tmp_path / "out.partial").write_bytes(whole[: whole.index(b"\n") + 5])
    continued = run(*asked)
    assert "continuing after 1 records" in continued.stderr
    assert (tmp_path / "out").read_bytes() == whole
