"""``zeroshot eval`` from the command line, with the encoder that sees colours."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from support.fakes import FakeEncoder
from zeroshot.cli.main import app
from zeroshot.enums import Precision
from zeroshot.evaluation import compare, eval_file
from zeroshot.output.report import eval_page

runner = CliRunner()


@pytest.fixture
def folder(images, tmp_path: Path) -> str:
    """Ten images of three colours, one of them in the wrong folder."""
    for index in range(4):
        images(f"val/red/{index}.png", (255, 10 * index, 0))
        images(f"val/blue/{index}.png", (0, 10 * index, 255))
    images("val/green/1.png", "green")
    images("val/green/2.png", "red")
    return str(tmp_path / "val")


def add_images(folder: str) -> None:
    """Add forty images with mistakes in both halves: the probabilities are too sure."""
    for index in range(40):
        shown = "red" if index % 2 else "blue"
        given = "green" if index % 5 == 0 else shown
        copy = Path(folder) / given / f"more{index}.png"
        copy.write_bytes((Path(folder) / shown / "0.png").read_bytes())


def evaluate(*arguments: str) -> dict[str, Any]:
    result = runner.invoke(app, ["eval", *arguments])
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_contract(fake_model, folder: str) -> None:
    """The keys of the JSON are pinned, and the numbers of the ten images are right."""
    document = evaluate(folder, "--label-issues", "3")
    assert list(document) == [
        *("format", "version", "manifest", "metrics", "images", "labels", "confusion", "reliability"),
        *("risk_coverage", "predictions", "suspects", "failures", "links", "mapping"),
    ]
    assert (document["format"], document["version"]) == ("zeroshot-eval", 1)
    assert {name: sorted(entry) for name, entry in document["metrics"].items()} == {
        "top1": ["high", "low", "value"],
        "top5": ["high", "low", "value"],
        "mean_recall": ["high", "low", "value"],
        "mean_f1": ["value"],
        "ece": ["value"],
        "nll": ["high", "low", "value"],
        "brier": ["high", "low", "value"],
        "aurc": ["value"],
    }
    assert document["metrics"]["top1"]["value"] == 0.9
    assert document["metrics"]["mean_recall"]["value"] == pytest.approx((1 + 0.5 + 1) / 3)
    assert list(document["labels"][0]) == ["label", "key", "support", "recall", "precision", "f1"]
    assert list(document["predictions"][0]) == [
        *("path", "target", "target_index", "target_probability", "label", "probability", "top"),
    ]
    assert list(document["predictions"][0]["top"][0]) == ["index", "label", "probability"]
    assert list(document["reliability"][0]) == ["low", "high", "count", "confidence", "accuracy"]
    assert list(document["risk_coverage"][0]) == ["coverage", "risk", "threshold"]
    issue = document["suspects"][0]
    assert list(issue) == [
        *("path", "given", "given_probability", "suggested", "suggested_probability", "reason"),
    ]
    assert (issue["path"][-11:], issue["given"], issue["suggested"]) == ("green/2.png", "green", "red")


def test_the_way_that_images_were_opened_stands_in_the_manifest(fake_model, folder: str) -> None:
    """Also what is not the default: figures of drafts are not those of whole images."""
    plain, drafts = evaluate(folder), evaluate(folder, "--draft", "--no-exif", "--max-pixels", "5000")
    always = {"score": "softmax", "data": folder}
    assert plain["manifest"]["options"] == always | {"exif": True}
    assert drafts["manifest"]["options"] == always | {"exif": False, "draft": True, "max_pixels": 5000}


def test_table(fake_model, folder: str) -> None:
    """The table has the metrics with intervals, the labels, the mistakes and the suspects, at 80 columns."""
    result = runner.invoke(app, ["eval", folder, "--format", "table", "--label-issues", "2"])
    assert result.exit_code == 0
    assert "top-1       90.0% (59.6–98.2)" in result.stdout
    assert "most confused" in result.stdout
    assert "labels that are most likely wrong" in result.stdout
    assert max(map(len, result.stdout.split("labels that are most likely")[0].splitlines())) <= 80


def test_several_prompts_and_models(fake_model, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every combination is one row, best first; each image is encoded once per model."""
    encoders = {"good": FakeEncoder(), "cold": FakeEncoder(logit_scale=1.0)}
    encoders["cold"]._spec = replace(encoders["cold"].spec, weights_sha256="1" * 64)
    monkeypatch.setattr("zeroshot.engines.choose.load_encoder", lambda *, model, **_: encoders[model])
    options = ["--prompts", "photo", "--prompts", "plain", "--model", "good", "--model", "cold"]
    document = evaluate(folder, *options)
    assert (document["format"], document["version"]) == ("zeroshot-eval-grid", 1)
    runs = document["runs"]
    assert [run["p_against_best"] for run in runs] == [1.0] * 4
    assert sorted(run["manifest"]["prompts"]["name"] for run in runs) == ["photo", "photo", "plain", "plain"]
    values = [run["metrics"]["top1"]["value"] for run in runs]
    assert values == sorted(values, reverse=True)
    assert [sum(encoder.batches) for encoder in encoders.values()] == [10, 10]
    table = runner.invoke(app, ["eval", folder, *options, "--format", "table"]).stdout
    assert "best" in table and table.count("plain") == 2


def test_precisions_are_compared_on_the_same_images(fake_model, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever is better, the more exact one is the reference, and the difference is that of pairs of answers."""
    encoders = {precision: FakeEncoder() for precision in (Precision.FP32, Precision.INT8)}
    for precision, encoder in encoders.items():
        encoder._spec = replace(encoder.spec, precision=precision)
    confused = encoders[Precision.INT8]
    confused.encode_images = lambda pixels: FakeEncoder.encode_images(confused, 255 - pixels)  # type: ignore[method-assign]
    monkeypatch.setattr("zeroshot.engines.choose.load_encoder", lambda *, precision, **_: encoders[precision])
    options = ["--precision", "int8", "--precision", "fp32", "--prompts", "photo"]
    document = evaluate(folder, *options)
    assert [run["manifest"]["model"]["precision"] for run in document["runs"]] == ["fp32", "int8"]
    right = [[one["label"] == one["target"] for one in run["predictions"]] for run in document["runs"]]
    labels = [[one["label"] for one in run["predictions"]] for run in document["runs"]]
    (change,) = document["precisions"]
    assert (change["reference"], change["precision"], change["images"]) == ("fp32", "int8", 10)
    assert change["same_label"] == sum(a == b for a, b in zip(*labels, strict=True)) < 10
    assert change["difference"]["value"] == pytest.approx((sum(right[1]) - sum(right[0])) / 10)
    assert change["p"] == document["runs"][1]["p_against_best"]
    table = runner.invoke(app, ["eval", folder, *options, "--format", "table"]).stdout
    assert "fake fp32" in table and "fake int8" in table
    assert f"int8 gives {change['same_label']} of 10 images the label of fp32; fp32 is better by" in table
    twice = runner.invoke(app, ["eval", folder, "--precision", "fp32", "--precision", "fp32"])
    assert (twice.exit_code, "given twice" in twice.stderr) == (2, True)


def test_sets_of_one_name_are_refused(fake_model, folder: str, tmp_path: Path) -> None:
    """Their rows could not be told apart, and would be taken for one set in two precisions."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tuned.yaml").write_text(f"name: tuned\ntemplates: ['{name} {{}}']\n")
    first, second = (str(tmp_path / name / "tuned.yaml") for name in ("a", "b"))
    for words in (
        ["eval", folder, "--prompts", first, "--prompts", second],
        ["prompts", "check", folder, "--labels", "red,blue", "--candidates", first, "--candidates", second],
    ):
        refused = runner.invoke(app, words)
        assert refused.exit_code != 0 and f"{first} and {second} are both called 'tuned'" in refused.stderr
    twice = evaluate(folder, "--precision", "fp32", "--precision", "auto", "--format", "json")
    assert twice.get("precisions", []) == []


def test_tags_go_with_models(fake_model, folder: str) -> None:
    """A tag belongs to the model at the same place; too few tags are a mistake."""
    evaluate(folder, "--model", "a", "--pretrained", "x", "--model", "b", "--pretrained", "")
    assert [(call["model"], call["pretrained"]) for call in fake_model.calls] == [("a", "x"), ("b", None)]
    result = runner.invoke(app, ["eval", folder, "--model", "a", "--model", "b", "--pretrained", "x"])
    assert result.exit_code == 2
    assert "--pretrained is given 1 times for 2 models" in result.stderr


def test_failures_are_named_and_excluded(fake_model, folder: str) -> None:
    """An image that cannot be read is named, counts in no metric, and makes the exit code 3."""
    (Path(folder) / "red" / "9.png").write_bytes(b"")
    result = runner.invoke(app, ["eval", folder])
    assert result.exit_code == 3
    document = json.loads(result.stdout)
    assert document["images"] == {"measured": 10, "failed": 1}
    assert document["failures"][0]["path"].endswith("red/9.png")
    assert "1 of 11 images could not be read" in result.stderr


def test_fail_under(fake_model, folder: str) -> None:
    """A metric under its bar is exit code 1, after the results are written."""
    result = runner.invoke(app, ["eval", folder, "--fail-under", "top1=0.95"])
    assert result.exit_code == 1
    assert "top1 is 0.9000, under 0.95" in result.stderr
    assert json.loads(result.stdout)["metrics"]["top1"]["value"] == 0.9
    assert runner.invoke(app, ["eval", folder, "--fail-under", "top1=0.85"]).exit_code == 0


def test_what_eval_writes_compare_reads(fake_model, folder: str, tmp_path: Path) -> None:
    """Two runs written by eval can be compared."""
    paths = []
    for name in ("photo", "plain"):
        paths.append(str(tmp_path / f"{name}.json"))
        assert runner.invoke(app, ["eval", folder, "--prompts", name, "--output", paths[-1]]).exit_code == 0
    result = compare.compare(*map(eval_file.load_run, paths))
    assert (result.n_images, result.top1.p) == (10, 1.0)


def test_folder_or_table(fake_model, folder: str) -> None:
    """Without a folder or a table, or with both, the usage is explained."""
    for arguments in ([], [folder, "--targets", "x.csv"]):
        result = runner.invoke(app, ["eval", *arguments])
        assert result.exit_code == 2
        assert "give a folder or --targets" in result.stderr


def test_a_report_is_written_beside_the_result(fake_model, folder: str, tmp_path: Path) -> None:
    """Beside the result eval writes a page, which is whole."""
    page = tmp_path / "report.html"
    evaluate(folder, "--report", str(page))
    assert page.read_text().rstrip().endswith("</html>")


def test_calibration_is_applied(fake_model, folder: str, tmp_path: Path) -> None:
    """With a calibration the probabilities change and the answers do not; a foreign one is refused before encoding."""
    add_images(folder)
    target = str(tmp_path / "calibration.json")
    fitted = runner.invoke(app, ["calibrate", folder, "--output", target])
    assert fitted.exit_code == 0, fitted.output
    before, after = evaluate(folder), evaluate(folder, "--calibration", target)
    assert after["metrics"]["top1"] == before["metrics"]["top1"]
    assert after["metrics"]["nll"]["value"] < before["metrics"]["nll"]["value"]
    assert after["manifest"]["options"]["calibration"]["source"] == target
    fake_model.encoder = FakeEncoder(logit_scale=3.0)
    refused = runner.invoke(app, ["eval", folder, "--calibration", target])
    assert refused.exit_code == 1
    assert "was fitted for another fake" in refused.stderr
    assert fake_model.encoder.batches == []


def test_a_calibrations_threshold_is_measured(fake_model, folder: str, tmp_path: Path) -> None:
    """What the threshold leaves: how many are answered, and how many of these are right."""
    add_images(folder)
    target = tmp_path / "calibration.json"
    assert runner.invoke(app, ["calibrate", folder, "--output", str(target), "--force"]).exit_code == 0
    fitted = json.loads(target.read_text())
    temperature_alone = evaluate(folder, "--calibration", str(target))
    assert "at_threshold" not in temperature_alone
    sure = sorted(entry["probability"] for entry in temperature_alone["predictions"])
    least = (sure[0] + next(p for p in sure if p > sure[0] + 1e-4)) / 2  # the document rounds probabilities
    target.write_text(json.dumps(fitted | {"threshold": least}))
    found = evaluate(folder, "--calibration", str(target))
    answered = [entry for entry in found["predictions"] if entry["probability"] >= least]
    right = sum(entry["label"] == entry["target"] for entry in answered)
    at = found["at_threshold"]
    assert 0 < len(answered) < len(sure)
    assert (at["threshold"], at["coverage"]["value"]) == (least, len(answered) / len(sure))
    assert at["precision"]["value"] == right / len(answered)
    table = runner.invoke(app, ["eval", folder, "--calibration", str(target), "--format", "table"]).stdout
    said = f"{100 * len(answered) / len(sure):.1f}%"
    assert f"threshold {least:.3f}: {said} answered" in table
    page = tmp_path / "page.html"
    assert runner.invoke(app, ["eval", folder, "--calibration", str(target), "--report", str(page)]).exit_code == 0
    shares = f"{said} are answered and the others unknown; of the answers {100 * right / len(answered):.1f}%"
    assert f"threshold of {least:.3f}, {shares}" in page.read_text()


def test_groups_and_background_are_measured_as_classify_answers(fake_model, folder: str, tmp_path: Path) -> None:
    """With learned weights that have them, `calibrate` fits and `eval` measures what `classify` then says."""
    add_images(folder)
    labels = tmp_path / "labels.yaml"
    labels.write_text("labels: [red, blue, green]\nbackground: [grey]\ngroups: {warm: [red, green]}\n")
    learned, fitted = tmp_path / "learned.json", tmp_path / "calibration.json"
    learning = ["learn", folder, "--labels-file", str(labels), "--output", str(learned), "--force"]
    assert runner.invoke(app, learning).exit_code == 0
    weights = ["--learned", str(learned)]
    fitting = ["calibrate", folder, *weights, "--target-precision", "0.9", "-o", str(fitted), "--force"]
    assert runner.invoke(app, fitting).exit_code == 0
    threshold = json.loads(fitted.read_text())["threshold"]
    assert threshold is not None
    found = evaluate(folder, *weights, "--calibration", str(fitted))
    assert found["confusion"]["labels"] == ["warm", "blue"]
    unknown = {entry["path"] for entry in found["predictions"] if entry.get("unknown")}
    assert [label["key"] for label in found["labels"]] == ["red + green", "blue"]
    classified = runner.invoke(app, ["classify", folder, *weights, "--calibration", str(fitted), "--format", "jsonl"])
    records = {record["path"]: record for record in map(json.loads, classified.stdout.splitlines())}
    for entry in found["predictions"]:
        best = records[entry["path"]]["top"][0]
        assert (entry["label"], entry["probability"]) == (best["label"], pytest.approx(best["probability"], abs=1e-5))
        assert entry["target"] == ("blue" if Path(entry["path"]).parent.name == "blue" else "warm")
    assert unknown == {path for path, record in records.items() if "background" in record}
    answered = [record for record in records.values() if record["status"] == "ok"]
    assert found["at_threshold"]["coverage"]["value"] == len(answered) / len(records)
    page = tmp_path / "page.html"
    assert runner.invoke(app, ["eval", folder, *weights, "--report", str(page)]).exit_code == 0
    assert "warm" in page.read_text()


def test_what_would_go_unused_or_lost_is_refused_before_the_model_is_loaded(
    fake_model, folder: str, tmp_path: Path
) -> None:
    """Options that only some data has a use for, and a page that cannot be written or is another output."""
    (tmp_path / "page").mkdir()
    both = str(tmp_path / "both")
    for options, code, message in (
        (["--seeds", "3"], 2, "--seeds says how often --few-shot draws"),
        (["--model", "a", "--model", "a"], 2, "a model is given twice"),
        (
            ["--label-issues", "3", "--prompts", "plain", "--prompts", "photo"],
            2,
            "--label-issues lists those of one run",
        ),
        (["--split", "train"], 2, "--split train: "),
        (["--calibration", str(tmp_path / "none")], 1, "none: No such file"),
        (["--report", str(tmp_path / "page")], 1, "page: it is a folder"),
        (["--report", str(tmp_path / "page.json")], 2, "a page is HTML"),
        (["--output", str(tmp_path / "all.csv")], 2, ".csv is none of the formats"),
        (["--report", both, "--output", both], 1, "--output and --report name the same"),
    ):
        result = runner.invoke(app, ["eval", folder, *options])
        assert (result.exit_code, fake_model.calls) == (code, []), options
        assert message in result.stderr
        assert "  try: " in result.stderr


def test_the_page_shows_as_many_suspects_as_are_asked_for(
    fake_model, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--label-issues N` counts for the page too, where that is more than it shows by itself."""
    add_images(folder)
    monkeypatch.setattr(eval_page, "FEATURED", 2)
    page = tmp_path / "page.html"
    for count, shown in ((0, 2), (4, 4)):
        options = ["--label-issues", str(count), "--report", str(page)]
        assert runner.invoke(app, ["eval", folder, *options]).exit_code == 0
        assert re.search(rf"Likeliest label errors\W+(<[^>]+>\s*)*{shown}\b", page.read_text())


def test_labels_of_the_same_words_are_told_apart(fake_model, images, tmp_path: Path) -> None:
    """Where two folders give one name, the table and the page show the folders beside it."""
    for index, name in enumerate(("hot_red", "hot red", "blue")):
        images(f"val/{name}/1.png", (255, 10 * index, 0))
    page = tmp_path / "page.html"
    shown = runner.invoke(app, ["eval", str(tmp_path / "val"), "--format", "table", "--report", str(page)]).stdout
    assert "hot red (hot_red)" in shown and "hot red (hot red)" in shown and "blue (blue)" not in shown
    assert "hot red (hot_red)" in page.read_text()


def test_shares_after_a_calibration_are_warned_of(fake_model, folder: str, tmp_path: Path) -> None:
    """A threshold that was fitted without shares does not keep its precision with them, which is said."""
    add_images(folder)
    target = tmp_path / "calibration.json"
    assert runner.invoke(app, ["calibrate", folder, "--output", str(target), "--force"]).exit_code == 0
    both = runner.invoke(app, ["eval", folder, "--calibration", str(target), "--prior", "auto"])
    assert "--prior changes the probabilities that the calibration was fitted on" in both.stderr
    assert "was fitted on" not in runner.invoke(app, ["eval", folder, "--prior", "auto"]).stderr


def test_the_tables_that_classify_writes_are_read_as_they_were(fake_model, images, tmp_path: Path) -> None:
    """Labels that a spreadsheet would run, in one field or among several, and names with a backslash come back."""
    for name in ("a.png", "b\\udcff.png", "c\udcff.png"):
        images(f"imgs/{name}", "red")
    labels = "@red,-blue"
    for more, threshold in (([], []), (["--multi-label"], ["--threshold", "0"])):
        table = tmp_path / f"{len(more)}.csv"
        words = [str(tmp_path / "imgs"), "--labels", labels, *more, *threshold, "--output", str(table)]
        assert runner.invoke(app, ["classify", *words]).exit_code == 0
        document = evaluate("--targets", str(table), "--format", "json", *more)
        assert document["failures"] == []
        assert {entry["label"] for entry in document["labels"]} == ({"@red", "-blue"} if more else {"@red"})
        assert len(document["predictions"]) == 3


def test_archives_beside_the_labels_are_named(fake_model, folder: str) -> None:
    """An archive in the folder itself labels nothing, and is not passed over in silence."""
    (Path(folder) / "more.zip").write_bytes(b"PK")
    assert "1 file was passed over: 1 .zip" in runner.invoke(app, ["eval", folder]).stderr


def test_an_option_that_is_empty_is_refused(fake_model, folder: str) -> None:
    """As of a variable that is not set: it must not count as not given."""
    for words in (["--label-names", ""], ["--prompts="], ["-f", ""], ["--calibration", ""]):
        refused = runner.invoke(app, ["eval", folder, *words])
        assert refused.exit_code == 2 and "it is empty" in refused.stderr and words[0].strip("=") in refused.stderr
    assert runner.invoke(app, ["eval", folder, "--model", "tiny", "--pretrained", ""]).exit_code == 0


def test_an_input_that_is_given_twice_is_refused(fake_model, folder: str, tmp_path: Path) -> None:
    """The last would count, and the first be left out in silence; repeatable options go on as they are."""
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(f"{folder}/red/0.png\n")
    lists = ["--files-from", str(tmp_path / "a.txt"), f"--files-from={tmp_path / 'b.txt'}"]
    refused = runner.invoke(app, ["classify", *lists, "--labels", "red,blue"])
    assert refused.exit_code == 2 and "'--files-from': it is given more than once" in refused.stderr
    assert runner.invoke(app, ["classify", *lists[:2], "--labels", "red", "--labels", "blue"]).exit_code == 0
    assert runner.invoke(app, ["search", folder, "--text", "red", "--text", "blue"]).exit_code == 2
