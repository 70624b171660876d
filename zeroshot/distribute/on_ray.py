"""Shards on a Ray cluster: an actor a GPU, or one a CPU node, with the model loaded once; decoding in CPU tasks.

Placement, restarts, retries and autoscaling are Ray's. An actor that dies is started again and its shard with it;
what it had committed stays. Images travel as 8-bit pixels at the model's size through Ray's object store.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from typing import Any

from ..classifier import Classifier
from ..encoder import Encoder, Preprocessing
from ..enums import Device
from ..errors import ImageError, InputError, ResourceError, ZeroshotError
from ..features.pipeline import Encoded, encode_read, read_image
from ..images.decode import DecodeOptions
from ..images.sources.names import scheme_of, split_member
from ..images.sources.opening import open_file
from .commits import Done
from .folder import Folder, open_folder
from .plan import Plan, load_plan
from .recipe import RunRecipe, parse_recipe
from .work import Machine, Worker, allow_hosts

EXTRA = "pip install 'zeroshot[ray]'"
LEAST = (2, 60)

_AHEAD = 4
"""Batches that are being decoded for an actor while it encodes one."""

_DECODE_TRIES = 2
"""How often a batch is decoded anew when its process ends in the middle of it, before each image is taken by itself."""

Build = Callable[[Folder, Plan, RunRecipe, Machine], Worker]


def import_ray() -> Any:
    """Import Ray with its usage statistics off.

    Raises:
        InputError: It is not installed, or is too old.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise InputError("--on ray needs the package ray", EXTRA) from error
    if tuple(int(part) for part in ray.__version__.split(".")[:2]) < LEAST:
        raise InputError(f"--on ray needs Ray 2.60 or later, this is {ray.__version__}", EXTRA)
    return ray


class OnRay:
    """Has shards processed by actors of a Ray cluster.

    Args:
        folder: Of the run; every node has to reach it under this name.
        machine: How each node takes part.
        address: Of the cluster; None for the one that the environment names, else a new one on this machine.
        actors: How many; None for one a GPU, or one a node where there are none.
        build: Makes an actor's worker.
    """

    def __init__(
        self,
        folder: Folder,
        machine: Machine,
        address: str | None = None,
        actors: int | None = None,
        build: Build | None = None,
    ) -> None:
        self._place = folder.place if scheme_of(folder.place) else os.path.abspath(folder.place)  # noqa: PTH100
        self._machine = machine
        self._address = address or os.environ.get("RAY_ADDRESS")
        self._actors = actors
        self._build = build or build_for_ray

    def run(self, waiting: list[int], on_progress: Callable[[int], None]) -> Iterator[Done]:
        """Process the shards, as `Executor.run`.

        Raises:
            ResourceError: The cluster cannot be reached.
        """
        ray = import_ray()
        try:
            ray.init(address=self._address, log_to_driver=False, logging_level="error", include_dashboard=False)
        except Exception as error:  # Ray raises plain ones too
            where = self._address or "on this machine"
            reason = " ".join(str(error).split())[:160]
            raise ResourceError(f"no Ray cluster {where}: {reason}", "ray status; --on ray=ADDRESS") from error
        try:
            yield from self._run(ray, waiting, on_progress)
        finally:
            ray.shutdown()

    def _run(self, ray: Any, waiting: list[int], on_progress: Callable[[int], None]) -> Iterator[Done]:
        from ray.util import ActorPool

        count, resources = self._layout(ray)
        actor = ray.remote(max_restarts=-1, max_task_retries=-1, scheduling_strategy="SPREAD", **resources)(_Actor)
        pool = ActorPool(
            [actor.remote(self._place, self._machine, self._build) for _ in range(min(count, len(waiting)))]
        )
        try:
            for done in pool.map_unordered(lambda one, number: one.process.remote(number), waiting):
                on_progress(done.images)
                yield done
        except ray.exceptions.RayTaskError as error:
            cause = getattr(error, "cause", None)
            raise (cause if isinstance(cause, ZeroshotError) else error) from None

    def _layout(self, ray: Any) -> tuple[int, dict[str, float]]:
        """Return how many actors there are, and what one takes; decoding needs cores beside it."""
        total = ray.cluster_resources()
        gpus = int(total.get("GPU", 0))
        if gpus and self._machine.device in (Device.AUTO, Device.CUDA):
            return self._actors or gpus, {"num_gpus": 1, "num_cpus": 0}
        nodes = sum(1 for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1) or 1
        count = self._actors or nodes
        cores = total.get("CPU", 1) / count
        return count, {"num_cpus": round(cores / 2, 2) if cores > 1 else 0}


class _Actor:
    """One model on one GPU or node."""

    def __init__(self, place: str, machine: Machine, build: Build) -> None:
        folder = open_folder(place)
        plan = load_plan(folder)
        self._worker = build(folder, plan, parse_recipe(plan.recipe), machine)

    def process(self, number: int) -> Done:
        return self._worker.process(number)


def build_for_ray(folder: Folder, plan: Plan, recipe: RunRecipe, machine: Machine) -> Worker:
    """Load the model of a run, and return what processes its shards with images decoded by tasks of the cluster."""
    encoder, classifier = recipe.load(machine.device)
    allow_hosts(recipe)
    return _worker(folder, plan, recipe, machine, encoder, classifier)


def _worker(
    folder: Folder, plan: Plan, recipe: RunRecipe, machine: Machine, encoder: Encoder, classifier: Classifier
) -> Worker:
    encode = partial(_encode, encoder, recipe, machine)
    return Worker(folder, plan, recipe, classifier, encoder.spec, encode, accept_failures=machine.accept_failures)


def _encode(encoder: Encoder, recipe: RunRecipe, machine: Machine, names: Iterable[str]) -> Iterator[list[Encoded]]:
    """Yield the images in order and in batches, decoded by tasks of the cluster."""
    ray = import_ray()
    how = machine.pipeline(recipe)
    decode = ray.remote(num_cpus=1, max_retries=_DECODE_TRIES)(_decode)
    arguments = (encoder.spec.preprocessing, how.decode_options, recipe.private_hosts)
    following = iter(names)
    ahead: deque[tuple[list[str], Any]] = deque()
    while True:
        while len(ahead) < _AHEAD and (batch := list(islice(following, recipe.batch_size))):
            ahead.append((batch, decode.remote([_pack(name) for name in batch], *arguments)))
        if not ahead:
            return
        batch, answer = ahead.popleft()
        try:
            read = ray.get(answer)
        except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError):
            read = _decode_alone(ray, batch, arguments)
        yield encode_read(encoder, list(zip(batch, read, strict=True)), how)


def _decode_alone(ray: Any, batch: list[str], arguments: tuple[Any, ...]) -> list[Any]:
    """Decode each image by itself, to find the one whose decoder ends its process."""
    decode = ray.remote(num_cpus=1, max_retries=_DECODE_TRIES)(_decode)
    answers = [decode.remote([_pack(name)], *arguments) for name in batch]
    read: list[Any] = []
    for answer in answers:
        try:
            read += ray.get(answer)
        except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError):
            read.append("its decoder crashed, or took all memory")
    return read


def _pack(name: str) -> str | tuple[str, bytes | str]:
    """Return a name; of a member of a tar in a store also its content, since this process has fetched the tar."""
    parts = split_member(name)
    if parts is None or not scheme_of(name) or not parts[0].lower().endswith(".tar"):
        return name
    try:
        with open_file(name) as file:
            return name, file.read()
    except ImageError as error:
        return name, error.message


def _decode(packed: list[Any], preprocessing: Preprocessing, options: DecodeOptions, private_hosts: bool) -> list[Any]:
    """Read and decode images, in a task: pixels of the model's size for each, or why there are none."""
    if private_hosts:
        from ..images.sources.web import allow_private_hosts

        allow_private_hosts(True)
    read: list[Any] = []
    for item in packed:
        name, content = (item, None) if isinstance(item, str) else item
        read.append(content if isinstance(content, str) else read_image(name, preprocessing, options, content))
    return read
