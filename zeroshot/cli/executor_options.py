"""Options that choose an executor for the shards of a run: ``--on``, ``--shard``, ``--actors``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UsageError
from . import console

if TYPE_CHECKING:
    from ..distribute.executors import Executor
    from ..distribute.plan import Plan
    from ..distribute.recipe import RunRecipe
    from ..distribute.run_folder import Folder
    from ..distribute.work import Machine


@dataclass(frozen=True, slots=True)
class ExecutorOptions:
    """Which shards are processed, and where.

    Raises:
        UsageError: There is no such executor or share.
    """

    shard: Annotated[
        str | None,
        typer.Option("--shard", help="Only the I-th of N shares of the shards, for array jobs.", metavar="I/N"),
    ] = None
    on: Annotated[
        str | None,
        typer.Option(
            "--on",
            help="Process them on a Ray cluster: HOST:PORT, ray://HOST:PORT or auto; without an address $RAY_ADDRESS,"
            " else one on this machine.",
            metavar="ray[=ADDRESS]",
        ),
    ] = None
    actors: Annotated[
        int | None,
        typer.Option(
            "--actors",
            min=1,
            max=100_000,
            help="With --on ray: processes that load the model. [default: one a GPU, or one a machine]",
            metavar="N",
        ),
    ] = None

    def __post_init__(self) -> None:
        if self.on is not None and (self.on.partition("=")[0] != "ray" or self.on == "ray="):
            raise UsageError(f"--on {self.on}: expected ray or ray=ADDRESS", "--on ray=HOST:6379")
        if self.actors and self.on is None:
            raise UsageError("--actors says how many there are with --on ray", "add --on ray")
        _ = self.share

    @property
    def share(self) -> tuple[int, int]:
        """The part of the shards that is meant, and of how many; both from 1.

        Raises:
            UsageError: It is none, or I is not from 1 to N.
        """
        if self.shard is None:
            return 1, 1
        part, _, parts = self.shard.partition("/")
        if part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts):
            return int(part), int(parts)
        raise UsageError(f"--shard {self.shard}: expected I/N with I from 1 to N", "--shard 1/8, --shard 2/8, ...")

    def build(self, folder: Folder, plan: Plan, recipe: RunRecipe, machine: Machine) -> Executor:
        """Return what processes the shards; in this process with the model loaded.

        Raises:
            ModelError: The model cannot be had.
        """
        if self.on is not None:
            from ..distribute.on_ray import Cluster, OnRay

            return OnRay(folder, plan, machine, Cluster(self.on.partition("=")[2], self.actors), console.warn)
        from ..distribute.executors import Local
        from ..distribute.work import build_worker

        with console.loading(recipe.model["model"]) as on_progress:
            worker = build_worker(folder, plan, recipe, machine, on_progress, console.warn)
        return Local(folder, plan, worker)
