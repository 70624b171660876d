"""An object store that is killed and started again: rclone's S3 server over a folder, in a process of its own."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.object_store import INSTALL, KEY_ID, SECRET, need
from support.ray_cluster import free_ports


def find_rclone() -> str:
    """Return the command, or skip the test."""
    need("obstore")
    beside = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return shutil.which("rclone", path=beside) or pytest.skip(f"rclone is not installed: {INSTALL}")


class KilledStore:
    """A store whose objects are the files of a folder; a folder in it is a bucket.

    Args:
        folder: Holds the buckets.
    """

    def __init__(self, folder: Path) -> None:
        (port,) = free_ports(1)
        self.address = f"http://127.0.0.1:{port}"
        self.counts: Counter[str] = Counter()
        self._port = port
        self._words = [find_rclone(), "serve", "s3", str(folder), "--addr", f"127.0.0.1:{port}"]
        # Not 0s, with which rclone asks itself for its entries again and again until requests run out of time.
        self._words += ["--auth-key", f"{KEY_ID},{SECRET}", "--dir-cache-time", "1ms", "--config", "", "-q"]
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(self._words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self._port), 1).close()
            except OSError:
                time.sleep(0.01)
            else:
                return process
        raise RuntimeError("rclone did not start")

    def stop(self) -> None:
        """Kill it."""
        self.process.kill()
        self.process.wait()

    def environment(self, address: str) -> dict[str, str]:
        """Return what a process is told to reach it, or what stands in front of it."""
        return {
            "AWS_ENDPOINT_URL": address,
            "AWS_ACCESS_KEY_ID": KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
            # Outages last as long as a busy machine takes to start a process.
            "ZEROSHOT_STORE_TRIES": "10",
            "ZEROSHOT_STORE_TIMEOUT": "5",
        }

    @contextmanager
    def troubled(self, seed: int) -> Iterator[None]:
        """Kill it, or have it stall, again and again meanwhile; it runs at the end."""
        ended = threading.Event()

        def trouble() -> None:
            generator = random.Random(seed)
            while not ended.wait(generator.uniform(0.2, 2)):
                if generator.random() < 0.6:
                    self.counts["stores killed"] += 1
                    self.stop()
                    time.sleep(generator.uniform(0, 0.3))
                    self.process = self._start()
                else:
                    self.counts["stores stalled"] += 1
                    self.process.send_signal(signal.SIGSTOP)
                    time.sleep(generator.uniform(0.1, 1))
                    self.process.send_signal(signal.SIGCONT)

        thread = threading.Thread(target=trouble)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


class RandomFaults:
    """What goes wrong with requests to a store, and never three times in a row for a path.

    Args:
        seed: Decides with which.

    Attributes:
        ended: Lets go of what stalls.
        one_in: So many requests, on average, are one that something befalls.
        counts: Of what did.
    """

    def __init__(self, seed: int) -> None:
        self.ended = threading.Event()
        self.one_in = 12
        self.counts: Counter[str] = Counter()
        self._generator = random.Random(seed)
        self._lock = threading.Lock()
        self._in_a_row: Counter[str] = Counter()

    def kind_for(self, path: str) -> str:
        """Return what befalls a request, as `Faults.kind_for`."""
        with self._lock:
            kind = self._generator.choice(["500", "503", "503", "cut", "cut", "stall"])
            if self._generator.random() > 1 / self.one_in or self._in_a_row[path] > 1:
                self._in_a_row[path] = 0
                return ""
            self._in_a_row[path] += 1
            self.counts[f"requests: {kind}"] += 1
            return kind
