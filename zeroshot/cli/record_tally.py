"""Counts the records of a `classify`, and names what could not be read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ExitCode
from ..messages import count_of, some_of
from ..results import Failure
from . import console
from .record_options import RecordOptions

if TYPE_CHECKING:
    from ..output.record_sinks import RecordFile
    from ..output.render.records import Layout
    from ..result_columns import Answers


class Tally:
    """Counts records as they are written, and names the first failures.

    On a terminal a failure is named behind the rows, and only if its record does not give its reason whole.

    Args:
        bar: Advances with each record.
        file: Where records go, and how many are there already.
        output: As asked for.
        layout: What of a record is written.
    """

    def __init__(self, bar: console.Bar, file: RecordFile, output: RecordOptions, layout: Layout) -> None:
        self._bar = bar
        self._output = output
        self._layout = layout
        self._recorded = not (layout.only or layout.path_end)
        self._failures = console.Few(only_here=not self._recorded)
        self._waiting: list[str] = []
        self._before = (file.done, file.failed)
        self._labels: Counter[str | None] = Counter()
        self._split = 0
        self.written = file.done
        self.failed = file.failed
        bar.begin_at(file.done)

    def write_all(self, answers: Answers) -> None:
        """Count records that were written."""
        self.written += len(answers)
        self.failed += len(answers.errors)
        for place in sorted(answers.errors):
            self._name(Failure(answers.paths[place], answers.errors[place]))
        self._labels.update(answers.given_labels())
        if self._layout.path_end == b"\n":
            self._split += self._count_split(answers) if any("\n" in path for path in answers.paths) else 0
        self._bar.advance(len(answers))

    def _count_split(self, answers: Answers) -> int:
        """Return how many of the paths that are written hold a line break."""
        only = set(self._layout.only)
        read = (path for place, path in enumerate(answers.paths) if place not in answers.errors)
        given = zip(read, answers.labels_of_each(), strict=True)
        return sum("\n" in path for path, labels in given if (only.intersection(labels) if only else labels))

    def _name(self, failure: Failure) -> None:
        from ..output.render.choose_writer import shows_whole

        message = f"{failure.path}: {failure.error}"
        if not self._output.to_terminal:
            self._failures.say(message)
        elif not shows_whole(self._output.form, self._layout, failure):
            self._waiting.append(message if len(self._waiting) < self._failures.MOST else "")  # counted, not kept

    def finish(self) -> ExitCode:
        """Say how many inputs could not be read, and return the exit code for that."""
        for message in self._waiting:
            self._failures.say(message)
        self._failures.say_rest()
        if self.failed:
            where = "; each has a record with its reason" if self._recorded else ", and have no record"
            console.say(f"zeroshot: {self.failed} of {self.written} inputs could not be read{where}")
        if self._split:
            console.warn(f"{count_of(self._split, 'image')} with a line break in the path: --print0 is for such names")
        if not self.written:
            console.warn("there are no images, so there are no records")
        return ExitCode.INCOMPLETE if self.failed else ExitCode.OK

    def summary(self, seconds: float, targets: Sequence[Path | None]) -> str:
        """Return one line about this run: counts by label, unknown, failed, seconds, where the results are."""
        before, failed_before = self._before
        found = [f"{label} {count}" for label, count in self._labels.most_common() if label is not None]
        parts = [f"{self.written - before} images in {seconds:.1f} s: {some_of(found, 8) or 'no label'}"]
        parts += [f"{self._labels[None]} unknown"] if self._labels[None] else []
        parts += [f"{self.failed - failed_before} failed"] if self.failed > failed_before else []
        named = [str(target) for target in targets if target]
        parts += [f"in {' and '.join(named)}"] if named else []
        return "; ".join(parts)
