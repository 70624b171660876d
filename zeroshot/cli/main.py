"""The `zeroshot` command: finds the module of the command that is called, and imports no other."""

from __future__ import annotations

import importlib
import re
from typing import Annotated, Any

import typer
from typer.main import get_group

from .command_classes import PanelCommand, QuickGroup

_COMMANDS = {
    "classify": ("classify:classify", "Say which label fits each image best."),
    "eval": ("eval:evaluate", "Measure accuracy on labelled images."),
    "search": ("search:search", "List the images nearest to a text or an image."),
    "sort": ("sort:sort", "Sort images into a folder for each label."),
    "undo": ("undo:undo", "Take back what a `sort` did."),
    "duplicates": ("duplicates:duplicates", "Group copies of the same image, and move them aside."),
    "explore": ("explore:explore", "Type labels on a live page, and watch the folder sort itself."),
    "compare": ("compare:compare", "Say whether one evaluation is better than another."),
    "calibrate": ("calibrate:calibrate", "Calibrate probabilities, and find a threshold."),
    "learn": ("learn:learn", "Refine a classifier by a few labelled images."),
    "features": ("features:features", "Write image features to a file."),
    "run": ("run:app", "Classify on several machines: plan, work, status, merge."),
    "doctor": ("doctor:doctor", "Check the installation."),
    "prompts": ("prompts:app", "List, show, check and tune template sets."),
    "models": ("models:app", "List models, download them, look at one."),
    "cache": ("cache:app", "List and remove stored features and exports."),
}
"""Each command's module and the name it has there, and a line about it."""

_MINUS_FIRST = re.compile(r"-[\s\d.]")
"""How a text begins that is taken for an option: ``- rose``, ``-2*rose``."""


class _Commands(QuickGroup):
    """The commands; only the one that is called is imported, the others show one line of help."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, found, rest = super().resolve_command(ctx, args)
        return name, found and _load(str(name)), rest

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:  # typer names the option, but not always the value
            faults: list[dict[str, Any]] = getattr(error.__cause__, "errors", list)()
            if faults:
                message, given = error.message.removeprefix("Value error, "), repr(faults[0]["input"])
                error.message = message if given in message else f"{message} (given: {given})"
            raise
        except Exception as error:  # typer has no public name for that of an unknown option
            if ctx.invoked_subcommand == "search" and _MINUS_FIRST.match(getattr(error, "option_name", "")):
                error.message += "; a text that begins with a minus stands last, behind --, as in -- '- rose'"  # type: ignore[attr-defined]
            raise


def _load(name: str) -> Any:
    """Import a command or a group of them."""
    module, _, attribute = _COMMANDS[name][0].partition(":")
    found = getattr(importlib.import_module(f".{module}", __package__), attribute)
    alone = typer.Typer(rich_markup_mode=None)
    if isinstance(found, typer.Typer):
        for below in found.registered_commands:
            below.cls = PanelCommand
        alone.add_typer(found, name=name, cls=QuickGroup, help=_COMMANDS[name][1])
    else:
        alone.command(name, cls=PanelCommand)(found)
    return get_group(alone).commands[name]


app = typer.Typer(
    name="zeroshot",
    cls=_Commands,
    help="Sort images by words: name labels, point at a folder, get probabilities. No training.",
    epilog="Begin with: zeroshot classify ./imgs --labels cat,dog --model tiny\n\n"
    "Exit codes: 0 all well, 1 error, 2 usage, 3 complete but for some images, 130 interrupted, "
    "143 stopped by SIGTERM, 129 by a hang-up.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 1000,  # typer's own limit is 80; the terminal's width is the one to keep to
    },
)


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"zeroshot {version('zeroshot')}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool,
        typer.Option("--version", "-V", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    pass


for _name, (_, _summary) in _COMMANDS.items():
    app.command(_name, short_help=_summary)(lambda: None)
