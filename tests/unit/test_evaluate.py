"""Evaluation: numbers by hand on a few images, and against scikit-learn on many."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from support.fakes import FakeEncoder
from zeroshot.enums import Score
from zeroshot.errors import InputError
from zeroshot.evaluation import label_issues
from zeroshot.evaluation.evaluate import EncodedDataset, Run, encode_dataset, evaluate, losses
from zeroshot.evaluation.labelled_folders import load_folder
from zeroshot.features.pipeline import Pipeline
from zeroshot.prompts.labels import Label, LabelSet
from zeroshot.prompts.template_sets import TemplateSet
from zeroshot.results import Manifest
from zeroshot.scoring import Classifier, Decision, softmax

sklearn_metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn comes with the dev extra")


def make_classifier(weights: np.ndarray, scale: float = 1.0, score: Score = Score.SOFTMAX) -> Classifier:
    labels = LabelSet(tuple(Label(f"label {index}") for index in range(len(weights))))
    templates = TemplateSet("plain", ("{}",))
    return Classifier(weights.astype(np.float32), labels, templates, scale, 0.0, score)


def make_data(features: np.ndarray, targets: list[int] | np.ndarray) -> EncodedDataset:
    paths = tuple(f"{index}.png" for index in range(len(features)))
    return EncodedDataset(features.astype(np.float32), paths, np.asarray(targets, dtype=np.int64), ())


def keys_of(classifier: Classifier) -> tuple[str, ...]:
    return classifier.labels.names


@pytest.fixture(scope="module")
def many() -> tuple[EncodedDataset, Classifier]:
    """Two thousand images of twelve labels, about two thirds right; the last label has no images."""
    generator = np.random.default_rng(4)
    weights = generator.normal(size=(12, 16))
    weights /= np.linalg.norm(weights, axis=1, keepdims=True)
    targets = generator.integers(0, 11, size=2000)
    features = weights[targets] + generator.normal(scale=0.35, size=(2000, 16))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    return make_data(features, targets), make_classifier(weights, scale=12.0)


class TestByHand:
    """Numbers that can be computed by hand."""

    def test_metrics(self) -> None:
        """Three images of label 0 (two right) and one of label 1 (right): every share follows."""
        data = make_data(np.array([[1, 0], [1, 0], [0, 1], [0, 1]]), [0, 0, 0, 1])
        result = evaluate(data, make_classifier(np.eye(2)), ("a", "b"))
        assert result.metrics.top1.value == 0.75
        assert result.metrics.top5.value == 1.0
        assert result.metrics.mean_recall.value == pytest.approx((2 / 3 + 1) / 2)
        assert [(x.support, x.recall, x.precision, x.f1) for x in result.per_label] == [
            (3, pytest.approx(2 / 3), 1.0, pytest.approx(0.8)),
            (1, 1.0, 0.5, pytest.approx(2 / 3)),
        ]
        assert result.confusion.tolist() == [[2, 1], [0, 1]]
        assert result.confused == (("label 0", "label 1", 1),)
        # Logits are 1 and 0: the likelihoods are e/(1+e) for the right answers and 1/(1+e) for the wrong one.
        p = np.e / (1 + np.e)
        assert result.metrics.nll.value == pytest.approx(-(3 * np.log(p) + np.log(1 - p)) / 4, abs=1e-7)
        assert result.metrics.brier.value == pytest.approx((3 * 2 * (1 - p) ** 2 + 2 * p**2) / 4, abs=1e-7)
        assert result.metrics.ece.value == pytest.approx(0.75 - p, abs=1e-7)

    @pytest.mark.parametrize("given", [False, True])
    def test_answers_are_what_is_measured(self, given: bool) -> None:
        """Groups are summed and background labels dropped as `classify` does it, and every number is of that."""
        generator = np.random.default_rng(1)
        labels = LabelSet(
            (Label("cat"), Label("wall", background=True), Label("dog"), Label("car"), Label("sky", background=True)),
            (("pet", (0, 2)),),
        )
        plain = make_classifier(generator.normal(size=(5, 6)), scale=2.0)
        classifier = replace(plain, labels=labels)
        data = make_data(generator.normal(size=(60, 6)), generator.choice([0, 2, 3], size=60))
        logits = classifier.scores(data.features).logits if given else None
        result = evaluate(data, classifier, ("c", "w", "d", "r", "s"), logits)
        decided = classifier.decide(data.features, Decision())
        names = [label.label for label in result.per_label]
        assert (names, [label.key for label in result.per_label]) == (["pet", "car"], ["c + d", "r"])
        assert [names[place] for place in result.ranking[:, 0]] == [top[0].label for _, top, _ in decided]
        assert result.probabilities[:, 0] == pytest.approx([top[0].probability for _, top, _ in decided], abs=1e-6)
        assert result.outdone.tolist() == [outdone is not None for _, _, outdone in decided]
        assert 0 < result.outdone.sum() < 60
        true = ["car" if target == 3 else "pet" for target in data.targets]
        both = list(zip([top for _, top, _ in decided], true, strict=True))
        of_true = [next(one.probability for one in top if one.label == name) for top, name in both]
        assert result.target_probabilities == pytest.approx(of_true, abs=1e-6)
        assert result.metrics.nll.value == pytest.approx(-np.log(of_true).mean(), abs=1e-5)
        assert result.metrics.top1.value == np.mean([top[0].label == name for top, name in both])
        three = result.probabilities_of([0, 1, 2])
        assert three.max(axis=1) == pytest.approx(result.probabilities[:3, 0], abs=1e-6)
        assert three.shape == (3, 2)
        sure = [label is not None for label, _, _ in classifier.decide(data.features, Decision(threshold=0.4))]
        answering = Run(result, Manifest({}, {}, {}, {}), 0.4).answering
        assert answering is not None
        assert answering.coverage.value == np.mean(sure)

    def test_label_without_images(self) -> None:
        """A label without images has no recall, and counts in no mean."""
        result = evaluate(make_data(np.eye(3)[:2], [0, 1]), make_classifier(np.eye(3)), ("a", "b", "c"))
        assert result.per_label[2].recall is None
        assert result.per_label[2].precision is None
        assert result.per_label[2].f1 is None
        assert result.metrics.mean_recall.value == result.metrics.mean_f1.value == 1.0

    def test_sigmoid_losses(self) -> None:
        """Every label is a yes or no of its own: -ln of the product of their likelihoods."""
        logits = np.array([[2.0, -1.0]])
        yes, no = 1 / (1 + np.exp(-2.0)), 1 - 1 / (1 + np.exp(1.0))
        assert losses(logits, np.array([0]), Score.SIGMOID) == pytest.approx([-np.log(yes) - np.log(no)])

    def test_confidence_beyond_float32(self) -> None:
        """Probabilities that float32 rounds to 1 are still told apart, and the loss stays finite."""
        data = make_data(np.array([[1, 0], [0.9, 0.1], [1, 0]]), [0, 0, 1])
        result = evaluate(data, make_classifier(np.eye(2), scale=40.0), ("a", "b"))
        assert result.probabilities[0, 0] >= result.probabilities[1, 0]
        assert np.isfinite(result.metrics.nll.value)


class TestAgainstScikitLearn:
    """Numbers that scikit-learn computes."""

    def test_every_number(self, many: tuple[EncodedDataset, Classifier]) -> None:
        """All numbers are scikit-learn's to 1e-9 on the same predictions."""
        data, classifier = many
        result = evaluate(data, classifier, keys_of(classifier))
        logits = classifier.scores(data.features).logits.astype(np.float64)
        probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities /= probabilities.sum(axis=1, keepdims=True)
        every = np.arange(12)
        predicted, targets, got = probabilities.argmax(axis=1), data.targets, result.metrics
        close = {"abs": 1e-9}
        assert got.top1.value == pytest.approx(sklearn_metrics.accuracy_score(targets, predicted), **close)
        top5 = sklearn_metrics.top_k_accuracy_score(targets, probabilities, k=5, labels=every)
        assert got.top5.value == pytest.approx(top5, **close)
        with pytest.warns(UserWarning, match="y_pred contains classes not in y_true"):
            assert 11 in predicted
            balanced = sklearn_metrics.balanced_accuracy_score(targets, predicted)
        assert got.mean_recall.value == pytest.approx(balanced, **close)
        assert got.nll.value == pytest.approx(sklearn_metrics.log_loss(targets, probabilities, labels=every), **close)
        precision, recall, f1, support = sklearn_metrics.precision_recall_fscore_support(
            targets, predicted, labels=every, zero_division=0
        )
        for index, label in enumerate(result.per_label):
            assert (label.precision or 0.0) == pytest.approx(precision[index], **close)
            assert (label.recall or 0.0) == pytest.approx(recall[index], **close)
            assert (label.f1 or 0.0) == pytest.approx(f1[index], **close)
            assert label.support == support[index]
        assert got.mean_f1.value == pytest.approx(f1[:11].mean(), **close)
        assert (result.confusion == sklearn_metrics.confusion_matrix(targets, predicted, labels=every)).all()
        one_hot = np.eye(12)[targets]
        # scikit-learn's own Brier score for several classes needs a label set without absentees.
        assert got.brier.value == pytest.approx(((probabilities - one_hot) ** 2).sum(axis=1).mean(), **close)

    def test_blocks_change_nothing(
        self, many: tuple[EncodedDataset, Classifier], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The numbers do not depend on how many images are scored together."""
        data, classifier = many
        whole = evaluate(data, classifier, keys_of(classifier))
        monkeypatch.setattr("zeroshot.evaluation.evaluate.BLOCK", 7)
        parts = evaluate(data, classifier, keys_of(classifier))
        assert parts.metrics.top1 == whole.metrics.top1
        assert parts.metrics.nll.value == pytest.approx(whole.metrics.nll.value, abs=1e-6)

    def test_probabilities_are_those_of_classify(self, many: tuple[EncodedDataset, Classifier]) -> None:
        """What eval reports for an image is what classify reports for it."""
        data, classifier = many
        result = evaluate(data, classifier, keys_of(classifier))
        single = softmax(classifier.scores(data.features).logits)
        assert np.allclose(result.probabilities[:, 0], single.max(axis=1), atol=1e-6)


class TestEncodeDataset:
    """From files to features."""

    def test_failures_keep_their_place(self, images, tmp_path) -> None:
        """An image that cannot be read leaves every other with its own label."""
        for name, colour in (("red/1.png", "red"), ("red/3.png", "red"), ("blue/1.png", "blue")):
            images(name, colour)
        (tmp_path / "red" / "2.png").write_bytes(b"no image")
        dataset = load_folder(str(tmp_path))
        seen: list[int] = []
        data = encode_dataset(FakeEncoder(), dataset, Pipeline(2, 1), seen.append)
        assert [
            (path.rsplit("/", 2)[-2:], int(target)) for path, target in zip(data.paths, data.targets, strict=True)
        ] == [
            (["blue", "1.png"], 0),
            (["red", "1.png"], 1),
            (["red", "3.png"], 1),
        ]
        assert [failure.path.rsplit("/", 1)[-1] for failure in data.failures] == ["2.png"]
        assert sum(seen) == 4

    def test_nothing_readable(self, tmp_path) -> None:
        """When no image can be read there is nothing to measure, and the first reason is told."""
        (tmp_path / "red").mkdir()
        (tmp_path / "red" / "1.png").write_bytes(b"no image")
        with pytest.raises(InputError, match=r"none of 1 image could be read: .*1\.png"):
            encode_dataset(FakeEncoder(), load_folder(str(tmp_path)), Pipeline(2, 1))

    def test_subset(self) -> None:
        """A subset keeps features, paths and targets together."""
        part = make_data(np.eye(3), [0, 1, 2]).subset(np.array([2, 0]))
        assert (part.paths, part.targets.tolist(), part.features[0].tolist()) == (("2.png", "0.png"), [2, 0], [0, 0, 1])


class TestSuspects:
    """Labels that are most likely wrong."""

    def test_a_planted_error_comes_first(self, many: tuple[EncodedDataset, Classifier]) -> None:
        """Images whose label is swapped on purpose are found, most of them at the top of the list."""
        data, classifier = many
        sure = np.flatnonzero(evaluate(data, classifier, keys_of(classifier)).target_probabilities > 0.9)[:20]
        targets = data.targets.copy()
        targets[sure] = (targets[sure] + 1) % 11
        result = evaluate(replace(data, targets=targets), classifier, keys_of(classifier))
        found = label_issues.find_label_issues(result, classifier.labels.names, 25)
        assert len(found) == 25
        assert len({issue.row for issue in found} & set(sure.tolist())) >= 15
        assert found[0].given != found[0].suggested
        assert found[0].given in found[0].reason and found[0].suggested in found[0].reason

    def test_nothing_to_suspect(self) -> None:
        """A run without mistakes has no suspects."""
        result = evaluate(make_data(np.eye(3), [0, 1, 2]), make_classifier(np.eye(3), scale=9.0), ("a", "b", "c"))
        assert label_issues.find_label_issues(result, ("a", "b", "c"), 5) == ()
