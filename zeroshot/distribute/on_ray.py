"""Shards processed on a Ray cluster: actors hold the model, and tasks on its CPUs read and decode for them.

An actor takes a shard at a time and encodes its batches in order; tasks send them as 8-bit pixels through Ray's object
store. Where they run, what is started again after a crash, and how the cluster grows is Ray's to decide: whatever is
run twice is committed once.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import IO, Any

from ..encoder import Encoder, Pixels, Preprocessing
from ..enums import Device
from ..errors import InputError, ResourceError, UsageError, ZeroshotError
from ..features.pipeline import Encoded, read_pixels
from ..images.isolate import isolated
from ..images.sources.image_names import scheme_of
from ..system.installed import how_to_install
from .commits import Done, find_done
from .pixel_batches import ReadBatch, Source, encode_read, find_sources, read_batch
from .plan import Plan, load_plan
from .recipe import RunRecipe, parse_recipe
from .run_folder import Folder, open_folder
from .work import Encode, Machine, build_worker

_READ_TRIES = 10
"""How often a batch is read whose process or machine dies: an image that crashes its decoder does so each time."""

_READERS = 4
"""Threads of a task, which wait for disks and stores more than they decode."""

_MOST_AHEAD = 64
"""Batches that wait in the object store for one actor, at 4.8 MB for 32 images of 224 x 224."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """Which Ray cluster, and how much of it.

    Attributes:
        address: ``HOST:PORT``, ``ray://HOST:PORT`` or ``auto``; empty for ``$RAY_ADDRESS``, else this machine alone.
        actors: Processes that load the model; None for one a GPU, or one a machine where there is none.
    """

    address: str = ""
    actors: int | None = None


class OnRay:
    """Has shards processed by the actors of a Ray cluster.

    Args:
        folder: Of the run; every machine of the cluster has to reach it.
        plan: The run.
        machine: How each machine takes part.
        cluster: Which one.
        warn: Told, in one line, what an actor warns of.
    """

    def __init__(
        self, folder: Folder, plan: Plan, machine: Machine, cluster: Cluster, warn: Callable[[str], None]
    ) -> None:
        self._plan, self._machine, self._cluster, self._warn = plan, machine, cluster, warn
        self._place = folder.place if scheme_of(folder.place) else os.path.abspath(folder.place)  # noqa: PTH100

    def run(self, waiting: list[int], on_progress: Callable[[int], None]) -> Iterator[Done]:
        """Process the shards, as `Executor.run`; progress is told a shard at a time."""
        with _connected(self._cluster.address) as ray:
            actors = self._start(ray, len(waiting))
            pool = ray.util.ActorPool(actors)
            told: set[str] = set()
            try:
                for done, warnings in pool.map_unordered(lambda actor, number: actor.process.remote(number), waiting):
                    for line in set(warnings) - told:
                        told.add(line)
                        self._warn(line)
                    on_progress(done.images)
                    yield done
            except ray.exceptions.RayError as error:
                raise _failure(ray, error) from None
            finally:
                for actor in actors:
                    ray.kill(actor)

    def _start(self, ray: Any, n_shards: int) -> list[Any]:
        """Ask for the actors; each is started as soon as there is room for it."""
        there = ray.cluster_resources()
        cpus, gpus = int(there.get("CPU", 0)), int(there.get("GPU", 0))
        machines = sum(bool(node["Alive"] and node["Resources"].get("CPU")) for node in ray.nodes())
        on_gpus = self._machine.device is Device.CUDA or (self._machine.device is Device.AUTO and gpus > 0)
        n = min(n_shards, self._cluster.actors or (gpus if on_gpus else machines))
        if not n:
            what = "GPUs" if on_gpus else "CPUs"
            raise UsageError(f"the Ray cluster has no {what}", "add machines, or name --actors for it to grow to")
        # No CPU is set aside for an actor: on a machine with one CPU, nothing could be read for it then.
        options: dict[str, Any] = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1}
        if on_gpus:
            options["num_gpus"] = 1
        else:
            threads = os.environ.get("OMP_NUM_THREADS", str(max(1, cpus // max(1, machines))))
            # Ray would allow one thread, going by the CPUs that are set aside.
            options |= {"scheduling_strategy": "SPREAD", "runtime_env": {"env_vars": {"OMP_NUM_THREADS": threads}}}
        ahead = self._machine.workers or min(_MOST_AHEAD, -(-cpus // n) + 2)
        actor = ray.remote(_Processor).options(**options)
        return [actor.remote(self._place, self._plan.id, self._machine, ahead, os.getcwd()) for _ in range(n)]  # noqa: PTH109


class _Processor:
    """An actor: processes shards, with a model that is loaded for the first of them.

    Args:
        place: Of the run's folder.
        plan: Id of the plan that is processed.
        machine: How this machine takes part.
        ahead: Batches that are read ahead of the encoder.
        base: The folder to which relative names refer.
    """

    def __init__(self, place: str, plan: str, machine: Machine, ahead: int, base: str) -> None:
        self._place, self._plan, self._machine, self._ahead, self._base = place, plan, machine, ahead, base
        self._process: Callable[[int], Done] | None = None
        self._warnings: list[str] = []

    def process(self, number: int) -> tuple[Done, list[str]]:
        """Process a shard unless it is committed, and return what there was to warn of so far.

        Not in the constructor: what that raises, Ray tells in many lines.
        """
        if self._process is None:
            self._process = self._build()
        return self._process(number), self._warnings

    def _build(self) -> Callable[[int], Done]:
        _enter(self._base)
        folder = open_folder(self._place)
        plan = load_plan(folder)
        if plan.id != self._plan:
            raise InputError(f"{self._place} holds another run on a machine of the cluster", "use a folder they share")
        recipe = parse_recipe(plan.recipe)
        worker = build_worker(
            folder, plan, recipe, self._machine, None, self._warnings.append, partial(self._encode_with, recipe)
        )
        return lambda number: find_done(folder, plan.id, number) or worker.process(number)

    def _encode_with(self, recipe: RunRecipe, encoder: Encoder) -> Encode:
        """Return what gives the features of images that tasks read, a bounded number of batches ahead."""
        import ray

        reading = ray.put(_Reading(self._plan, recipe, self._machine, encoder.spec.preprocessing, self._base))
        read = ray.remote(_read).options(num_cpus=1, max_retries=_READ_TRIES)

        def encode(names: Iterable[str]) -> Iterator[list[Encoded]]:
            names = iter(names)
            waiting: deque[tuple[list[str], Any]] = deque()
            while (batch := list(islice(names, recipe.batch_size))) or waiting:
                if batch:
                    waiting.append((batch, read.remote(reading, find_sources(batch))))
                if len(waiting) > self._ahead or not batch:
                    first, made = waiting.popleft()
                    yield encode_read(encoder, first, _fetch(ray, made, first), recipe.batch_size)

        return encode


def _failure(ray: Any, error: Exception) -> Exception:
    """Return what is told of a task that failed: its own error, or that the cluster lost it, wherever it ran."""
    tasks_own = ray.exceptions.RayTaskError
    cause = error.cause if isinstance(error, tasks_own) else error
    if isinstance(cause, ray.exceptions.RayError) and not isinstance(cause, tasks_own):
        return ResourceError(
            f"the Ray cluster gave up: {_first_line(cause)}", "look at it with `ray status`, then run it again"
        )
    return cause if isinstance(cause, ZeroshotError) else error


def _fetch(ray: Any, made: Any, names: list[str]) -> ReadBatch:
    try:
        batch: ReadBatch = ray.get(made)
    except ray.exceptions.WorkerCrashedError as error:
        raise ResourceError(
            f"the process that reads {names[0]} or one of the {len(names) - 1} images after it died {_READ_TRIES + 1}"
            " times",
            "--isolate makes an image that crashes its decoder one failed record",
        ) from error
    except ray.exceptions.RayTaskError as error:
        raise (error.cause if isinstance(error.cause, ZeroshotError) else error) from None
    return batch


@dataclass(frozen=True, slots=True)
class _Reading:
    """How the tasks of a run read its images."""

    plan: str
    recipe: RunRecipe
    machine: Machine
    preprocessing: Preprocessing
    base: str


_readers: dict[str, tuple[AbstractContextManager[Any], Callable[[IO[bytes]], Pixels]]] = {}
"""What reads the images of a run in this process, by the run's id; processes of --isolate live as long as this one."""


def _read(reading: _Reading, sources: list[Source]) -> ReadBatch:
    """Read a batch, as a task."""
    if reading.plan not in _readers:
        _enter(reading.base)
        if reading.recipe.private_hosts:
            from ..images.sources.connections import allow_private_hosts

            allow_private_hosts(True)
        pipeline = reading.machine.pipeline(reading.recipe)
        made = partial(read_pixels, decode_options=pipeline.decode_options, how=reading.preprocessing)
        context = isolated(made, pipeline.isolation)
        _readers[reading.plan] = (context, context.__enter__())
    shape = (*reading.preprocessing.size, 3)
    # One process of --isolate belongs to one thread, and threads end with their batch.
    workers = _READERS if reading.machine.seconds is None else 1
    return read_batch(sources, _readers[reading.plan][1], shape, workers)


def _enter(base: str) -> None:
    """Go to the folder to which relative names refer; where it is not there, none can be read, as the records say."""
    with suppress(OSError):
        os.chdir(base)


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    """Give Ray, connected to a cluster; one that was started for this is stopped.

    Raises:
        UsageError: Ray is not installed.
        InputError: No cluster answers there.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        import ray
        import ray.util
    except ImportError as error:
        raise UsageError("--on ray needs the package ray", how_to_install("ray")) from error
    if ray.is_initialized():
        yield ray
        return
    address = address or os.environ.get("RAY_ADDRESS", "")
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        with _own_sigterm():
            ray.init(address, **quiet) if address else ray.init(include_dashboard=False, **quiet)
    except Exception as error:  # Ray raises many kinds, bare ones too
        where = f"no Ray cluster answers at {address}" if address else "Ray cannot be started here"
        raise InputError(f"{where}: {_first_line(error)}", "`ray status` on the cluster; see docs/scale.md") from error
    with redirect_stdout(sys.stderr):  # Ray tells of workers that died on stdout, which is for data; also at its end
        try:
            yield ray
        finally:
            ray.shutdown()


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Keep this process's way to be stopped by SIGTERM, which Ray replaces."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
