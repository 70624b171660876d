"""What a command's help looks like: its options under headings, as wide as the terminal, without importing rich."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand

from .options import Panel


class PanelCommand(TyperCommand):
    """A command whose help lists its options by panel; those without one come first."""

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
