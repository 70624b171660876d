"""Commands as typer makes them, but quicker: help under headings without rich, options not given without pydantic."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand, TyperGroup

from .options import Panel


class _Unasked:
    """Stands in for typer's conversion of a value, for which it imports pydantic (0.1 s) even if there is no value."""

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """Return None for an option that was not given, and what typer makes of any other value."""
        if value is None and param.nargs == 1 and not param.multiple:
            return None
        param._runtime_param = None
        return param.get_runtime_param().coerce(value, param=param, ctx=ctx)


def _spare(parameters: list[Any]) -> list[Any]:
    for parameter in parameters:
        parameter._runtime_param = _Unasked()  # where typer calls it otherwise, this changes nothing
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
