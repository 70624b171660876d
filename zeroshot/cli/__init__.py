"""The command line: what is typed becomes calls of the library, what they return is printed here."""

from __future__ import annotations

from typing import Annotated

import typer

from . import classify, doctor, evaluate, models, prompts

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


app.command("classify")(classify.classify)
app.command("eval")(evaluate.evaluate)
app.add_typer(prompts.app, name="prompts")
app.add_typer(models.app, name="models")
app.command("doctor")(doctor.doctor)
