"""Template sets on images without labels: agreement, margin and entropy by hand, beside random words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from support.commands import run
from support.fakes import FakeEncoder, FakeModel
from support.fixtures import SaveImage
from zeroshot.evaluation import template_agreement
from zeroshot.prompts.labels import LabelSet, parse_label_yaml, parse_labels
from zeroshot.prompts.template_sets import TemplateSet, load_templates, prompts_for


def test_sureness_by_hand() -> None:
    """The gap of the two best probabilities, and the entropy over that of equal ones."""
    margin, entropy = template_agreement.sureness(np.log(np.array([[0.5, 0.25, 0.25], [1 / 3, 1 / 3, 1 / 3]])))
    assert margin == pytest.approx([0.25, 0.0])
    assert entropy == pytest.approx([1.5 * np.log(2) / np.log(3), 1.0])
    assert [column.tolist() for column in template_agreement.sureness(np.zeros((2, 1)))] == [[1, 1], [0, 0]]


def test_agreement_by_hand() -> None:
    """Two sets that say the same outvote a third, which names another colour in every sentence."""
    sets = [TemplateSet("a", ("{}",)), TemplateSet("b", ("a {}",)), TemplateSet("c", ("{} green green green",))]
    encoder = FakeEncoder()
    features = encoder.encode_texts(["red", "red", "blue", "green"])
    scores = template_agreement.score_sets(encoder, parse_labels("red,blue,green"), sets, features)
    by_name = {score.name: score for score in scores}
    assert by_name["a"].answers.tolist() == [0, 0, 1, 2]
    expected = np.mean(by_name["c"].answers == by_name["a"].answers)
    assert by_name["c"].agreement == pytest.approx(expected)
    assert [score.random for score in scores] == [False] * 3 + [True] * template_agreement.RANDOM_SETS
    assert by_name["a"].margin > by_name["c"].margin


def test_background_is_no_answer_and_a_group_is_one() -> None:
    """Answers are counted as in records: what only takes probability is none, and a group's labels are the same."""
    sets = [TemplateSet("a", ("{}",)), TemplateSet("b", ("a {}",))]
    labels = parse_label_yaml("labels: [red, blue, green]\nbackground: [white]\ngroups: {cold: [blue, green]}\n", "l")
    encoder = FakeEncoder()
    features = encoder.encode_texts(["white", "red", "blue", "green"])
    first, *_ = template_agreement.score_sets(encoder, labels, sets, features)
    assert first.answers.tolist()[1:] == [0, 1, 1]
    assert set(first.answers.tolist()) <= {0, 1}


def test_random_words_are_the_same_each_time() -> None:
    """One seed gives one choice; half of the templates are words, and each has one place for the label."""
    first, again, other = (
        template_agreement.random_sets(2),
        template_agreement.random_sets(2),
        template_agreement.random_sets(2, seed=1),
    )
    assert first == again != other
    assert first[0] != first[1]
    assert all(template.count("{}") == 1 for found in first for template in found.templates)


def test_descriptions_stand_beside_templates() -> None:
    """A description is an alias: it goes into every template, and is averaged with the name."""
    labels: LabelSet = parse_label_yaml('labels:\n  hen: ["hen, which has a red comb"]\n  dog:\n', "l.yaml")
    prompts = prompts_for(labels.labels[0], load_templates("photo"))
    assert len(prompts) == 2
    assert "hen, which has a red comb" in prompts[1]
    assert prompts[0].replace("hen", "") in prompts[1].replace("hen, which has a red comb", "")


class TestCommand:
    """`prompts check DIR`."""

    @pytest.fixture
    def folder(self, fake_model: FakeModel, images: SaveImage, tmp_path: Path) -> Path:
        for index in range(6):
            images(f"some/{index}.png", ("red", "blue", "green")[index % 3])
        return tmp_path / "some"

    def test_table(self, folder: Path) -> None:
        """Every shipped set and random words, and what the numbers are not."""
        result = run("prompts", "check", folder, "--labels", "red,blue")
        assert result.exit_code == 0, result.output
        assert "6 images, 2 labels" in result.stdout
        assert "imagenet-80" in result.stdout
        assert "random words" in result.stdout
        assert "none of this is accuracy" in result.stdout

    def test_candidates_and_failures(self, folder: Path) -> None:
        """Some sets only; an image that cannot be read is named, and the rest compared."""
        (folder / "bad.png").write_bytes(b"no image")
        result = run(
            "prompts", "check", folder, "--labels", "red,blue", "--candidates", "plain", "--candidates", "photo"
        )
        assert result.exit_code == 3
        assert "bad.png" in result.stderr
        assert "imagenet-80" not in result.stdout

    def test_fits_sixty_columns(self, folder: Path, tmp_path: Path) -> None:
        """Also with a long name of a set."""
        long = tmp_path / "a_set_with_a_name_that_is_far_too_long.yaml"
        long.write_text("templates: ['{}', 'some {}']\n")
        result = run("prompts", "check", folder, "--labels", "red,blue", "--candidates", "plain", "--candidates", long)
        assert result.exit_code == 0, result.output
        assert max(map(len, result.stdout.splitlines())) <= 60

    def test_says_what_was_passed_over(self, folder: Path) -> None:
        """As `classify` does: videos and the like are counted."""
        (folder / "clip.mov").write_bytes(b"no image")
        assert "1 file was passed over: 1 .mov" in run("prompts", "check", folder, "--labels", "red,blue").stderr

    @pytest.mark.parametrize(
        "arguments, word",
        [
            (["--labels", "red,blue", "--candidates", "plain"], "no others to agree with"),
            (["--labels", "red,blue", *(["--candidates", "plain"] * 2)], "twice"),
            (["--labels", "red"], "one label"),
            (["--labels", "red,blue", "--output", "x.csv"], ".csv"),
        ],
    )
    def test_comparisons_of_nothing_are_refused(self, folder: Path, arguments: list[str], word: str) -> None:
        """One set agrees with itself, and so does a set with its copy; one label is every set's answer."""
        result = run("prompts", "check", folder, *arguments)
        assert (result.exit_code, result.stdout) == (2, "")
        assert word in result.stderr

    def test_refused(self, folder: Path, tmp_path: Path) -> None:
        """A folder needs labels and an image, and candidates a folder."""
        assert run("prompts", "check", folder).exit_code == 2
        (tmp_path / "empty").mkdir()
        assert run("prompts", "check", tmp_path / "empty", "--labels", "red,blue").exit_code == 1
        assert run("prompts", "check", "plain", "--candidates", "photo").exit_code == 2
        assert run("prompts", "check", "plain", "--format", "json").exit_code == 2
