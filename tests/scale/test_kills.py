"""Runs whose workers, driver and store are killed: a short, seeded part of what `tools/fault_tests.py` tries."""

from __future__ import annotations

import random
from contextlib import ExitStack
from pathlib import Path

import pytest

from support.fault_injection import Server
from support.fault_runs import Tally
from support.ray_cluster import ray_cluster
from support.scale_fault_runs import RayFaultRun, StoreFaultRun, bad_store


@pytest.mark.slow
def test_a_store_that_is_killed_costs_nothing(tmp_path: Path) -> None:
    """With workers and their store killed, stalled and answering badly, the merged bytes are those of one run."""
    tally = Tally()
    with ExitStack() as stack:
        store, faults, front = stack.enter_context(bad_store(tmp_path / "store", 1))
        server = stack.enter_context(Server(None, store.environment(front)))
        fault_run = StoreFaultRun(store, faults, server, tmp_path / "store" / "bucket", tally)
        fault_run.try_random(random.Random(0))
    assert tally.problems == []
    assert tally.stopped and tally.counts["stores killed"] and tally.counts["requests: 503"]
    assert tally.counts["records expected"] == 64
    assert tally.counts["records lost"] == tally.counts["records twice"] == 0


@pytest.mark.slow
def test_a_cluster_whose_processes_and_store_are_killed_costs_nothing(tmp_path: Path) -> None:
    """The same on Ray, with its actors, readers and driver killed too."""
    tally = Tally()
    with bad_store(tmp_path / "store", 1) as (store, _, _), ray_cluster(more=store.environment(store.address)) as there:
        fault_run = RayFaultRun(there, tmp_path, tally, (store, tmp_path / "store" / "bucket"))
        fault_run.try_random(random.Random(3))
    assert tally.problems == []
    assert tally.stopped and tally.counts["stores killed"]
    assert tally.counts["records expected"] == 64
    assert tally.counts["records lost"] == tally.counts["records twice"] == 0
