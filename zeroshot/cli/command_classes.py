"""Commands as typer makes them, but quicker: help under headings without rich, plain values without pydantic."""

from __future__ import annotations

from itertools import pairwise, takewhile
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from .options import Panel

_MAY_BE_EMPTY = frozenset({"--labels", "--pretrained", "--into", "--max-size"})
"""Options that mean something by an empty value, or say themselves what is wrong with one."""

_ONCE = frozenset(
    {"--files-from", "--from", "--labels-file", "--label-names", "--targets", "--text", "--into", "--output", "-o"}
)
"""Options of which the last would count, and inputs or answers would be left out in silence."""


class _Plain:
    """Stands in for typer's conversion of a value, which imports pydantic (a tenth of a second) whatever the value."""

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """Return what typer makes of a value: by itself, where there is none, it is text, or its type's already."""
        several = param.multiple or param.nargs == -1
        if value is None:
            return () if several else None
        kind, parser = param.type_descriptor.annotation, param.type_descriptor.parameter_info.parser
        if parser is None and not several and (kind is str or value is param.default) and isinstance(value, kind):
            return value
        listed = parser is None and kind == list[str] and isinstance(value, (list, tuple))
        if listed and all(isinstance(one, str) for one in value):
            return list(value)
        param._runtime_param = None
        return param.get_runtime_param().coerce(value, param=param, ctx=ctx)


def _spare(parameters: list[Any]) -> list[Any]:
    for parameter in parameters:
        parameter._runtime_param = _Plain()  # where typer calls it otherwise, this changes nothing
    return parameters


class QuickGroup(TyperGroup):
    """A group of commands."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters."""
        return _spare(super().get_params(ctx))


class PanelCommand(TyperCommand):
    """A command whose help lists its options by panel; those without one come first."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters."""
        return _spare(super().get_params(ctx))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments.

        Raises:
            typer.BadParameter: A value is empty, as that of a variable that is not set, or an input is given twice.
        """
        parameters: list[Any] = self.params
        taking = {name: one for one in parameters for name in one.opts if not getattr(one, "is_flag", True)}
        given = list(takewhile(lambda word: word != "--", args))
        apart = (name for name, value in pairwise(given) if not value)
        joined = (word[:-1] for word in given if word.endswith("=") and word.count("=") == 1)
        for name in (*apart, *joined):
            if name in taking.keys() - _MAY_BE_EMPTY:
                raise typer.BadParameter("it is empty", ctx, taking[name])
        words = [word.partition("=")[0] if word.startswith("--") else word for word in given]
        for name in _ONCE & taking.keys():
            if not taking[name].multiple and sum(word in taking[name].opts for word in words) > 1:
                raise typer.BadParameter("it is given more than once", ctx, taking[name])
        return super().parse_args(ctx, args)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments, then each panel's options."""
        listed: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": [], **{panel: [] for panel in Panel}}
        for parameter in self.get_params(ctx):
            heading = "Arguments" if parameter.param_type_name == "argument" else "Options"
            if record := parameter.get_help_record(ctx):
                listed[getattr(parameter, "rich_help_panel", None) or heading].append(record)
        # --help alone needs no heading of its own above the panels.
        if len(listed["Options"]) == 1 and any(listed[panel] for panel in Panel):
            listed[Panel.ADVANCED] += listed.pop("Options")
        for heading, records in listed.items():
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)
