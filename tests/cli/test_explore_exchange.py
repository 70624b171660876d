"""What the live page and the commands give each other: learned weights, calibrations, corrections, a command line."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from support.commands import run
from support.explorer import Explorer, ask, explore, running
from support.fakes import FakeEncoder, FakeModel
from support.fixtures import SaveImage
from zeroshot.cli.model_options import ModelOptions
from zeroshot.cli.option_groups import as_words
from zeroshot.enums import Device
from zeroshot.errors import InputError
from zeroshot.evaluation.learned_file import load_learned

COLOURS = ("red", "green", "blue")
SORT = {"labels": "red\ngreen\nblue", "threshold": 0}


@pytest.fixture
def shades(tmp_path: Path, fake_model: FakeModel) -> Path:
    """Sixteen images of each of three colours under reddish light, the label in the file's name."""
    folder = tmp_path / "images"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for index in range(48):
        shade = generator.integers(60, 130, size=3)
        shade[index % 3] += 40
        shade[0] += 35
        Image.new("RGB", (16, 16), tuple(map(int, shade))).save(folder / f"{COLOURS[index % 3]}-{index:02}.png")
    return folder


def correct_all(page: Explorer) -> Path:
    """Say of every image what its name says, one of them wrongly at first; return the table."""
    view = page.post("sort", **SORT, windows=[["all", 0, 50]])
    (row,) = view["rows"]
    said = {"view": view["view"], "row": "all"}
    page.post("correct", **said, ranges=[[0, 1]], label="blue" if row["items"][0][3].startswith("red") else "red")
    for label in COLOURS:
        places = [place for place, item in enumerate(row["items"]) if item[3].startswith(label)]
        done = page.post("correct", **said, ranges=[[place, place + 1] for place in places], label=label)
        assert done["images"] >= len(places) - 1
    return page.session.corrections.path


def learn(shades: Path, tmp_path: Path) -> Path:
    """Learn from the page's corrections."""
    with explore(FakeEncoder(), shades, tmp_path / "c.csv") as page:
        table = correct_all(page)
    result = run("learn", "--targets", table, "--output", tmp_path / "learned.json", "--force")
    assert result.exit_code == 0, result.stderr
    return tmp_path / "learned.json"


def records_of(page: Explorer, view: str) -> dict[str, Any]:
    """Return the label and probability of each path, as the page exports them."""
    body = page.ask("POST", "/api/records", json.dumps({"view": view}).encode(),
                    Authorization=f"Bearer {page.token.value}")[1]  # fmt: skip
    return answers(body.decode())


def answers(lines: str) -> dict[str, Any]:
    """Return the label and probability of each path."""
    found = map(json.loads, lines.splitlines())
    return {one["path"]: (one["label"], pytest.approx(one["probability"], abs=1e-5)) for one in found}


def test_exported_records_are_those_of_classify(shades: Path, tmp_path: Path) -> None:
    """Every byte, and a label's probability is the one that its own ranking states."""
    with explore(FakeEncoder(), shades, tmp_path / "c.csv") as page:
        view = page.post("sort", **SORT)
        page.session.view(view["view"]).sorting.probability[:] *= np.float32(1 + 2e-6)  # as another order of sums may
        body = page.ask("POST", "/api/records", json.dumps({"view": view["view"]}).encode(),
                        Authorization=f"Bearer {page.token.value}")[1].decode()  # fmt: skip
    by_command = run("classify", shades, "--labels", "red,green,blue").stdout
    assert sorted(body.splitlines()) == sorted(by_command.splitlines())


@pytest.mark.parametrize("kind", ["", "tar", "zip"])
def test_corrections_are_read_by_the_commands(kind: str, shades: Path, tmp_path: Path) -> None:
    """`eval`, `calibrate` and `learn` measure and learn on what was said last about each image, also in an archive."""
    images = Path(shutil.make_archive(str(tmp_path / "x"), kind, shades)) if kind else shades
    learned = learn(images, tmp_path)
    assert set(load_learned(learned).labels.names) == set(COLOURS)
    table = tmp_path / "c.csv"
    measured = run("eval", "--targets", table, "--format", "json")
    assert measured.exit_code == 0, measured.stderr
    assert json.loads(measured.stdout)["images"]["measured"] == 48
    fitted = run("calibrate", "--targets", table, "--output", tmp_path / "cal.json", "--force")
    assert fitted.exit_code == 0, fitted.stderr
    assert json.loads((tmp_path / "cal.json").read_text())["held_out"]["images"] > 0


def test_expects_a_precision_where_a_calibration_fits(shades: Path, tmp_path: Path) -> None:
    """It is the mean calibrated probability of what is answered, and gone, with the reason, for other labels."""
    with explore(FakeEncoder(), shades, tmp_path / "c.csv") as page:
        table = correct_all(page)
    calibration = tmp_path / "cal.json"
    fitted = run("calibrate", "--targets", table, "--output", calibration, "--force")
    assert fitted.exit_code == 0, fitted.stderr
    with explore(FakeEncoder(), shades, tmp_path / "none.csv", calibration=calibration) as page:
        view = page.post("sort", **SORT)
        assert view["calibrated"] and view["notes"] == []
        lines = run("classify", shades, "--labels", "red,green,blue", "--calibration", calibration, "--threshold", 0)
        sure = [json.loads(line)["probability"] for line in lines.stdout.splitlines()]
        assert view["precision"] == pytest.approx(sum(sure) / len(sure), abs=1e-5)
        middle = sorted(sure)[len(sure) // 2]
        above = [value for value in sure if value >= middle]
        narrowed = page.post("rows", view=view["view"], threshold=middle - 1e-6)
        assert narrowed["precision"] == pytest.approx(sum(above) / len(above), abs=1e-5)
        command = page.post("command", view=view["view"], threshold=0)["command"]
        assert command.endswith(f"--calibration {calibration} --threshold 0")  # not the fitted one
        other = page.post("sort", labels="red, green", threshold=0)
        assert other["precision"] is None and "not calibrated" in other["notes"][0]


def test_begins_at_the_threshold_of_the_calibration(shades: Path, tmp_path: Path) -> None:
    """Where it fits the labels and no threshold is given; a given one wins, and other labels begin at 0."""
    with explore(FakeEncoder(), shades, tmp_path / "c.csv") as page:
        table = correct_all(page)
    calibration = tmp_path / "cal.json"
    fitted = run("calibrate", "--targets", table, "--target-precision", 0.9, "--output", calibration, "--force")
    assert fitted.exit_code == 0, fitted.stderr
    stated = json.loads(calibration.read_text())["threshold"]
    assert 0 < stated < 1
    for beginning, expected in (
        ({"text": "red\ngreen\nblue"}, stated),
        ({"text": "red\ngreen\nblue", "threshold": 0.25}, 0.25),
        ({"text": "red\ngreen\nblue", "threshold": 0.0}, 0.0),
        ({"text": "red\ngreen"}, 0.0),
        ({}, 0.0),
    ):
        with explore(FakeEncoder(), shades, tmp_path / "n.csv", calibration=calibration, **beginning) as page:
            assert page.post("start")["threshold"] == pytest.approx(expected)


def test_begins_with_learned_weights(shades: Path, tmp_path: Path) -> None:
    """They apply to their labels and templates as in `classify`; texts judge other labels, and the page names that."""
    file = learn(shades, tmp_path)
    learned = load_learned(file)
    with explore(FakeEncoder(), shades, tmp_path / "none.csv", learned=learned) as page:
        view = page.post("sort", **SORT)
        assert view["notes"] == [f"with the weights of {file}"]
        command = page.post("command", view=view["view"], threshold=0)["command"]
        assert command == f"zeroshot classify {shades} --learned {file}"
        by_command = run(*shlex.split(command)[1:])
        assert answers(by_command.stdout) == records_of(page, view["view"])
        texts = run("classify", shades, "--labels", "red,green,blue")
        assert answers(by_command.stdout) != answers(texts.stdout)
        for changed in ({"labels": "red\ngreen\nblue: azure"}, {"set": "photo"}):
            other = page.post("sort", **(SORT | changed))
            assert other["notes"][0].startswith(f"the texts alone decide: {file} was learned for ")
            assert "--learned" not in page.post("command", view=other["view"], threshold=0)["command"]
        row = learned.weights[learned.labels.names.index("red")]
        nearest = float((page.session.collection.features @ row).max() / np.linalg.norm(row))
        assert page.post("search", text="red")["scores"][0] == pytest.approx(nearest, abs=1e-4)
    other_model = explore(FakeEncoder(logit_scale=3.0), shades, tmp_path / "none.csv", learned=learned)
    with pytest.raises(InputError, match="was learned for"), other_model:
        pass


def test_the_command_line_does_what_the_page_does(images: SaveImage, tmp_path: Path) -> None:
    """Whatever option the page was started with, the command that it exports gives the page's answers."""
    for index, colour in enumerate(COLOURS):
        images(f"all/{index}.png", colour)
    given = ["--device", "cpu", "--precision", "fp32", "--no-exif"]
    given += ["--score", "softmax", "--max-pixels", "1000000", "--prompts", "photo", "--batch-size", "2"]
    with running(tmp_path / "all", "--labels", "red,blue,green", *given) as (_, address):
        while not ask(address, "changes")["progress"]["finished"]:
            pass
        view = ask(address, "sort", labels="red,blue,green", set="photo", windows=[["all", 0, 9]], threshold=0)
        command = str(ask(address, "command", view=view["view"], threshold=0)["command"])
        plain = ask(address, "sort", labels="red,blue,green", set="general", windows=[["all", 0, 9]], threshold=0)
    for option in ("--device", "--precision", "--no-exif", "--score", "--max-pixels", "--prompts", "--model"):
        assert option in command
    result = run(*shlex.split(command)[1:])
    assert result.exit_code == 0, result.stderr
    found = {Path(path).name: one for path, one in answers(result.stdout).items()}
    shown, otherwise = ({item[3]: item for item in one["rows"][0]["items"]} for one in (view, plain))
    assert shown.keys() == found.keys()
    for name, (label, probability) in found.items():
        assert view["answers"][shown[name][4]] == label
        assert abs(shown[name][1] - probability.expected) < 1e-3
    given = ModelOptions(preprocess='{"mean": [0.5, 0.4, 0.3]}', device=Device.CPU)  # `tiny` takes no --preprocess
    assert as_words(given) == ["--preprocess", '{"mean": [0.5, 0.4, 0.3]}', "--device", "cpu"]
    assert any(abs(shown[name][1] - otherwise[name][1]) > 1e-3 for name in shown)  # the templates tell
