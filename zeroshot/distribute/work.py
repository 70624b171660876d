"""Process a shard: its images become records, and those a part of the run that is committed whole."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ..encoder import Encoder, EncoderSpec, Features
from ..enums import Device, Format
from ..errors import InputError
from ..features.pipeline import Encoded, Pipeline, as_block, encode_batches
from ..images.decode import MOST_BYTES
from ..images.isolate import Isolation
from ..images.sources.open_image import MISSING
from ..images.sources.stores import DENIED, NO_ANSWER
from ..output.render.choose_writer import make_writer
from ..scoring import Classifier
from ..system.installed import available_cores
from ..system.memory import available_memory
from . import part_files
from .commits import Done, File, commit
from .plan import Plan, read_shard
from .recipe import RunRecipe
from .run_folder import Folder

Encode = Callable[[Iterable[str]], Iterator[list[Encoded]]]

_UNANSWERED = 100
"""After so many in a row without an answer, each asked for several times, the rest of a shard is not waited for."""


@dataclass(frozen=True, slots=True)
class Machine:
    """How a machine takes part in a run; no record depends on it but by the rounding of its device.

    Attributes:
        device: Where the model runs.
        workers: Threads that read and decode; None for one per core.
        seconds: What decoding one image may take in a process of its own; None decodes in threads.
        accept_failures: Commit shards of which most images are missing, denied or not answered.
    """

    device: Device = Device.AUTO
    workers: int | None = None
    seconds: float | None = None
    accept_failures: bool = False

    def pipeline(self, recipe: RunRecipe) -> Pipeline:
        """Return how images are read here; nothing is kept from run to run, the run itself keeps it."""
        count = self.workers or available_cores()
        memory = None if (free := available_memory()) is None else free // 2 // count
        how = recipe.decode_options(memory)
        limit = how.max_pixels * MOST_BYTES if how.memory is None else min(how.max_pixels * MOST_BYTES, how.memory)
        isolation = None if self.seconds is None else Isolation(self.seconds, limit)
        return Pipeline(recipe.batch_size, count, how, None, fixed_batches=True, isolation=isolation)


class Worker:
    """Processes shards of one run, with a model that is loaded once.

    Args:
        folder: Of the run.
        plan: The run.
        recipe: Of the plan.
        classifier: Built from the recipe.
        spec: The loaded model's facts.
        encode: Gives the features of images, in order and in batches.
        accept_failures: As in `Machine`.
    """

    def __init__(
        self,
        folder: Folder,
        plan: Plan,
        recipe: RunRecipe,
        classifier: Classifier,
        spec: EncoderSpec,
        encode: Encode,
        *,
        accept_failures: bool = False,
    ) -> None:
        self._folder = folder
        self._plan = plan
        self._recipe = recipe
        self._classifier = classifier
        self._encode = encode
        self._accept_failures = accept_failures
        self._made_by = {
            "engine": str(spec.engine),
            "device": spec.device.partition(":")[0],
            "precision": str(spec.precision),
            "versions": spec.versions,
        }

    def process(self, number: int, on_progress: Callable[[int], None] = lambda _: None) -> Done:
        """Make a shard's part and commit it.

        Args:
            number: The shard's.
            on_progress: Called with the number of images finished since the last call.

        Raises:
            InputError: Its list is not as planned, or the store it reads from is in trouble.
            OutputError: It cannot be written.
        """
        shard = read_shard(self._folder, self._plan, number)
        stream = io.BytesIO()
        writer = make_writer(Format.JSONL, stream, self._recipe.layout)
        rows: list[Features] = []
        images = unanswered = 0
        troubled: list[str] = []
        for batch in self._encode(shard.images_in()):
            block = as_block(batch, self._recipe.facts["dim"])
            writer.write_all(self._classifier.answer(block, self._recipe.decision))
            troubled += (block.paths[place] for place, error in block.errors.items() if _is_troubled(error))
            images += len(batch)
            for item in batch if block.errors else ():
                unanswered = unanswered + 1 if item.error.startswith(NO_ANSWER) else 0
                self._refuse_silence(number, unanswered)
            if self._recipe.features:
                rows += [item.features for item in batch if item.features is not None]
            on_progress(len(batch))
        self._check(number, shard.images, images, troubled)
        features = np.stack(rows) if rows else np.zeros((0, self._recipe.facts["dim"]), dtype=np.float32)
        records = stream.getvalue()
        made = part_files.build(number, records, features if self._recipe.features else None, self._recipe)
        failures = part_files.count_failures(records.splitlines())
        files = tuple(File.of(name, content) for name, content in made)
        done = Done(self._plan.id, number, images, failures, files, self._made_by)
        return commit(self._folder, done, tuple(content for _, content in made))

    def _refuse_silence(self, number: int, unanswered: int) -> None:
        if unanswered > _UNANSWERED and not self._accept_failures:
            raise InputError(
                f"the store did not answer for {unanswered} images of shard {number} in a row; it is not committed",
                "look at the store and run it again; --accept-failures goes on",
            )

    def _check(self, number: int, planned: int | None, images: int, troubled: list[str]) -> None:
        if planned is not None and planned != images:
            raise InputError(
                f"shard {number} has {images} images, and {planned} were planned: an archive has changed since",
                "restore it, or plan another run",
            )
        if self._accept_failures or len(troubled) <= images // 2 or (images == 1 and _has_neighbours(troubled[0])):
            return
        which = f"{troubled[0]}, its only image, is" if images == 1 else f"{len(troubled)} of its {images} images are"
        first = "" if images == 1 else f" (the first is {troubled[0]})"
        raise InputError(
            f"shard {number} is not committed: {which} missing, denied or not answered by the store{first}",
            "look at the disk and the store and run it again; if they are gone for good, --accept-failures commits it",
        )


def _is_troubled(error: str) -> bool:
    """Say whether a failure may be the disk's or the store's, and not the image's."""
    return error == MISSING or error.startswith((*NO_ANSWER, *DENIED))


def _has_neighbours(path: str) -> bool:
    """Say whether a missing image was deleted by itself: a disk that is away leaves no folder, or an empty one."""
    try:
        with os.scandir(os.path.dirname(path) or ".") as entries:  # noqa: PTH120
            return not os.path.lexists(path) and any(entries)
    except (OSError, ValueError):
        return False


def build_worker(
    folder: Folder,
    plan: Plan,
    recipe: RunRecipe,
    machine: Machine,
    on_progress: Callable[[Any], None] | None = None,
    warn: Callable[[str], None] = lambda _: None,
    encode_with: Callable[[Encoder], Encode] | None = None,
) -> Worker:
    """Load the model of a run, and return what processes its shards on this machine.

    Args:
        folder: Of the run.
        plan: The run.
        recipe: Of the plan.
        machine: How this machine takes part.
        on_progress: Told of downloads.
        warn: Told, in one line, what the engine warns of.
        encode_with: Gives, for the loaded model, the features of images; None reads them in this process.
    """
    encoder, classifier = recipe.load(machine.device, on_progress, warn)
    if recipe.private_hosts:
        from ..images.sources.connections import allow_private_hosts

        allow_private_hosts(True)
    encode = encode_with(encoder) if encode_with else partial(_encode, encoder, pipeline=machine.pipeline(recipe))
    return Worker(folder, plan, recipe, classifier, encoder.spec, encode, accept_failures=machine.accept_failures)


def _encode(encoder: Encoder, names: Iterable[str], pipeline: Pipeline) -> Iterator[list[Encoded]]:
    return encode_batches(encoder, names, pipeline)
