"""The command line: what is typed becomes calls of the library, what they return is printed here."""

from __future__ import annotations

from typing import Annotated

import typer

from . import cache, calibrate, classify, compare, doctor, evaluate, models, prompts, search, sort

app = typer.Typer(
    name="zeroshot",
    help="Sort pictures by words: name labels, point at a folder, get probabilities. No training.",
    epilog="Begin with: zeroshot classify ./imgs --labels cat,dog --model tiny",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"zeroshot {version('zeroshot')}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


for _command, _summary in (
    (classify.classify, "Say which label fits each picture best."),
    (evaluate.evaluate, "Measure accuracy on labelled pictures."),
    (search.search, "List the pictures nearest to a text or a picture."),
    (sort.sort, "Sort pictures into a folder for each label."),
    (sort.undo, "Take back what a `sort` did."),
    (compare.compare, "Say whether one evaluation is better than another."),
    (calibrate.calibrate, "Make probabilities honest; find a threshold."),
    (search.features, "Write image features to a file."),
    (doctor.doctor, "Check the installation."),
):
    app.command("eval" if _command is evaluate.evaluate else _command.__name__, short_help=_summary)(_command)
app.add_typer(prompts.app, name="prompts")
app.add_typer(models.app, name="models")
app.add_typer(cache.app, name="cache")
