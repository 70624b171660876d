"""Opens the destination of records: stdout, a new file, a continued one, or a report page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Protocol

from ..enums import Format
from ..result_columns import Answers
from .destination import check_output, is_device, open_output
from .partial_records import FORMATS, Recipe
from .render.choose_writer import make_writer
from .render.records import Writer
from .resume import Resumed, check_resumable, open_resumable


class Sink(Protocol):
    """Takes the records of a run, in order."""

    def write_all(self, answers: Answers) -> None:
        """Take the records of some inputs."""


def write_records(answers: Iterable[Answers], sinks: Iterable[Sink]) -> None:
    """Give records, as they come, to every sink."""
    takers = tuple(sinks)
    for some in answers:
        for sink in takers:
            sink.write_all(some)


@dataclass(frozen=True, slots=True)
class Renamed:
    """Hands records on under the names that users know images by.

    Attributes:
        sinks: Take the records.
        names: What to call a path; others keep theirs. It may fill while records come.
    """

    sinks: Sequence[Sink]
    names: Mapping[str, str]

    def write_all(self, answers: Answers) -> None:
        """Hand records on."""
        if self.names:
            answers = replace(answers, paths=[self.names.get(path, path) for path in answers.paths])
        for sink in self.sinks:
            sink.write_all(answers)


@dataclass(frozen=True, slots=True)
class RecordFile:
    """Stdout or a results file, open.

    Attributes:
        writer: Writes records in the format asked for.
        begun: The file where it is one that can be continued; None for stdout, devices and whole documents.
    """

    writer: Writer
    begun: Resumed | None = None

    def write_all(self, answers: Answers) -> None:
        """Write records."""
        self.writer.write_all(answers)

    @property
    def done(self) -> int:
        """Records that an earlier run wrote."""
        return self.begun.done if self.begun else 0

    @property
    def failed(self) -> int:
        """How many of those are failures."""
        return self.begun.failed if self.begun else 0

    def skip(self, paths: Iterator[str]) -> Iterator[str]:
        """Yield the paths that have no record yet.

        Raises:
            InputError: The paths are not those of the records.
        """
        return self.begun.skip(paths) if self.begun else paths


def check_target(target: Path | None, form: Format, *, resume: bool) -> None:
    """Refuse a results file that cannot be written, before the work whose results it is for.

    Raises:
        OutputError: It cannot be written, or not be continued.
    """
    if resume and target:
        check_resumable(target, form)
    else:
        check_output(target)


@contextmanager
def open_records(
    target: Path | None,
    recipe: Recipe,
    *,
    resume: bool = False,
    append: bool = False,
    screen: Callable[[BinaryIO], BinaryIO] = lambda stream: stream,
) -> Iterator[RecordFile]:
    """Open stdout, a new results file, or one to continue.

    A file of one record per line keeps what was written when the run is cut short, and can be continued.

    Args:
        target: The file; None for stdout.
        recipe: What decides the bytes.
        resume: Continue what an earlier run left.
        append: Add the paths that have no record yet, also to a file that is complete.
        screen: Wraps stdout where something else is on the same terminal.

    Raises:
        OutputError: It cannot be written, or was made by something else.
    """
    lines = recipe.form in FORMATS and not recipe.layout.only and not recipe.layout.path_end
    if target is None or not (resume or append or (lines and not is_device(target))):
        with open_output(target) as stream:
            writer = make_writer(recipe.form, stream if target else screen(stream), recipe.layout)
            writer.begin(recipe.manifest)
            try:
                yield RecordFile(writer)
            except KeyboardInterrupt:
                writer.end(complete=False)
                raise
            writer.end(complete=True)
        return
    with open_resumable(target, recipe, anew=not (resume or append), append=append) as begun:
        writer = make_writer(recipe.form, begun.stream, recipe.layout)
        if not begun.done:
            writer.begin(recipe.manifest)
        yield RecordFile(writer, begun)
