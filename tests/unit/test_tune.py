"""Choosing templates: the choice is greedy and right, honest about its worth, and written as a set that loads."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from support.fakes import FakeEncoder
from zeroshot.classifier import build_classifier
from zeroshot.cli.prompts_tune import tune as tune_command
from zeroshot.encoder import Features
from zeroshot.errors import PromptError
from zeroshot.evaluation import tune
from zeroshot.evaluation.evaluate import EncodedDataset
from zeroshot.evaluation.holdout import halve
from zeroshot.prompts.labels import Label, LabelSet, parse_labels
from zeroshot.prompts.template_sets import from_templates, load_templates

app = typer.Typer()
app.command()(tune_command)
runner = CliRunner()

GOOD, BAD = "a {}.", "a red {}."


class TemplateEncoder(FakeEncoder):
    """Sees the label's colour well in some templates, and mostly another colour in others."""

    def encode_texts(self, texts: list[str]) -> Features:
        return super().encode_texts([text.replace("red", "red red red") for text in texts])


def make_data(encoder: FakeEncoder, n: int = 300) -> EncodedDataset:
    """Images of noisy colours: red, green, blue in turn."""
    generator = np.random.default_rng(3)
    targets = np.arange(n) % 3
    pixels = generator.integers(60, 120, size=(n, 3))
    pixels[np.arange(n), targets] += generator.integers(0, 60, size=n)
    images = np.repeat(pixels[:, None, None, :], 64, axis=1).reshape(n, 8, 8, 3).astype(np.uint8)
    return EncodedDataset(encoder.encode_images(images), tuple(f"{i}.png" for i in range(n)), targets, ())


@pytest.fixture
def encoder() -> FakeEncoder:
    return TemplateEncoder()


@pytest.fixture
def labels() -> LabelSet:
    return parse_labels("red,green,blue")


class TestSelection:
    """The choice itself."""

    def test_finds_the_good_template(self, encoder: FakeEncoder, labels: LabelSet) -> None:
        """From a set that sees everything half red the plain template is chosen, and it wins on unseen images."""
        data = make_data(encoder)
        start = build_classifier(encoder, labels, from_templates([BAD]))
        result = tune.tune(encoder, *halve(data, 0), start, ("r", "g", "b"), [BAD, GOOD, "the {}"])
        assert BAD not in result.templates
        assert result.after.metrics.top1.value > result.before.metrics.top1.value + 0.1
        assert result.paired.p < 0.05
        assert result.sentence.startswith("the chosen set is better by ")

    def test_is_greedy(self, encoder: FakeEncoder, labels: LabelSet) -> None:
        """Each step is the best of all that could be added, computed here by building every classifier anew."""
        data = make_data(encoder, 90)
        candidates = ["a {}.", "a red {}.", "a {} and grey.", "green {}", "{} blue"]
        start = build_classifier(encoder, labels, from_templates(candidates))
        sums = tune.encode_candidates(encoder, start, candidates, lambda _: None)
        steps = tune.select(data, start, sums, candidates, 3)
        chosen: list[str] = []
        for step in steps:
            left = [template for template in candidates if template not in chosen]
            scored = []
            for template in left:
                classifier = build_classifier(encoder, labels, from_templates([*chosen, template]))
                logits = classifier.scores(data.features).logits
                scored.append(((logits.argmax(axis=1) == data.targets).mean(), template))
            best = max(accuracy for accuracy, _ in scored)
            assert step.accuracy == pytest.approx(best)
            assert step.template in [template for accuracy, template in scored if accuracy == pytest.approx(best)]
            chosen.append(step.template)

    def test_stops_when_nothing_helps(self, encoder: FakeEncoder, labels: LabelSet) -> None:
        """Accuracy never falls from step to step, and the limit on templates holds."""
        data = make_data(encoder, 90)
        candidates = list(load_templates("general").templates)
        start = build_classifier(encoder, labels, load_templates("general"))
        sums = tune.encode_candidates(encoder, start, candidates, lambda _: None)
        steps = tune.select(data, start, sums, candidates, 4)
        assert 1 <= len(steps) <= 4
        for earlier, later in itertools.pairwise(steps):
            assert (later.accuracy, -later.loss) > (earlier.accuracy, -earlier.loss)

    def test_texts_are_encoded_once(self, encoder: FakeEncoder, labels: LabelSet) -> None:
        """Whatever the number of trials, each candidate's sentences are encoded once."""
        data = make_data(encoder, 90)
        start = build_classifier(encoder, labels, from_templates([GOOD]))
        before = len(encoder.texts)
        tune.tune(encoder, *halve(data, 0), start, ("r", "g", "b"), [GOOD, BAD])
        assert len(encoder.texts) - before == 6

    def test_sums_make_the_same_classifier(self, encoder: FakeEncoder) -> None:
        """Summed rows, brought to unit length, are the classifier of those templates, with aliases too."""
        labels = LabelSet((Label("red", ("white",)), Label("green"), Label("blue", (), ("a blue thing",))))
        templates = ["a {}.", "the {} and grey"]
        whole = build_classifier(encoder, labels, from_templates(templates))
        sums = tune.encode_candidates(encoder, whole, templates, lambda _: None)
        assert np.allclose(tune._weights(sums.sum(axis=0)), whole.weights, atol=1e-6)

    def test_labels_with_prompts_of_their_own(self, encoder: FakeEncoder) -> None:
        """Where no label uses a template there is nothing to choose."""
        labels = LabelSet((Label("a", (), ("red",)), Label("b", (), ("blue",))))
        start = build_classifier(encoder, labels, from_templates([GOOD]))
        with pytest.raises(PromptError, match="every label has prompts of its own"):
            tune.encode_candidates(encoder, start, [GOOD], lambda _: None)


class TestCandidates:
    """What there is to choose from."""

    def test_every_shipped_set_once(self) -> None:
        """Without a choice the templates of every shipped set are candidates, the starting set's first."""
        start = from_templates([GOOD, "my own {}"])
        found = tune.gather_candidates(start, [])
        assert found[:2] == start.templates
        assert set(load_templates("sketches").templates) <= set(found)
        assert len(found) == len(set(found))

    def test_named_sets_only(self) -> None:
        """With a choice only these sets are candidates, beside the starting set."""
        found = tune.gather_candidates(from_templates([GOOD]), ["plain"])
        assert found == (GOOD, *load_templates("plain").templates)


class TestCommand:
    """The command."""

    def test_writes_a_set_that_loads(self, fake_model, images, tmp_path: Path) -> None:
        """The command prints the finding and writes a YAML set for --prompts."""
        for index in range(25):
            images(f"val/red/{index}.png", (255, 5 * index, 0))
            images(f"val/blue/{index}.png", (0, 5 * index, 255))
        target = tmp_path / "mine.yaml"
        options = ["--candidates", "plain", "--candidates", "photo", "-o", str(target)]
        result = runner.invoke(app, [str(tmp_path / "val"), *options])
        assert result.exit_code == 0, result.stderr
        assert result.stdout.startswith("no difference shown: ")
        templates = load_templates(str(target))
        assert templates.name == "mine"
        assert 1 <= len(templates.templates) <= 10
        assert "others" in templates.description

    def test_a_set_that_is_not_better_replaces_nothing(self, fake_model, images, tmp_path: Path) -> None:
        """Without a difference a file that is there stays as it is, unless --force says otherwise."""
        for index in range(25):
            images(f"val/red/{index}.png", (255, 5 * index, 0))
            images(f"val/blue/{index}.png", (0, 5 * index, 255))
        target = tmp_path / "mine.yaml"
        target.write_text("- mine, {}\n")
        arguments = [str(tmp_path / "val"), "--candidates", "plain", "-o", str(target)]
        result = runner.invoke(app, arguments)
        assert (result.exit_code, target.read_text()) == (0, "- mine, {}\n")
        assert "is left as it is" in result.stdout.splitlines()[-1]
        assert runner.invoke(app, [*arguments, "--force"]).exit_code == 0
        assert load_templates(str(target)).templates != ("mine, {}",)

    def test_too_few_images(self, fake_model, images, tmp_path: Path) -> None:
        """A handful of images is refused in one line."""
        images("val/red/1.png", "red")
        images("val/blue/1.png", "blue")
        result = runner.invoke(app, [str(tmp_path / "val"), "-o", str(tmp_path / "x.yaml")])
        assert result.exit_code == 1
        assert "too few" in result.stderr


def test_is_registered() -> None:
    """`zeroshot prompts tune` is there, and explains itself."""
    from zeroshot.cli.main import app as whole

    result = runner.invoke(whole, ["prompts", "tune", "--help"])
    assert result.exit_code == 0
    assert "--candidates" in result.stdout
