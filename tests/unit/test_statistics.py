"""Intervals, tests and calibration figures: by hand, against scipy and scikit-learn, and in seeded simulations."""

from __future__ import annotations

import numpy as np
import pytest

from zeroshot.evaluation import statistics

scipy_stats = pytest.importorskip("scipy.stats", reason="scipy comes with the dev extra (through scikit-learn)")


class TestWilson:
    """The interval of a share."""

    def test_by_hand(self) -> None:
        """With 5 of 10, the centre is a half and the half-width z/(1+z²/n) · sqrt(1/40 + z²/400)."""
        estimate = statistics.wilson(5, 10)
        z = 1.959963984540054
        half = z / (1 + z * z / 10) * (0.025 + z * z / 400) ** 0.5
        assert (estimate.value, estimate.low, estimate.high) == pytest.approx((0.5, 0.5 - half, 0.5 + half), abs=1e-15)

    @pytest.mark.parametrize("right, n", [(0, 1), (0, 30), (30, 30), (1, 7), (640, 1000), (49_999, 50_000)])
    def test_equals_scipy(self, right: int, n: int) -> None:
        """The interval is scipy's."""
        theirs = scipy_stats.binomtest(right, n).proportion_ci(method="wilson")
        ours = statistics.wilson(right, n)
        assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)

    def test_nothing_measured(self) -> None:
        """Without images anything from 0 to 1 is possible."""
        assert statistics.wilson(0, 0) == statistics.Estimate(0.0, 0.0, 1.0)

    @pytest.mark.parametrize("accuracy", [0.62, 0.9])
    def test_coverage(self, accuracy: float) -> None:
        """The interval holds the true accuracy 93 to 97 times in 100."""
        hits = np.random.default_rng(1).binomial(400, accuracy, size=4000)
        held = [(e := statistics.wilson(int(right), 400)).low <= accuracy <= e.high for right in hits]
        assert 0.93 <= np.mean(held) <= 0.97


class TestMeanRecall:
    """The interval of the mean recall."""

    def test_value_leaves_out_labels_without_images(self) -> None:
        """Recalls 1/2 and 1 average to 3/4; the label without images has no recall."""
        estimate = statistics.mean_recall_interval(np.array([1, 0, 3]), np.array([2, 0, 3]))
        assert estimate.value == 0.75
        assert 0 <= estimate.low <= 0.75 <= estimate.high <= 1

    def test_all_right_is_no_proof_of_perfection(self) -> None:
        """Where all images are right, or none, the interval is Wilson's of all images together."""
        estimate = statistics.mean_recall_interval(np.array([4, 6]), np.array([4, 6]))
        assert estimate == statistics.wilson(10, 10)
        assert statistics.mean_recall_interval(np.array([0, 0]), np.array([4, 6])) == statistics.wilson(0, 10)

    def test_by_hand(self) -> None:
        """Recalls 1/2 and 3/4, each with z² images more at the rate 4/6 of all: the variance is that of their mean."""
        z = 1.959963984540054
        shares = ((1 + z * z * 4 / 6) / (2 + z * z), (3 + z * z * 4 / 6) / (4 + z * z))
        half = z * (shares[0] * (1 - shares[0]) / 2 + shares[1] * (1 - shares[1]) / 4) ** 0.5 / 2
        estimate = statistics.mean_recall_interval(np.array([1, 3]), np.array([2, 4]))
        assert (estimate.value, estimate.low, estimate.high) == pytest.approx(
            (0.625, 0.625 - half, min(1, 0.625 + half))
        )

    def test_holds_its_value_with_labels_of_one_image(self) -> None:
        """Labels with one right image beside large ones with many mistakes: the value is inside, well off the ends."""
        right, support = np.array([1] * 12 + [20, 18]), np.array([1] * 12 + [40, 40])
        estimate = statistics.mean_recall_interval(right, support)
        assert estimate.low + 0.02 < estimate.value < estimate.high - 0.02

    @pytest.mark.parametrize("support", [[40, 60, 80, 120], [50] * 100])
    def test_coverage(self, support: list[int]) -> None:
        """The interval holds the true mean recall 93 to 97 times in 100, with labels of different size and recall."""
        sizes = np.array(support)
        recalls = np.linspace(0.5, 0.95, len(sizes))
        drawn = np.random.default_rng(2).binomial(sizes, recalls, size=(1000, len(sizes)))
        held = [(e := statistics.mean_recall_interval(right, sizes)).low <= recalls.mean() <= e.high for right in drawn]
        assert 0.93 <= np.mean(held) <= 0.97


class TestMeanInterval:
    """The interval of a mean."""

    def test_by_hand(self) -> None:
        """The values 1, 2, 3 have mean 2 and standard error 1/sqrt(3)."""
        estimate = statistics.mean_interval(np.array([1.0, 2.0, 3.0]))
        half = 1.959963984540054 / 3**0.5
        assert (estimate.value, estimate.low, estimate.high) == pytest.approx((2, 2 - half, 2 + half))

    def test_one_value_has_no_interval(self) -> None:
        """A single value says nothing about its spread."""
        assert statistics.mean_interval(np.array([4.0])) == statistics.Estimate(4.0)


class TestMcnemar:
    """The exact test of two runs."""

    def test_by_hand(self) -> None:
        """One against five: 2 · (C(6,0) + C(6,1)) / 2⁶ = 14/64."""
        assert statistics.mcnemar(1, 5) == pytest.approx(14 / 64, abs=1e-15)

    @pytest.mark.parametrize("first, second", [(0, 0), (0, 1), (3, 3), (10, 25), (812, 700), (9000, 9400)])
    def test_equals_scipy(self, first: int, second: int) -> None:
        """It is the two-sided binomial test of a fair coin."""
        expected = scipy_stats.binomtest(first, first + second).pvalue if first + second else 1.0
        assert statistics.mcnemar(first, second) == pytest.approx(expected, rel=1e-9)
        assert statistics.mcnemar(second, first) == statistics.mcnemar(first, second)

    def test_uniform_under_no_difference(self) -> None:
        """When both runs are equally good, p falls below any level about as often as the level says."""
        generator = np.random.default_rng(5)
        p_values = []
        for _ in range(1500):
            changed = generator.binomial(20_000, 0.25)
            second = generator.binomial(changed, 0.5)
            p_values.append(statistics.mcnemar(int(changed - second), int(second)))
        for level in np.arange(0.05, 1.0, 0.05):
            assert np.mean(np.asarray(p_values) <= level) == pytest.approx(level, abs=0.035)


class TestPairedDifference:
    """The interval of a difference between two runs."""

    def test_value(self) -> None:
        """Ten images gained and four lost of a hundred are six points, and the interval lies around them."""
        estimate = statistics.paired_difference(4, 10, 100)
        assert estimate.value == 0.06
        assert estimate.low < 0.06 < estimate.high
        assert (estimate.low, estimate.high) == pytest.approx((-0.01, 0.13), abs=0.011)

    def test_coverage(self) -> None:
        """The interval holds the true difference 93 to 97 times in 100."""
        drawn = np.random.default_rng(7).multinomial(500, [0.10, 0.15, 0.75], size=1000)
        held = [
            (e := statistics.paired_difference(int(b), int(c), 500, resamples=1000)).low <= 0.05 <= e.high
            for b, c, _ in drawn
        ]
        assert 0.93 <= np.mean(held) <= 0.97


class TestProbabilities:
    """Logarithms of probabilities, and the Brier score."""

    def test_log_softmax_equals_scipy_and_survives_large_logits(self) -> None:
        """Logits of hundreds overflow no exponential."""
        from scipy.special import log_softmax

        logits = np.array([[1.0, 2.0, 3.0], [900.0, -900.0, 0.0]], dtype=np.float32)
        assert np.allclose(statistics.log_softmax(logits), log_softmax(logits.astype(np.float64), axis=1), atol=1e-12)

    def test_log_sigmoid(self) -> None:
        """It is -ln 2 at zero, the logit itself far below, and zero far above."""
        assert statistics.log_sigmoid(np.array([0.0, -800.0, 800.0])) == pytest.approx([-np.log(2), -800.0, 0.0])

    def test_brier_by_hand(self) -> None:
        """For (0.7, 0.2, 0.1) with the first label true: 0.09 + 0.04 + 0.01."""
        score = statistics.brier(np.array([[0.7, 0.2, 0.1], [0.0, 1.0, 0.0]]), np.array([0, 0]))
        assert score == pytest.approx([0.14, 2.0])


class TestReliability:
    """Bins of confidence, and the calibration error."""

    def test_by_hand(self) -> None:
        """Two bins: (0.2, 0.4; one right) and (0.6, 1.0; one right) miss by 0.2 and 0.3, which averages to 0.25."""
        bins = statistics.reliability(np.array([0.2, 0.4, 0.6, 1.0]), np.array([True, False, False, True]), bins=2)
        assert [(b.count, b.confidence, b.accuracy) for b in bins] == [
            (2, pytest.approx(0.3), 0.5),
            (2, pytest.approx(0.8), 0.5),
        ]
        assert statistics.calibration_error(bins) == pytest.approx(0.25)

    def test_edges(self) -> None:
        """A bin holds its upper end, the first one zero as well."""
        bins = statistics.reliability(np.array([0.0, 0.5, 0.5000001, 1.0]), np.ones(4, dtype=bool), bins=2)
        assert [b.count for b in bins] == [2, 2]

    def test_equals_scikit_learn(self) -> None:
        """The bins are those of scikit-learn's calibration curve."""
        from sklearn.calibration import calibration_curve

        generator = np.random.default_rng(0)
        confidences = generator.uniform(size=500)
        right = generator.uniform(size=500) < confidences
        accuracy, confidence = calibration_curve(right, confidences, n_bins=15)
        bins = [b for b in statistics.reliability(confidences, right) if b.count]
        assert [b.accuracy for b in bins] == pytest.approx(accuracy, abs=1e-12)
        assert [b.confidence for b in bins] == pytest.approx(confidence, abs=1e-12)


class TestRiskCoverage:
    """Risk against coverage."""

    def test_by_hand(self) -> None:
        """Answering the surest half errs never, three quarters a third, all a half; the area follows."""
        points = statistics.risk_coverage(np.array([0.5, 0.9, 0.7, 0.9]), np.array([False, True, False, True]))
        assert [(p.coverage, p.risk, p.threshold) for p in points] == [
            (0.5, 0.0, 0.9),
            (0.75, pytest.approx(1 / 3), 0.7),
            (1.0, 0.5, 0.5),
        ]
        assert statistics.area_under_risk(points) == pytest.approx(0.25 / 3 + 0.25 * 0.5)
