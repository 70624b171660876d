"""An evaluation as text: what is shown, what is cut, and how numbers are spelled."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from support.fakes import FakeEncoder
from zeroshot.classifier import build_manifest
from zeroshot.enums import Score
from zeroshot.evaluation.evaluate import EncodedDataset, Run, evaluate
from zeroshot.evaluation.labelled_folders import Dataset
from zeroshot.evaluation.statistics import Estimate
from zeroshot.output.render import evaluation as render_eval
from zeroshot.prompts.labels import Label, LabelSet
from zeroshot.prompts.template_sets import TemplateSet
from zeroshot.scoring import Classifier


@pytest.fixture
def run() -> Run:
    """Fifty labels with two images each, one of them wrong for the first ten labels."""
    labels = LabelSet(tuple(Label(f"label [b]{index}[/b] with\na break") for index in range(50)))
    classifier = Classifier(
        np.eye(50, dtype=np.float32), labels, TemplateSet("plain", ("{}",)), 5.0, 0.0, Score.SOFTMAX
    )
    targets = np.repeat(np.arange(50), 2)
    shown = targets.copy()
    shown[:20:2] = 49
    features = np.eye(50, dtype=np.float32)[shown]
    data = EncodedDataset(features, tuple(f"{index}.png" for index in range(100)), targets, ())
    result = evaluate(data, classifier, labels.names)
    return Run(result, build_manifest(FakeEncoder().spec, classifier, {}))


def test_worst_labels_first_and_the_rest_counted(run: Run) -> None:
    """Of many labels the forty with the lowest recall are listed, and the others counted."""
    text = render_eval.to_table(run, colour=False)
    lines = text.splitlines()
    first = next(index for index, line in enumerate(lines) if line.strip().startswith("label [b]"))
    assert "50.0%" in lines[first]
    assert "... and 10 more labels with higher recall" in text
    assert "model    fake (colour-words)" in text


def test_labels_are_shown_as_they_are(run: Run) -> None:
    """Markup in a label is text, and a line break in it does not break the table."""
    text = render_eval.to_table(run, colour=False)
    assert "[b]0[/b]" in text
    assert "\\n" in text


def test_table_of_runs(run: Run) -> None:
    """The best run is called so; a p-value that cannot be had is a dash."""
    text = render_eval.grid_to_table([run, replace(run), replace(run)], [1.0, 0.0004, None], colour=False)
    rows = [line for line in text.splitlines() if line.strip().startswith("fake")]
    assert [row.split()[-1] for row in rows] == ["best", "0.001", "–"]
    assert "< 0.001" in rows[1]
    assert max(map(len, text.splitlines())) <= 80


def test_head_says_where_the_answers_come_from(run: Run) -> None:
    """Learned weights, shares and neighbours stand above the numbers; templates only where they have a part."""
    applied = {"prior": {"source": "auto"}, "neighbours": {"nearest": 10}}
    options = run.manifest.options | {"learned": {"source": "l.json", "length": 0.5}} | applied
    with_all = replace(run, manifest=replace(run.manifest, options=options))
    words = "learned weights of l.json, shares of labels estimated, neighbours"
    head = render_eval.to_table(with_all, colour=False)
    assert f"with     {words}\n" in head
    assert "prompts  " in head
    assert f"with   {words}\n" in render_eval.grid_to_table([with_all, replace(with_all)], [1.0, 1.0], colour=False)
    no_texts = options | {"learned": {"source": "l.json", "length": 0.0}}
    bare = render_eval.to_table(replace(run, manifest=replace(run.manifest, options=no_texts)), colour=False)
    assert f"with     {words}\n" in bare
    assert "prompts  " not in bare


@pytest.mark.parametrize("columns", [60, 70, 80, 200])
def test_names_of_runs_stay_whole(run: Run, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However narrow the terminal, no name is broken or left out, and no line is wider than it."""
    monkeypatch.setenv("COLUMNS", str(columns))
    model = run.manifest.model | {"model": "ViT-B-32-quickgelu"}
    named = replace(run, manifest=replace(run.manifest, model=model, prompts={"name": "imagenet-80"}))
    text = render_eval.grid_to_table([named, replace(named)], [1.0, 0.5], colour=True)
    plain = [re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip() for line in text.splitlines()]
    assert sum("ViT-B-32-quickgelu" in line and "imagenet-80" in line for line in plain) == 2
    assert all(number in " ".join(plain) for number in ("(95 %)", "top-5", "recall", "ECE", "best", "0.500"))
    assert max(map(len, plain)) <= columns


def test_mapping_is_cut() -> None:
    """Of many folders the first eight are named, and the rest counted."""
    labels = LabelSet(tuple(Label(f"name {index}", ("other",)) for index in range(35)))
    keys = tuple(f"n{index}" for index in range(35))
    lines = list(render_eval.mapping_lines(Dataset(("a.png",), np.array([0]), labels, keys)))
    assert lines[0] == "35 labels, 1 image (the JSON has the whole mapping):"
    assert lines[1].startswith("  n0 -> name 0 or other (1), n1 -> name 1 or other (0), ")
    assert lines[1].endswith(" and 27 more")
    assert len(lines) == 2


def test_spelling_of_numbers() -> None:
    """Shares are percent with one decimal, with their interval where there is one."""
    assert render_eval.percent(None) == "–"
    assert render_eval.with_interval(Estimate(0.5)) == "50.0%"
    assert render_eval.with_interval(Estimate(0.5, 0.25, 0.75)) == "50.0% (25.0–75.0)"
    assert [render_eval.p_value(p) for p in (0.0001, 0.0312, 1.0, None)] == ["< 0.001", "0.031", "1.000", "–"]


def test_labels_that_look_alike_are_told_apart(run: Run) -> None:
    """Folders of one name in composed and decomposed form are shown by their code points."""
    one, other = run.result.per_label[:2]
    labels = (replace(one, label="caf\xe9", key="caf\xe9"), replace(other, label="caf\xe9", key="cafe\u0301"))
    shown = render_eval.tell_apart(replace(run.result, per_label=labels))
    assert list(shown.values()) == ["caf\xe9 ('caf\\xe9')", "caf\xe9 ('cafe\\u0301')"]
