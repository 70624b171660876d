"""The arithmetic from features to probabilities, worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from support.fakes import FakeEncoder
from zeroshot.classifier import build_classifier
from zeroshot.encoder import Features, average
from zeroshot.enums import Score
from zeroshot.errors import LabelError, ModelError, UsageError
from zeroshot.prompts.labels import Label, LabelSet, parse_label_yaml, parse_labels
from zeroshot.prompts.template_sets import TemplateSet
from zeroshot.scoring import Classifier, Decision, choose_score, sigmoid, softmax

PLAIN = TemplateSet("plain", ("{}",))


class Table(FakeEncoder):
    """Sentences in `rows` have those features; any other is a colour as ever."""

    def __init__(self, rows: dict[str, Sequence[float]]) -> None:
        super().__init__()
        self.rows = rows

    def encode_texts(self, texts: Sequence[str]) -> Features:
        found = super().encode_texts(texts)
        for index, text in enumerate(texts):
            if text in self.rows:
                found[index] = [*self.rows[text], *[0.0] * (8 - len(self.rows[text]))]
        return found


def classifier(weights: Sequence[Sequence[float]], labels: LabelSet, **options: object) -> Classifier:
    values = {"logit_scale": 1.0, "logit_bias": 0.0, "score": Score.SOFTMAX, **options}
    return Classifier(np.asarray(weights, np.float32), labels, PLAIN, **values)  # type: ignore[arg-type]


def logs(*values: float) -> list[list[float]]:
    """Return rows whose product with (1, 0) is the logarithm of the values."""
    return [[math.log(value), 0] for value in values]


def test_softmax() -> None:
    """Logits 0, ln 2 and ln 5 are shares of 1, 2 and 5 in 8; a constant added to all changes nothing."""
    logits = np.log(np.array([[1, 2, 5]], np.float32))
    for shift in (0, 1000, -1000):
        assert softmax(logits + np.float32(shift))[0].tolist() == pytest.approx([1 / 8, 2 / 8, 5 / 8], rel=1e-4)


def test_softmax_far_apart() -> None:
    """Logits far apart neither overflow nor give NaN."""
    assert softmax(np.array([[1e30, -1e30, 0]], np.float32)).tolist() == [[1, 0, 0]]


def test_sigmoid() -> None:
    """0 is one half, ln 3 three quarters, and the far ends are 0 and 1 without a warning."""
    with np.errstate(all="raise", under="ignore"):
        found = sigmoid(np.array([[0, math.log(3), -math.log(3), 1e4, -1e4]], np.float32))
    assert found[0].tolist() == pytest.approx([0.5, 0.75, 0.25, 1, 0])


def test_average() -> None:
    """The mean of two unit rows at right angles lies between them and has unit length; opposite rows give zeros."""
    assert average(np.array([[1, 0], [0, 1]], np.float32)).tolist() == pytest.approx([math.sqrt(0.5)] * 2)
    assert average(np.array([[1, 0], [-1, 0]], np.float32)).tolist() == [0, 0]


def test_weights_of_aliases_and_templates() -> None:
    """A label's row is the unit mean over all its words in all templates; aliases do not count as labels."""
    encoder = Table({"a x": (1, 0), "the x": (0, 1), "a y": (0, 1), "the y": (0, 1), "a z": (1, 0), "the z": (1, 0)})
    labels = LabelSet((Label("x", ("y",)), Label("z")))
    built = build_classifier(encoder, labels, TemplateSet("t", ("a {}", "the {}")))
    assert built.weights.shape == (2, 8)
    assert built.weights[0, :2].tolist() == pytest.approx([1 / math.sqrt(10), 3 / math.sqrt(10)])
    assert built.weights[1, :2].tolist() == pytest.approx([1, 0])


def test_shared_prompts_are_encoded_once() -> None:
    """Each distinct sentence reaches the encoder once, whatever labels share it."""
    encoder = FakeEncoder()
    labels = LabelSet((Label("red", prompts=("something", "red {}")), Label("blue", prompts=("something", "blue {}"))))
    build_classifier(encoder, labels, PLAIN)
    assert encoder.texts == ["something", "red red", "blue blue"]


def test_scores_by_hand() -> None:
    """Logits are the scale times the cosine plus the bias, and the softmax is of those."""
    built = classifier([[1, 0], [0.6, 0.8]], parse_labels("a,b"), logit_scale=10.0, logit_bias=-3.0)
    scores = built.scores(np.array([[0.8, 0.6]], np.float16))
    assert scores.similarities[0].tolist() == pytest.approx([0.8, 0.96], abs=1e-3)
    assert scores.logits[0].tolist() == pytest.approx([5.0, 6.6], abs=1e-2)
    assert scores.probabilities[0, 1] == pytest.approx(1 / (1 + math.exp(-1.6)), abs=2e-3)
    assert {scores.similarities.dtype, scores.logits.dtype, scores.probabilities.dtype} == {np.dtype(np.float32)}


@pytest.mark.parametrize("n_labels", [3, 10, 33])
def test_an_answer_does_not_depend_on_the_other_images(n_labels: int) -> None:
    """Scored in one product, in batches of any size, in another order or one by one: the same bits."""
    random = np.random.default_rng(n_labels)
    labels = LabelSet(tuple(Label(str(number)) for number in range(n_labels)))
    drawn = (random.normal(size=(n, 112)).astype(np.float32) for n in (n_labels, 97))
    weights, rows = (some / np.linalg.norm(some, axis=1, keepdims=True) for some in drawn)
    classifier = Classifier(weights, labels, TemplateSet("t", ("{}",)), 100.0, 0.0, Score.SOFTMAX)
    every = classifier.scores(rows)
    order = random.permutation(len(rows))
    for name in ("similarities", "logits", "probabilities"):
        expected = getattr(every, name)
        for size in (1, 7, 32):
            parts = [getattr(classifier.scores(rows[at : at + size]), name) for at in range(0, len(rows), size)]
            assert np.array_equal(np.concatenate(parts), expected), (name, size)
        assert np.array_equal(getattr(classifier.scores(rows[order]), name), expected[order])
        assert np.array_equal(getattr(classifier.scores(rows, alone=True), name), expected)


def test_sigmoid_scores_use_the_bias() -> None:
    """Sigmoid probabilities are each label's own: they depend on the bias and need not sum to 1."""
    built = classifier([[1, 0], [0, 1]], parse_labels("a,b"), logit_bias=-1.0, score=Score.SIGMOID)
    assert built.scores(np.array([[1, 0]], np.float32)).probabilities[0].tolist() == pytest.approx(
        [0.5, 1 / (1 + math.e)]
    )


def test_ranking_and_ties() -> None:
    """Best first; equal labels in label order; top-k cuts; probabilities rounded to 1 or 0 are ordered by logit."""
    built = classifier([[0, 1], [1, 0], [1, 0]], parse_labels("low,first,second"))
    ((label, top, _),) = built.decide(np.array([[1, 0]], np.float32), Decision(2))
    assert [ranked.label for ranked in top] == ["first", "second"]
    assert label == "first"
    sharp = classifier([[0, 1], [0.1, 0], [1, 0]], parse_labels("c,b,a"), logit_scale=1e4)
    ((_, top, _),) = sharp.decide(np.array([[1, 0]], np.float32), Decision(3))
    assert [(ranked.label, ranked.probability) for ranked in top] == [("a", 1), ("b", 0), ("c", 0)]


def test_groups_are_summed() -> None:
    """A group's probability is its members' sum, its logit their log-sum-exp, its similarity the nearest member's."""
    labels = parse_label_yaml("labels: [cat, rose, tulip]\ngroups: {flower: [rose, tulip]}", "f")
    weights = logs(2.0, 3.0, 5.0)
    ((_, top, _),) = classifier(weights, labels).decide(np.array([[1, 0]], np.float32), Decision(5))
    assert [ranked.label for ranked in top] == ["flower", "cat"]
    assert [ranked.probability for ranked in top] == pytest.approx([0.8, 0.2])
    assert top[0].logit == pytest.approx(math.log(8))
    assert top[0].similarity == pytest.approx(math.log(5))


def test_background_takes_probability() -> None:
    """A background label takes its share, is never listed, and says so when it comes out on top."""
    labels = parse_label_yaml("labels: [cat, dog]\nbackground: [wall, sky]", "f")
    for wall, expected in ((6.0, True), (1.0, False)):
        weights = logs(1.0, 2.0, wall, 1.0)
        ((label, top, background),) = classifier(weights, labels).decide(np.array([[1, 0]], np.float32), Decision(5))
        assert [ranked.label for ranked in top] == ["dog", "cat"]
        assert top[0].probability == pytest.approx(2 / (4 + wall))
        assert (label is None) is expected
        assert (background is not None) is expected
        if background is not None:
            assert (background.label, background.probability) == ("wall", pytest.approx(wall / (4 + wall)))


def test_background_against_a_group() -> None:
    """A background label beats a group only if it is likelier than the group's sum."""
    labels = parse_label_yaml("labels: [rose, tulip]\nbackground: [wall]\ngroups: {flower: [rose, tulip]}", "f")
    weights = logs(2.0, 2.0, 3.0)
    ((label, top, background),) = classifier(weights, labels).decide(np.array([[1, 0]], np.float32), Decision(5))
    assert (top[0].label, label, background) == ("flower", "flower", None)


def test_score_must_fit_the_model() -> None:
    """A sigmoid needs a model trained with one, and no groups; a softmax suits any model and is the default."""
    groups = parse_label_yaml("labels: [a, b]\ngroups: {g: [a, b]}", "f")
    clip, siglip = FakeEncoder().spec, FakeEncoder(logit_bias=-10.0).spec
    assert choose_score(None, siglip, groups) is Score.SOFTMAX
    assert choose_score(Score.SIGMOID, siglip, parse_labels("a,b")) is Score.SIGMOID
    with pytest.raises(UsageError, match="trained with a softmax"):
        choose_score(Score.SIGMOID, clip, parse_labels("a,b"))
    with pytest.raises(UsageError, match="groups"):
        choose_score(Score.SIGMOID, siglip, groups)


def test_control_tokens() -> None:
    """A label that the tokenizer would take for a control token is refused, in any case and in aliases too."""
    for label in (
        Label("a <END_of_text> b"),
        Label("cat", ("<start_of_text>",)),
        Label("cat", (), ("x <end_of_text>",)),
    ):
        with pytest.raises(LabelError, match="control token"):
            build_classifier(FakeEncoder(), LabelSet((label, Label("dog"))), PLAIN)


def test_not_utf8() -> None:
    """A label made of bytes that are not UTF-8 is refused by name, before a tokenizer fails on it."""
    with pytest.raises(LabelError, match="udcff"):
        build_classifier(FakeEncoder(), parse_labels("cat,d\udcffg"), PLAIN)


def test_labels_that_are_the_same_to_the_model_are_named() -> None:
    """Each gets a share of one probability, which nobody would guess from the records; the far apart are not named."""
    encoder = Table({"it's": [1, 0], "it’s": [1, 1e-5], "its": [1, 0.1], "other": [0, 1]})
    built = build_classifier(encoder, parse_labels("it's,other,it’s,its"), PLAIN)
    assert built.warnings == (
        "the model cannot tell these labels apart, and shares their probability: \"it's\" and 'it’s'",
    )
    assert build_classifier(encoder, parse_labels("its,other"), PLAIN).warnings == ()


def test_truncation() -> None:
    """Labels longer than the model reads are named with their tokens; two that become one are an error."""
    encoder = FakeEncoder(context_length=6)
    built = build_classifier(encoder, parse_labels("red one two three four five,blue"), PLAIN)
    assert any("6 tokens" in line and "(8 tokens)" in line for line in built.warnings)
    with pytest.raises(LabelError, match="once truncated, two labels are the same"):
        build_classifier(encoder, parse_labels("red one two three four,red one two three five"), PLAIN)


def test_warnings() -> None:
    """Underscores and a label that stands alone are pointed out; ordinary labels are not."""
    assert "underscores" in build_classifier(FakeEncoder(), parse_labels("a_b,c"), PLAIN).warnings[0]
    assert "probability 1" in build_classifier(FakeEncoder(), parse_labels("cat"), PLAIN).warnings[0]
    assert build_classifier(FakeEncoder(), parse_labels("cat,dog"), PLAIN).warnings == ()


def test_a_list_that_became_one_label_is_pointed_out() -> None:
    """A line of commas in a file of labels is one label; one comma may be meant, unless the label stands alone."""
    listed = LabelSet((Label("cat, dog, banana"), Label("bird")))
    assert "'cat, dog, banana'" in build_classifier(FakeEncoder(), listed, PLAIN).warnings[0]
    assert "one label per line" in build_classifier(FakeEncoder(), LabelSet((Label("cat, dog"),)), PLAIN).warnings[0]
    assert build_classifier(FakeEncoder(), LabelSet((Label("cat, asleep"), Label("dog"))), PLAIN).warnings == ()


def test_text_features_that_are_no_numbers() -> None:
    """A text tower that overflows is an error at once, not NaN in every record."""
    encoder = Table({"cat": (math.nan, 0)})
    with pytest.raises(ModelError, match="no finite numbers"):
        build_classifier(encoder, parse_labels("cat,dog"), PLAIN)
    with pytest.raises(ModelError, match="no finite numbers"):
        build_classifier(FakeEncoder(logit_scale=math.inf), parse_labels("cat,dog"), PLAIN)


def test_many_labels_are_encoded_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part at a time is encoded, kept and told; an interrupt keeps the parts before it; the rows are the same."""
    from zeroshot import classifier
    from zeroshot.features.cache import FeatureCache

    labels, templates = [f"{colour} {n}" for n in range(5) for colour in ("red", "green")], ["{}", "a {}"]
    whole = build_classifier(FakeEncoder(), labels, templates).weights
    monkeypatch.setattr(classifier, "_PROMPTS", 6)

    class Counting(FakeEncoder):
        runs: ClassVar[list[int]] = []
        most = 99

        def encode_texts(self, texts: Sequence[str]) -> Features:
            if len(self.runs) == self.most:
                raise KeyboardInterrupt
            self.runs.append(len(texts))
            return super().encode_texts(texts)

    encoder, store = Counting(), FeatureCache(tmp_path / "features.sqlite", pytest.fail)
    encoder.most = 2
    with pytest.raises(KeyboardInterrupt):
        build_classifier(encoder, labels, templates, cache=store)
    encoder.most, told = 99, []
    assert np.array_equal(build_classifier(encoder, labels, templates, None, store, told.append).weights, whole)
    assert encoder.runs == [6, 6, 6, 2]
    assert told == [6, 3, 1]
    assert np.array_equal(build_classifier(encoder, labels, templates, None, store, told.append).weights, whole)
    assert encoder.runs == [6, 6, 6, 2]
