"""Checks of templates and labels before any image is read."""

from __future__ import annotations

import pytest

from support.fakes import FakeEncoder
from zeroshot.errors import LabelError
from zeroshot.prompts.labels import parse_labels
from zeroshot.prompts.prompt_checks import Severity, check_templates, check_with_model
from zeroshot.prompts.template_sets import TemplateSet

PLAIN = TemplateSet("plain", ("{}",))


def test_templates() -> None:
    """Missing and surplus placeholders and repeats are errors; what differs in case and spaces only is a warning."""
    found = check_templates(TemplateSet("t", ("a {}", "nothing", "{} and {c}", "a {}", "A  {}")))
    assert [(finding.severity, finding.message) for finding in found] == [
        (Severity.ERROR, "template 'nothing' has no placeholder"),
        (Severity.ERROR, "template '{} and {c}' has 2 placeholders"),
        (Severity.ERROR, "template 'a {}' is given twice"),
        (Severity.WARNING, "template 'A  {}' differs from 'a {}' only in case or spaces"),
    ]
    assert check_templates(TemplateSet("t", ("a {}", "the {}"))) == []
    assert [finding.severity for finding in check_templates(TemplateSet("t", ()))] == [Severity.ERROR]


def test_labels_that_nearly_coincide() -> None:
    """Pairs whose features the model hardly tells apart are named with their cosine; distinct colours are not."""
    found = check_with_model(FakeEncoder(), parse_labels("red,crimson red,blue"), PLAIN)
    assert [finding.message for finding in found] == ["labels 'red' and 'crimson red' nearly coincide: cosine 1.0000"]


def test_many_pairs_are_counted() -> None:
    """Beyond the closest ones, pairs are counted instead of listed."""
    found = check_with_model(FakeEncoder(), parse_labels("red,a red,b red,c red"), PLAIN, most=2)
    assert len(found) == 3
    assert found[-1].message == "... and 4 more pairs that nearly coincide"


def test_truncated_labels() -> None:
    """A label beyond the context length is named with its tokens."""
    found = check_with_model(FakeEncoder(context_length=5), parse_labels("red one two three,blue"), PLAIN)
    assert [finding.message for finding in found] == [
        "label 'red one two three' is truncated: 6 tokens, the model reads 5"
    ]


def test_labels_that_are_no_text() -> None:
    """Control tokens and bytes that are not UTF-8 are refused as `classify` refuses them."""
    for label in ("<end_of_text>", "\udcff"):
        with pytest.raises(LabelError):
            check_with_model(FakeEncoder(), parse_labels(f"cat,{label}"), PLAIN)
