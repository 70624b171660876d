"""Help lists a command's options under headings, at the terminal's width."""

from __future__ import annotations

import re
from typing import Any

import pytest
import typer
from typer.main import get_command

from support.commands import every_command, run
from support.fakes import FakeModel
from zeroshot.cli.command_classes import _Plain
from zeroshot.cli.main import app
from zeroshot.cli.options import Panel


def headings(text: str) -> list[str]:
    return re.findall(r"(?m)^(\w+):$", text)


def test_options_stand_under_headings() -> None:
    """Each command's options are in panels, in one order, every option once."""
    shown = run("classify", "--help").stdout
    assert headings(shown) == ["Arguments", *Panel]
    for words, command in every_command():
        text = run(*words, "--help").stdout
        assert [heading for heading in headings(text) if heading in list(Panel)] == [
            panel for panel in Panel if f"\n{panel}:" in text
        ]
        for parameter in command.params:
            if parameter.param_type_name == "option":
                listed = re.findall(rf"(?m)^  (?:-\w, )?{parameter.opts[0]}(?=, -| |$)", text)
                assert len(listed) == 1, (words, parameter.name)


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_help_fits_the_terminal(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    """Lines are as wide as the terminal, and no wider."""
    monkeypatch.setenv("COLUMNS", str(columns))
    context = get_command(app).make_context("zeroshot", [], resilient_parsing=True)
    widest = 0
    for words, command in every_command():
        shown = command.make_context(words[-1], [], parent=context, resilient_parsing=True).get_help()
        assert max(len(line) for line in shown.splitlines()) <= columns, words
        widest = max(widest, *(len(line) for line in shown.splitlines()))
    assert widest > columns - 10


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("{", "no JSON"),
        ("nowhere.json", "No such file"),
        ("{}", "expected an object"),
        ('{"men": [0.5, 0.5, 0.5]}', "unknown key 'men'; did you mean 'mean'?"),
        ('{"mean": [0.5, 0.5]}', "unusable preprocessing"),
        ('{"resize_mode": "stretch"}', "'stretch' is not a valid ResizeMode"),
    ],
)
def test_a_preprocessing_that_cannot_be_is_refused(fake_model: FakeModel, given: str, said: str) -> None:
    """Before the model is loaded, and with the value that is wrong."""
    refused: Any = run("classify", "x.jpg", "--labels", "a,b", "--preprocess", given)
    assert (refused.exit_code, fake_model.calls) == (2, [])
    assert said in refused.stderr


GIVEN = ["text", "", "a\udcff", "1", "1.5", "0", "-3", "auto", "jsonl", "nonsense", "true"]


def test_values_become_what_typer_makes_of_them() -> None:
    """Defaults, nothing, and text: whatever is converted without typer's adapters is what those give."""
    converted = 0
    for words, command in every_command():
        context = command.make_context(" ".join(words), [], resilient_parsing=True)
        for parameter in command.params:
            if parameter.name == "help":
                continue
            several = parameter.multiple or parameter.nargs == -1
            values = [None, parameter.default, *([(), ("a", "b\udcff"), ["c"], "text"] if several else GIVEN)]
            for value in values:
                parameter._runtime_param = None
                expected = outcome(parameter.get_runtime_param(), value, parameter, context)
                assert outcome(_Plain(), value, parameter, context) == expected, (words, parameter.name, value)
                converted += 1
    assert converted > 2000


def outcome(coercion: Any, value: Any, parameter: Any, context: Any) -> Any:
    try:
        made = coercion.coerce(value, parameter, context)
    except typer.BadParameter as error:
        return error.message
    return type(made), made
