"""Learning from examples: the minimum is scipy's, folds keep copies together, a foreign file is refused."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.commands import run
from support.fakes import FakeEncoder, FakeModel
from support.fixtures import SaveImage
from zeroshot.classifier import build_classifier
from zeroshot.enums import Precision, Score
from zeroshot.errors import InputError, LabelError
from zeroshot.evaluation import learning
from zeroshot.evaluation.evaluate import EncodedDataset
from zeroshot.evaluation.labelled_folders import Dataset, match_labels
from zeroshot.evaluation.learned_file import load_learned
from zeroshot.learn import strength
from zeroshot.learn.folds import group_copies, split_folds
from zeroshot.learn.lbfgs import minimise
from zeroshot.learn.regression import Problem, fit
from zeroshot.prompts.labels import Label, LabelSet, parse_labels
from zeroshot.prompts.template_sets import TemplateSet, load_templates
from zeroshot.scoring import Classifier


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def make_problem(n_images: int, n_labels: int, dim: int, *, spoilt: bool = False, seed: int = 0) -> Problem:
    """Images around a direction of their label and a common one; texts near those directions, or anywhere."""
    generator = np.random.default_rng(seed)
    truth = unit(generator.normal(size=(n_labels, dim)))
    targets = np.arange(n_images) % n_labels
    noise = generator.normal(size=(n_images, dim)) * 1.2 / np.sqrt(dim)
    features = unit(truth[targets] + unit(generator.normal(size=dim)) + noise)
    texts = unit(generator.normal(size=(n_labels, dim)) if spoilt else truth + noise[:n_labels] / 4)
    return Problem(features, targets, texts, 20.0)


def make_true_texts() -> Problem:
    """Few images whose labels are drawn from the probabilities that the texts give."""
    generator = np.random.default_rng(2)
    texts, features = unit(generator.normal(size=(4, 64))), unit(generator.normal(size=(40, 64)))
    logits = 12 * features @ texts.T
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    targets = (shares.cumsum(axis=1) < generator.uniform(size=(40, 1))).sum(axis=1).clip(0, 3)
    return Problem(features, targets, texts, 12.0)


def loss_of(problem: Problem, strength_: float, weights: np.ndarray) -> tuple[float, np.ndarray]:
    """The objective as its formula is written, one image at a time."""
    value = strength_ * problem.scale * float(((weights - problem.anchor) ** 2).sum())
    gradient = 2 * strength_ * problem.scale * (weights - problem.anchor.astype(np.float64))
    for row, target in zip(problem.features.astype(np.float64), problem.targets, strict=True):
        logits = problem.scale * weights @ row
        top = logits.max()
        shares = np.exp(logits - top)
        value += float(np.log(shares.sum()) + top - logits[target])
        shares /= shares.sum()
        shares[target] -= 1
        gradient += problem.scale * np.outer(shares, row)
    return value, gradient


class TestMinimise:
    """The minimiser."""

    def test_quadratic_by_hand(self) -> None:
        """Of ``(x-1)^2 + 100 (y+2)^2`` the minimum is (1, -2), whatever the preconditioner."""
        centre, weight = np.array([1.0, -2.0]), np.array([1.0, 100.0])

        def function(point: np.ndarray) -> tuple[float, np.ndarray]:
            return float((weight * (point - centre) ** 2).sum()), 2 * weight * (point - centre)

        for scale in (1e-3, 1.0, 1e3):
            found = minimise(function, np.zeros(2), lambda gradient, by=scale: by * gradient, 1e-14)
            assert found.converged
            assert found.point == pytest.approx(centre, abs=1e-6)
        exact = minimise(function, np.zeros(2), lambda gradient: gradient / (2 * weight), 1e-14)
        assert exact.iterations == 1

    def test_gives_up(self) -> None:
        """Too few iterations end somewhere lower, and say so."""
        found = minimise(lambda x: (float((x**4).sum()), 4 * x**3), np.ones(3), lambda g: g, 0.0, most_iterations=2)
        assert (found.converged, found.iterations) == (False, 2)
        assert found.value < 3


class TestFit:
    """The regression."""

    @pytest.mark.parametrize("pull", [0.25, 4.0, 64.0])
    def test_is_scipys_minimum(self, pull: float) -> None:
        """Scipy's L-BFGS-B on the formula as it is written ends at the same weights to 1e-6."""
        optimize = pytest.importorskip("scipy.optimize", reason="scipy comes with the dev extra")
        problem = make_problem(60, 5, 12)
        theirs = optimize.minimize(
            lambda flat: tuple(
                np.ravel(part) if np.ndim(part) else part for part in loss_of(problem, pull, flat.reshape(5, 12))
            ),
            problem.anchor.astype(np.float64).ravel(),
            jac=True,
            method="L-BFGS-B",
            options={"gtol": 1e-9, "ftol": 1e-15, "maxiter": 5000},
        )
        assert fit(problem, pull) == pytest.approx(theirs.x.reshape(5, 12), abs=1e-6)

    def test_is_sklearns_regression(self) -> None:
        """With an anchor of zero it is scikit-learn's multinomial regression without an intercept."""
        linear = pytest.importorskip("sklearn.linear_model", reason="scikit-learn comes with the dev extra")
        problem = make_problem(80, 4, 10)
        bare = replace(problem, anchor=np.zeros_like(problem.anchor))
        # Theirs: C * sum of losses + |u|^2 / 2 with u = scale * w; ours: sum + pull * scale * |w|^2.
        theirs = linear.LogisticRegression(C=problem.scale / (2 * 1.5), fit_intercept=False, tol=1e-10, max_iter=10_000)
        theirs.fit(problem.features.astype(np.float64), problem.targets)
        assert fit(bare, 1.5) == pytest.approx(theirs.coef_ / problem.scale, abs=1e-6)

    def test_one_wrong_example_by_hand(self) -> None:
        """A wholly wrong example moves its label's row by ``x / (2 pull)`` and the wrong one's back by as much."""
        problem = Problem(np.eye(3)[:1], np.array([0]), np.array([[0.0, 1, 0], [1.0, 0, 0]]), 1000.0)
        weights = fit(problem, 100.0)
        assert weights - problem.anchor == pytest.approx(np.array([[1, 0, 0], [-1, 0, 0]]) / 200, abs=1e-6)

    def test_ends(self) -> None:
        """An infinite pull, and no examples, give the anchor itself."""
        problem = make_problem(20, 4, 6)
        assert (fit(problem, np.inf) == problem.anchor).all()
        assert (fit(problem.subset(np.array([], dtype=int)), 1.0) == problem.anchor).all()

    def test_label_without_examples(self) -> None:
        """A label that has none is only pushed away from the others' images, and stays finite."""
        problem = make_problem(40, 4, 6)
        some = problem.subset(np.flatnonzero(problem.targets != 3))
        moved = fit(some, 1.0)[3] - problem.anchor[3]
        assert np.isfinite(moved).all()
        assert (some.features @ moved).mean() < 0

    def test_start_does_not_matter(self) -> None:
        """It is convex: every start ends at the same weights, and single precision nearly there."""
        problem = make_problem(60, 5, 12)
        cold = fit(problem, 1.0)
        assert fit(problem, 1.0, start=fit(problem, 16.0)) == pytest.approx(cold, abs=1e-6)
        assert fit(problem, 1.0, least_decrease=1e-4, dtype=np.float32) == pytest.approx(cold, abs=5e-3)


class TestFolds:
    """Dividing examples."""

    def test_each_label_is_spread(self) -> None:
        """Ten images of a label are two in each of five folds, and the seed decides which."""
        targets = np.repeat([0, 1, 2], [10, 10, 3])
        alone = np.arange(23)
        folds = split_folds(targets, alone, 5, 0)
        for label in (0, 1):
            assert np.bincount(folds[targets == label], minlength=5).tolist() == [2] * 5
        assert sorted(np.bincount(folds[targets == 2], minlength=5)) == [0, 0, 1, 1, 1]
        assert split_folds(targets, alone, 5, 0).tolist() == folds.tolist()
        assert split_folds(targets, alone, 5, 1).tolist() != folds.tolist()

    def test_copies_stay_together(self) -> None:
        """A copy of a copy is in the group of the first, and a group is never divided, whatever its labels."""
        turn = np.array([[np.cos(angle), np.sin(angle)] for angle in (0, 0.1, 0.2, 1.5, 1.5, 3.0)], dtype=np.float32)
        groups = group_copies(turn)
        assert groups.tolist() == [0, 0, 0, 3, 3, 5]
        folds = split_folds(np.array([0, 1, 0, 1, 1, 0]), groups, 3, 0)
        assert len(set(folds[:3])) == len(set(folds[3:5])) == 1
        assert len(set(folds)) == 3

    def test_blocks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Pairs are found across blocks as within one."""
        features = unit(np.random.default_rng(0).normal(size=(40, 3)))
        whole = group_copies(features, 0.95)
        monkeypatch.setattr("zeroshot.learn.folds._BLOCK", 7)
        assert group_copies(features, 0.95).tolist() == whole.tolist()
        assert len(set(whole)) < 40


class TestStrength:
    """Choosing the pull to the texts."""

    def test_spoilt_texts_are_left(self) -> None:
        """Where the texts are of no use, the weakest pull wins and nearly all images are right."""
        problem = make_problem(100, 4, 12, spoilt=True)
        learned = strength.learn(problem)
        assert learned.strength <= 1
        assert learned.logits is not None
        assert (learned.logits.argmax(axis=1) == problem.targets).mean() > 0.75
        assert ((problem.features @ problem.anchor.T).argmax(axis=1) == problem.targets).mean() < 0.4

    def test_examples_that_add_nothing_are_refused(self) -> None:
        """Where labels are drawn from the texts' own probabilities, those alone are kept bit for bit."""
        problem = make_true_texts()
        learned = strength.learn(problem)
        assert learned.strength == np.inf
        assert (learned.weights == problem.anchor).all()

    def test_held_out_logits_are_of_folds_that_did_not_see_the_image(self) -> None:
        """Memorising is not rewarded: of random labels and features, a quarter is right, not all."""
        generator = np.random.default_rng(0)
        rows = unit(generator.normal(size=(200, 100)))
        problem = Problem(rows, np.arange(200) % 4, unit(generator.normal(size=(4, 100))), 20.0)
        learned = strength.learn(problem, strengths=(0.01,))
        assert learned.logits is not None
        right = (learned.logits.argmax(axis=1) == problem.targets).mean()
        seen = ((problem.features @ learned.weights.T).argmax(axis=1) == problem.targets).mean()
        assert right < 0.4 < 0.9 < seen

    def test_answers_by_folds_are_those_of_scipys_minima(self) -> None:
        """What is reported of the images left out comes from converged fits, and so does the choice between pulls."""
        optimize = pytest.importorskip("scipy.optimize", reason="scipy comes with the dev extra")
        problem = make_problem(60, 4, 32, spoilt=True)
        learned = strength.learn(problem)
        assert learned.logits is not None
        folds = split_folds(problem.targets, learned.groups, strength.FOLDS, 0)

        def minima(pull: float, length: float) -> np.ndarray:
            drawn_to = replace(problem, anchor=length * problem.anchor.astype(np.float64))
            logits = np.zeros((60, 4))
            for fold in range(strength.FOLDS):
                seen = drawn_to.subset(np.flatnonzero(folds != fold))

                def loss(flat: np.ndarray, seen: Problem = seen) -> tuple[float, np.ndarray]:
                    value, gradient = loss_of(seen, pull, flat.reshape(4, 32))
                    return value, gradient.ravel()

                found = optimize.minimize(
                    loss, drawn_to.anchor.ravel(), jac=True, method="L-BFGS-B",
                    options={"maxiter": 5000, "ftol": 1e-15, "gtol": 1e-8},
                )  # fmt: skip
                logits[folds == fold] = problem.scale * problem.features[folds == fold] @ found.x.reshape(4, 32).T
            return logits

        assert np.abs(learned.logits - minima(learned.strength, learned.length)).max() < 0.02
        lowest = min(loss for _, _, loss in learned.losses)
        for pull, length, loss in learned.losses:
            if np.isfinite(pull) and loss < 1.1 * lowest:
                theirs = strength.log_losses(minima(pull, length), problem.targets).mean()
                assert loss == pytest.approx(theirs, rel=0.005)

    def test_one_example_a_label(self) -> None:
        """Nothing can be left out: the pull is the fixed one; likewise where all others are copies."""
        problem = make_problem(4, 4, 12)
        learned = strength.learn(problem)
        assert (learned.strength, learned.losses, learned.logits) == (strength.ONE_EXAMPLE, (), None)
        twice = Problem(np.repeat(problem.features, 2, axis=0), np.repeat(problem.targets, 2), problem.anchor, 20.0)
        assert strength.learn(twice).logits is None

    def test_sign_test_is_scipys(self) -> None:
        """The one-sided binomial test, for a few images and for thousands."""
        stats = pytest.importorskip("scipy.stats", reason="scipy comes with the dev extra")
        for gained, lost in ((0, 0), (5, 0), (4, 1), (3, 9), (700, 640), (2100, 1900)):
            theirs = stats.binomtest(gained, gained + lost, alternative="greater").pvalue if gained + lost else 1.0
            assert strength.sign_test(gained, lost) == pytest.approx(theirs, rel=1e-9)

    def test_bold_pulls_need_more_right_answers(self) -> None:
        """A lower log-loss alone does not choose a weak pull or short texts; five images more that are right do."""
        problem = Problem(np.eye(2, dtype=np.float32)[[0] * 5], np.zeros(5, dtype=int), np.eye(2)[::-1], 1.0)
        wrong, right = np.tile(np.array([[0.0, 1]], dtype=np.float32), (5, 1)), np.eye(2, dtype=np.float32)[[0] * 5]
        fits = (), strength._CLOSE
        cautious = strength.Trial(4.0, 1.0, 1.0, wrong, *fits)
        for logits, chosen in ((right, True), (np.concatenate([right[:4], wrong[:1]]), False)):
            for pull, length in ((1 / 16, 1.0), (4.0, 0.5)):
                bold = strength.Trial(pull, length, 0.5, logits, *fits)
                assert (strength._choose(problem, [cautious, bold]) is bold) == chosen
        worse = strength.Trial(1 / 16, 1.0, 2.0, right, *fits)
        assert strength._choose(problem, [cautious, worse]) is cautious

    def test_wrong_texts_are_shortened_or_left_out(self) -> None:
        """Texts that say the opposite are not drawn to whole; beside a label without examples they stay whole."""
        problem = make_problem(120, 4, 12)
        opposite = replace(problem, anchor=problem.anchor[[1, 2, 3, 0]])
        assert strength.learn(opposite).length < 1
        assert strength.find_lengths(problem) == strength.LENGTHS
        more = replace(problem, anchor=np.concatenate([problem.anchor, problem.anchor[:1]]))
        assert strength.find_lengths(more) == (1.0,)
        assert strength.find_lengths(replace(problem, anchor=np.zeros_like(problem.anchor))) == (1.0,)

    def test_progress_is_whole(self) -> None:
        """The fits that are announced are those that are made."""
        problem = make_problem(60, 4, 6)
        done: list[int] = []
        strength.learn(problem, on_progress=done.append)
        assert sum(done) == strength.count_fits(problem.targets)


class TestWithoutWords:
    """Labels whose names mean nothing to the model."""

    def test_row_is_the_mean_of_the_others(self) -> None:
        """The other labels' rows stay; without others the row is zero."""
        labels = LabelSet((Label("a"), Label("b"), Label("c")))
        classifier = Classifier(np.eye(3, dtype=np.float32), labels, TemplateSet("p", ("{}",)), 1.0, 0.0, Score.SOFTMAX)
        rows = learning.without_words(classifier, (1,)).weights
        assert rows.tolist() == [[1, 0, 0], [0.5, 0, 0.5], [0, 0, 1]]
        assert not learning.without_words(classifier, (0, 1, 2)).weights.any()
        assert learning.without_words(classifier, ()) is classifier

    def test_texts_alone_are_no_choice(self) -> None:
        """A label without words is learned even from examples that help little."""
        problem = make_true_texts()
        labels = LabelSet(tuple(Label(name) for name in "abcd"))
        texts = Classifier(problem.anchor, labels, TemplateSet("p", ("{}",)), problem.scale, 0.0, Score.SOFTMAX)
        data = EncodedDataset(problem.features, tuple(map(str, range(40))), problem.targets, ())
        assert learning.learn_from(data, texts, tuple("abcd")).texts_alone
        assert not learning.learn_from(data, texts, tuple("abcd"), (2,)).texts_alone


class TestMatchLabels:
    """Images with the labels of a list."""

    def dataset(self, *keys: str) -> Dataset:
        labels = LabelSet(tuple(Label(key.replace("_", " ")) for key in keys))
        return Dataset(tuple(f"{key}.png" for key in keys), np.arange(len(keys)), labels, keys)

    def test_by_name_and_alias(self) -> None:
        """Folders find their label by name or alias, in any order; labels without images stay."""
        wanted = LabelSet((Label("dog"), Label("cat", ("house_cat",)), Label("sky", background=True)))
        matched = match_labels(self.dataset("House_Cat", "Dog"), wanted, "--labels")
        assert matched.targets.tolist() == [1, 0]
        assert matched.keys == ("Dog", "House_Cat", "sky")
        assert matched.labels == wanted
        assert matched.notes == ()  # a background label has none
        more = match_labels(self.dataset("Dog"), wanted, "--labels")
        assert more.notes == ("no images for 1 label: cat",)

    def test_equal_words(self) -> None:
        """Two labels of the same words are matched in order; a name goes before an alias of another label."""
        twice = LabelSet((Label("missile"), Label("cat"), Label("missile")))
        given = Dataset(("a", "b", "c"), np.arange(3), twice, ("n04", "n02", "n08"))
        assert match_labels(given, twice, "learned.json").targets.tolist() == [0, 1, 2]
        one = Dataset(("c",), np.zeros(1, dtype=np.int64), LabelSet((Label("missile"),)), ("n08",))
        assert match_labels(one, twice, "learned.json", ("n04", "n02", "n08")).targets.tolist() == [2]
        for known in ((), ("n04", "n02", "n05")):
            with pytest.raises(LabelError, match="'missile' stands for two labels"):
                match_labels(one, twice, "learned.json", known)
        shared = LabelSet((Label("dog", ("cat", "pet")), Label("cat", ("pet",))))
        assert match_labels(self.dataset("cat", "dog"), shared, "--labels").targets.tolist() == [1, 0]

    def test_refused(self) -> None:
        """A folder that matches nothing is named, with the nearest label; so is one of a background label."""
        with pytest.raises(LabelError, match=r"--labels has no label for 'dgo' \(did you mean dog\?\)|dgo.*dog"):
            match_labels(self.dataset("dgo"), parse_labels("dog,cat"), "--labels")
        with pytest.raises(LabelError, match="'sky' is a background label"):
            match_labels(self.dataset("sky"), LabelSet((Label("dog"), Label("sky", background=True))), "--labels")
        with pytest.raises(LabelError, match="'pet' stands for two labels"):
            match_labels(self.dataset("pet"), LabelSet((Label("dog", ("pet",)), Label("cat", ("pet",)))), "--labels")


@pytest.fixture
def train(images: SaveImage, fake_model: FakeModel, tmp_path: Path) -> Path:
    """Twenty images each of orange and violet, which the colour encoder has no words for but sees; no two alike."""
    for index in range(20):
        first, second = 60 + 30 * (index % 5), 35 * (index // 5)
        images(f"train/orange/{index}.png", (255, first, second))
        images(f"train/violet/{index}.png", (first, second, 255))
    return tmp_path / "train"


class TestCommand:
    """The command, and what takes its file."""

    def learn(self, train: Path, tmp_path: Path, *more: object) -> dict[str, Any]:
        target = tmp_path / "learned.json"
        result = run("learn", train, "-o", target, *more)
        assert result.exit_code == 0, result.stderr
        return dict(json.loads(target.read_text()))

    def test_file(self, train: Path, tmp_path: Path) -> None:
        """The file has the pinned keys, and what it says adds up."""
        document = self.learn(train, tmp_path)
        assert list(document) == [
            *("format", "version", "fitted_for", "strength", "length", "tried", "texts_alone", "without_words"),
            *("examples", "folds", "weights", "manifest"),
        ]
        assert document["examples"]["per_label"] == {"orange": 20, "violet": 20}
        assert document["folds"]["learned"]["top1"]["value"] == 1.0
        assert list(document["folds"]["per_label"][0]) == ["key", "label", "images", "texts_alone", "learned"]
        pull = (document["strength"], document["length"])
        (chosen,) = (entry for entry in document["tried"] if (entry["strength"], entry["length"]) == pull)
        whole = [entry for entry in document["tried"] if entry["length"] == 1 and (entry["strength"] or 1) >= 0.25]
        assert chosen["nll"] <= min(entry["nll"] for entry in whole)
        assert (document["texts_alone"], document["weights"]["shape"]) == (False, [2, 8])

    def test_text(self, train: Path, tmp_path: Path) -> None:
        """For people: the finding first, both accuracies, every label, the command that uses the file."""
        target = tmp_path / "l.json"
        lines = run("learn", train, "-o", target, "--format", "table").stdout.splitlines()
        assert "what was learned is better by" in lines[0] or "no difference shown" in lines[0]
        assert sum(line.startswith("  texts alone  ") for line in lines) == 1
        assert any(line.startswith("  learned      100.0% (") for line in lines)
        assert sum(line.startswith(("  orange", "  violet")) for line in lines) == 2
        assert lines[-1] == f"zeroshot classify ... --learned {target}"
        assert max(map(len, lines[:-1])) <= 60
        tried = [line for line in lines if re.match(r"  (whole texts|half of them|none)|    \S", line)]
        assert all(re.search(r"(: [\d.]+)$", line) for line in tried)  # no line ends in the middle of a number

    def test_used_without_labels_or_texts(self, train: Path, tmp_path: Path, fake_model: FakeModel) -> None:
        """`classify` needs no labels with it, encodes no text, answers as the weights say and states them."""
        document = self.learn(train, tmp_path)
        fake_model.encoder = FakeEncoder()
        result = run("classify", train, "--learned", tmp_path / "learned.json", "--format", "json")
        assert (result.exit_code, fake_model.encoder.texts) == (0, [])
        found = json.loads(result.stdout)
        assert all(Path(record["path"]).parent.name == record["label"] for record in found["records"])
        stated = found["manifest"]["options"]["learned"]
        assert stated["strength"] == document["strength"]
        assert stated["weights_sha256"] == document["weights"]["sha256"]

    def test_order_of_labels_does_not_matter(self, train: Path, tmp_path: Path) -> None:
        """Labels given in another order get their own rows."""
        self.learn(train, tmp_path)
        given = ("classify", train, "--learned", tmp_path / "learned.json")
        plain, turned = (run(*given, *more).stdout for more in ((), ("--labels", "violet,orange")))
        assert [json.loads(line)["label"] for line in plain.splitlines()] == [
            json.loads(line)["label"] for line in turned.splitlines()
        ]

    def test_eval_says_when_it_measures_on_examples(self, train: Path, tmp_path: Path, images: SaveImage) -> None:
        """Measured on the examples themselves, a warning says so; on others there is none."""
        self.learn(train, tmp_path)
        learned = ("--learned", tmp_path / "learned.json")
        seen = run("eval", train, *learned)
        assert "40 of the 40 images are examples" in seen.stderr
        images("test/orange/new.png", (240, 111, 3))
        images("test/violet/new.png", (111, 3, 240))
        other = run("eval", tmp_path / "test", *learned)
        assert "are examples" not in other.stderr
        assert json.loads(other.stdout)["metrics"]["top1"]["value"] == 1.0
        assert json.loads(other.stdout)["manifest"]["options"]["learned"]["examples"] == 40

    def test_labels_without_examples_and_background(self, train: Path, tmp_path: Path) -> None:
        """A list may have labels without images: they keep a row and compete, background is never the answer."""
        labels = tmp_path / "labels.yaml"
        labels.write_text("labels: [orange, violet, green]\nbackground: [blue]\n")
        document = self.learn(train, tmp_path, "--labels-file", labels)
        assert document["examples"]["per_label"] == {"orange": 20, "violet": 20, "green": 0, "blue": 0}
        result = run("classify", train, "--learned", tmp_path / "learned.json", "--top-k", 9)
        first = json.loads(result.stdout.splitlines()[0])
        assert sorted(entry["label"] for entry in first["top"]) == ["green", "orange", "violet"]

    def test_sort(self, train: Path, tmp_path: Path) -> None:
        """`sort` takes the labels' folders from the file."""
        self.learn(train, tmp_path)
        plan = run(
            "sort", train, "--into", tmp_path / "out", "--learned", tmp_path / "learned.json", "-n", "--format=jsonl"
        )
        assert {json.loads(line)["label"] for line in plan.stdout.splitlines()} == {"orange", "violet"}

    def test_calibration_belongs_to_the_weights(self, train: Path, tmp_path: Path) -> None:
        """A calibration of learned weights is refused without them, and one of the texts with them."""
        self.learn(train, tmp_path)
        learned, fitted = ("--learned", tmp_path / "learned.json"), tmp_path / "c.json"
        assert run("calibrate", train, *learned, "-o", fitted, "--force").exit_code == 0
        both = run("classify", train, *learned, "--calibration", fitted)
        assert both.exit_code == 0, both.stderr
        alone = run("classify", train, "--labels", "orange,violet", "--calibration", fitted)
        assert "learned weights, which this run does not use" in alone.stderr
        assert run("calibrate", train, "-o", fitted, "--force").exit_code == 0
        other = run("classify", train, *learned, "--calibration", fitted)
        assert "the texts alone, not for weights learned from examples" in other.stderr

    def test_made_worse_is_not_written(self, train: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Examples that make it significantly worse say so first, exit 1 and are written by --force only."""

        def worse(problem: Problem, *_: Any) -> strength.Learned:
            wrong = np.eye(2, dtype=np.float32)[1 - problem.targets]
            rows = np.zeros((2, 8), dtype=np.float32)
            return strength.Learned(rows, 1.0, 1.0, ((1.0, 1.0, 3.0),), wrong, np.arange(len(wrong)))

        monkeypatch.setattr(learning, "learn", worse)
        target = tmp_path / "learned.json"
        red = train.parent / "red"
        train.joinpath("orange").rename(train / "red")
        train.joinpath("violet").rename(train / "blue")
        refused = run("learn", train, "-o", target, "--format", "table")
        assert refused.stdout.startswith("the examples made it worse: the texts alone is better by"), red
        assert (refused.exit_code, target.exists()) == (1, False)
        assert "is not written without --force" in run("learn", train, "-o", target).stderr
        assert run("learn", train, "-o", target, "--force").exit_code == 0

    def test_no_words(self, train: Path, tmp_path: Path) -> None:
        """A label without words is learned; one that is not there, or has no images, is a mistake of usage."""
        named = self.learn(train, tmp_path)
        document = self.learn(train, tmp_path, "--no-words", "Violet")
        # The texts alone are those with all their words, whatever is not used of them.
        assert document["folds"]["texts_alone"] == named["folds"]["texts_alone"]
        assert document["without_words"] == ["violet"]
        assert None not in [entry["strength"] for entry in document["tried"]]
        assert "no such label" in run("learn", train, "--no-words", "violett").stderr
        none = run("learn", train, "--labels", "orange,violet,green", "--no-words", "green")
        assert (none.exit_code, "no images either" in none.stderr) == (2, True)

    def test_one_example_a_label(self, images: SaveImage, fake_model: FakeModel, tmp_path: Path) -> None:
        """It is learned, and nothing is claimed."""
        images("one/orange/1.png", (230, 120, 0))
        images("one/violet/1.png", (120, 0, 230))
        document = self.learn(tmp_path / "one", tmp_path)
        assert (document["strength"], document["folds"], document["tried"]) == (strength.ONE_EXAMPLE, None, [])
        text = run("learn", tmp_path / "one", "-o", tmp_path / "o.json", "--format", "table").stdout
        assert text.startswith("no label has two examples: whether they help cannot be\nmeasured")

    def test_unreadable_and_contradicting_images(self, train: Path, tmp_path: Path, images: SaveImage) -> None:
        """An image that cannot be read is named and left out; one with two labels is named."""
        (train / "orange" / "broken.png").write_bytes(b"no image")
        images("train/violet/same.png", (222, 111, 3))
        images("train/orange/same.png", (222, 111, 3))
        result = run("learn", train, "-o", tmp_path / "learned.json")
        assert result.exit_code == 3
        assert "broken.png" in result.stderr
        assert "same.png are the same image with different labels" in result.stderr
        assert json.loads(result.stdout)["examples"]["images"] == 42

    def test_empty(self, fake_model: FakeModel, tmp_path: Path) -> None:
        """A folder without images is refused in one line."""
        (tmp_path / "none" / "cat").mkdir(parents=True)
        result = run("learn", tmp_path / "none", "-o", tmp_path / "learned.json")
        assert (result.exit_code, (tmp_path / "learned.json").exists()) == (1, False)
        assert "no images in the subfolders" in result.stderr


class TestRefusal:
    """Files that belong to something else."""

    @pytest.fixture
    def written(self, train: Path, tmp_path: Path) -> Path:
        target = tmp_path / "learned.json"
        assert run("learn", train, "-o", target).exit_code == 0
        return target

    def test_other_model(self, written: Path) -> None:
        """Other weights, another precision or another scale are another model."""
        learned = load_learned(written)
        encoder = FakeEncoder()
        assert learned.build(encoder.spec).labels.names == ("orange", "violet")
        with pytest.raises(InputError, match="was learned for the model fake, not other"):
            learned.build(replace(encoder.spec, model="other", weights_sha256="1" * 64))
        with pytest.raises(InputError, match="another fake: its weights, preprocessing or precision differ"):
            learned.build(replace(encoder.spec, precision=Precision.FP16))
        with pytest.raises(InputError, match="another fake"):
            learned.build(FakeEncoder(logit_scale=20.0).spec)

    def test_brings_its_model(
        self, written: Path, train: Path, fake_model: FakeModel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """No other model is loaded, or downloaded, where none is named; stderr says which one and why."""
        monkeypatch.delenv("ZEROSHOT_MODEL", raising=False)
        for command in (["classify", train], ["eval", train], ["calibrate", train, "-o", train.parent / "c.json"]):
            result = run(*command, "--learned", written)
            assert fake_model.calls[-1]["model"] == "fake"
            assert f"model fake, which {written} was learned for" in result.stderr
        run("classify", train, "--learned", written, "--model", "named")
        assert fake_model.calls[-1]["model"] == "named"
        monkeypatch.setenv("ZEROSHOT_MODEL", "of-the-environment")
        run("classify", train, "--learned", written)
        assert fake_model.calls[-1]["model"] is None

    def test_brings_its_weight_tag(self, written: Path) -> None:
        """An architecture is loaded with the weights it was learned for; an alias stands for its own."""
        document = json.loads(written.read_text())
        for architecture, tag in (("fake", "laion2b"), ("other", None)):
            document["manifest"]["model"] |= {"architecture": architecture, "pretrained": "laion2b"}
            written.write_text(json.dumps(document))
            assert load_learned(written).pretrained == tag

    def test_other_prompts_labels_or_score(self, written: Path) -> None:
        """Other templates, labels, aliases or a sigmoid are refused by name."""
        learned, spec = load_learned(written), FakeEncoder().spec
        with pytest.raises(InputError, match="the prompts general, not photo"):
            learned.build(spec, templates=load_templates("photo"))
        with pytest.raises(InputError, match="other labels: without 'green'"):
            learned.build(spec, labels=parse_labels("orange,violet,green"))
        with pytest.raises(InputError, match="the same labels with other aliases"):
            learned.build(spec, labels=LabelSet((Label("orange", ("amber",)), Label("violet"))))
        sigmoid = FakeEncoder(logit_bias=-1.0).spec
        with pytest.raises(InputError, match="--score softmax, not sigmoid"):
            learned.build(replace(sigmoid, model="fake"), score=Score.SIGMOID)

    def test_eval_of_other_labels(self, written: Path, images: SaveImage, tmp_path: Path) -> None:
        """`eval` on a folder with a label that was not learned is refused; with fewer labels it is not."""
        images("other/green/1.png", "green")
        result = run("eval", tmp_path / "other", "--learned", written)
        assert result.exit_code == 1
        assert "was learned for other labels" in result.stderr
        images("fewer/orange/1.png", (230, 120, 0))
        fewer = run("eval", tmp_path / "fewer", "--learned", written)
        assert (fewer.exit_code, "no images for 1 label: violet" in fewer.stderr) == (0, True)

    @pytest.mark.parametrize(
        "change, message",
        [
            ({"format": "zeroshot-eval"}, "holds no learned weights"),
            ({"version": 2}, "has version 2"),
            ({"weights": {"shape": [2, 8], "sha256": "", "base64": "AAAA"}}, "is damaged"),
            ({"fitted_for": {}}, "is damaged"),
            ({"manifest": []}, "is damaged"),
            ({"strength": float("nan")}, "is damaged"),
            ({"strength": "1"}, "is damaged"),
            ({"length": float("inf")}, "is damaged"),
            ({"fitted_for": {"logit_scale": "a"}}, "is damaged"),
            ({"fitted_for": {"logit_scale": None}}, "is damaged"),
            ({"fitted_for": {"model": 3}}, "is damaged"),
        ],
    )
    def test_damaged(self, written: Path, change: dict[str, Any], message: str) -> None:
        """Anything else than learned weights is refused in one line, before a model is loaded."""
        document = json.loads(written.read_text())
        if change.get("fitted_for"):
            change = {"fitted_for": document["fitted_for"] | change["fitted_for"]}
        written.write_text(json.dumps(document | change))
        result = run("classify", written.parent / "train", "--learned", written)
        assert result.exit_code == 1
        assert message in result.stderr

    def test_nested_too_deep(self, written: Path) -> None:
        """JSON that is nested without end is no traceback."""
        written.write_text("[" * 100_000)
        for option in ("--learned", "--calibration"):
            result = run("classify", written.parent / "train", "--labels", "a,b", option, written)
            assert (result.exit_code, "is not JSON" in result.stderr) == (1, True) or option == "--learned"
            assert "Traceback" not in result.stderr

    def test_one_bit_of_a_weight(self, written: Path) -> None:
        """Weights that are not those that were written are noticed by their hash."""
        document = json.loads(written.read_text())
        packed = document["weights"]["base64"]
        document["weights"]["base64"] = ("A" if packed[0] != "A" else "B") + packed[1:]
        written.write_text(json.dumps(document))
        with pytest.raises(InputError, match="the weights are not those that were written"):
            load_learned(written)


def test_learned_weights_score_as_their_product() -> None:
    """The classifier of learned weights multiplies features, rows and scale, as one of the texts does."""
    encoder = FakeEncoder()
    classifier = build_classifier(encoder, parse_labels("red,blue"), load_templates("plain"))
    learned = replace(classifier, weights=2 * classifier.weights)
    rows = classifier.weights
    assert learned.scores(rows).logits == pytest.approx(2 * classifier.scores(rows).logits)
