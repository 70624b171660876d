"""Calibration: an overconfident model is found out, a wanted precision is reached, a foreign file is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from support.fakes import FakeEncoder
from zeroshot.classifier import build_classifier
from zeroshot.cli.calibrate import calibrate as calibrate_command
from zeroshot.enums import Precision, Score
from zeroshot.errors import InputError
from zeroshot.evaluation import calibrate, statistics
from zeroshot.evaluation.calibration_file import load_calibration
from zeroshot.evaluation.evaluate import EncodedDataset
from zeroshot.evaluation.holdout import MIN_IMAGES, halve, split_halves, split_rows
from zeroshot.output.render.calibration import to_text
from zeroshot.prompts.labels import Label, LabelSet, parse_labels
from zeroshot.prompts.template_sets import TemplateSet, from_templates, load_templates
from zeroshot.scoring import Classifier

app = typer.Typer()
app.command()(calibrate_command)
runner = CliRunner()
KEYS = tuple("abcdefgh")


@pytest.fixture(scope="module")
def honest() -> tuple[EncodedDataset, Classifier]:
    """Four thousand images whose labels are drawn from the classifier's own probabilities: perfectly calibrated."""
    generator = np.random.default_rng(11)
    weights = generator.normal(size=(8, 16))
    weights /= np.linalg.norm(weights, axis=1, keepdims=True)
    features = generator.normal(size=(4000, 16))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    labels = LabelSet(tuple(Label(key) for key in KEYS))
    classifier = Classifier(weights.astype(np.float32), labels, TemplateSet("plain", ("{}",)), 8.0, 0.0, Score.SOFTMAX)
    probabilities = np.exp(statistics.log_softmax(classifier.scores(features.astype(np.float32)).logits))
    targets = (probabilities.cumsum(axis=1) < generator.uniform(size=(4000, 1))).sum(axis=1).clip(0, 7)
    paths = tuple(f"{index}.png" for index in range(4000))
    return EncodedDataset(features.astype(np.float32), paths, targets.astype(np.int64), ()), classifier


class TestTemperature:
    """Fitting a temperature."""

    def test_honest_model_is_left_alone(self, honest: tuple[EncodedDataset, Classifier]) -> None:
        """A calibrated model gets a temperature of about 1."""
        data, classifier = honest
        logits = classifier.scores(data.features).logits
        assert calibrate.fit_temperature(logits, data.targets, Score.SOFTMAX) == pytest.approx(1.0, abs=0.06)

    @pytest.mark.parametrize("factor", [0.5, 2.0, 5.0])
    def test_scaled_logits_scale_the_temperature(
        self, honest: tuple[EncodedDataset, Classifier], factor: float
    ) -> None:
        """Multiplying every logit multiplies the temperature, so that the probabilities come out the same."""
        data, classifier = honest
        logits = classifier.scores(data.features).logits.astype(np.float64)
        once = calibrate.fit_temperature(logits, data.targets, Score.SOFTMAX)
        assert calibrate.fit_temperature(factor * logits, data.targets, Score.SOFTMAX) == pytest.approx(factor * once)

    def test_is_scipys_minimum(self, honest: tuple[EncodedDataset, Classifier]) -> None:
        """The temperature minimises the loss: scipy's scalar minimiser finds the same."""
        optimize = pytest.importorskip("scipy.optimize", reason="scipy comes with the dev extra")
        data, classifier = honest
        logits = 3 * classifier.scores(data.features).logits.astype(np.float64)

        def loss(temperature: float) -> float:
            return float(
                -np.take_along_axis(statistics.log_softmax(logits / temperature), data.targets[:, None], axis=1).mean()
            )

        theirs = optimize.minimize_scalar(loss, bounds=(0.1, 20), method="bounded", options={"xatol": 1e-9}).x
        ours = calibrate.fit_temperature(logits, data.targets, Score.SOFTMAX)
        assert ours == pytest.approx(theirs, rel=1e-5)

    def test_sigmoid(self) -> None:
        """One label, logits of 2, right three times in four: the temperature makes the sigmoid 3/4."""
        logits = np.array([[2.0, -2.0], [2.0, -2.0], [2.0, -2.0], [2.0, -2.0]])
        temperature = calibrate.fit_temperature(logits, np.array([0, 0, 0, 1]), Score.SIGMOID)
        assert 1 / (1 + np.exp(-2.0 / temperature)) == pytest.approx(0.75, abs=1e-9)

    def test_no_mistake_stays_in_bounds(self) -> None:
        """Without a mistake to learn from, the temperature ends at its lower bound instead of at zero."""
        temperature = calibrate.fit_temperature(np.array([[1.0, 0.0]]), np.array([0]), Score.SOFTMAX)
        assert temperature == pytest.approx(calibrate.MIN_TEMPERATURE)

    def test_the_bound_is_no_fit(self, honest: tuple[EncodedDataset, Classifier]) -> None:
        """Images that are all right ask for probabilities of 1, and all wrong for equal ones: neither is written."""
        data, classifier = honest
        best = classifier.scores(data.features).logits.argmax(axis=1)
        for targets, lacking in ((best, "too few are wrong"), ((best + 1) % 8, "too few are right")):
            half = replace(data, targets=targets.astype(np.int64))
            fit = calibrate.calibrate(half, half, classifier, KEYS, None)
            assert "no temperature could be fitted" in fit.problems[0] and lacking in fit.problems[0]
        fit = calibrate.calibrate(data, data, classifier, KEYS, None)
        assert not any("no temperature" in problem for problem in fit.problems)


class TestThreshold:
    """Choosing a threshold."""

    def test_by_hand(self) -> None:
        """Right, wrong, right, right, wrong from the surest down: 3/4 is reached by the first four, not by all."""
        confidences = np.repeat([0.9, 0.8, 0.7, 0.6, 0.5], 10)
        right = np.repeat([True, False, True, True, False], 10)
        curve = statistics.risk_coverage(confidences, right)
        assert calibrate.choose_threshold(curve, 0.75, 50) == pytest.approx(0.55)
        assert calibrate.choose_threshold(curve, 1.0, 50) == pytest.approx(0.85)
        assert calibrate.choose_threshold(curve, 0.6, 50) == 0.0

    def test_out_of_reach(self) -> None:
        """A precision that no threshold reaches, or only with a handful of answers, gives none."""
        wrong_first = statistics.risk_coverage(np.array([0.9, 0.8]), np.array([False, True]))
        assert calibrate.choose_threshold(wrong_first, 0.9, 2) is None
        right_first = statistics.risk_coverage(np.linspace(1, 0, 20), np.arange(20) < 3)
        assert calibrate.choose_threshold(right_first, 0.9, 20) is None


class TestHeldOut:
    """What a fit does on images that it has not seen."""

    def test_error_falls_by_half_and_precision_is_reached(self, honest: tuple[EncodedDataset, Classifier]) -> None:
        """With the scale doubled, the held-out calibration error falls by more than half and the precision holds."""
        data, classifier = honest
        doubled = replace(classifier, logit_scale=2 * classifier.logit_scale)
        fit = calibrate.calibrate(*halve(data, 0), doubled, KEYS, wanted=0.9)
        assert fit.temperature == pytest.approx(2.0, abs=0.15)
        assert fit.after.metrics.ece.value <= 0.5 * fit.before.metrics.ece.value
        assert fit.after.metrics.nll.value < fit.before.metrics.nll.value
        assert fit.after.metrics.top1 == fit.before.metrics.top1
        assert fit.answering is not None
        assert fit.answering.precision.high >= 0.9
        assert fit.answering.precision.value == pytest.approx(0.9, abs=0.05)
        assert fit.answering.coverage.value > 0.04

    def test_what_gets_worse_beside_the_error_is_said(self, honest: tuple[EncodedDataset, Classifier]) -> None:
        """A log-likelihood or Brier score that gets worse is a remark, whatever the calibration error does."""
        data, classifier = honest
        good, bad = (calibrate.cool(classifier, temperature) for temperature in (1.0, 3.0))
        seen, held_out = halve(data, 0)
        before, after = (calibrate.evaluate(held_out, each, KEYS) for each in (good, bad))
        fit = calibrate.Fit(3.0, None, None, len(seen.paths), before, after, None)
        numbers = f"−{before.metrics.nll.value:.4f} to −{after.metrics.nll.value:.4f}"
        assert fit.remarks[0] == f"the log-likelihood gets worse on the images held out: {numbers}"
        assert fit.remarks[1].startswith("the Brier score gets worse")
        assert f"note: {fit.remarks[0]}\n" in to_text(fit, None)
        assert replace(fit, before=after, after=before).remarks == ()
        worse = replace(after, metrics=replace(after.metrics, top1=replace(before.metrics.top1, value=0.25)))
        told = to_text(replace(fit, after=worse), "c.json", "l.json")
        assert f"note: top-1 falls by {100 * (before.metrics.top1.value - 0.25):.1f} points" in told
        assert f"{100 * before.metrics.top1.value:.1f}% before\n" in told
        assert told.endswith("zeroshot classify ... --learned l.json --calibration c.json\n")
        assert ", unchanged\n" in to_text(fit, None)

    def test_without_a_precision(self, honest: tuple[EncodedDataset, Classifier]) -> None:
        """Where no precision is asked for there is no threshold."""
        data, classifier = honest
        fit = calibrate.calibrate(*halve(data, 0), classifier, KEYS, wanted=None)
        assert (fit.threshold, fit.answering) == (None, None)


class TestHalves:
    """Halving the images."""

    def test_each_label_is_halved(self) -> None:
        """Every image is in one half, every label is split evenly, and the seed decides how."""
        targets = np.repeat([0, 1, 2], [10, 7, 1])
        first, second = split_halves(targets, 3)
        assert sorted([*first, *second]) == list(range(18))
        assert np.bincount(targets[first], minlength=3)[0] == 5
        assert np.bincount(targets[first], minlength=3)[1] in (3, 4)
        assert split_halves(targets, 3)[0].tolist() == first.tolist()
        assert any(split_halves(targets, seed)[0].tolist() != first.tolist() for seed in range(4, 8))

    def test_forty_images_are_enough_however_they_are_labelled(self) -> None:
        """Odd images go to the halves in turn, so that neither half lacks one."""
        for labels in (np.repeat(np.arange(8), 5), np.arange(40)):
            for seed in range(6):
                assert [len(half) for half in split_rows(labels, seed)] == [MIN_IMAGES, MIN_IMAGES]

    def test_too_few(self, honest: tuple[EncodedDataset, Classifier]) -> None:
        """A handful of images is refused."""
        with pytest.raises(InputError, match="too few"):
            halve(honest[0].subset(np.arange(MIN_IMAGES)), 0)


@pytest.fixture
def folder(images, tmp_path: Path) -> str:
    """Thirty images each of red and blue; a sixth of them look like the other."""
    for index in range(30):
        mixed = index % 6 == 0
        images(f"val/red/{index}.png", (90 if mixed else 200, 0, 120 + index))
        images(f"val/blue/{index}.png", (160 + index if mixed else 60, 0, 110))
    return str(tmp_path / "val")


class TestCommand:
    """The command."""

    def test_writes_a_file_that_loads(self, fake_model, folder: str, tmp_path: Path) -> None:
        """The file has the pinned keys, and applies to the same model, prompts and labels in any order."""
        target = tmp_path / "calibration.json"
        result = runner.invoke(app, [folder, "--target-precision", "0.8", "-o", str(target), "--format", "table"])
        assert result.exit_code == 0, result.stderr
        assert result.stdout.startswith("temperature ")
        assert "calibration error" in result.stdout
        document = json.loads(target.read_text())
        assert list(document) == [
            *("format", "version", "temperature", "threshold", "wanted_precision"),
            *("fitted_for", "fitted_on", "held_out", "manifest"),
        ]
        assert list(document["held_out"]) == ["images", "before", "after", "at_threshold"]
        assert document["fitted_on"] + document["held_out"]["images"] == 60
        encoder = FakeEncoder()
        classifier = build_classifier(encoder, parse_labels("red,blue"), load_templates("general"))
        calibration = load_calibration(target, encoder.spec, classifier)
        assert calibration.temperature == document["temperature"]
        assert calibration.threshold == document["threshold"]
        cooled = calibration.apply(classifier)
        assert cooled.logit_scale == pytest.approx(classifier.logit_scale / calibration.temperature)
        assert calibration.manifest()["temperature"] == calibration.temperature

    @pytest.mark.parametrize(
        ("broken", "value", "first_line"),
        [
            ("fit_temperature", 50.0, "this calibration makes it worse: held-out calibration error 0."),
            ("choose_threshold", 0.0, "this threshold misses 99.5 % precision: "),
        ],
    )
    def test_what_makes_it_worse_is_not_written_unasked(
        self,
        fake_model,
        folder: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        broken: str,
        value: float,
        first_line: str,
    ) -> None:
        """A fit that makes things worse or misses what was asked says so first, exits 1, and is written by --force."""
        monkeypatch.setattr(calibrate, broken, lambda *_: value)
        target = tmp_path / "calibration.json"
        asked = [folder, "--target-precision", "0.995", "-o", str(target)]
        for form in ("table", "json"):
            refused = runner.invoke(app, [*asked, "--format", form])
            assert (refused.exit_code, target.exists()) == (1, False)
            assert first_line in (refused.stdout if form == "table" else refused.stderr)
        result = runner.invoke(app, [*asked, "--format", "table", "--force"])
        assert result.stdout.startswith(first_line)
        assert (result.exit_code, target.exists()) == (0, True)

    def test_usage(self, fake_model, folder: str) -> None:
        """A precision beyond 1 is a mistake of usage."""
        result = runner.invoke(app, [folder, "--target-precision", "95"])
        assert (result.exit_code, result.stdout) == (2, "")

    def test_json(self, fake_model, folder: str, tmp_path: Path) -> None:
        """Piped, the command prints what it writes."""
        target = tmp_path / "c.json"
        result = runner.invoke(app, [folder, "-o", str(target)])
        assert json.loads(result.stdout) == json.loads(target.read_text())


class TestRefusal:
    """Files that belong to something else."""

    @pytest.fixture
    def written(self, fake_model, folder: str, tmp_path: Path) -> Path:
        target = tmp_path / "calibration.json"
        assert runner.invoke(app, [folder, "-o", str(target)]).exit_code == 0
        return target

    def load(self, path: Path, encoder: Any = None, labels: str = "blue,red", templates: Any = None) -> None:
        encoder = encoder or FakeEncoder()
        templates = templates or load_templates("general")
        load_calibration(path, encoder.spec, build_classifier(encoder, parse_labels(labels), templates))

    def test_other_model(self, written: Path) -> None:
        """Other weights, another precision or another scale are another model."""
        self.load(written)
        encoder = FakeEncoder()
        encoder._spec = replace(encoder.spec, model="other", weights_sha256="1" * 64)
        with pytest.raises(InputError, match="fitted for the model fake, not other"):
            self.load(written, encoder)
        encoder._spec = replace(FakeEncoder().spec, precision=Precision.FP16)
        with pytest.raises(InputError, match="another fake: its weights, preprocessing or precision differ"):
            self.load(written, encoder)
        with pytest.raises(InputError, match="another fake"):
            self.load(written, FakeEncoder(logit_scale=20.0))

    def test_other_prompts(self, written: Path) -> None:
        """Another template set is refused by name, another content under the same name too."""
        with pytest.raises(InputError, match="fitted for the prompts general, not photo"):
            self.load(written, templates=load_templates("photo"))
        same_name = replace(from_templates(["a {}"]), name="general")
        with pytest.raises(InputError, match="other templates of the name general"):
            self.load(written, templates=same_name)

    def test_other_labels(self, written: Path) -> None:
        """Labels that were added or are missing are named; so is a change that leaves the names."""
        with pytest.raises(InputError, match="other labels: without 'green', with 'blue'"):
            self.load(written, labels="red,green")
        encoder = FakeEncoder()
        labels = LabelSet((Label("blue", ("navy",)), Label("red")))
        classifier = build_classifier(encoder, labels, load_templates("general"))
        with pytest.raises(InputError, match="the same labels with other aliases"):
            load_calibration(written, encoder.spec, classifier)

    @pytest.mark.parametrize(
        "change, message",
        [
            ({"format": "zeroshot-eval"}, "is not a calibration file"),
            ({"version": 2}, "has version 2"),
            ({"temperature": 0}, "is damaged: a temperature of 0"),
            ({"temperature": "1.5"}, "is damaged: a value is of another kind"),
            ({"temperature": True}, "is damaged: a value is of another kind"),
            ({"temperature": 10**400}, "is damaged: a number out of range"),
            ({"temperature": 1e308}, r"is damaged: a temperature of 1e\+308"),
            ({"threshold": 3}, "is damaged"),
            ({"fitted_for": {}}, "is damaged: labels is missing"),
        ],
    )
    def test_not_a_calibration(self, written: Path, change: dict[str, Any], message: str) -> None:
        """Anything else than a calibration is refused in one line."""
        written.write_text(json.dumps(json.loads(written.read_text()) | change))
        with pytest.raises(InputError, match=message):
            self.load(written)
