"""Shares of labels: the estimate is Saerens's, applied after the calibration, and refused without a first pass."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from support.commands import run
from support.fakes import FakeModel
from support.fixtures import SaveImage
from zeroshot.enums import Score
from zeroshot.errors import LabelError, UsageError
from zeroshot.evaluation.calibrate import cool
from zeroshot.learn import label_shares
from zeroshot.prompts.labels import Label, LabelSet
from zeroshot.prompts.template_sets import TemplateSet
from zeroshot.scoring import Classifier, Decision


class TestEstimate:
    """Expectation maximisation."""

    def test_sure_probabilities_are_counted(self) -> None:
        """Where every image is certain, the shares are the counts."""
        probabilities = np.eye(3)[[0, 0, 0, 2]]
        assert label_shares.estimate_shares(probabilities) == pytest.approx([0.75, 0, 0.25])

    def test_is_the_textbook_iteration(self) -> None:
        """The rounds of Saerens et al., written out for each image, give the same shares to 1e-6."""
        generator = np.random.default_rng(0)
        given = generator.dirichlet([0.3, 0.6, 1.0], size=50)
        shares = np.full(3, 1 / 3)
        moved = 1.0
        while moved >= label_shares._ENOUGH:
            weighted = given * shares / (1 / 3)
            following = (weighted / weighted.sum(axis=1, keepdims=True)).mean(axis=0)
            moved, shares = float(np.abs(following - shares).sum()), following
        assert label_shares.estimate_shares(given) == pytest.approx(shares, abs=1e-6)

    def test_is_scipys_maximum(self) -> None:
        """No shares make the probabilities likelier, by scipy's minimiser: the mean log-likelihood agrees to 1e-6."""
        optimize = pytest.importorskip("scipy.optimize", reason="scipy comes with the dev extra")
        given = np.random.default_rng(1).dirichlet([0.5, 0.5, 2.0], size=80)
        theirs = optimize.minimize(
            lambda free: -np.log(given @ (np.exp(free) / np.exp(free).sum())).mean(), np.zeros(3), tol=1e-12
        )
        ours = label_shares.estimate_shares(given)
        assert -np.log(given @ ours).mean() == pytest.approx(theirs.fun, abs=1e-6)

    def test_honest_probabilities_give_true_shares(self) -> None:
        """Images of two of ten labels, with calibrated probabilities: the two are found, and answers get better."""
        generator = np.random.default_rng(2)
        targets = generator.choice([1, 4], size=2000, p=[0.8, 0.2])
        logits = generator.normal(size=(2000, 10)) + 2.0 * np.eye(10)[targets]
        exact = np.exp(2.0 * logits)  # log of the density of normals one apart is 2 * logit
        given = exact / exact.sum(axis=1, keepdims=True)
        shares = label_shares.estimate_shares(given)
        assert shares[[1, 4]] == pytest.approx([0.8, 0.2], abs=0.05)
        before = (given.argmax(axis=1) == targets).mean()
        after = ((given * shares).argmax(axis=1) == targets).mean()
        assert before < 0.9 < after

    def test_many_images_are_sampled(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Beyond the cells that are held at a time, evenly spaced images are looked at."""
        monkeypatch.setattr(label_shares, "_MOST_CELLS", 20)
        rows = np.eye(2, dtype=np.float32)[np.arange(40) % 2]
        assert label_shares.estimate_from(make_classifier(), rows).images == 10


def make_classifier() -> Classifier:
    labels = LabelSet((Label("a"), Label("b")))
    return Classifier(np.eye(2, dtype=np.float32), labels, TemplateSet("p", ("{}",)), 4.0, 0.0, Score.SOFTMAX)


class TestOrder:
    """What is applied after what."""

    row = np.array([[0.8, 0.6]], dtype=np.float32)

    def test_calibration_then_prior_by_hand(self) -> None:
        """The temperature divides the logits, and the shares are added after it, undivided."""
        classifier = label_shares.with_shares(cool(make_classifier(), 2.0), np.array([0.1, 0.9]))
        logits = classifier.scores(self.row).logits[0]
        assert logits == pytest.approx([0.8 * 4 / 2 + np.log(0.2), 0.6 * 4 / 2 + np.log(1.8)])
        odds = np.exp(1.6) * 0.1 / (np.exp(1.2) * 0.9)
        assert classifier.scores(self.row).probabilities[0, 0] == pytest.approx(odds / (1 + odds))

    def test_learned_then_calibrated_then_prior_then_background_groups_threshold(self) -> None:
        """By hand: learned rows, temperature 2, shares; the background dropped, the group summed, the sum compared."""
        labels = LabelSet((Label("a"), Label("b"), Label("c"), Label("sky", background=True)), (("ab", (0, 1)),))
        rows = np.array([[2, 0], [0, 2], [1, 1], [0, 0]], dtype=np.float32)  # not of unit length: learned
        base = Classifier(rows, labels, TemplateSet("p", ("{}",)), 4.0, 0.0, Score.SOFTMAX, learned="x")
        shares = np.array([0.2, 0.2, 0.4, 0.2])
        classifier = label_shares.with_shares(cool(base, 2.0), shares)
        weights = shares * np.exp(2 * np.array([1.6, 1.2, 1.4, 0.0]))
        expected = weights / weights.sum()
        answers = classifier.answers(classifier.scores(self.row)).probabilities[0]
        assert answers == pytest.approx([expected[0] + expected[1], expected[2]], rel=1e-5)
        ((label, top, outdone),) = classifier.decide(self.row, Decision(threshold=float(answers[0]) - 0.01))
        assert (label, top[0].label, outdone) == ("ab", "ab", None)
        ((unknown, _, _),) = classifier.decide(self.row, Decision(threshold=float(answers[0]) + 0.01))
        assert unknown is None

    def test_no_share_is_still_a_number(self) -> None:
        """A label whose share is 0 gets a small probability and a finite logit."""
        scores = label_shares.with_shares(make_classifier(), np.array([0.0, 1.0])).scores(self.row)
        assert np.isfinite(scores.logits).all()
        assert scores.probabilities[0, 0] < 1e-4

    def test_sigmoid_is_refused(self) -> None:
        """Sigmoid probabilities are no shares."""
        with pytest.raises(UsageError, match="sigmoid"):
            label_shares.with_shares(replace(make_classifier(), score=Score.SIGMOID), np.array([0.5, 0.5]))


class TestFile:
    """Known shares."""

    def test_counts_in_any_order(self, tmp_path: Path) -> None:
        """Counts are divided by their sum; labels are matched whatever their case."""
        source = tmp_path / "shares.yaml"
        source.write_text("Dog: 3\ncat: 1\n")
        assert label_shares.load_shares(str(source), ("cat", "dog")).values.tolist() == [0.25, 0.75]
        source.write_text("dog: 1.5e308\ncat: 1.5e308\n")
        assert label_shares.load_shares(str(source), ("cat", "dog")).values.tolist() == [0.5, 0.5]

    @pytest.mark.parametrize(
        "text, message",
        [
            ("[1, 2]", "expected a mapping"),
            ("cat: 1\n", "no share for 'dog'"),
            ("cat: 1\ndog: -1\n", "is not a share"),
            ("cat: 1\ndog: 1\nDog: 9\n", "'Dog' is given twice, in another spelling"),
            ("cat: 1\ndog: many\n", "is not a share"),
            ("cat: 1\ndog: nan\n", "is not a share"),
            ("cat: 1\ndog: 1\ndgo: 1\n", "no label 'dgo'"),
            ("cat: 0\ndog: 0\n", "every share is 0"),
        ],
    )
    def test_refused(self, tmp_path: Path, text: str, message: str) -> None:
        """Whatever is wrong is named."""
        source = tmp_path / "shares.yaml"
        source.write_text(text)
        with pytest.raises(LabelError, match=message):
            label_shares.load_shares(str(source), ("cat", "dog"))


class TestCommand:
    """`classify` and `eval` with shares."""

    @pytest.fixture
    def reds(self, fake_model: FakeModel, images: SaveImage, tmp_path: Path) -> Path:
        """Nine images that are red, and one between red and magenta, a little nearer to magenta."""
        for index in range(9):
            images(f"all/red/{index}.png", (255, index, 0))
        images("all/red/mixed.png", (255, 0, 140))
        return tmp_path / "all"

    def test_auto(self, reds: Path) -> None:
        """What few images say is read in the light of the others, each image is encoded once, shares are stated."""
        asked = ("classify", reds, "--labels", "red,magenta,blue", "--format", "json")
        plain = json.loads(run(*asked).stdout)
        result = run(*asked, "--prior", "auto")
        found = json.loads(result.stdout)
        assert [record["path"] for record in found["records"]] == [record["path"] for record in plain["records"]]
        assert {record["label"] for record in plain["records"]} == {"red", "magenta"}
        assert {record["label"] for record in found["records"]} == {"red"}
        stated = found["manifest"]["options"]["prior"]
        assert (stated["source"], stated["images"]) == ("auto", 10)
        assert sum(entry["share"] for entry in stated["shares"]) == pytest.approx(1)
        assert "shares of the labels: red 100.0%, and 2 more" in result.stderr
        assert "are not calibrated" in result.stderr

    def test_file(self, reds: Path, tmp_path: Path) -> None:
        """Known shares need no first pass, so that a stream will do; nothing is said of calibration."""
        shares = tmp_path / "shares.yaml"
        shares.write_text("red: 98\nmagenta: 1\nblue: 1\n")
        asked = ("classify", "-", "--labels", "red,magenta,blue", "--prior", shares)
        result = run(*asked, stdin=str(reds / "red" / "mixed.png").encode())
        assert json.loads(result.stdout)["label"] == "red"
        assert "not calibrated" not in result.stderr

    def test_refused_where_it_cannot_look_first(self, reds: Path, tmp_path: Path) -> None:
        """Stdin and --resume are refused; a file that lacks a label is, before a model is loaded."""
        labels = ("--labels", "red,blue", "--prior", "auto")
        assert run("classify", "-", *labels, stdin=b"").exit_code == 2
        assert run("classify", reds, "--files-from", "-", *labels, stdin=b"").exit_code == 2
        assert run("classify", reds, *labels, "--output", tmp_path / "o.jsonl", "--resume").exit_code == 2
        absent = run("classify", reds, "--labels", "red,blue", "--prior", tmp_path / "none.yaml")
        assert absent.exit_code == 1

    def test_nothing_readable(self, fake_model: FakeModel, tmp_path: Path) -> None:
        """Images that cannot be read leave nothing to estimate from, and are failed records as ever."""
        (tmp_path / "bad.png").write_bytes(b"no image")
        result = run("classify", tmp_path / "bad.png", "--labels", "red,blue", "--prior", "auto")
        assert (result.exit_code, "error" in json.loads(result.stdout)) == (3, True)

    def test_eval_measures_it(self, reds: Path, images: SaveImage) -> None:
        """`eval` applies it to its own images and states it."""
        images("all/magenta/1.png", "magenta")
        plain = json.loads(run("eval", reds).stdout)
        found = json.loads(run("eval", reds, "--prior", "auto").stdout)
        assert found["metrics"]["top1"]["value"] > plain["metrics"]["top1"]["value"]
        assert found["manifest"]["options"]["prior"]["images"] == 11
