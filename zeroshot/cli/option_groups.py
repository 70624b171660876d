"""Passes options that go together to a command as one value, while the command line shows them one by one.

Their names and help texts stand in `options`.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

from ..errors import ExitCode
from . import options

Command = Callable[..., ExitCode | None]


def expand_option_groups(command: Command) -> Command:
    """Let a command have parameters that are groups; typer sees the options of each behind the others.

    Raises:
        OutputError: From the returned function: a file to write is one that the command reads.
        UsageError: From the returned function: a group's values contradict each other.
    """
    signature = inspect.signature(command, eval_str=True)
    groups: dict[str, type[Any]] = {
        name: parameter.annotation
        for name, parameter in signature.parameters.items()
        if isinstance(parameter.annotation, type) and is_dataclass(parameter.annotation)
    }
    seen = [parameter for name, parameter in signature.parameters.items() if name not in groups]
    for group in groups.values():
        hints = get_type_hints(group, include_extras=True)
        for field in fields(group):
            one = inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default)
            seen.append(one.replace(annotation=hints[field.name]))
    uses = {parameter.name: use for parameter in seen if (use := find_use(parameter))}

    @functools.wraps(command)
    def run(**given: Any) -> ExitCode | None:
        _check_outputs(uses, given)
        made = {
            name: group(**{field.name: given.pop(field.name) for field in fields(group)})
            for name, group in groups.items()
        }
        return command(**given, **made)

    run.__signature__ = signature.replace(parameters=seen)  # type: ignore[attr-defined]
    return run


def find_use(parameter: inspect.Parameter) -> options.Use | None:
    """Return whether a parameter's file is read or written; None for a parameter that names no file."""
    return next((mark for mark in get_args(parameter.annotation) if isinstance(mark, options.Use)), None)


def as_words(group: Any) -> list[str]:
    """Return a group's options as they would be typed, those that were left as they are left out."""
    words: list[str] = []
    for field in fields(group):
        value = getattr(group, field.name)
        if value == field.default:
            continue
        words.append(f"--{field.name.replace('_', '-')}")
        if value is not True:
            words.append(str(value))
    return words


def _check_outputs(uses: dict[str, options.Use], given: dict[str, Any]) -> None:
    """Refuse an output that is another output or a file that the command reads, whichever option names it."""
    written = {f"--{name}": given[name] for name, use in uses.items() if use is options.Use.WRITTEN and given[name]}
    if not written:
        return
    from ..output.destination import check_apart

    read: list[str] = []
    for name, use in uses.items():
        values = given[name] if isinstance(given[name], list) else [given[name]]
        named = [str(value) for value in values if value] if use is not options.Use.WRITTEN else []
        read += named
        if use is options.Use.READ_FOLDER:
            read += [str(file) for folder in named if os.path.isdir(folder) for file in Path(folder).iterdir()]  # noqa: PTH112 - False for a name that cannot be looked up
    check_apart(written, read)
