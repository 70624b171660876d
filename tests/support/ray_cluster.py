"""A Ray cluster on this machine, in processes of its own that end with the test."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from support.object_store import need

_PORTS = (
    "port",
    "metrics-export-port",
    "runtime-env-agent-port",
    "dashboard-agent-grpc-port",
    "dashboard-agent-listen-port",
)


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens at."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextmanager
def ray_cluster(cpus: int = 3, more: dict[str, str] | None = None) -> Iterator[dict[str, str]]:
    """Start a cluster; gives the environment that reaches it, with ``RAY_ADDRESS`` and its token.

    Args:
        cpus: How many it believes to have.
        more: What else stands in the environment of its processes.
    """
    need("ray")
    environment = (more or {}) | {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_raylet_start_wait_time_s": "300",  # a busy machine takes its time
        "RAY_worker_register_timeout_seconds": "600",
        "RAY_agent_register_timeout_ms": "300000",
        "RAY_worker_niceness": "0",  # else 15 more than its parent
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(16),
    }
    ports = dict(zip(_PORTS, free_ports(len(_PORTS)), strict=True))
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # sockets have short names
    try:
        process = subprocess.Popen(
            [
                str(Path(sys.executable).with_name("ray")),
                *("start", "--head", "--block", "--num-cpus", str(cpus), "--num-gpus", "0", "--temp-dir", folder),
                *("--object-store-memory", str(200 << 20), "--include-dashboard", "false"),
                *("--node-ip-address", "127.0.0.1"),
                # Where they are not named, Ray waits for its agents to name them, and not long.
                *(part for name, port in ports.items() for part in (f"--{name}", str(port))),
            ],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | environment,
        )
        assert process.stdout
        try:
            threading.Thread(
                target=_name_port, args=(folder, ports["dashboard-agent-listen-port"]), daemon=True
            ).start()
            told = iter(process.stdout.readline, "")
            assert any("Ray runtime started" in line for line in told), "Ray did not start"
            yield environment | {"RAY_ADDRESS": f"127.0.0.1:{ports['port']}"}
        finally:
            process.terminate()
            process.communicate()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _name_port(folder: str, port: int) -> None:
    """Say at which port an agent will listen, for which Ray waits 15 seconds: too short where a machine is busy."""
    for _ in range(3000):
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                words = path.read_text(errors="replace").split("\0")
                found = dict(word.lstrip("-").split("=", 1) for word in words if word.startswith("--") and "=" in word)
                if words[0].endswith("/raylet") and found.get("session_dir", "").startswith(folder):
                    (Path(found["session_dir"]) / f"dashboard_agent_listen_port_{found['node_id']}").write_text(
                        str(port)
                    )
                    return
        time.sleep(0.1)


def processes(environment: dict[str, str], name: str) -> list[int]:
    """Return the processes of a cluster whose name holds a text."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            token = environment["RAY_AUTH_TOKEN"].encode()
            if folder.name.isdecimal() and name in (folder / "cmdline").read_text():
                found += [int(folder.name)] if token in (folder / "environ").read_bytes() else []
        except (OSError, UnicodeDecodeError):
            continue
    return found
