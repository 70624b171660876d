"""Functions stay short and take few parameters."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from support import ROOT

MOST_LINES = 60
MOST_PARAMETERS = 8


def functions() -> Iterator[tuple[str, ast.FunctionDef]]:
    for path in sorted((ROOT / "zeroshot").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                yield f"{path.relative_to(ROOT)}: {node.name}", node


def is_command(function: ast.FunctionDef) -> bool:
    """Whether its signature is a list of options."""
    return any("reports_errors" in ast.unparse(decorator) for decorator in function.decorator_list)


def test_functions_are_short() -> None:
    """A function has at most 60 lines without its docstring; of a command, whose signature lists options, its body."""
    found = 0
    for name, function in functions():
        first = function.body[0].lineno if is_command(function) else function.lineno
        described = ast.get_docstring(function) is not None
        docstring = (function.body[0].end_lineno or 0) - function.body[0].lineno + 1 if described else 0
        assert (function.end_lineno or 0) - first + 1 - docstring <= MOST_LINES, name
        found += is_command(function)
    assert found > 10


def test_functions_take_few_parameters() -> None:
    """At most 8, besides the receiver; only a command's signature may have more."""
    for name, function in functions():
        given = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
        given = [argument for argument in given if argument.arg not in ("self", "cls")]
        assert is_command(function) or len(given) <= MOST_PARAMETERS, name
