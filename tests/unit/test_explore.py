"""The live page without a page: sorting in numbers, corrections on the disk, labels and sums as they are typed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from support.fakes import FakeEncoder
from zeroshot.classifier import build_classifier
from zeroshot.enums import Score
from zeroshot.errors import InputError, LabelError, OutputError
from zeroshot.evaluation.labelled_tables import load_targets
from zeroshot.explore.corrections import HEADER, Corrections, Said
from zeroshot.explore.label_scores import Columns, score
from zeroshot.explore.label_text import read_label_text, to_option, to_typed, to_yaml
from zeroshot.explore.ranked_rows import Marks, Sorting, rank
from zeroshot.explore.search_terms import add_up, parse_terms
from zeroshot.prompts.labels import Label, LabelSet, parse_label_yaml
from zeroshot.prompts.template_sets import from_templates
from zeroshot.scoring import Decision
from zeroshot.search import Term

GROUPED = "labels: [red, green, blue, yellow, cyan]\nbackground: [grey]\ngroups: {warm: [red, yellow]}"


def features(count: int, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(count, 8)).astype(np.float32)
    rows[:, 4:] = 0
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def sort(
    labels: str | LabelSet,
    rows: np.ndarray,
    marks: Marks | None = None,
    here: np.ndarray | None = None,
    **options: object,
) -> Sorting:
    label_set = read_label_text(labels) if isinstance(labels, str) else labels
    assert label_set is not None
    classifier = build_classifier(FakeEncoder(**options), label_set, from_templates(["{}"]))
    return Sorting(
        classifier,
        score(classifier, Columns().similarities(rows, classifier.weights)),
        marks or Marks(),
        rows,
        np.ones(len(rows), np.bool_) if here is None else here,
    )


class TestSorting:
    """Rows of images."""

    @pytest.mark.parametrize("labels", ["red, green, blue", "red", GROUPED, "red\nblue\nbackground: black, grey"])
    @pytest.mark.parametrize("scale", [4.0, 10000.0])
    def test_agrees_with_classify(self, labels: str, scale: float) -> None:
        """Every image is in the row of the label that `classify` gives it, or unknown where that gives none."""
        rows = features(9000)
        sorting = sort(labels, rows, logit_scale=scale)
        names = [name for name, _ in sorting.classifier.labels.answers]
        threshold = 0.6
        found: dict[int, str | None] = {}
        for index, name in enumerate(names):
            found |= dict.fromkeys(sorting.row(index, threshold).ids.tolist(), name)
        found |= dict.fromkeys(sorting.unknown(threshold).ids.tolist(), None)
        decided = sorting.classifier.decide(rows, Decision(2, threshold))
        assert found == {image: label for image, (label, _, _) in enumerate(decided)}
        seconds = [top[1].probability if len(top) > 1 else 0.0 for _, top, _ in decided]
        assert np.allclose(sorting.scored.runner_up, seconds, atol=1e-6 + 1e-7 * scale)  # cosines round at 1e-7

    def test_rows_descend_and_counts_are_their_lengths(self) -> None:
        """Each row is most confident first, reaches the threshold, and every image stands in exactly one."""
        sorting = sort("red, green, blue, yellow", features(3000))
        for threshold in (0.0, 0.3, 0.9, 1.0):
            counts = sorting.counts(threshold)
            rows = [sorting.row(index, threshold) for index in range(4)]
            assert [len(row) for row in rows] == counts
            assert all((np.diff(row.values) <= 0).all() and (row.values >= threshold).all() for row in rows)
            every = np.concatenate([*(row.ids for row in rows), sorting.unknown(threshold).ids])
            assert sorted(every.tolist()) == list(range(3000))

    def test_corrections_stand_first_and_whatever_the_threshold(self) -> None:
        """A corrected image leads its row at threshold 1; one that is not its answer goes to the next best."""
        rows = features(200)
        before = sort("red, green, blue", rows)
        sure, other = int(before.row(0, 0).ids[0]), int(before.row(0, 0).ids[1])
        sorting = sort("red, green, blue", rows, Marks({sure: 2}, {other: frozenset({0})}))
        assert sorting.row(2, 1.0).ids[0] == sure
        second = before.scored.second[other]
        assert other in sorting.row(int(second), 0.0).ids
        assert sorting.probability[other] == pytest.approx(before.scored.runner_up[other], abs=1e-6)
        nowhere = sort("red, green, blue", rows, Marks({}, {other: frozenset({0, 1, 2})}))
        assert other in nowhere.unknown(0.0).ids

    def test_a_number_belongs_to_the_label_beside_it(self) -> None:
        """A corrected image has the probability of the label that it was given, a refused one that of the next best."""
        rows = features(200)
        before = sort("red, green, blue", rows)
        image, other = before.row(0, 0).ids[:2].tolist()
        sorting = sort("red, green, blue", rows, Marks({image: 2}, {other: frozenset({0})}))
        own = sorting.classifier.scores(rows[[image, other]]).probabilities
        assert sorting.row(2, 0).values[0] == sorting.probability[image] == pytest.approx(own[0, 2], abs=1e-6)
        assert sorting.probability[other] == pytest.approx(own[1, 1:].max(), abs=1e-6)
        assert sorting.shown(image, 1.0) == 2 and sorting.shown(other, 1.0) is None
        assert sorting.histogram() == before.histogram()

    def test_an_image_of_the_background_is_not_answered(self) -> None:
        """Its best answer is none that the page gives: accuracy at the threshold leaves it out."""
        rows = features(400)
        sorting = sort("red\nblue\nbackground: green", rows)
        outdone = np.flatnonzero(sorting.scored.outdone & (sorting.scored.probability > 0.1))
        first, second = outdone[:2].tolist()
        best = {image: int(sorting.scored.best[image]) for image in (first, second)}
        marks = Marks({first: best[first]}, {second: frozenset({best[second]})})
        ((right, probability),) = sort("red\nblue\nbackground: green", rows, marks).right()
        assert not right and probability < 0

    def test_what_was_refused_does_not_compete(self) -> None:
        """A pair's images are those for which neither label was refused."""
        rows = features(2000)
        before = sort("red, green, blue", rows, logit_scale=2.0)
        pair = before.pairs()[0]
        image = int(before.pair(pair.first, pair.second).ids[0])
        marks = Marks({}, {image: frozenset({int(before.scored.second[image])})})
        after = sort("red, green, blue", rows, marks, logit_scale=2.0)
        assert image not in after.pair(pair.first, pair.second).ids
        assert after.pairs()[0].count == pair.count - 1

    def test_accuracy_counts_what_was_said(self) -> None:
        """A confirmed answer is right, another label or a refused answer wrong; refusing another says nothing."""
        rows = features(50)
        before = sort("red, green, blue", rows)
        of_red, of_green = before.row(0, 0).ids.tolist(), before.row(1, 0).ids.tolist()
        marks = Marks({of_red[0]: 0, of_red[1]: 1}, {of_green[0]: frozenset({1}), of_green[1]: frozenset({2})})
        assert sorted(right for right, _ in sort("red, green, blue", rows, marks).right()) == [False, False, True]

    def test_pairs_are_those_whose_best_two_are_near(self) -> None:
        """The pairs' counts are what their rows hold, closest first, and differ by less than 0.2."""
        sorting = sort("red, green, blue", features(2000), logit_scale=2.0)
        assert sorting.pairs()
        for pair in sorting.pairs():
            ids = sorting.pair(pair.first, pair.second).ids
            margins = (sorting.scored.probability - sorting.scored.runner_up)[ids]
            assert len(ids) == pair.count
            assert (np.diff(margins) >= 0).all() and margins.max() < 0.2

    def test_what_is_gone_is_in_no_row_and_no_count(self) -> None:
        """Rows, pairs, the histogram and the precision are those of the other images alone."""
        rows, here = features(900), np.arange(900) % 3 > 0
        whole = sort("red, green, blue", rows, logit_scale=2.0)
        some = sort("red, green, blue", rows, here=here, logit_scale=2.0)
        only = sort("red, green, blue", rows[here], logit_scale=2.0)
        kept = set(np.flatnonzero(here).tolist())
        for threshold in (0.0, 0.5):
            for row in range(3):
                ids = whole.row(row, threshold).ids
                assert some.row(row, threshold).ids.tolist() == [image for image in ids.tolist() if image in kept]
            assert some.counts(threshold) == only.counts(threshold)
            assert set(some.unknown(threshold).ids.tolist()) <= kept
            assert some.expected_precision(threshold) == pytest.approx(only.expected_precision(threshold), rel=1e-6)
        assert set(some.everything().ids.tolist()) == kept and len(some.everything()) == 600
        assert some.pairs() == only.pairs() and some.histogram() == only.histogram()
        assert some.shown(0, 0.0) is None and whole.shown(0, 0.0) is not None

    def test_columns_grow_with_the_images(self) -> None:
        """Cosines of images that came later, and of labels typed later, are those of one product."""
        rows, weights, columns = features(500), features(7, 1), Columns()
        columns.similarities(rows[:100], weights[:3])
        columns.similarities(rows[:300], weights[2:5])
        found = np.stack(columns.similarities(rows, weights), axis=1)
        assert np.allclose(found, rows @ weights.T, atol=1e-6)
        again = np.stack(columns.similarities(rows[:50], weights), axis=1)
        assert np.allclose(again, rows[:50] @ weights.T, atol=1e-6)

    def test_memory_for_columns_is_bounded(self) -> None:
        """Thousands of words typed one after the other leave some hundreds of columns."""
        rows, columns = features(10), Columns()
        for seed in range(1200):
            columns.similarities(rows, features(1, seed))
        assert len(columns._kept) <= 512

    def test_sigmoid_scores_are_sorted_too(self) -> None:
        """A model that was trained with a sigmoid sorts by its own probabilities."""
        rows = features(300)
        labels = read_label_text("red, green")
        assert labels is not None
        classifier = build_classifier(FakeEncoder(logit_bias=-2.0), labels, from_templates(["{}"]), Score.SIGMOID)
        found = score(classifier, Columns().similarities(rows, classifier.weights))
        assert np.allclose(found.probability, classifier.scores(rows).probabilities.max(axis=1))

    def test_a_search_is_nearest_first(self) -> None:
        """Cosines descend, and a cut-off keeps those that reach it."""
        rows = features(400)
        found = rank(rows, rows[7])
        assert found.ids[0] == 7 and (np.diff(found.values) <= 0).all()
        assert found.reaching(0.5).ids.tolist() == found.ids[found.values >= 0.5].tolist()


class TestCorrections:
    """The table of corrections."""

    def test_what_was_said_is_there_after_a_kill(self, tmp_path: Path) -> None:
        """Every line is on the disk when it is said; a last line that was cut short is dropped."""
        file = tmp_path / "data/c.csv"
        kept = Corrections(file)
        kept.say({'/a,\n"b".png': Said("cat"), "/2.png": Said("", ("cat", "dog"))})
        kept.say({"/2.png": Said("bird", ("cat", "dog"))})
        whole = file.read_bytes()
        kept.close()
        for cut in range(len(whole.splitlines(keepends=True)[0]), len(whole)):
            file.write_bytes(whole[:cut])
            opened = Corrections(file)
            assert file.read_bytes() == whole[: len(file.read_bytes())]
            opened.say({"/3.png": Said("x")})
            opened.close()
            again = Corrections(file)
            assert again.of("/3.png") == Said("x")
            again.close()
        file.write_bytes(whole)
        last = Corrections(file)
        assert last.all() == {'/a,\n"b".png': Said("cat"), "/2.png": Said("bird", ("cat", "dog"))}
        last.close()

    def test_taking_back_gives_what_was_there_before(self, tmp_path: Path) -> None:
        """`say` returns what it replaces; saying that again leads back, in memory and on the disk."""
        kept = Corrections(tmp_path / "c.csv")
        states = [Said("cat"), Said("", ("cat",)), Said("dog", ("cat",)), Said("", ("cat", "dog")), Said("dog"), Said()]
        earlier = [kept.say({"/1.png": said})["/1.png"] for said in states]
        assert earlier == [Said(), *states[:-1]]
        for said in reversed(earlier):
            kept.say({"/1.png": said})
            kept.close()
            kept = Corrections(tmp_path / "c.csv")
            assert kept.of("/1.png") == said
        kept.close()

    def test_what_is_said_last_counts(self, tmp_path: Path) -> None:
        """A label that was refused and then given is refused no longer, and the other way round."""
        assert Said("", ("cat", "dog")).given("cat") == Said("cat", ("dog",))
        assert Said("cat", ("dog",)).without("cat") == Said("", ("dog", "cat"))
        (tmp_path / "c.csv").write_text(f"{HEADER}\n/1.png,,cat\n/1.png,cat,\n/2.png,cat,\n/2.png,,cat\n")
        kept = Corrections(tmp_path / "c.csv")
        assert kept.all() == {"/1.png": Said("cat"), "/2.png": Said("", ("cat",))}
        kept.say({"/2.png": kept.of("/2.png").given("cat")})
        kept.close()
        assert load_targets(str(tmp_path / "c.csv")).paths == ("/1.png", "/2.png")

    def test_is_what_eval_reads(self, tmp_path: Path) -> None:
        """`load_targets` takes the last label of each path, and nothing of what was taken back or only refused."""
        kept = Corrections(tmp_path / "c.csv")
        kept.say({"/1.png": Said("cat"), "/2.png": Said("cat"), "/3.png": Said("", ("cat",)), "/4.png": Said("dog")})
        kept.say({"/1.png": Said("dog"), "/4.png": Said()})
        kept.close()
        data = load_targets(str(tmp_path / "c.csv"))
        said = {path: data.labels.names[target] for path, target in zip(data.paths, data.targets, strict=True)}
        assert said == {"/1.png": "dog", "/2.png": "cat"}

    def test_one_process_writes(self, tmp_path: Path) -> None:
        """A second one is told so; a file that is something else is left as it is."""
        kept = Corrections(tmp_path / "c.csv")
        with pytest.raises(InputError, match="in use"):
            Corrections(tmp_path / "c.csv")
        kept.close()
        for content in (b"path,label\n1,2\n", b"\xff\xd8\xff", b"path,label,not\n\xff,a,\n"):
            (tmp_path / "other").write_bytes(content)
            with pytest.raises(InputError, match="not a table of corrections"):
                Corrections(tmp_path / "other")
            assert (tmp_path / "other").read_bytes() == content

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
    def test_a_full_disk_keeps_nothing(self) -> None:
        """A correction that the disk does not take is an error, and is not remembered either."""
        kept = Corrections(Path("/dev/full"))
        with pytest.raises(OutputError, match="was not kept"):
            kept.say({"/1.png": Said("cat")})
        assert kept.all() == {} and kept.version == 0
        kept.close()

    def test_a_name_that_is_no_text_is_left_out(self, tmp_path: Path) -> None:
        """Bytes that are not UTF-8 cannot stand in the table; the others of the same step are kept."""
        kept = Corrections(tmp_path / "c.csv")
        assert kept.say({"/\udcff.png": Said("cat"), "/1.png": Said("cat")}) == {"/1.png": Said()}
        assert kept.all() == {"/1.png": Said("cat")}
        assert (tmp_path / "c.csv").read_text() == f"{HEADER}\n/1.png,cat,\n"
        assert kept.say({"/\udcff.png": Said("cat")}) == {} and kept.version == 1
        for said in (Said("c\udcff"), Said("", ("c\udcff",))):
            with pytest.raises(InputError, match=r"the label c\\udcff is not UTF-8"):
                kept.say({"/1.png": Said(), "/2.png": said})
        assert kept.all() == {"/1.png": Said("cat")}
        kept.close()


class TestLabelText:
    """Labels as they are typed."""

    def test_is_read_in_every_form(self) -> None:
        """Commas, lines, aliases, background and YAML give the same labels."""
        lines = read_label_text("cat\nbird: sparrow, parrot\n# a note\nbackground: wall, floor")
        yaml = read_label_text("labels:\n- cat\n- bird: [sparrow, parrot]\nbackground: [wall, floor]")
        assert lines == yaml and lines is not None
        assert lines.labels[1].aliases == ("sparrow", "parrot") and lines.labels[3].background

    def test_a_colon_inside_a_label(self) -> None:
        """A colon before a space, or at the end, is kept where a backslash precedes it."""
        labels = read_label_text("Figure\\: a cat: Fig\\: cat, puss\na\\: b, 10:30, end\\:")
        assert labels is not None
        assert labels.names == ("Figure: a cat", "a: b", "10:30", "end:")
        assert labels.labels[0].aliases == ("Fig: cat", "puss")

    def test_half_typed_is_no_mistake(self) -> None:
        """A comma or a colon that was typed last changes nothing, and nothing typed is nothing."""
        assert read_label_text(" \n ") is None
        assert read_label_text("cat, dog,") == read_label_text("cat, dog") == read_label_text("cat,dog\n")
        named = read_label_text("cat, dog\nbird:")
        assert named is not None and named.names == ("cat", "dog", "bird")

    @pytest.mark.parametrize(
        "names", [("#1", "a"), ("- dog",), ("a: b", "c:"), ("a, b", "\\\\#x", "\\"), ("imagenet",), ("10:30", "-5")]
    )
    def test_names_lead_back_as_they_would_be_typed(self, names: tuple[str, ...]) -> None:
        """Whatever a label of --labels holds, the text that the page begins with is read as that label."""
        labels = LabelSet(tuple(Label(name) for name in names))
        assert read_label_text(to_typed(labels)) == labels

    def test_a_word_that_stands_for_a_list_is_no_option(self) -> None:
        """`imagenet` typed as a label goes into a file, for `--labels imagenet` names a list."""
        assert to_option(LabelSet((Label("imagenet"),))) is None
        assert to_option(LabelSet((Label("imagenet"), Label("cat")))) == "imagenet,cat"

    def test_mistakes_are_named(self) -> None:
        """A label twice, or only background, is refused in one line."""
        for text in (
            "cat, cat",
            "background: wall",
            "labels: {cat: {x: y}}",
            "cat: dog\ndog",
            "groups: {a: [b]}",
            "cat, bird: wren",
        ):
            with pytest.raises(LabelError):
                read_label_text(text)

    def test_yaml_leads_back(self) -> None:
        """What is exported is what `--labels-file` reads, whatever stands in a label."""
        for text in (GROUPED, "cat\nbird: sparrow", "labels: {'a: b': [], '<b>': [x], 'no': {prompts: ['an {}']}}"):
            labels = read_label_text(text)
            assert labels is not None
            assert parse_label_yaml(to_yaml(labels), "x") == labels
        plain = read_label_text("cat\n" + r"red\, green")
        assert plain is not None and to_option(plain) == r"cat,red\, green"
        assert to_option(read_label_text("a: b") or LabelSet(())) is None


class TestQueries:
    """Sums of texts and images."""

    def test_are_parsed(self) -> None:
        """As `search` reads them: signs between spaces, weights before a star; and not too many."""
        assert parse_terms("beach + night - 0.5*people") == (Term(1, "beach"), Term(1, "night"), Term(-0.5, "people"))
        assert parse_terms("an x-ray of a t-shirt") == (Term(1, "an x-ray of a t-shirt"),)
        assert parse_terms("- people") == (Term(-1, "people"),)
        assert parse_terms(" ") == ()
        for text in ("a + + b", "0*a", " + ".join("abcdefghijklmnopqrstuvwxyzabcdefgh")):
            with pytest.raises(LabelError):
                parse_terms(text)

    def test_are_added_up(self) -> None:
        """The sum is a unit row; parts that cancel out, and none, are named."""
        rows = np.eye(3, dtype=np.float32)
        encode = {"a": rows[0], "b": rows[1]}.__getitem__
        found = add_up([(1.0, rows[2])], encode, parse_terms("a - 2*b"))
        assert np.allclose(found, np.array([1, -2, 1]) / np.sqrt(6))
        for terms, wrong in (("", LabelError), ("a - a", InputError)):
            with pytest.raises(wrong):
                add_up([], encode, parse_terms(terms))
