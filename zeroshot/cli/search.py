"""``zeroshot search``: lists the images nearest to a text, to an image or to a sum of both."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ExitCode, UsageError, nearest
from ..messages import shell_word, some_of
from . import console, option_groups, options
from .input_options import InputOptions, check_readable, summarise_failures
from .label_options import read_learned
from .model_options import ModelOptions
from .option_values import choose_record_format
from .pipeline_options import ImageOptions

if TYPE_CHECKING:
    from ..encoder import Features
    from ..evaluation.learned_file import LearnedFile
    from ..search import Term


_TOP = 20
"""Images that are listed."""


@dataclass(frozen=True, slots=True)
class SearchOptions(InputOptions):
    """Images as other commands take them; the last argument may be the text to search for."""

    paths: Annotated[
        list[str] | None,
        typer.Argument(
            help="Images and folders, then the text to search for.", metavar="PATH... [TEXT]", show_default=False
        ),
        options.Use.READ,
    ] = None


@console.reports_errors
@option_groups.expand_option_groups
def search(
    like: Annotated[
        list[str] | None,
        typer.Option("--like", help="Search for images like this one; repeatable.", metavar="IMAGE"),
        options.Use.READ,
    ] = None,
    also: Annotated[
        str | None, typer.Option("--text", help="With --like: add this text, or sum of texts, to it.", metavar="TEXT")
    ] = None,
    top: Annotated[
        int,
        typer.Option(
            "--top",
            "--top-k",
            "-k",
            min=1,
            help="How many images to list.",
            metavar="N",
            rich_help_panel=options.Panel.OUTPUT,
        ),
    ] = _TOP,
    min_score: Annotated[
        float,
        typer.Option(
            "--min-score",
            min=-1.0,
            max=1.0,
            help="Leave out images with a lower similarity.",
            metavar="S",
            rich_help_panel=options.Panel.OUTPUT,
        ),
    ] = -1.0,
    learned: options.Learned = None,
    format_: options.FormatOption = None,
    output: options.Output = None,
    *,
    inputs: SearchOptions,
    model: ModelOptions,
    images: ImageOptions,
) -> ExitCode:
    """List the images nearest to a text, or to other images.

    The text is the last argument, as in `zeroshot search ./imgs 'a dog on a beach'`. It may be a sum, as in
    '0.5*beach + night - people': a sign counts between spaces only, so that 'black-and-white' is a word; a whole text
    with a dash in it stands in double quotes: '"a dog - on a beach"'. With --like there is no text, unless --text gives
    it: every argument is a place to look in. With --learned, a label's name or alias stands for what was learned of it,
    and a group's name for the mean of its labels.
    """
    named, text = inputs.paths or [], ""
    if like and named and not os.path.lexists(named[-1]) and named[-1] != "-":
        console.say(f"zeroshot: with --like, {named[-1]!r} is taken as a path, not as a text")
    if not like:
        *paths, text = named or [""]
        inputs = replace(inputs, paths=paths)
        if also is not None:
            raise UsageError("--text adds to --like, which is not given", "give the text as the last argument")
        _check_text(text, alone=not paths and not inputs.files_from)
        given = ["--top", str(top)] * (top != _TOP) + ["--min-score", str(min_score)] * (min_score != -1)
        for name, value in (("--format", format_), ("--output", output), ("--learned", learned)):
            given += [name, str(value)] * (value is not None)
        given += [*option_groups.as_words(model), *option_groups.as_words(images)]
        _check_words(paths, text, "".join(f" {shell_word(word)}" for word in given))
    inputs.check(runs=True)
    _check_examples(like or [])
    weights = read_learned(learned)
    form = choose_record_format(format_, output)

    from ..output.destination import check_output, open_output
    from ..output.render.hits import write_hits
    from ..search import build_query, rows_by_name
    from ..search import search as find

    text = also or "" if like else text
    terms = _read_terms(text) if text else ()
    check_output(output)
    pipeline = images.pipeline()
    encoder = model.load_for(inputs.open_run(), weights)
    rows = rows_by_name(weights.build(encoder.spec)) if weights else {}
    used = _learned_parts(terms, weights, rows) if weights else []
    query = build_query(encoder, terms, like or [], pipeline, console.warn, rows)
    with console.Bar("images") as bar:
        sources, fed = inputs.find_or_reuse(encoder.spec, pipeline, {"--output": output}, bar=bar)
        found = find(encoder, query, sources, top, fed, bar.advance, min_score)
    with open_output(output) as stream:
        query_shown = {"text": text, "like": like or []}
        choices, terminal = images.choices(pipeline), output is None and sys.stdout.isatty()
        choices |= {"min_score": min_score} if min_score > -1 else {}
        choices |= {"learned": weights.manifest() | {"parts": used}} if weights and used else {}
        write_hits(found, form, stream, encoder.spec, query_shown, choices, terminal=terminal)
    if found.searched and not found.hits:
        console.note(f"none of {found.searched} images reaches --min-score {min_score:g}")
    return summarise_failures(found.failures, found.searched)


def _read_terms(text: str) -> tuple[Term, ...]:
    """Read the text as a sum, and say how it was read where it is one: a dash may have been meant as a dash."""
    from ..search import parse_terms

    terms = parse_terms(text)
    if len(terms) > 1 or terms[0].weight != 1:
        shown = " ".join(f"{term.weight:+g}*{term.text!r}" for term in terms)
        # Within double quotes a double quote would end them, and who typed some knows of them.
        advice = "" if '"' in text else "; in double quotes it is one text: " + shell_word(f'"{text}"')
        console.note(f"the text is read as a sum: {shown}{advice}")
    return terms


def _learned_parts(terms: Sequence[Term], weights: LearnedFile, rows: Mapping[str, Features]) -> list[str]:
    """Return the parts of a query that stand for learned labels; warn where there is none, so that nothing was used."""
    from ..prompts.labels import normalise

    used = [term.text for term in terms if normalise(term.text) in rows]
    if not used:
        names = [*weights.labels.names, *(name for name, _ in weights.labels.groups)]
        meant = next(filter(None, (nearest(term.text, names) for term in terms)), "")
        console.warn(f"--learned is not used: no part of the query is one of its labels, {some_of(names)}{meant}")
    return used


def _check_examples(images: Sequence[str]) -> None:
    """Refuse an example that is not there, or whose archive is not.

    Raises:
        InputError: Names it.
    """
    from ..images.sources.image_names import container, scheme_of

    for image in images:
        if not scheme_of(image):
            check_readable(container(image), "--like takes an image, which may lie in an archive")


def _check_text(text: str, *, alone: bool) -> None:
    """Refuse a last argument that cannot have been meant as the text; say so where it may have been a path.

    Raises:
        UsageError: It is blank, the sign for stdin, or the only argument.
    """
    from ..images.path_lists import STDIN
    from ..prompts.labels import normalise

    example = "zeroshot search ./imgs 'a dog on a beach'"
    if alone and not text:
        raise UsageError("no images to search, and no text", example)
    if alone:
        what = f"no text to search for after {text}" if os.path.lexists(text) else f"no images to search for {text!r}"
        raise UsageError(f"{what}: name the images first, then the text", example)
    if not normalise(text):
        raise UsageError("the text to search for is empty", example)
    if text == STDIN:
        raise UsageError("the last argument is the text, but `-` stands for paths on stdin", "put the text last")
    if os.path.lexists(text):
        console.say(f"zeroshot: {text!r} is taken as the text, not as the path of that name (--like takes an image)")


def _check_words(paths: Sequence[str], text: str, given: str) -> None:
    """Refuse a text whose words were typed without quotes: those before the last one would be taken for paths.

    Args:
        paths: All words but the last.
        text: The last one.
        given: Options that were given, as they are typed.

    Raises:
        UsageError: Gives the command with quotes.
    """
    first = len(paths)
    while first and not os.path.lexists(paths[first - 1]) and not set("/\\.") & set(paths[first - 1]):
        first -= 1
        if paths[first] == "-":
            return
    if words := paths[first:]:
        if not first and len(words) == 1 and os.path.lexists(text):
            raise UsageError(
                f"no such file or folder: {words[0]}; the images come first, then the text",
                f"zeroshot search{given} {'-- ' * words[0].startswith('-')}{shell_word(text)} {shell_word(words[0])}",
            )
        whole = shell_word(" ".join([*words, text]))
        places = " ".join(map(shell_word, paths[:first])) or "./imgs"
        if option := next((word for word in words if word.startswith("-") and " " not in word), ""):
            raise UsageError(
                f"no such file or folder: {option}; what follows `--` is no option",
                "put options before `--`: zeroshot search -k 10 ./imgs -- '- cat + dog'",
            )
        places = f"-- {places}" if words[0].startswith("-") else places
        raise UsageError(
            f"no such file or folder: {', '.join(words)}; a text of several words needs quotes",
            f"zeroshot search{given} {places} {whole}",
        )
