"""Neighbours: the nearest are scikit-learn's, the mixture is scipy's, and it is refused without a first pass."""

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
from zeroshot.errors import InputError, UsageError
from zeroshot.evaluation.calibrate import cool
from zeroshot.features.pipeline import Block
from zeroshot.learn import label_propagation
from zeroshot.learn.label_shares import with_shares
from zeroshot.prompts.labels import Label, LabelSet
from zeroshot.prompts.template_sets import TemplateSet
from zeroshot.scoring import Classifier, Decision, softmax


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def scatter(n_images: int, dim: int = 6, seed: int = 0) -> np.ndarray:
    return unit(np.random.default_rng(seed).normal(size=(n_images, dim)))


class TestNearest:
    """The graph."""

    @pytest.mark.parametrize("n_images, n_nearest", [(700, 10), (64, 3), (40, 10), (5, 10), (2, 10)])
    def test_is_sklearns(self, n_images: int, n_nearest: int, monkeypatch: pytest.MonkeyPatch) -> None:
        """The same neighbours as scikit-learn finds, in many blocks or one, with fewer images than neighbours too."""
        search = pytest.importorskip("sklearn.neighbors", reason="scikit-learn comes with the dev extra")
        features, kept = scatter(n_images), min(n_nearest, n_images - 1)
        theirs = search.NearestNeighbors(n_neighbors=kept, metric="cosine").fit(features).kneighbors()[1]
        assert (np.sort(label_propagation.find_nearest(features, n_nearest), axis=1) == np.sort(theirs, axis=1)).all()
        monkeypatch.setattr(label_propagation, "_CELLS", 2000)
        assert (np.sort(label_propagation.find_nearest(features, n_nearest), axis=1) == np.sort(theirs, axis=1)).all()

    def test_copies_are_neighbours_but_no_image_is_its_own(self) -> None:
        """Of three copies and one other image each copy has the two others."""
        features = np.eye(2, dtype=np.float32)[[0, 0, 0, 1]]
        found = label_propagation.find_nearest(features, 2)
        assert [set(row) for row in found[:3].tolist()] == [{1, 2}, {0, 2}, {0, 1}]
        assert label_propagation.find_nearest(features[:1]).shape == (1, 0)
        assert label_propagation.find_nearest(features[:0]).shape == (0, 0)


class TestSpread:
    """The mixture."""

    def test_two_images_by_hand(self) -> None:
        """Two images that are each other's neighbours, at a share of a half: two thirds are one's own."""
        nearest = np.array([[1], [0]], dtype=np.int32)
        mixed = label_propagation.spread(np.array([[1.0, 0.0], [0.4, 0.6]]), nearest, 0.5)
        assert mixed == pytest.approx(np.array([[0.8, 0.2], [0.6, 0.4]]), abs=1e-6)

    def test_is_scipys_solution(self) -> None:
        """Scipy's solution of the sparse linear system, to 1e-6."""
        sparse = pytest.importorskip("scipy.sparse", reason="scipy comes with the dev extra")
        from scipy.sparse.linalg import spsolve

        n_images = 300
        nearest = label_propagation.find_nearest(scatter(n_images))
        own = np.random.default_rng(1).dirichlet(np.ones(4), size=n_images)
        rows = np.repeat(np.arange(n_images), nearest.shape[1])
        graph = sparse.csr_matrix((np.full(nearest.size, 0.1), (rows, nearest.ravel())), shape=(n_images, n_images))
        for share in (0.5, 0.8):
            theirs = spsolve(sparse.csc_matrix(sparse.eye(n_images) - share * graph), (1 - share) * own)
            ours = label_propagation.spread(own, nearest, share)
            assert ours == pytest.approx(theirs, abs=1e-6)
            assert ours.sum(axis=1) == pytest.approx(1, abs=1e-6)

    def test_nobody_beside(self) -> None:
        """An image alone keeps what it has."""
        own = np.array([[0.3, 0.7]])
        assert label_propagation.spread(own, np.empty((1, 0), dtype=np.int32)) == pytest.approx(own)


def make_classifier(n_labels: int = 3) -> Classifier:
    labels = LabelSet(tuple(Label(str(index)) for index in range(n_labels)))
    rows = scatter(n_labels, seed=5)
    return Classifier(rows, labels, TemplateSet("p", ("{}",)), 20.0, 0.0, Score.SOFTMAX)


class TestPropagate:
    """Logits of mixed probabilities."""

    def test_softmax_of_the_logits_is_the_mixture(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """With the scale of each image's own logits, however labels and images are cut into parts."""
        features, classifier = scatter(120), make_classifier(5)
        scores = classifier.scores(features)
        mixed = label_propagation.spread(scores.probabilities, label_propagation.find_nearest(features))
        for columns in (16, 2):
            monkeypatch.setattr(label_propagation, "_COLUMNS", columns)
            monkeypatch.setattr(label_propagation, "_CELLS", 7000 if columns == 16 else 300)
            logits = label_propagation.propagate(classifier, features)
            assert softmax(logits) == pytest.approx(mixed, abs=1e-6)
            sums = np.logaddexp.reduce(scores.logits, axis=1)
            assert np.logaddexp.reduce(logits, axis=1) == pytest.approx(sums, abs=1e-4)

    def test_too_many_are_refused_before_any_work(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A matrix of more than half of the memory at hand is refused; sigmoids too."""
        monkeypatch.setattr(label_propagation, "available_memory", lambda: 1000)
        with pytest.raises(InputError, match="half of the memory"):
            label_propagation.propagate(make_classifier(), scatter(50))
        with pytest.raises(UsageError, match="sum to 1"):
            label_propagation.propagate(replace(make_classifier(), score=Score.SIGMOID), scatter(50))


def test_order_learned_calibrated_prior_neighbours_background_groups_threshold() -> None:
    """By hand: learned rows, temperature, shares, mixture; then the background dropped, the group summed."""
    labels = LabelSet((Label("a"), Label("b"), Label("c"), Label("sky", background=True)), (("ab", (0, 1)),))
    rows = np.array([[2, 0], [0, 2], [1, 1], [-1, 0]], dtype=np.float32)  # not of unit length: learned
    base = Classifier(rows, labels, TemplateSet("p", ("{}",)), 4.0, 0.0, Score.SOFTMAX, learned="x")
    shares = np.array([0.2, 0.2, 0.4, 0.2])
    classifier = with_shares(cool(base, 2.0), shares)
    features = np.array([[0.8, 0.6], [-1.0, 0.0]], dtype=np.float32)  # the second is the background's
    own = shares * np.exp(4.0 / 2.0 * features @ rows.T)
    own /= own.sum(axis=1, keepdims=True)
    mixed = np.stack([(2 * own[0] + own[1]) / 3, (own[0] + 2 * own[1]) / 3])
    logits = label_propagation.propagate(classifier, features)
    block, expected = Block(["1", "2"], features, {}, (2,)), mixed[0, 0] + mixed[0, 1]
    for threshold, label in ((expected - 0.01, "ab"), (expected + 0.01, None)):
        first, second = classifier.answer(block, Decision(threshold=float(threshold)), logits).records()
        assert (first.label, second.label) == (label, None)
        assert first.top[0].probability == pytest.approx(expected, abs=1e-5)
        assert second.background.label == "sky"
        assert second.background.probability == pytest.approx(mixed[1, 3], abs=1e-5)


class TestCommand:
    """`classify` and `eval` with neighbours."""

    @pytest.fixture
    def folder(self, fake_model: FakeModel, images: SaveImage, tmp_path: Path) -> Path:
        """Nine images that are red, and one between red and magenta, a little nearer to magenta."""
        for index in range(9):
            images(f"all/red/{index}.png", (255, index, 0))
        images("all/red/mixed.png", (255, 0, 140))
        return tmp_path / "all"

    def test_classify(self, folder: Path, tmp_path: Path) -> None:
        """An image is read as those like it, each is encoded once, a failed one stays in its place, all is stated."""
        (folder / "red" / "4b.png").write_bytes(b"no image")
        asked = ("classify", folder, "--labels", "red,magenta,blue", "--format", "json", "--fields", "logit")
        printed = run(*asked, "--neighbours")
        plain, result = json.loads(run(*asked).stdout), json.loads(printed.stdout)
        assert "fewer than 10 images per label" in printed.stderr
        assert [record["path"] for record in result["records"]] == [record["path"] for record in plain["records"]]
        labels = [[record.get("label") for record in found["records"]] for found in (plain, result)]
        assert [found.count("magenta") for found in labels] == [1, 0]
        assert [found.count("red") for found in labels] == [9, 10]
        assert result["manifest"]["options"]["neighbours"] == {"nearest": 10, "share": 0.5, "images": 10}
        assert "neighbours" not in plain["manifest"]["options"]
        page = tmp_path / "page.html"
        assert run(*asked, "--neighbours", "--report", page).exit_code == 3
        assert "neighbours" in page.read_text("utf-8")

    def test_refused_where_it_cannot_look_first(self, folder: Path, tmp_path: Path) -> None:
        """Stdin and --resume are refused, and the option is named."""
        labels = ("--labels", "red,blue", "--neighbours")
        for result in (
            run("classify", "-", *labels, stdin=b""),
            run("classify", folder, *labels, "--output", tmp_path / "o.jsonl", "--resume"),
            run("classify", folder, *labels, "--output", tmp_path / "o.jsonl", "--append"),
        ):
            assert result.exit_code == 2
            assert "--neighbours looks at all images first" in result.stderr

    def test_nothing_readable(self, fake_model: FakeModel, tmp_path: Path) -> None:
        """Images that cannot be read have no neighbours, and are failed records as ever."""
        (tmp_path / "bad.png").write_bytes(b"no image")
        result = run("classify", tmp_path / "bad.png", "--labels", "red,blue", "--neighbours")
        assert (result.exit_code, "error" in json.loads(result.stdout)) == (3, True)

    def test_eval_measures_it(self, folder: Path, images: SaveImage, tmp_path: Path) -> None:
        """`eval` applies it to its own images, states it, and its page shows the mixed probabilities."""
        images("all/magenta/1.png", "magenta")
        page = tmp_path / "page.html"
        plain = json.loads(run("eval", folder).stdout)
        found = json.loads(run("eval", folder, "--neighbours", "--report", page).stdout)
        assert ", neighbours." in Path(page).read_text()
        assert found["metrics"]["top1"]["value"] != plain["metrics"]["top1"]["value"]
        assert found["manifest"]["options"]["neighbours"]["images"] == 11
        shown = min(found["predictions"], key=lambda one: one["probability"])
        assert f"{100 * shown['probability']:.1f}" in page.read_text("utf-8")
        assert run("eval", folder, "--neighbours", "--few-shot", "1").exit_code == 2

    def test_with_a_calibration(self, folder: Path, images: SaveImage, tmp_path: Path) -> None:
        """A calibration is applied before, and a line says that its promise does not hold."""
        for index in range(32):
            images(f"all/magenta/{index}.png", (255, 7 * index, 255 - 7 * index))
        fitted = tmp_path / "calibration.json"
        assert run("calibrate", folder, "--output", fitted, "--force").exit_code == 0
        result = run("classify", folder, "--labels", "magenta,red", "--neighbours", "--calibration", fitted)
        assert result.exit_code == 0
        assert "the calibration was fitted on" in result.stderr
