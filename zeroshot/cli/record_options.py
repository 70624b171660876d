"""Options for records: where they go, in which format, and which of them."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from ..enums import Format
from ..errors import UsageError, nearest
from ..messages import shell_word
from . import options
from .option_values import check_page, choose_record_format, parse_fields

if TYPE_CHECKING:
    from ..output.render.records import Layout
    from ..prompts.labels import LabelSet


@dataclass(frozen=True, slots=True)
class RecordOptions:
    """Where records go, and what of them is written."""

    format_: options.FormatOption = None
    fields: options.Fields = None
    top_k: options.TopK = 5
    output: options.Output = None
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="With --output: continue a file that was cut short (jsonl, csv, tsv).",
            rich_help_panel=options.Panel.OUTPUT,
        ),
    ] = False
    append: Annotated[
        bool,
        typer.Option(
            "--append",
            help="Add inputs without a record to --output, a file made with --resume or --append, finished or not.",
            rich_help_panel=options.Panel.OUTPUT,
        ),
    ] = False
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only",
            help="Write only the records of images that get this label; repeatable.",
            metavar="LABEL",
            rich_help_panel=options.Panel.OUTPUT,
        ),
    ] = None
    paths_only: Annotated[
        bool,
        typer.Option(
            "--paths",
            help="Write only the paths of the images that get a label, one per line.",
            rich_help_panel=options.Panel.OUTPUT,
        ),
    ] = False
    print0: Annotated[
        bool,
        typer.Option(
            "--print0", help="As --paths, each path ended by NUL, for `xargs -0`.", rich_help_panel=options.Panel.OUTPUT
        ),
    ] = False
    report: options.Report = None
    quiet: Annotated[
        bool,
        typer.Option(
            "--quiet",
            "-q",
            help="Print nothing but warnings and errors on stderr: no progress, no summary.",
            rich_help_panel=options.Panel.OUTPUT,
        ),
    ] = False

    @property
    def form(self) -> Format:
        """The format of the records."""
        return choose_record_format(self.format_, self.output)

    @property
    def continued(self) -> bool:
        """Whether records that are there already are kept."""
        return self.resume or self.append

    @property
    def to_terminal(self) -> bool:
        """Whether the records are shown on a terminal."""
        return self.output is None and sys.stdout.isatty()

    def check(self, labels: LabelSet) -> None:
        """Refuse what cannot be written, before the work whose results it is for.

        Raises:
            OutputError: A file cannot be written, or not be continued.
            UsageError: Options contradict each other, or name a label that is no answer.
        """
        from ..output.destination import check_output
        from ..output.record_sinks import check_target

        parse_fields(self.fields)
        check_page(self.report)
        way = "--append" if self.append else "--resume"
        if self.continued and (self.output is None or self.report is not None):
            raise UsageError(f"{way} continues the file of --output, without --report", f"--output FILE {way}")
        if self.continued and (self.only or self.paths_only or self.print0):
            raise UsageError(f"{way} needs a record of every input", "leave out --only, --paths and --print0")
        if (self.paths_only or self.print0) and (self.format_ or self.fields):
            raise UsageError("--paths and --print0 write paths alone", "leave out --format and --fields")
        if parse_fields(self.fields) != parse_fields(None) and self.form is Format.TABLE:
            raise UsageError("--fields: a table shows probabilities alone", "--format jsonl, or csv, tsv, json")
        self._check_only(labels)
        check_target(self.output, self.form, resume=self.continued)
        check_output(self.report)

    def _check_only(self, labels: LabelSet) -> None:
        """Refuse a label of --only that is no answer.

        Raises:
            UsageError: Names the group that the label is in, or the label that is nearest.
        """
        names = [name for name, _ in labels.answers]
        for label in self.only or []:
            group = next((name for name, members in labels.groups if label in {labels.names[at] for at in members}), "")
            if label not in names and group:
                raise UsageError(f"--only: {label!r} is reported as its group {group!r}", f"--only {shell_word(group)}")
            if label not in names:
                raise UsageError(f"--only: no label {label!r}{nearest(label, names)}", "name one of --labels")

    def layout(self, n_answers: int, *, several: bool = False) -> Layout:
        """Return what of a record is written."""
        from ..output.render.records import Layout

        return Layout(
            parse_fields(self.fields),
            min(self.top_k, n_answers),
            shutil.get_terminal_size().columns if self.to_terminal else None,
            terminal=self.to_terminal,
            only=tuple(self.only or ()),
            path_end=b"\0" if self.print0 else b"\n" if self.paths_only else b"",
            several=several,
        )
