"""Comparing two runs: the finding, what it rests on, and files that cannot be compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from zeroshot.cli.compare import compare as compare_command
from zeroshot.errors import InputError
from zeroshot.evaluation import compare, eval_file
from zeroshot.output.render.comparison import to_document, to_text

app = typer.Typer()
app.command()(compare_command)


def save_run(tmp_path: Path, name: str, answers: list[tuple[str, int, int]], **changes: Any) -> str:
    """Write a run over labels a, b, c: (path, target, answer)."""
    names = ["a", "b", "c"]
    document = {
        "format": "zeroshot-eval",
        "version": 1,
        "manifest": {"model": {"model": name}, "prompts": {"name": "general"}, "options": {"data": "val"}},
        "labels": [{"label": label.upper(), "key": label} for label in names],
        "predictions": [
            {
                "path": path,
                "target": names[target].upper(),
                "target_index": target,
                "label": names[answer].upper(),
                "probability": 0.5,
                "top": [{"index": answer, "label": names[answer].upper(), "probability": 0.5}],
            }
            for path, target, answer in answers
        ],
    }
    path = tmp_path / f"{name}.json"
    path.write_text(json.dumps(document | changes))
    return str(path)


def manifest_of(data: str) -> dict[str, Any]:
    return {"model": {"model": "m"}, "prompts": {"name": "x"}, "options": {"data": data}}


def many(tmp_path: Path, name: str, right: list[bool]) -> str:
    return save_run(tmp_path, name, [(f"val/{i}.jpg", 0, 0 if hit else 1) for i, hit in enumerate(right)])


def compare_files(first: str, second: str) -> compare.Comparison:
    return compare.compare(eval_file.load_run(first), eval_file.load_run(second))


class TestFinding:
    """What a comparison finds."""

    def test_better(self, tmp_path: Path) -> None:
        """Twenty images gained of a hundred and none lost: B is better, with the interval and p by hand."""
        result = compare_files(
            many(tmp_path, "one", [True] * 60 + [False] * 40), many(tmp_path, "two", [True] * 80 + [False] * 20)
        )
        assert (result.n_images, len(result.gained), len(result.lost), len(result.swapped)) == (100, 20, 0, 0)
        assert result.top1.difference.value == pytest.approx(0.2)
        assert result.top1.p == pytest.approx(2 / 2**20)
        assert result.sentence == "B is better by 20.0 points (12.0 to 28.0), p < 0.001"

    def test_worse_is_said_of_a(self, tmp_path: Path) -> None:
        """When A is the better one the sentence says so with positive numbers."""
        result = compare_files(many(tmp_path, "one", [True] * 40), many(tmp_path, "two", [True] * 30 + [False] * 10))
        assert result.sentence.startswith("A is better by 25.0 points (12.5 to ")

    def test_no_difference_shown(self, tmp_path: Path) -> None:
        """Three against two changed images are no evidence: p is 1."""
        first = [True, True, False, False, False] + [True] * 10
        second = [False, False, True, True, True] + [True] * 10
        result = compare_files(many(tmp_path, "one", first), many(tmp_path, "two", second))
        assert result.top1.p == pytest.approx(1.0)
        assert result.sentence.startswith("no difference shown: B − A is +6.7 points (")

    def test_exact_test_decides(self, tmp_path: Path) -> None:
        """Four changed images, all gained: the bootstrap leaves out 0, the exact test is at 0.125, and that is said."""
        a = many(tmp_path, "a", [False] * 4 + [True] * 72)
        found = compare_files(a, many(tmp_path, "b", [True] * 76))
        assert found.sentence.startswith("no difference shown: B − A is +5.3 points (1.3 to ")
        assert found.sentence.endswith("), but p = 0.125 by the exact test, which decides")

    def test_same_answers(self, tmp_path: Path) -> None:
        """Two runs that agree everywhere are said to, with no interval of nothing."""
        result = compare_files(many(tmp_path, "one", [True, False]), many(tmp_path, "two", [True, False]))
        assert result.sentence == "no difference shown: A and B have the same images right"

    def test_labels_and_swaps(self, tmp_path: Path) -> None:
        """Each label's right answers are counted in both runs; images wrong in both, differently, are apart."""
        first = save_run(tmp_path, "one", [("val/1", 0, 1), ("val/2", 0, 0), ("val/3", 1, 1), ("val/4", 2, 0)])
        second = save_run(tmp_path, "two", [("val/1", 0, 0), ("val/2", 0, 0), ("val/3", 1, 0), ("val/4", 2, 1)])
        result = compare_files(first, second)
        assert [(x.key, x.support, x.first, x.second) for x in result.labels] == [("a", 2, 1, 2), ("b", 1, 1, 0)]
        assert [a.path for a, _ in result.swapped] == ["val/4"]

    def test_pair_counts(self) -> None:
        """The counts are those of the two-by-two table."""
        paired = compare.pair(np.array([1, 1, 0, 0], dtype=bool), np.array([1, 0, 1, 1], dtype=bool))
        assert (paired.only_first, paired.only_second, paired.first.value, paired.second.value) == (1, 2, 0.5, 0.75)


class TestTitle:
    """What a run's answers come from."""

    @pytest.mark.parametrize(
        "options, words",
        [
            ({"learned": {"source": "l.json", "length": 1.0}}, "general, learned weights of l.json"),
            ({"learned": {"source": "l.json", "length": 0.0}}, "learned weights of l.json"),
            ({"prior": {"source": "auto"}}, "general, shares of labels estimated"),
            ({"prior": {"source": "p.yaml"}, "neighbours": {"nearest": 10}}, "general, shares of p.yaml, neighbours"),
            ({"calibration": {"source": "c.json"}}, "general, calibration c.json"),
        ],
    )
    def test_names_all_sources(self, tmp_path: Path, options: dict[str, Any], words: str) -> None:
        """Weights, shares, neighbours; the templates only where the weights have something of them."""
        manifest = {"model": {"model": "m"}, "prompts": {"name": "general"}, "options": options}
        assert eval_file.load_run(save_run(tmp_path, "r", [("a.png", 0, 0)], manifest=manifest)).title == f"m, {words}"


class TestMatching:
    """Which image of one run is which of the other."""

    def test_below_the_folder(self, tmp_path: Path) -> None:
        """The same folder spelled in another way still pairs every image."""
        first = save_run(tmp_path, "one", [("val/a/1.jpg", 0, 0)])
        manifest = {"model": {"model": "two"}, "prompts": {"name": "x"}, "options": {"data": "/data/val/"}}
        second = save_run(tmp_path, "two", [("/data/val/a/1.jpg", 0, 0)], manifest=manifest)
        assert compare_files(first, second).n_images == 1

    def test_a_table_beside_the_folder(self, tmp_path: Path) -> None:
        """A run over a folder and one over a table of its images are over the same images."""
        first = save_run(tmp_path, "one", [("x/val/a/1.jpg", 0, 0)], manifest=manifest_of("x/val"))
        second = save_run(tmp_path, "two", [("x/val/a/1.jpg", 0, 0)], manifest=manifest_of("t.csv"))
        assert compare_files(first, second).n_images == 1

    def test_two_folders_are_said(self, tmp_path: Path) -> None:
        """Images of two folders that have the same paths below these may be others, which a note says."""
        first = save_run(tmp_path, "one", [("train/1.jpg", 0, 0)], manifest=manifest_of("train"))
        second = save_run(tmp_path, "two", [("val/1.jpg", 0, 0)], manifest=manifest_of("val/"))
        (note,) = compare_files(first, second).notes
        assert note == "the runs were given train and val/: images of the same path below them count as the same"
        again = save_run(tmp_path, "three", [("train/1.jpg", 0, 0)], manifest=manifest_of("./train"))
        assert compare_files(first, again).notes == ()

    def test_damaged_numbers(self, tmp_path: Path) -> None:
        """A number that is none is damage, and no traceback."""
        whole = json.loads(Path(many(tmp_path, "one", [True])).read_text())
        for key, value in (("target_index", "abc"), ("probability", "x"), ("probability", 10**400)):
            broken = tmp_path / "broken.json"
            broken.write_text(json.dumps(whole | {"predictions": [whole["predictions"][0] | {key: value}]}))
            with pytest.raises(InputError, match="is damaged"):
                eval_file.load_run(str(broken))

    def test_order_and_absentees(self, tmp_path: Path) -> None:
        """Images are matched by path, not by position; those in one run only are counted in a note."""
        first = save_run(tmp_path, "one", [("val/1", 0, 0), ("val/2", 1, 1)])
        second = save_run(tmp_path, "two", [("val/3", 0, 0), ("val/2", 1, 1), ("val/1", 0, 0)])
        result = compare_files(first, second)
        assert (result.n_images, result.top1.only_first, result.top1.only_second) == (2, 0, 0)
        assert result.notes == (f"1 image only in {second}, left out",)

    def test_listed_twice(self, tmp_path: Path) -> None:
        """An image that a table lists twice counts twice."""
        answers = [("val/1", 0, 0), ("val/1", 0, 0)]
        assert compare_files(save_run(tmp_path, "one", answers), save_run(tmp_path, "two", answers)).n_images == 2

    def test_nothing_in_common(self, tmp_path: Path) -> None:
        """Runs over different images cannot be compared."""
        with pytest.raises(InputError, match="no image in common"):
            compare_files(save_run(tmp_path, "one", [("val/1", 0, 0)]), save_run(tmp_path, "two", [("val/2", 0, 0)]))

    def test_other_truth(self, tmp_path: Path) -> None:
        """Runs that disagree on what an image shows cannot be compared."""
        with pytest.raises(InputError, match=r"another true label in each run: val/1: a, b"):
            compare_files(save_run(tmp_path, "one", [("val/1", 0, 0)]), save_run(tmp_path, "two", [("val/1", 1, 0)]))

    def test_other_labels_are_noted(self, tmp_path: Path) -> None:
        """A run that chose among fewer labels had an easier task."""
        first = save_run(tmp_path, "one", [("val/1", 0, 0)])
        labels = [{"label": "A", "key": "a"}, {"label": "B", "key": "b"}]
        second = save_run(tmp_path, "two", [("val/1", 0, 0)], labels=labels)
        assert "different labels" in compare_files(first, second).notes[0]


class TestFiles:
    """Files that are no runs."""

    @pytest.mark.parametrize(
        "content, message",
        [
            ("{", "is not JSON"),
            ("[]", "is no run of zeroshot"),
            ('{"format": "zeroshot-classify"}', "a file of the kind 'zeroshot-classify'"),
            ('{"format": "zeroshot-eval", "version": 99}', "has version 99"),
            ('{"format": "zeroshot-eval", "version": "1"}', "has version '1'"),
            ("[" * 100_000, "is not JSON"),
            ('{"format": "zeroshot-eval", "version": 1}', "is damaged"),
        ],
    )
    def test_not_a_run(self, tmp_path: Path, content: str, message: str) -> None:
        """Anything but a run is refused in one line that says what it is."""
        path = tmp_path / "x.json"
        path.write_text(content)
        with pytest.raises(InputError, match=message):
            eval_file.load_run(str(path))

    def test_missing(self, tmp_path: Path) -> None:
        """A file that is not there is named."""
        with pytest.raises(InputError, match="cannot read"):
            eval_file.load_run(str(tmp_path / "none.json"))


class TestOutput:
    """What is printed."""

    @pytest.fixture
    def two(self, tmp_path: Path) -> tuple[str, str]:
        first = [True] * 60 + [False] * 40
        return many(tmp_path, "one", first), many(tmp_path, "two", [False, *first[1:80], True] + [True] * 19)

    def test_contract(self, two: tuple[str, str]) -> None:
        """The keys of the JSON are pinned."""
        runs = eval_file.load_run(two[0]), eval_file.load_run(two[1])
        document = to_document(compare.compare(*runs), *runs)
        assert list(document) == [
            *("format", "version", "runs", "finding", "images"),
            *("top1", "top5", "labels", "gained", "lost", "swapped", "notes"),
        ]
        assert (document["format"], document["version"]) == ("zeroshot-compare", 1)
        assert list(document["top1"]) == ["a", "b", "difference", "only_a", "only_b", "p"]
        assert list(document["gained"][0]) == ["path", "target", "a", "b"]
        assert list(document["labels"][0]) == ["label", "key", "support", "first", "second"]

    def test_text(self, two: tuple[str, str]) -> None:
        """The finding is the first line; images and labels follow, the first ones of many."""
        runs = eval_file.load_run(two[0]), eval_file.load_run(two[1])
        text = to_text(compare.compare(*runs), *runs)
        assert text.startswith("B is better by 19.0 points (")
        assert "labels that gained\n  +19  A: 60 to 79 right of 100" in text
        assert "right only in A\n  val/0.jpg: A (0.50) -> B (0.50)" in text
        assert "... and 10 more images" in text

    def test_one_image_is_counted_as_one(self, tmp_path: Path) -> None:
        """One image that both have wrong is no plural."""
        runs = [eval_file.load_run(save_run(tmp_path, str(i), [("a.png", 0, i)])) for i in (1, 2)]
        assert to_text(compare.compare(*runs), *runs).endswith("wrong in both, differently: 1 image\n")

    def test_command(self, two: tuple[str, str], tmp_path: Path) -> None:
        """The command writes either form, and a file that cannot be read is one line and exit code 1."""
        runner = CliRunner()
        table = runner.invoke(app, [*two, "--format", "table"])
        assert (table.exit_code, table.stdout.startswith("B is better")) == (0, True)
        assert json.loads(runner.invoke(app, list(two)).stdout)["finding"].startswith("B is better")
        bad = runner.invoke(app, [two[0], str(tmp_path / "none.json")])
        assert (bad.exit_code, bad.stdout) == (1, "")
        assert "cannot read" in bad.stderr
