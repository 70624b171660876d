"""The few-shot curve: nothing drawn is measured, every method is its formula, the command writes both forms."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from support.commands import run
from support.fakes import FakeModel
from support.fixtures import SaveImage
from zeroshot.enums import Score
from zeroshot.errors import InputError
from zeroshot.evaluation import few_shot_baselines
from zeroshot.evaluation.evaluate import EncodedDataset
from zeroshot.evaluation.few_shot import METHODS, draw, trace_curve
from zeroshot.learn.regression import Problem
from zeroshot.learn.strength import STRENGTHS, learn
from zeroshot.output.render.few_shot import to_document, to_text
from zeroshot.prompts.labels import Label, LabelSet
from zeroshot.prompts.template_sets import TemplateSet
from zeroshot.results import Manifest
from zeroshot.scoring import Classifier


class TestDraw:
    """Drawing examples."""

    def test_nested_and_apart(self) -> None:
        """Two examples begin with the one; none is measured; a label with four images gives two at most."""
        targets = np.repeat([0, 1], [20, 4])
        drawn, measured = draw(targets, np.arange(24), (1, 2, 4), 0)
        assert [len(drawn[count]) for count in (1, 2, 4)] == [2, 4, 6]
        assert set(drawn[1]) < set(drawn[2]) < set(drawn[4])
        assert sorted([*drawn[4], *measured]) == list(range(24))
        assert draw(targets, np.arange(24), (4,), 1)[0][4].tolist() != drawn[4].tolist()

    def test_copies_of_examples_are_not_measured(self) -> None:
        """Where all images of a label are copies of two, one is drawn and only the other's copies are measured."""
        groups = np.array([0, 1, 0, 1, 0, 1])
        drawn, measured = draw(np.zeros(6, dtype=np.int64), groups, (4,), 0)
        (row,) = drawn[4]
        assert set(groups[measured]) == {1 - groups[row]}


class TestMethods:
    """The methods beside it, by hand."""

    problem = Problem(
        np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]]), np.array([0, 0, 1]), np.array([[0.8, 0.6], [0.6, 0.8]]), 10.0
    )
    image = np.array([[0.8, 0.6]])

    def test_tip_adapter(self) -> None:
        """``10 t.x + sum exp(-5.5 (1 - cosine))`` over each label's examples."""
        cosines = [0.8, 0.96, 0.6]
        cached = [np.exp(-5.5 * 0.2) + np.exp(-5.5 * 0.04), np.exp(-5.5 * 0.4)]
        assert cosines == pytest.approx((self.problem.features @ self.image[0]).tolist())
        assert few_shot_baselines.tip_adapter(self.problem, self.image)[0] == pytest.approx(
            [10 + cached[0], 9.6 + cached[1]]
        )

    def test_gaussian_is_sklearns_discriminant(self) -> None:
        """With many images and equal numbers, the Gaussian part orders labels as scikit-learn's LDA does."""
        lda = pytest.importorskip("sklearn.discriminant_analysis", reason="scikit-learn comes with the dev extra")
        generator = np.random.default_rng(0)
        centres = generator.normal(size=(3, 4))
        targets = np.arange(3000) % 3
        rows = centres[targets] + generator.normal(size=(3000, 4)) * [1, 2, 0.5, 1]
        theirs = lda.LinearDiscriminantAnalysis(solver="lsqr").fit(rows, targets).decision_function(rows)
        ours = few_shot_baselines._gaussian_logits(Problem(rows, targets, np.zeros((3, 4)), 1.0), rows) / 4
        gap = (ours - ours.mean(axis=1, keepdims=True)) * len(rows) - (theirs - theirs.mean(axis=1, keepdims=True))
        assert np.abs(gap).max() < 0.02 * np.abs(theirs).max()

    def test_gaussian_is_scipys_density(self) -> None:
        """Logits differ by the logarithms of scipy's normal densities with one covariance, to 1e-6."""
        stats = pytest.importorskip("scipy.stats", reason="scipy comes with the dev extra")
        generator = np.random.default_rng(4)
        targets = np.arange(30) % 3
        rows = generator.normal(size=(3, 4))[targets] + generator.normal(size=(30, 4))
        means = np.stack([rows[targets == label].mean(axis=0) for label in range(3)])
        scatter = (rows - means[targets]).T @ (rows - means[targets])
        covariance = (scatter + np.trace(scatter) / 29 * np.eye(4)) / 4  # the inverse is d ((n - 1) S + tr(S) I)^-1
        theirs = np.stack([stats.multivariate_normal(mean, covariance).logpdf(rows) for mean in means], axis=1)
        ours = few_shot_baselines._gaussian_logits(Problem(rows, targets, np.zeros((3, 4)), 1.0), rows)
        assert ours - ours[:, :1] == pytest.approx(theirs - theirs[:, :1], abs=1e-6)

    def test_probe_is_sklearns_regression(self) -> None:
        """With the strength that the folds chose, the probe's weights are scikit-learn's to 1e-6."""
        linear = pytest.importorskip("sklearn.linear_model", reason="scikit-learn comes with the dev extra")
        data, texts = make_data(60)
        problem = Problem(data.features, data.targets, np.zeros((3, 16), dtype=np.float32), 10.0)
        pull = learn(problem, strengths=tuple(one for one in STRENGTHS if np.isfinite(one))).strength
        theirs = linear.LogisticRegression(C=10.0 / (2 * pull), fit_intercept=False, tol=1e-10, max_iter=10_000)
        theirs.fit(data.features.astype(np.float64), data.targets)
        ours = few_shot_baselines.linear_probe(Problem(data.features, data.targets, texts.weights, 10.0), np.eye(16))
        weights = ours.T / 10.0
        assert weights == pytest.approx(theirs.coef_ / 10.0, abs=1e-6)

    def test_gaussian_of_one_example_a_label(self) -> None:
        """One example a label leaves a sphere: the nearer mean wins, a label without examples gets the mean."""
        problem = Problem(np.eye(2), np.array([0, 1]), np.zeros((3, 2)), 1.0)
        assert few_shot_baselines.gaussian(problem, np.array([[0.6, 0.8]]))[0] == pytest.approx([0.1, 0.3, 0.2])

    def test_gaussian_that_misleads_is_weighted_down(self) -> None:
        """Where labels were dealt at random beside true texts, the folds choose a small weight."""
        generator = np.random.default_rng(1)
        rows = generator.normal(size=(60, 30))
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        texts = generator.normal(size=(3, 30))
        targets = (20 * rows @ texts.T).argmax(axis=1)
        problem = Problem(rows, targets, texts, 20.0)
        logits = few_shot_baselines.gaussian(problem, rows)
        assert (logits.argmax(axis=1) == targets).mean() > 0.95

    def test_probe_ignores_texts(self) -> None:
        """Other texts give the same probe."""
        other = Problem(self.problem.features, self.problem.targets, np.ones((2, 2)), 10.0)
        assert few_shot_baselines.linear_probe(other, self.image) == pytest.approx(
            few_shot_baselines.linear_probe(self.problem, self.image)
        )


def make_data(n_images: int = 120) -> tuple[EncodedDataset, Classifier]:
    generator = np.random.default_rng(3)
    truth = generator.normal(size=(3, 16))
    targets = np.arange(n_images) % 3
    rows = truth[targets] + generator.normal(size=(n_images, 16))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    texts = generator.normal(size=(3, 16))
    texts = (texts / np.linalg.norm(texts, axis=1, keepdims=True)).astype(np.float32)
    labels = LabelSet(tuple(Label(name) for name in "abc"))
    data = EncodedDataset(rows, tuple(map(str, range(n_images))), targets, ())
    return data, Classifier(texts, labels, TemplateSet("p", ("{}",)), 10.0, 0.0, Score.SOFTMAX)


def test_curve() -> None:
    """With spoilt texts, more examples are better, and significantly better than the texts alone."""
    data, texts = make_data()
    done: list[int] = []
    curve = trace_curve(data, texts, (1, 8), 2, done.append)
    assert sum(done) == 2 * 2 * len(METHODS)
    at = {(point.method, point.shots): point for point in curve.points}
    assert set(at) == {(name, count) for name in METHODS for count in (1, 8)}
    assert at["learn", 8].top1 > at["learn", 1].top1 - 0.05
    assert at["learn", 8].paired.p < 0.05 < at["learn", 8].paired.difference.value
    assert curve.zero_shot.paired.p == 1.0
    assert curve.measured == (96, 96)
    right = (data.features @ texts.weights.T).argmax(axis=1) == data.targets
    assert curve.zero_shot.top1 == pytest.approx(right.mean(), abs=0.1)


def test_examples_that_there_are_not_are_not_counted() -> None:
    """Of 20 images per label 10 can be drawn: the point of 16 says so, and a line below the table does."""
    data, texts = make_data(60)
    curve = trace_curve(data, texts, (4, 16), 2, methods={"learn": METHODS["learn"]})
    assert curve.examples == {4: 4.0, 16: 10.0}
    document = to_document(curve, Manifest({}, {}, {}, {}))
    assert [(point["shots"], point["examples"]) for point in document["points"]] == [(4, 4.0), (16, 10.0)]
    assert to_text(curve).endswith("\nexamples per label that there were: 10.0 for 16\n")


def test_too_few() -> None:
    """One image a label leaves nothing to draw."""
    data, texts = make_data(3)
    with pytest.raises(InputError, match="too few images to draw"):
        trace_curve(data, texts, (1,), 1)


def test_command(fake_model: FakeModel, images: SaveImage, tmp_path: Path) -> None:
    """JSON has a point for each method and number, the table a row for each method; nonsense is refused."""
    for index in range(12):
        images(f"val/orange/{index}.png", (255, 60 + 35 * (index % 4), 45 * (index // 4)))
        images(f"val/violet/{index}.png", (60 + 35 * (index % 4), 45 * (index // 4), 255))
    asked = ("eval", tmp_path / "val", "--few-shot", "4,1", "--seeds", 2)
    document = json.loads(run(*asked).stdout)
    assert list(document) == [
        *("format", "version", "manifest", "seeds", "measured", "zero_shot", "points", "labels_with_fewer_images")
    ]
    assert [(point["method"], point["shots"]) for point in document["points"]] == [
        (name, count) for count in (1, 4) for name in METHODS
    ]
    table = run(*asked, "--format", "table").stdout
    for name in ("zero-shot", *METHODS):
        assert sum(line.startswith(f"  {name} ") for line in table.splitlines()) == 2
    for wrong in ("0", "1,1", "two", ""):
        bad = run("eval", tmp_path / "val", "--few-shot", wrong or ",")
        assert (bad.exit_code, "expected different whole numbers" in bad.stderr) == (2, True)
    assert run(*asked, "--report", tmp_path / "page.html").exit_code == 2
