"""Images and runs in Azure's blob storage, against azurite, Microsoft's emulator of it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import pytest

from support.fakes import FakeModel
from support.object_store import need
from support.ray_cluster import free_ports
from support.store_runs import assert_a_run_there_is_one_here
from zeroshot.images.sources import stores

ACCOUNT = "devstoreaccount1"
KEY = base64.b64encode(b"a key of the tests' own").decode()


@pytest.fixture
def azurite(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """An emulator with a container, and this process's environment set to it."""
    need("obstore")
    command = shutil.which("azurite-blob") or pytest.skip("azurite is not installed: npm install -g azurite")
    (port,) = free_ports(1)
    address = f"http://127.0.0.1:{port}"
    monkeypatch.setenv("AZURITE_ACCOUNTS", f"{ACCOUNT}:{KEY}")
    words = [command, "--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", str(tmp_path / "azurite")]
    words += ["--disableTelemetry", "--skipApiVersionCheck", "--silent"]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.05)
        create_container(address, "cont")
        monkeypatch.setattr(stores, "_stores", {})
        for name, value in {
            "AZURE_STORAGE_USE_EMULATOR": "true",
            "AZURITE_BLOB_STORAGE_URL": address,
            "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT,
            "AZURE_STORAGE_ACCOUNT_KEY": KEY,
        }.items():
            monkeypatch.setenv(name, value)
        yield
    finally:
        process.terminate()
        process.wait()


def create_container(address: str, name: str) -> None:
    """Make a container, which obstore does not: one request, signed by the account's key."""
    headers = f"x-ms-date:{formatdate(usegmt=True)}\nx-ms-version:2021-08-06\n"
    text = f"PUT{12 * chr(10)}{headers}/{ACCOUNT}/{ACCOUNT}/{name}\nrestype:container"
    signature = base64.b64encode(hmac.digest(base64.b64decode(KEY), text.encode(), hashlib.sha256)).decode()
    request = urllib.request.Request(f"{address}/{ACCOUNT}/{name}?restype=container", method="PUT")
    for header in headers.splitlines():
        request.add_header(*header.split(":", 1))
    request.add_header("Authorization", f"SharedKey {ACCOUNT}:{signature}")
    request.add_header("Content-Length", "0")
    urllib.request.urlopen(request).close()


@pytest.mark.slow
def test_a_run_in_azure_is_one_here(azurite: None, fake_model: FakeModel, tmp_path: Path) -> None:
    """Objects and archives are listed and read, and a run there is created once and merged to the bytes of one run."""
    assert_a_run_there_is_one_here("az://cont", tmp_path)
