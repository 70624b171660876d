"""`sort --from FILE`: images sorted by the labels of a results file."""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.test_sort import files
from support.commands import every_command, run
from zeroshot.cli import reviewed
from zeroshot.cli.input_options import InputOptions
from zeroshot.cli.label_options import LearnedLabelOptions
from zeroshot.cli.model_options import ModelOptions
from zeroshot.cli.pipeline_options import ImageOptions

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
    assert names == reviewed.APPLIED | set(REFUSED)
    assert not reviewed.APPLIED & set(REFUSED)


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
