"""Sums of texts and images: signs are read as they are meant, and a query is its sum by hand."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest

from support.commands import run
from support.fakes import FakeEncoder, FakeModel
from support.fixtures import SaveImage
from zeroshot.enums import Score
from zeroshot.errors import InputError, LabelError
from zeroshot.features.pipeline import Pipeline
from zeroshot.prompts.labels import Label, LabelSet
from zeroshot.prompts.template_sets import TemplateSet
from zeroshot.scoring import Classifier
from zeroshot.search import Term, build_query, parse_terms, rows_by_name


@pytest.mark.parametrize(
    "query, terms",
    [
        ("a dog on a beach", [(1, "a dog on a beach")]),
        ("0.5*beach + night - people", [(0.5, "beach"), (1, "night"), (-1, "people")]),
        ("2 * red − .5*blue", [(2, "red"), (-0.5, "blue")]),
        ("1e3*red + 2.E-1 * blue", [(1000, "red"), (0.2, "blue")]),
        ("red + -2*blue", [(1, "red"), (-2, "blue")]),
        ("−2*red - -.5*blue", [(-2, "red"), (0.5, "blue")]),
        ("1e3 people e*f", [(1, "1e3 people e*f")]),
        ("- people + beach", [(-1, "people"), (1, "beach")]),
        ("black-and-white C++ 5 people", [(1, "black-and-white C++ 5 people")]),
        ('"rock + roll" - people', [(1, "rock + roll"), (-1, "people")]),
    ],
)
def test_parse(query: str, terms: list[tuple[float, str]]) -> None:
    """Signs count between spaces and outside quotes, weights before a star."""
    assert parse_terms(query) == tuple(Term(weight, text) for weight, text in terms)


@pytest.mark.parametrize("query", ["red + ", "red + - blue", "0*red", "+ "])
def test_refused(query: str) -> None:
    """An empty part or a weight of 0 is a mistake: ``red +`` alone would be read as words."""
    if query == "red + ":
        assert parse_terms(query) == (Term(1.0, "red +"),)
    else:
        with pytest.raises(LabelError, match=r"weight of 0|empty part"):
            parse_terms(query)


def test_sum_by_hand() -> None:
    """The query is the unit row of the weighted sum of unit rows; learned rows stand for their names."""
    encoder = FakeEncoder()
    red, blue = encoder.encode_texts(["red", "blue"])
    total = 0.5 * red - blue
    built = build_query(encoder, parse_terms("0.5*red - blue"), [], Pipeline())
    assert built == pytest.approx(total / np.linalg.norm(total), abs=1e-6)
    row = np.eye(8, dtype=np.float32)[7] * 3
    learned = build_query(encoder, parse_terms("Logo + red"), [], Pipeline(), known={"logo": row})
    total = row / 3 + red
    assert learned == pytest.approx(total / np.linalg.norm(total), abs=1e-6)


def test_nothing_left() -> None:
    """What cancels out has no direction."""
    with pytest.raises(InputError, match="cancel out"):
        build_query(FakeEncoder(), parse_terms("red - red"), [], Pipeline())


@pytest.mark.parametrize(
    "query, same",
    [
        (f"{'9' * 50}*red", "red"),
        ("0.0000001*red", "red"),
        ("0.00000002*red + 0.00000001*blue", "2*red + blue"),
        (f"2{'0' * 200}*red - 1{'0' * 200}*blue", "2*red - blue"),
    ],
)
def test_weights_are_relative(query: str, same: str) -> None:
    """Only the ratios of weights matter, however large or small they are."""
    found, expected = (build_query(FakeEncoder(), parse_terms(text), [], Pipeline()) for text in (query, same))
    assert found == pytest.approx(expected, abs=1e-6)


def test_weights_that_are_no_numbers() -> None:
    """What is beyond the numbers is refused, as typed and in a program."""
    with pytest.raises(LabelError, match="too large"):
        parse_terms(f"{'9' * 400}*red")
    with pytest.raises(InputError, match="finite"):
        build_query(FakeEncoder(), [Term(float("nan"), "red")], [], Pipeline())


@pytest.mark.parametrize("text", ["red - blue", "it's red - blue", "0.5*red", "a `dog` - $HOME"])
def test_advice_for_one_text_is_what_a_shell_reads(folder: Path, fake_model: FakeModel, text: str) -> None:
    """What is said of double quotes can be pasted, whatever is in the text; it then is one text."""
    told = run("search", folder, text).stderr
    (pasted,) = shlex.split(told.partition("it is one text: ")[2])
    assert parse_terms(pasted) == (Term(1.0, text),)
    assert "read as a sum" not in run("search", folder, pasted).stderr


def test_no_advice_where_quotes_stand_already(folder: Path, fake_model: FakeModel) -> None:
    """Double quotes around double quotes would be another sum."""
    told = run("search", folder, '0.5 * "rock + roll" + red').stderr
    assert told.splitlines()[0] == "zeroshot: the text is read as a sum: +0.5*'rock + roll' +1*'red'"


@pytest.mark.parametrize("text", ["- red", "-2*red"])
def test_a_text_that_begins_with_a_minus(folder: Path, fake_model: FakeModel, text: str) -> None:
    """It is taken for an option, unless it stands behind two dashes, which the message says."""
    refused = run("search", folder, text)
    assert refused.exit_code == 2
    assert "-- '- rose'" in refused.stderr
    assert "-- '- rose'" not in run("sort", folder, text).stderr
    assert run("search", folder, "--", text).exit_code == 0


def test_command(folder: Path, fake_model: FakeModel) -> None:
    """Magenta less blue is red; --min-score leaves out what is far; --text adds to --like and needs it."""
    first = run("search", folder, "magenta - blue", "--top", 1)
    assert json.loads(first.stdout)["path"].endswith("2.png")
    scored = run("search", folder, "red", "--min-score", 0.9)
    assert [json.loads(line)["path"][-5:] for line in scored.stdout.splitlines()] == ["2.png"]
    both = run("search", folder, "--like", folder / "2.png", "--text", "blue + magenta", "--top", 1)
    assert json.loads(both.stdout)["path"].endswith("10.png")
    assert run("search", folder, "red", "--text", "blue").exit_code == 2


def test_rows_by_name_by_hand() -> None:
    """Aliases have their label's row, a group the mean of its members' unit rows; a row of zeros is no direction."""
    labels = LabelSet(
        (Label("Dog", ("pup",)), Label("wolf"), Label("cat", ("kitty",)), Label("nothing")), (("dog", (0, 1)),)
    )
    weights = np.array([[2, 0, 0], [0, 3, 0], [0, 0, 4], [0, 0, 0]], dtype=np.float32)
    found = rows_by_name(Classifier(weights, labels, TemplateSet("plain", ("{}",)), 100.0, 0.0, Score.SOFTMAX))
    assert {word: row.tolist() for word, row in found.items()} == {
        "dog": [0.5, 0.5, 0],
        "pup": [2, 0, 0],
        "wolf": [0, 3, 0],
        "cat": [0, 0, 4],
        "kitty": [0, 0, 4],
    }


@pytest.fixture
def learned(images: SaveImage, fake_model: FakeModel, tmp_path: Path) -> Path:
    """Weights of two labels with an alias and a group, learned from twenty images each."""
    for index in range(20):
        first, second = 60 + 30 * (index % 5), 35 * (index // 5)
        images(f"train/orange/{index}.png", (255, first, second))
        images(f"train/violet/{index}.png", (first, second, 255))
    (tmp_path / "labels.yaml").write_text("labels: {orange: [amber], violet: []}\ngroups: {warm: [orange, violet]}\n")
    target = tmp_path / "learned.json"
    found = run("learn", tmp_path / "train", "--labels-file", tmp_path / "labels.yaml", "-o", target, "--force")
    assert target.exists(), found.output
    return target


@pytest.mark.parametrize("text, parts", [("Orange", ["Orange"]), ("amber - red", ["amber"]), ("warm", ["warm"])])
def test_words_of_learned_labels_are_known(folder: Path, learned: Path, text: str, parts: list[str]) -> None:
    """Names, aliases and groups are used, and stated with what of the query they were."""
    result = run("search", folder, text, "--learned", learned, "--format", "json")
    assert json.loads(result.stdout)["options"]["learned"]["parts"] == parts
    assert "--learned" not in result.stderr
    without = run("search", folder, text, "--format", "json")
    assert json.loads(result.stdout)["hits"] != json.loads(without.stdout)["hits"]


@pytest.mark.parametrize("query", [["an orange"], ["--like"]])
def test_learned_labels_that_are_not_used(folder: Path, learned: Path, query: list[str]) -> None:
    """Where no part of the query is a learned label, a warning says so and no document states the weights."""
    given = [*query, folder / "1.png"] if query == ["--like"] else query
    result = run("search", folder, *given, "--learned", learned, "--format", "json")
    assert result.exit_code == 0
    assert "--learned is not used" in result.stderr
    assert "orange, violet, warm" in result.stderr
    assert ("did you mean 'orange'?" in result.stderr) == (query != ["--like"])
    assert "learned" not in json.loads(result.stdout)["options"]
