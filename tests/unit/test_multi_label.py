"""Several labels per image: each judged on its own, measured as scikit-learn measures, fitted, read and written."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from support.commands import run
from support.fakes import FakeEncoder, FakeModel
from support.fixtures import SaveImage
from zeroshot.enums import Score
from zeroshot.errors import InputError, UsageError
from zeroshot.evaluation import multi_label as measuring
from zeroshot.evaluation.evaluate import EncodedDataset
from zeroshot.evaluation.labelled_tables import load_several_targets, split_labels
from zeroshot.evaluation.statistics import wilson
from zeroshot.multi_label import EVERYDAY, build_judge
from zeroshot.output.render.multi_label import fit_to_text
from zeroshot.output.render.records import join_labels
from zeroshot.prompts.labels import Label, LabelSet, parse_labels
from zeroshot.prompts.template_sets import load_templates


class TestJudge:
    """Each label against everyday words."""

    def test_logit_by_hand(self) -> None:
        """A label's logit less the logarithm of the summed exponentials of everyday words and background labels."""
        encoder, plain = FakeEncoder(), load_templates("plain")
        labels = LabelSet((Label("red"), Label("grey", background=True), Label("blue")))
        judge = build_judge(encoder, labels, plain)
        image = encoder.encode_texts(["magenta"])
        scale = encoder.spec.logit_scale
        words = ("red", "blue", "grey", *EVERYDAY)
        logits = {word: scale * float(image[0] @ encoder.encode_texts([word])[0]) for word in words}
        against = np.log(sum(np.exp(logits[word]) for word in ("grey", *EVERYDAY)))
        expected = [logits["red"] - against, logits["blue"] - against]
        assert judge.logits(image)[0] == pytest.approx(expected, abs=1e-4)
        assert judge.classifier.labels.names == ("red", "blue")
        assert judge.manifest() == {"against": ["grey", *EVERYDAY]}

    def test_a_label_is_not_judged_against_itself(self) -> None:
        """An everyday word that is the label or an alias of it is left out for that label, in whatever case."""
        encoder, plain = FakeEncoder(), load_templates("plain")
        judge = build_judge(encoder, LabelSet((Label("Wall"), Label("vessel", ("boat", "cup")), Label("red"))), plain)
        image = encoder.encode_texts(["magenta"])
        scale = encoder.spec.logit_scale
        logits = {word: scale * float(image[0] @ encoder.encode_texts([word])[0]) for word in EVERYDAY}

        def against(*without: str) -> float:
            return float(np.log(sum(np.exp(logits[word]) for word in EVERYDAY if word not in without)))

        own = judge.classifier.scores(image).logits[0]
        expected = [own[0] - against("wall"), own[1] - against("boat", "cup"), own[2] - against()]
        assert judge.logits(image)[0] == pytest.approx(expected, abs=1e-4)
        floor = LabelSet((Label("red"), Label("ground", ("Floor",), background=True)))
        assert "floor" not in [label.name for label in build_judge(encoder, floor, plain).rows.labels.labels]

    def test_another_label_changes_nothing(self) -> None:
        """What is said of one label does not depend on which others are asked about."""
        encoder, templates = FakeEncoder(), load_templates("plain")
        image = encoder.encode_texts(["magenta"])
        few = build_judge(encoder, parse_labels("red,blue"), templates).logits(image)
        many = build_judge(encoder, parse_labels("red,blue,green,dog"), templates).logits(image)
        assert many[:, :2] == pytest.approx(few)

    def test_a_model_trained_so_is_left_as_it_is(self) -> None:
        """The logits of a model that was trained with a sigmoid have a zero of their own."""
        encoder = FakeEncoder(logit_bias=-3.0)
        judge = build_judge(encoder, parse_labels("red,blue"), load_templates("plain"))
        image = encoder.encode_texts(["red"])
        assert judge.rows.score is Score.SIGMOID
        assert judge.logits(image)[0, 0] == pytest.approx(10.0 - 3.0)

    def test_groups_are_refused(self) -> None:
        """Probabilities that do not sum to one are not summed."""
        labels = LabelSet((Label("red"), Label("blue")), (("warm", (0,)),))
        with pytest.raises(UsageError, match="groups"):
            build_judge(FakeEncoder(), labels, load_templates("plain"))


class TestNumbers:
    """Metrics and fits are scikit-learn's."""

    generator = np.random.default_rng(0)
    truth = generator.random((200, 6)) < [0.5, 0.1, 0.3, 0.02, 0.8, 0.2]
    logits = np.round(2.0 * truth - 1 + generator.normal(size=truth.shape), 1)  # with ties

    def test_average_precision(self) -> None:
        """Of each label, equal scores together, to 1e-6."""
        theirs = pytest.importorskip("sklearn.metrics", reason="scikit-learn comes with the dev extra")
        for column in range(6):
            ours = measuring.average_precision(self.logits[:, column], self.truth[:, column])
            assert ours == pytest.approx(
                theirs.average_precision_score(self.truth[:, column], self.logits[:, column]), abs=1e-6
            )

    def test_measured(self) -> None:
        """Mean average precision, F1 of pairs and labels, exact matches and log-loss of a whole result, to 1e-6."""
        theirs = pytest.importorskip("sklearn.metrics", reason="scikit-learn comes with the dev extra")
        judge = build_judge(FakeEncoder(), parse_labels("red,blue,green,cyan,white,grey"), load_templates("plain"))
        rows = np.eye(8, dtype=np.float32)[np.arange(200) % 8]
        data = EncodedDataset(rows, tuple(map(str, range(200))), np.arange(200), ())
        judge = replace(judge, slope=0.4, offset=-0.1)
        result = measuring.measure(data, judge, self.truth, tuple("abcdef"), 0.45)
        given = result.probabilities >= 0.45
        assert 0 < given.mean() < 1
        expected = theirs.average_precision_score(self.truth, result.probabilities, average="macro")
        assert result.mean_average_precision == pytest.approx(expected, abs=1e-6)
        assert result.micro_f1 == pytest.approx(theirs.f1_score(self.truth, given, average="micro"), abs=1e-6)
        macro = theirs.f1_score(self.truth, given, average="macro", zero_division=0)
        assert result.macro_f1 == pytest.approx(macro, abs=1e-6)
        right = int((self.truth & given).sum())
        assert (result.precision.value, result.recall.value) == (right / given.sum(), right / self.truth.sum())
        assert result.precision == wilson(right, int(given.sum()))
        assert result.exact == pytest.approx(theirs.accuracy_score(self.truth, given), abs=1e-6)
        pairs = theirs.log_loss(self.truth.ravel(), result.probabilities.ravel())
        assert result.nll == pytest.approx(pairs, abs=1e-6)
        for column, label in enumerate(result.per_label):
            precision, recall, f1, _ = theirs.precision_recall_fscore_support(
                self.truth[:, column], given[:, column], average="binary", zero_division=0
            )
            assert (label.precision or 0, label.recall, label.f1) == pytest.approx((precision, recall, f1), abs=1e-6)

    def test_fit_is_scipys(self) -> None:
        """Slope and offset are the minimum that scipy finds of Platt's loss, also where a threshold separates all."""
        optimize = pytest.importorskip("scipy.optimize", reason="scipy comes with the dev extra")
        for logits, truth in ((self.logits, self.truth), (np.array([-1.0, -2, 3, 4]), np.array([0, 0, 1, 1], bool))):
            yes, no = int(truth.sum()), int((~truth).sum())
            wanted = np.where(truth, (yes + 1) / (yes + 2), 1 / (no + 2))

            def loss(point: np.ndarray, logits: np.ndarray = logits, wanted: np.ndarray = wanted) -> float:
                z = point[0] * logits + point[1]
                return float(np.mean(np.logaddexp(0, z) - wanted * z))

            theirs = optimize.minimize(loss, [1.0, 0.0], tol=1e-14)
            ours = measuring.fit_probabilities(logits, truth)
            assert ours == pytest.approx(theirs.x, abs=1e-4)
            assert loss(np.asarray(ours)) <= theirs.fun + 1e-6

    def test_threshold(self) -> None:
        """The highest F1, or the lowest threshold with the precision, by trying every one."""
        flat, truth = self.logits.ravel(), self.truth.ravel()

        def f1(threshold: float) -> float:
            given = flat >= threshold
            return 2 * float((given & truth).sum()) / float(given.sum() + truth.sum())

        found = measuring.choose_threshold(self.logits, self.truth, None)
        assert found is not None
        assert f1(found) == pytest.approx(max(map(f1, np.unique(flat))))
        precise = measuring.choose_threshold(self.logits, self.truth, 0.8)
        assert precise is not None
        assert truth[flat >= precise].mean() >= 0.8
        below = np.unique(flat[flat < precise])[-1]
        assert truth[flat >= below].mean() < 0.8
        assert measuring.choose_threshold(np.array([0.9, 0.1]), np.array([False, True]), 0.9) is None

    def test_a_precision_that_is_missed_is_said(self) -> None:
        """A threshold rests on ten labels at least; what the half held out says of it is a reason not to use it."""
        sure, right = np.linspace(1, 0, 30), np.arange(30) < 5
        assert measuring.choose_threshold(sure, right, 0.9) is None
        assert measuring.choose_threshold(sure, np.arange(30) < 10, 0.9) is not None
        judge = build_judge(FakeEncoder(), parse_labels("red,blue,green,cyan,white,grey"), load_templates("plain"))
        rows = np.eye(8, dtype=np.float32)[np.arange(200) % 8]
        data = EncodedDataset(rows, tuple(map(str, range(200))), np.arange(200), ())
        after = measuring.measure(data, judge, self.truth, tuple("abcdef"), 0.0)
        fit = measuring.MultiLabelFit(judge, 0.0, 0.9, 200, after, after)
        share = 100 * self.truth.mean()
        assert fit.problems[0].startswith(f"this threshold misses 90 % precision: {share:.1f} % on the images held out")
        assert f"of the labels given, {share:.1f}% (" in fit_to_text(fit, None)
        assert replace(fit, wanted=0.1).problems == ()


class TestTable:
    """Images with several labels in a table."""

    def test_fields_and_lines(self, tmp_path: Path) -> None:
        r"""Labels stand in one field, on several lines or both; none in an empty field; ``\;`` is a semicolon."""
        table = tmp_path / "t.csv"
        table.write_text('path,label\na.png,cat;dog\nb.png,cat\nb.png,sea;cat\nc.png,\nd.png,"a\\;b"\n')
        found = load_several_targets(str(table))
        named = [[found.keys[index] for index in labels] for labels in found.several]
        assert named == [["cat", "dog"], ["cat", "sea"], [], ["a;b"]]
        assert found.counts == (1, 2, 1, 1)
        assert [Path(path).name for path in found.paths] == ["a.png", "b.png", "c.png", "d.png"]

    def test_the_column_that_classify_writes(self, tmp_path: Path) -> None:
        """With a column of all labels, that one counts, and not the best label beside it."""
        table = tmp_path / "t.csv"
        table.write_text("path,label,labels\na.png,cat,cat;dog\nb.png,,\nc.png,sea,\n")
        found = load_several_targets(str(table))
        assert [[found.keys[index] for index in labels] for labels in found.several] == [["cat", "dog"], [], []]

    def test_an_image_by_several_names_counts_once(self, tmp_path: Path, images: SaveImage) -> None:
        """However a path is spelled, and through a link, an image has the labels of all its lines."""
        images("in/a.png", "red")
        (tmp_path / "link.png").symlink_to(tmp_path / "in" / "a.png")
        table = tmp_path / "t.csv"
        names = ("in/a.png", "./in/../in/a.png", tmp_path / "in" / "a.png", "link.png")
        table.write_text(
            "path,label\n" + "".join(f"{name},{label}\n" for name, label in zip(names, "abca", strict=True))
        )
        found = load_several_targets(str(table))
        assert [len(found.paths), found.several] == [1, ((0, 1, 2),)]

    @pytest.mark.parametrize("labels", [["cat", "dog"], ["a;b", "c\\"], ["\\;", ";"], ["x, y"]])
    def test_reads_what_is_written(self, labels: list[str]) -> None:
        """The field that `classify --format csv` writes is read back."""
        assert split_labels(join_labels(labels)) == labels

    def test_refused(self, tmp_path: Path) -> None:
        """A table without a label, or a line without a path."""
        table = tmp_path / "t.csv"
        table.write_text("path,label\na.png,\n")
        with pytest.raises(InputError, match="names no label"):
            load_several_targets(str(table))
        table.write_text("path,label\n,cat\n")
        with pytest.raises(InputError, match="line 2: no path"):
            load_several_targets(str(table))


class TestCommands:
    """`classify`, `eval` and `calibrate`."""

    @pytest.fixture
    def table(self, fake_model: FakeModel, images: SaveImage, tmp_path: Path) -> Path:
        """Sixty images that are red, blue, both (magenta) or neither (grey), and a model that is too unsure of them."""
        fake_model.encoder = FakeEncoder(logit_scale=2.0)
        lines = ["path,label"]
        kinds = {"": (128, 128, 128), "red": (255, 0, 0), "blue": (0, 0, 255), "red;blue": (255, 0, 255)}
        for index in range(60):
            label, colour = list(kinds.items())[index % 4]
            images(f"some/{index}.png", tuple(min(255, part + index) for part in colour))  # type: ignore[arg-type]
            lines.append(f"some/{index}.png,{label}")
        (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
        return tmp_path / "t.csv"

    def test_fitted_then_used(self, table: Path, tmp_path: Path) -> None:
        """A fit makes the log-loss lower, `classify` applies it, and lists all labels in every format."""
        fitted = tmp_path / "c.json"
        result = run("calibrate", "--multi-label", "--targets", table, "--output", fitted, "--format", "json")
        assert result.exit_code == 0, result.output
        document = json.loads(fitted.read_text())
        held_out = document["held_out"]
        assert held_out["after"]["nll"] < held_out["before"]["nll"]
        assert held_out["after"]["micro_f1"] == 1.0
        asked = ("classify", table.parent / "some", "--labels", "blue,red", "--multi-label", "--calibration", fitted)
        records = [json.loads(line) for line in run(*asked).stdout.splitlines()]
        assert [set(record["labels"]) for record in records[:4]] == [set(), {"red"}, {"blue"}, {"red", "blue"}]
        assert [record["status"] for record in records[:2]] == ["unknown", "ok"]
        assert records[0]["label"] is None
        rows = list(csv.DictReader(io.StringIO(run(*asked, "--format", "csv").stdout)))
        assert set(rows[3]["labels"].split(";")) == {"red", "blue"}
        assert (rows[0]["labels"], rows[0]["status"]) == ("", "unknown")
        whole = json.loads(run(*asked, "--format", "json").stdout)
        stated = whole["manifest"]["options"]
        assert stated["multi_label"] == {"against": list(EVERYDAY)}
        assert stated["calibration"]["slope"] == document["slope"]
        assert stated["threshold"] == document["threshold"]
        only = run(*asked, "--only", "blue", "--paths").stdout.splitlines()
        assert len(only) == 30
        table_ = run(*asked, "--format", "table").stdout
        assert "red, blue" in table_ or "blue, red" in table_

    def test_eval(self, table: Path, tmp_path: Path) -> None:
        """The table's labels are measured; the fit states itself; without one a line says what that means."""
        fitted = tmp_path / "c.json"
        assert run("calibrate", "--multi-label", "--targets", table, "--output", fitted).exit_code == 0
        plain = run("eval", "--targets", table, "--multi-label", "--format", "json")
        assert "not calibrated" in plain.stderr
        asked = ("eval", "--targets", table, "--multi-label", "--calibration", fitted, "--format")
        found = json.loads(run(*asked, "json").stdout)
        assert found["metrics"]["mean_average_precision"] == pytest.approx(1)
        assert found["metrics"]["exact"] == 1.0
        assert found["metrics"]["threshold"] == found["manifest"]["options"]["calibration"]["threshold"]
        assert [sorted(one["targets"]) for one in found["predictions"][:4]] == [[], ["red"], ["blue"], ["blue", "red"]]
        text = run(*asked, "table").stdout
        assert "mean average precision   100.0%" in text

    def test_folder(self, table: Path, images: SaveImage, tmp_path: Path) -> None:
        """A folder of one label per image is measured too."""
        images("val/red/1.png", "red")
        images("val/blue/1.png", "blue")
        found = json.loads(run("eval", tmp_path / "val", "--multi-label", "--format", "json").stdout)
        assert found["metrics"]["mean_average_precision"] == pytest.approx(1)

    def test_resumed(self, table: Path, tmp_path: Path) -> None:
        """A run that was cut short is continued to the same bytes."""
        asked = ("classify", table.parent / "some", "--labels", "blue,red", "--multi-label", "--batch-size", "4")
        whole, part = tmp_path / "whole.jsonl", tmp_path / "part.jsonl"
        assert run(*asked, "--output", whole, "--resume").exit_code == 0
        assert run(*asked, "--output", part, "--resume", "--limit", "8").exit_code == 0
        assert run(*asked, "--output", part, "--append").exit_code == 0
        assert part.read_bytes() == whole.read_bytes()

    def test_refused(self, table: Path, tmp_path: Path) -> None:
        """Options for labels that compete, a fit of the other kind, and one for other labels."""
        labels = ("--labels", "red,blue", "--multi-label")
        for more in (("--prior", "auto"), ("--neighbours",), ("--score", "softmax"), ("--report", tmp_path / "p.html")):
            result = run("classify", table.parent / "some", *labels, *more)
            assert result.exit_code == 2, more
            assert more[0] in result.stderr
        assert run("eval", "--targets", table, "--multi-label", "--few-shot", "1").exit_code == 2
        fitted = tmp_path / "c.json"
        assert run("calibrate", "--multi-label", "--targets", table, "--output", fitted).exit_code == 0
        other = run("classify", table.parent / "some", "--labels", "red,blue", "--calibration", fitted)
        assert (other.exit_code, "not a calibration file of this kind" in other.stderr) == (1, True)
        foreign = run(
            "classify", table.parent / "some", "--labels", "red,green", "--multi-label", "--calibration", fitted
        )
        assert (foreign.exit_code, "fitted for other labels" in foreign.stderr) == (1, True)
        everyday = run(
            "classify", table.parent / "some", "--labels", "red,blue,cat", "--multi-label", "--calibration", fitted
        )
        assert (everyday.exit_code, "fitted for other labels: without 'cat'" in everyday.stderr) == (1, True)
        whole = json.loads(fitted.read_text())
        for change, said in (({"slope": "1"}, "a value is of another kind"), ({"fitted_for": {}}, "labels is missing")):
            fitted.write_text(json.dumps(whole | change))
            damaged = run("classify", table.parent / "some", *labels, "--calibration", fitted)
            assert (damaged.exit_code, f"is damaged: {said}" in damaged.stderr) == (1, True)
