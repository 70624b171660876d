"""The built-in checkpoint on CIFAR-10's test images: every number is scikit-learn's, and calibration holds.

The images are not part of the repository; where they are absent these tests are skipped.
"""

from __future__ import annotations

import zipfile
from dataclasses import replace

import numpy as np
import pytest

from support import ROOT
from zeroshot.classifier import build_classifier
from zeroshot.engines.choose import load_encoder
from zeroshot.evaluation.calibrate import calibrate
from zeroshot.evaluation.evaluate import EncodedDataset, Evaluation, encode_dataset, evaluate
from zeroshot.evaluation.holdout import halve
from zeroshot.evaluation.labelled_folders import load_folder
from zeroshot.features.pipeline import Pipeline
from zeroshot.models.resolvers import builtin_folder
from zeroshot.prompts.template_sets import load_templates
from zeroshot.scoring import Classifier

ARCHIVE = ROOT.parent / "shared" / "photos64" / "test-cifar10-00.zip"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not ARCHIVE.is_file(), reason="CIFAR-10's test images are not beside this checkout"),
    pytest.mark.skipif(not builtin_folder().is_dir(), reason="no built-in checkpoint"),
]
sklearn_metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn comes with the dev extra")


@pytest.fixture(scope="module")
def measured(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[EncodedDataset, Classifier, tuple[str, ...], Evaluation]:
    """Every fifth of the 10,000 images, encoded and evaluated; a folder's ``cifar-`` is no part of its label."""
    root = tmp_path_factory.mktemp("cifar10")
    with zipfile.ZipFile(ARCHIVE) as archive:
        for name in sorted(archive.namelist())[::5]:
            target = root / name.removeprefix("cifar-")
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(archive.read(name))
    dataset = load_folder(str(root))
    encoder = load_encoder("tiny")
    classifier = build_classifier(encoder, dataset.labels, load_templates("general"))
    data = encode_dataset(encoder, dataset, Pipeline())
    return data, classifier, dataset.keys, evaluate(data, classifier, dataset.keys)


def test_every_number_is_scikit_learns(
    measured: tuple[EncodedDataset, Classifier, tuple[str, ...], Evaluation],
) -> None:
    """Accuracy, recall, precision, F1, losses and bins agree to 1e-9 on the same predictions."""
    from sklearn.calibration import calibration_curve

    data, classifier, keys, result = measured
    assert len(keys) == 10
    assert len(data.paths) == 2_000
    logits = classifier.scores(data.features).logits.astype(np.float64)
    probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    predicted, targets, got = logits.argmax(axis=1), data.targets, result.metrics
    close = {"abs": 1e-9}
    assert got.top1.value == pytest.approx(sklearn_metrics.accuracy_score(targets, predicted), **close)
    assert got.top5.value == pytest.approx(sklearn_metrics.top_k_accuracy_score(targets, probabilities, k=5), **close)
    balanced = sklearn_metrics.balanced_accuracy_score(targets, predicted)
    assert got.mean_recall.value == pytest.approx(balanced, **close)
    f1 = sklearn_metrics.f1_score(targets, predicted, average="macro", zero_division=0)
    assert got.mean_f1.value == pytest.approx(f1, **close)
    assert got.nll.value == pytest.approx(sklearn_metrics.log_loss(targets, probabilities), **close)
    per_label = sklearn_metrics.precision_recall_fscore_support(targets, predicted, zero_division=0)
    ours = [
        [getattr(label, name) or 0 for label in result.per_label] for name in ("precision", "recall", "f1", "support")
    ]
    assert np.allclose(ours, per_label, rtol=0, atol=1e-9)
    assert (result.confusion == sklearn_metrics.confusion_matrix(targets, predicted)).all()
    # The Brier score of several labels is the sum of the labels' own, each a yes or no.
    brier = sum(sklearn_metrics.brier_score_loss(targets == index, probabilities[:, index]) for index in range(10))
    assert got.brier.value == pytest.approx(brier, **close)
    accuracy, confidence = calibration_curve(predicted == targets, probabilities.max(axis=1), n_bins=15)
    filled = [b for b in result.reliability if b.count]
    assert np.allclose([[b.accuracy, b.confidence] for b in filled], np.transpose([accuracy, confidence]), atol=1e-9)
    weights = np.asarray([b.count for b in filled]) / len(targets)
    assert got.ece.value == pytest.approx(float((weights * np.abs(accuracy - confidence)).sum()), **close)


def test_calibration_corrects_a_doubled_scale(
    measured: tuple[EncodedDataset, Classifier, tuple[str, ...], Evaluation],
) -> None:
    """Made overconfident on purpose, the held-out calibration error falls by half and the precision is reached."""
    data, classifier, keys, result = measured
    doubled = replace(classifier, logit_scale=2 * classifier.logit_scale)
    seen, held_out = halve(data, 0)
    sure = np.sort(result.probabilities[:, 0])[-800]
    wanted = float(result.right[result.probabilities[:, 0] >= sure].mean())
    fit = calibrate(seen, held_out, doubled, keys, wanted)
    print(f"calibration error {fit.before.metrics.ece.value:.4f} to {fit.after.metrics.ece.value:.4f}")
    assert fit.after.metrics.ece.value <= 0.5 * fit.before.metrics.ece.value
    assert fit.answering is not None
    print(f"wanted {wanted:.3f}: {fit.answering.precision}, coverage {fit.answering.coverage.value:.3f}")
    assert fit.answering.precision.high >= wanted
