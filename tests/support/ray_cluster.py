"""A Ray cluster on this machine, in processes of its own that end with the test."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from support.object_store import need

_START = """
import os, sys
import ray
made = ray.init(
    num_cpus=int(sys.argv[1]), num_gpus=0, object_store_memory=200 << 20, include_dashboard=False, _temp_dir=sys.argv[2]
)
print(made.address_info["gcs_address"], flush=True)
sys.stdin.read()
"""


@contextmanager
def ray_cluster(cpus: int = 3) -> Iterator[dict[str, str]]:
    """Start a cluster; gives the environment that reaches it, with ``RAY_ADDRESS`` and its token."""
    need("ray")
    environment = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_raylet_start_wait_time_s": "300",  # a busy machine takes its time
        "RAY_worker_register_timeout_seconds": "600",
        "RAY_agent_register_timeout_ms": "300000",
        "RAY_worker_niceness": "0",  # else 15 more than its parent
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(16),
    }
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # sockets have short names
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", _START, str(cpus), folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | environment,
        )
        assert process.stdout
        try:
            address = process.stdout.readline().strip()
            assert address, "Ray did not start"
            yield environment | {"RAY_ADDRESS": address}
        finally:
            process.communicate()  # its end of input
    finally:
        shutil.rmtree(folder, ignore_errors=True)
