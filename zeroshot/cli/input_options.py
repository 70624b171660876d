"""Options that name images, the images they stand for, and the report of those that could not be read."""

from __future__ import annotations

import os
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from queue import Queue
from typing import TYPE_CHECKING, BinaryIO

from ..errors import ExitCode, InputError, UsageError
from ..messages import some_of
from . import console, options
from .input_sampling import Item, Name, leave_out, take
from .listed_inputs import ListedInputs
from .stdin_image import look_for_image

if TYPE_CHECKING:
    from ..distribute.finished_features import StoredFeatures
    from ..encoder import EncoderSpec
    from ..features.pipeline import Pipeline
    from ..results import Failure


def check_readable(path: str | Path | None, hint: str) -> None:
    """Refuse a file that is read only once the model is loaded, and cannot be.

    Raises:
        InputError: It cannot be opened.
    """
    try:
        if path is not None and not _is_pipe(path):
            Path(path).open("rb").close()
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}", hint) from error


def _is_pipe(path: str | Path) -> bool:
    """Whether it is a pipe or the like, which can be opened once."""
    return os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)  # noqa: PTH110, PTH112, PTH113


_CHUNK = 1024
_MOST_AHEAD = 1000
"""Paths that are handed over at a time, and how many times so many are listed before they are used."""


@dataclass(frozen=True, slots=True)
class InputOptions:
    """The images that a command reads: named one by one, below folders, and in lists."""

    paths: options.Paths = None
    files_from: options.FilesFrom = None
    from0: options.From0 = False
    exclude: options.Exclude = None
    limit: options.Limit = None
    sample: options.Sample = None
    sample_seed: options.SampleSeed = 0
    archives: options.Archives = False
    allow_private_hosts: options.AllowPrivateHosts = False

    def check(self, *, runs: bool = False) -> None:
        """Refuse inputs that cannot be used, before the model is loaded.

        Args:
            runs: The folder of a finished run is an input.

        Raises:
            InputError: Not one of them can give an image, or the list cannot be read.
            UsageError: There are none, or they contradict each other.
        """
        from ..images.path_lists import STDIN, open_list
        from ..images.paths import check_inputs, names_run

        paths = self.paths or []
        self.check_choice()
        if not paths and not self.files_from:
            raise UsageError("no images", "name files or folders, `-` for paths on stdin, or --files-from FILE")
        if paths.count(STDIN) + (self.files_from == STDIN) > 1:
            raise UsageError("stdin is named twice", "name `-` once")
        if self.from0 and not self.files_from and STDIN not in paths:
            raise UsageError(
                "--from0 says how a list of paths is read, and there is no list", "name `-` for paths on stdin"
            )
        if runs and len(paths) > 1 and (run := next((path for path in paths if names_run(path)), None)):
            raise UsageError(f"{run} is a run, which stands alone as an input", "name it by itself")
        images = [] if runs and self.open_run() else [path for path in paths if path != STDIN]
        for note in check_inputs(images, archives=self.archives):
            console.warn(note)
        if self.files_from and self.files_from != STDIN and not _is_pipe(self.files_from):
            open_list(self.files_from).close()

    def check_choice(self) -> None:
        """Refuse options that choose nothing, and let private hosts be asked where that is wanted.

        Raises:
            UsageError: There is a seed, and no sample.
        """
        if self.allow_private_hosts:
            from ..images.sources.connections import allow_private_hosts

            allow_private_hosts(True)
        if self.sample is None and self.sample_seed:
            raise UsageError("--seed chooses a sample, and there is none", "add --sample N")

    def find(
        self,
        outputs: Mapping[str, Path | None] | None = None,
        spooled: dict[str, str] | None = None,
        bar: console.Bar | None = None,
    ) -> Iterator[str]:
        """Yield the path of every image, in the order of the command line.

        Args:
            outputs: Files that the command writes, by option.
            spooled: Takes the file that an image on stdin is copied to, and what to call it; without it such an
                image is refused.
            bar: Told how many there are, as soon as that is known, for the time left.

        Raises:
            InputError: Stdin holds an image where a list of paths is expected.
            OutputError: A list of paths names one of the outputs.
        """
        found = (path for path, _ in self.find_with_origin(outputs, spooled))
        return _list_ahead(found, bar) if bar and sys.stderr.isatty() and not self._is_streamed() else found

    def find_with_origin(
        self, outputs: Mapping[str, Path | None] | None = None, spooled: dict[str, str] | None = None
    ) -> Iterator[tuple[str, str]]:
        """Yield as `find`, each path with the file or folder under which it was found; say what was passed over."""
        from ..images.camera_formats import describe_passed_over
        from ..images.sources.image_names import ARCHIVE_SUFFIXES

        skipped: Counter[str] = Counter()
        yield from self.choose(self._find(outputs, skipped, spooled), _itself)
        if skipped:
            console.note_last(describe_passed_over(skipped, ARCHIVE_SUFFIXES))

    def choose(self, found: Iterator[Item], name: Name[Item]) -> Iterator[Item]:
        """Leave out what --exclude names, then take a sample, then the first --limit of that."""
        if self.exclude:
            found = leave_out(found, name, self.exclude)
        return take(found, self.sample, self.sample_seed, self.limit)

    def open_run(self) -> StoredFeatures | None:
        """Return the features of a run whose folder is the only input; None where it is none."""
        if self.files_from or len(self.paths or []) != 1:
            return None
        from ..images.paths import may_be_run

        (place,) = self.paths or [""]
        if not may_be_run(place):
            return None
        from ..distribute.finished_features import find_stored

        return find_stored(place)

    def find_or_reuse(
        self,
        spec: EncoderSpec,
        pipeline: Pipeline,
        outputs: Mapping[str, Path | None],
        spooled: dict[str, str] | None = None,
        bar: console.Bar | None = None,
    ) -> tuple[Iterator[str], Pipeline]:
        """Return the images as `find`, and how they are encoded: from a finished run that is named, without being read.

        Args:
            spec: The loaded model's facts.
            pipeline: How images are encoded.
            outputs: As for `find`.
            spooled: Likewise.
            bar: Likewise.

        Raises:
            InputError: The run holds no features, or another model's.
        """
        stored = self.open_run()
        if stored is None:
            return self.find(outputs, spooled, bar), pipeline
        stored.check(spec)
        stored.check_options(pipeline.decode_options)
        # A sample comes in an order of its own, for which all features are held.
        find = stored.find if self.sample is None else stored.everything()
        images = self.choose(stored.images(), lambda path: (path, path))
        return images, replace(pipeline, cache=None, isolation=None, stored=find)

    def find_entries(self) -> Iterator[str]:
        """Yield as `find`, but each archive as one entry that is not opened, unless only some images are wanted."""
        if self.exclude or self.limit is not None or self.sample is not None:
            return (path for path, _ in self.choose(self._find(None, None), _itself))
        return (entry for entry, _ in self._find(None, None, expanded=False))

    def _find(
        self,
        outputs: Mapping[str, Path | None] | None,
        skipped: Counter[str] | None,
        spooled: dict[str, str] | None = None,
        *,
        expanded: bool = True,
    ) -> Iterator[tuple[str, str]]:
        from ..images.path_lists import STDIN, open_list, read_list
        from ..images.paths import find_entries, find_images, names_folder
        from ..output.destination import check_apart, may_replace

        existing = {name: target for name, target in (outputs or {}).items() if target and may_replace(target)}
        search = partial(find_images if expanded else find_entries, skipped=skipped, archives=self.archives)
        empty: list[str] = []
        named = [(source, source == STDIN) for source in self.paths or []]
        for source, is_list in [*named, *([(self.files_from, True)] if self.files_from else [])]:
            if not is_list:
                path = None
                for path in search([source]):
                    yield path, source
                if path is None:
                    empty.append(source)
                    if not names_folder(source):  # of a folder it was said before
                        console.warn(f"no images in {source}")
                continue
            with open_list(source) as stream:
                lines: BinaryIO = stream
                if source == STDIN and not self.from0:
                    lines, image = look_for_image(stream, spooled)
                    if image:
                        yield image, image
                        continue
                for path, origin in ListedInputs(search, skipped).expand(read_list(lines, nul=self.from0)):
                    if existing:
                        check_apart(existing, [path])
                    yield path, origin
        if empty and empty == self.paths and not self.files_from:  # those that only opening them tells of
            raise InputError(f"no images in {some_of(empty)}", "images are found by their ending")

    def _is_streamed(self) -> bool:
        """Whether paths come as somebody writes them, or from a server, which is not read ahead of what is used."""
        from ..images.path_lists import STDIN
        from ..images.sources.image_names import scheme_of

        if STDIN in (self.paths or []) or any(scheme_of(path) for path in self.paths or []):
            return True
        return bool(self.files_from) and not Path(self.files_from or "").is_file()


def _list_ahead(found: Iterator[str], bar: console.Bar) -> Iterator[str]:
    """Yield what is found, listed beside the run, so that the bar soon knows how many there are."""
    listed: Queue[list[str] | BaseException | None] = Queue(_MOST_AHEAD)

    def work() -> None:
        count, size = 0, 1
        try:
            while some := list(islice(found, size)):
                listed.put(some)
                count += len(some)
                size = min(2 * size, _CHUNK)  # the first one at once, then many at a time
            bar.expect(count)
            listed.put(None)
        except BaseException as error:
            listed.put(error)

    threading.Thread(target=work, daemon=True).start()
    while (some := listed.get()) is not None:
        if isinstance(some, BaseException):
            raise some
        yield from some


def _itself(item: tuple[str, str]) -> tuple[str, str]:
    return item


def summarise_failures(failures: Sequence[Failure], n_read: int) -> ExitCode:
    """Name the images that could not be read, or say that there was none, and return the exit code."""
    if not failures and not n_read:
        console.warn("there are no images")
    return console.name_failures(failures, n_read + len(failures))
