"""What scripts use: a status, paths alone, chosen inputs, files that grow, and answers that were reviewed."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from support.commands import run
from support.fakes import FakeModel

LABELS = ["--labels", "red,blue,magenta"]


def test_every_record_has_a_status(folder: Path) -> None:
    """A failure, an unknown image and an answer can be told apart by one key."""
    (folder / "3.png").write_text("no image")
    lines = run("classify", folder, *LABELS, "--threshold", 0.55, "--format", "jsonl").stdout.splitlines()
    found = {Path(record["path"]).name: record for record in map(json.loads, lines)}
    assert {name: record["status"] for name, record in found.items()} == {
        "1.png": "ok" if found["1.png"]["label"] else "unknown",
        "2.png": "ok" if found["2.png"]["label"] else "unknown",
        "3.png": "failed",
        "10.png": "ok" if found["10.png"]["label"] else "unknown",
    }
    unknown = run("classify", folder / "1.png", *LABELS, "--threshold", 1, "--format", "jsonl").stdout
    assert list(json.loads(unknown))[:3] == ["path", "status", "label"]
    assert json.loads(unknown)["status"] == "unknown"


def test_records_of_one_label_and_paths_alone(folder: Path) -> None:
    """`--only` leaves out every other record, also failures; `--paths` and `--print0` give paths for xargs."""
    (folder / "3.png").write_text("no image")
    only = run("classify", folder, *LABELS, "--only", "red", "--only", "blue")
    assert [json.loads(line)["label"] for line in only.stdout.splitlines()] == ["blue", "red"]
    assert only.exit_code == 3
    paths = run("classify", folder, *LABELS, "--paths")
    assert paths.stdout.splitlines() == [str(folder / name) for name in ("1.png", "2.png", "10.png")]
    assert run("classify", folder, *LABELS, "--only", "red", "--print0").stdout == f"{folder / '2.png'}\0"
    wrong = run("classify", folder, *LABELS, "--only", "read")
    assert (wrong.exit_code, "no label 'read'; did you mean 'red'?" in wrong.stderr) == (2, True)


def test_paths_with_a_line_break_need_print0(folder: Path) -> None:
    """A list of lines would name two files for one; a line on stderr names the option for that."""
    (folder / "1.png").rename(folder / "1\n.png")
    assert "1 image with a line break in the path: --print0" in run("classify", folder, *LABELS, "--paths").stderr
    for chosen in ("--print0", "--quiet"):
        assert "line break" not in run("classify", folder, *LABELS, chosen).stderr
    for label, said in (("blue", True), ("red", False)):
        assert ("line break" in run("classify", folder, *LABELS, "--only", label, "--paths").stderr) == said


def test_one_group_of_all_labels_is_one_label(folder: Path, tmp_path: Path) -> None:
    """It always has probability 1, and that is said as for a single label; not where a background label competes."""
    text = "labels: [red, blue]\ngroups: {colour: [red, blue]}\n"
    for more, said in (("", True), ("background: [magenta]\n", False)):
        (tmp_path / "labels.yaml").write_text(text + more)
        result = run("classify", folder, "--labels-file", tmp_path / "labels.yaml")
        assert (result.exit_code, "always has probability 1" in result.stderr) == (0, said)


@pytest.mark.parametrize("options", [["--append"], ["--resume"]])
def test_what_cannot_be_continued_names_both_options(folder: Path, tmp_path: Path, options: list[str]) -> None:
    """Whichever was given."""
    result = run("classify", folder, *LABELS, "--output", tmp_path / "o.json", *options)
    assert (result.exit_code, "which --resume and --append cannot continue" in result.stderr) == (2, True)


@pytest.mark.parametrize("chosen", [["--only", "red"], ["--paths"], ["--print0"]])
def test_failures_that_have_no_record_are_named(fake_model: FakeModel, tmp_path: Path, chosen: list[str]) -> None:
    """Where records are chosen, every unreadable image is named on stderr, and no record is promised; also under -q."""
    for number in range(30):
        (tmp_path / f"{number}.jpg").write_text("no image")
    result = run("classify", tmp_path, "--labels", "red,blue", *chosen)
    assert (result.exit_code, result.stdout) == (3, "")
    assert [line.split(".jpg: ")[0].rpartition("/")[2] for line in result.stderr.splitlines()[:30]] == [
        *map(str, range(30))
    ]
    count = "zeroshot: 30 of 30 inputs could not be read, and have no record"
    assert result.stderr.splitlines()[30:] == [count]
    quiet = run("classify", tmp_path, "--labels", "red,blue", "-q", *chosen)
    assert (quiet.exit_code, quiet.stderr) == (3, count + "\n")


def test_the_summary_counts_inputs_whose_records_are_left_out(folder: Path) -> None:
    """With --only the document still says how many inputs there were, and how many failed."""
    (folder / "3.png").write_text("no image")
    result = run("classify", folder, *LABELS, "-f", "json", "--only", "red")
    everything = run("classify", folder, *LABELS, "-f", "json")
    chosen, whole = json.loads(result.stdout), json.loads(everything.stdout)
    assert len(chosen["records"]) < len(whole["records"])
    assert chosen["summary"] == whole["summary"] and whole["summary"]["failed"]


@pytest.mark.parametrize(
    "options", [["--only", "red", "--resume"], ["--paths", "--append"], ["--paths", "--format", "json"], ["--append"]]
)
def test_ways_of_writing_that_exclude_each_other(folder: Path, tmp_path: Path, options: list[str]) -> None:
    """A file that can be continued has a record of every input, and paths have no format."""
    target = [] if options == ["--append"] else ["--output", tmp_path / "out.jsonl"]
    assert run("classify", folder, *LABELS, *options, *target).exit_code == 2


def test_a_member_of_a_group_is_named_with_its_group(folder: Path, tmp_path: Path) -> None:
    """Its records carry the group's name, which --only takes; numbers that a table has no column for are refused."""
    (tmp_path / "labels.yaml").write_text("labels:\n  red:\n  blue:\n  hot red:\ngroups:\n  primary: [red, blue]\n")
    grouped = run("classify", folder, "--labels-file", tmp_path / "labels.yaml", "--only", "red")
    assert (grouped.exit_code, "'red' is reported as its group 'primary'" in grouped.stderr) == (2, True)
    table = run("classify", folder, *LABELS, "-f", "table", "--fields", "logit")
    assert (table.exit_code, "--fields: a table shows probabilities alone" in table.stderr) == (2, True)


def test_inputs_can_be_left_out_and_sampled(folder: Path, images: Callable[..., Path]) -> None:
    """By name or folder, the first ones, or a sample that a seed decides; the order stays."""
    images("all/thumbs/1.png", "red")
    images("all/thumbs/2.png", "blue")

    def found(*options: object) -> list[str]:
        lines = run("classify", folder, *LABELS, *options).stdout.splitlines()
        return [str(Path(json.loads(line)["path"]).relative_to(folder)) for line in lines]

    everything = ["1.png", "2.png", "10.png", "thumbs/1.png", "thumbs/2.png"]
    assert found() == everything
    assert found("--exclude", "thumbs") == everything[:3]
    assert found("--exclude", "thumbs/", "--exclude", "1*.png") == ["2.png"]
    assert found("--exclude", "thumbs/1.png") == [*everything[:3], everything[4]]
    assert found("--limit", 2) == everything[:2]
    assert found("--exclude", "1.png", "--limit", 1) == ["2.png"]
    for command in (("classify", folder, *LABELS), ("search", folder, "red")):
        nothing = run(*command, "--exclude", "*")
        assert (nothing.exit_code, "--exclude left out every input: 5 images" in nothing.stderr) == (1, True)
    samples = {tuple(found("--sample", 3, "--seed", seed)) for seed in range(6)}
    assert len(samples) > 1
    assert all(list(sample) == [name for name in everything if name in sample] for sample in samples)
    assert found("--sample", 3, "--seed", 5) == found("--sample", 3, "--seed", 5)
    assert found("--sample", 99) == everything


@pytest.mark.parametrize("ending", ["jsonl", "csv", "tsv"])
def test_a_finished_file_takes_new_images(
    folder: Path, images: Callable[..., Path], tmp_path: Path, ending: str
) -> None:
    """Wherever they stand among the inputs; what was there stays as it was, and no image has two records."""
    output = tmp_path / f"out.{ending}"
    command = ["classify", folder, *LABELS, "--output", output]
    images("all/a, b\t1.png", "red")
    assert run(*command, "--resume").exit_code == 0
    before = output.read_bytes()
    images("all/1-new.png", "red")
    refused = run(*command, "--resume")
    assert (refused.exit_code, "--append" in refused.stderr or "another than" in refused.stderr) == (1, True)
    assert output.read_bytes() == before
    assert run(*command, "--append").exit_code == 0
    after = output.read_bytes()
    assert after.startswith(before)
    assert after[len(before) :].count(b"\n") == 1
    assert b"1-new.png" in after[len(before) :]
    assert run(*command, "--append").exit_code == 0
    assert output.read_bytes() == after


def test_append_begins_a_file_that_is_not_there(folder: Path, tmp_path: Path) -> None:
    """So that the same command can run every night."""
    output = tmp_path / "out.jsonl"
    command = ["classify", folder, *LABELS, "--output", output, "--append"]
    assert run(*command).exit_code == 0
    assert output.read_text().count("\n") == 3
    assert run(*command).exit_code == 0
    assert output.read_text().count("\n") == 3


@pytest.mark.parametrize("ending", ["jsonl", "json", "csv", "tsv"])
def test_images_are_sorted_by_reviewed_answers(
    folder: Path, fake_model: FakeModel, images: Callable[..., Path], tmp_path: Path, ending: str
) -> None:
    """What a results file says, changed by hand, decides; no model is loaded, and undo takes it back."""
    odd = images("all/ü, 'x'\t1.png", "red")
    output = tmp_path / f"answers.{ending}"
    assert run("classify", folder, *LABELS, "--output", output).exit_code == 0
    before = sorted(path.name for path in folder.iterdir())
    text = output.read_text()
    output.write_text(text.replace("magenta", "violet"))
    calls = len(fake_model.calls)
    result = run("sort", "--from", output, "--into", tmp_path / "sorted", "--move")
    assert result.exit_code == 0, result.stderr
    assert len(fake_model.calls) == calls
    assert sorted(path.name for path in (tmp_path / "sorted" / "red").iterdir()) == sorted(["2.png", odd.name])
    assert [path.name for path in (tmp_path / "sorted" / "violet").iterdir()] == ["10.png"]
    assert run("undo", tmp_path / "sorted").exit_code == 0
    assert sorted(path.name for path in folder.iterdir()) == before


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.jsonl", '{"path": "x.png"}\n', "record 1: has no 'label'"),
        ("a.jsonl", '{"path": "x.png", "label": "a"}\n{"path"', "record 2"),
        ("a.txt", "images/x.png\n", "record 1: not JSON; a list of paths has no labels"),
        ("a.jsonl", "[1]\n", "record 1: not a JSON object"),
        ("a.csv", "path,label\nx.png\n", "record 1: it has too few columns"),
        ("a.csv", "file,label\nx.png,a\n", "no columns path and label, but 'file', 'label'"),
        ("a.json", "[]", "a.json is not a document of `zeroshot classify`"),
        ("a.json", '{"format": "zeroshot-eval"}', "a.json is not a document of `zeroshot classify`"),
    ],
)
def test_a_file_of_answers_that_is_none_is_named(tmp_path: Path, name: str, text: str, said: str) -> None:
    """Nothing is sorted by it, and the record is named."""
    (tmp_path / name).write_text(text)
    refused = run("sort", "--from", tmp_path / name, "--into", tmp_path / "out")
    assert (refused.exit_code, said in refused.stderr) == (1, True), refused.stderr
    assert not (tmp_path / "out").exists()


def test_sorting_by_a_file_takes_no_images_and_the_threshold(folder: Path, tmp_path: Path) -> None:
    """The page's reviewed.jsonl has no probability; with one, --threshold still sends images to _review."""
    reviewed = tmp_path / "reviewed.jsonl"
    reviewed.write_text(
        f'{{"path": "{folder}/1.png", "label": "x"}}\n{{"path": "{folder}/2.png", "label": "x", "probability": 0.4}}\n'
        f'{{"path": "{folder}/10.png", "error": "damaged"}}\n'
    )
    into = tmp_path / "out"
    assert run("sort", folder, "--from", reviewed, "--into", into).exit_code == 2
    assert run("sort", "--from", reviewed, "--into", into, "--threshold", 0.5).exit_code == 3
    assert {path.parent.name for path in into.rglob("*.png")} == {"x", "_review"}


def test_a_sort_takes_a_calibration_and_undo_a_folder(
    folder: Path, images: Callable[..., Path], tmp_path: Path
) -> None:
    """The fitted threshold decides what is reviewed; undo finds the newest journal that has something to take back."""
    for colour in ("red", "blue", "magenta"):
        for number in range(14):
            images(f"val/{colour}/{number}.png", colour, (8 + number, 8))
    calibration = tmp_path / "calibration.json"
    fitted = run("calibrate", tmp_path / "val", "--output", calibration, "--force")
    assert fitted.exit_code == 0, fitted.stderr
    fewer = run("sort", folder, "--labels", "red,blue", "--into", tmp_path / "a", "--calibration", calibration)
    assert (fewer.exit_code, "other labels" in fewer.stderr) == (1, True)
    same = ["--labels", "blue,magenta,red", "--calibration", calibration]
    assert run("sort", folder, *same, "--into", tmp_path / "a").exit_code == 0
    into = tmp_path / "b"
    first = run("sort", folder / "1.png", *LABELS, "--into", into)
    second = run("sort", folder / "2.png", *LABELS, "--into", into)
    assert first.stdout.count(".jsonl") == 1
    assert ".jsonl" not in first.stderr
    assert f"zeroshot undo {into}" in second.stderr
    for left in (["blue/1.png"], []):
        assert run("undo", into).exit_code == 0
        assert [str(path.relative_to(into)) for path in into.rglob("*.png")] == left
    assert run("undo", into).exit_code == 0


def test_csv_cells_that_could_be_formulas_come_back(
    images: Callable[..., Path], fake_model: FakeModel, tmp_path: Path
) -> None:
    """A label that was guarded for spreadsheets is the label again."""
    path = images("a.png", "red")
    row = io.StringIO()
    csv.writer(row).writerow([path, "'=red"])
    (tmp_path / "a.csv").write_text("path,label\n" + row.getvalue())
    planned = run("sort", "--from", tmp_path / "a.csv", "--into", tmp_path / "out", "--dry-run", "--format", "jsonl")
    assert json.loads(planned.stdout)["label"] == "=red"


def test_reviewed_paths_that_count_from_another_folder_are_named(tmp_path: Path) -> None:
    """Each image is named, and once what is wrong with all of them."""
    (tmp_path / "a.csv").write_text("path,label,probability,error,status\nnot/there.jpg,cat,0.9,,ok\n")
    refused = run("sort", "--from", tmp_path / "a.csv", "--into", tmp_path / "out")
    assert (refused.exit_code, "where `classify` ran" in refused.stderr) == (3, True)
