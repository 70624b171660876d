"""A live page served in this process: an encoder, images or made-up features, and a server on a free port."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from zeroshot.encoder import Encoder, Features
from zeroshot.evaluation.learned_file import LearnedFile
from zeroshot.explore.collection import Collection
from zeroshot.explore.corrections import Corrections
from zeroshot.explore.request_handlers import Beginning
from zeroshot.explore.routes import Application
from zeroshot.explore.security import Token
from zeroshot.explore.server import bind, serving
from zeroshot.explore.session import Session
from zeroshot.features.pipeline import Block, Pipeline

COMMAND = [sys.executable, "-m", "zeroshot", "explore"]
"""How the page is started."""

HEADERS = {"Content-Type": "application/json", "Sec-Fetch-Site": "same-origin"}


@dataclass(frozen=True, slots=True)
class Explorer:
    """A page that is being served.

    Attributes:
        session: What is behind it.
        token: What its address holds.
        address: Without the token.
        port: Where it listens.
        application: The routes.
    """

    session: Session
    token: Token
    address: str
    port: int
    application: Application

    @property
    def url(self) -> str:
        """The address that the terminal would print."""
        return f"{self.address}#token={self.token.value}"

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, bytes, dict[str, str]]:
        """Send a request as it is; return status, body and headers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body or None, named)
            answer = connection.getresponse()
            return answer.status, answer.read(), {name.lower(): value for name, value in answer.getheaders()}
        finally:
            connection.close()

    def post(self, name: str, **asked: Any) -> dict[str, Any]:
        """Ask as the page does; the answer has the key `status` too."""
        status, body, _ = self.ask(
            "POST", f"/api/{name}", json.dumps(asked).encode(), Authorization=f"Bearer {self.token.value}", **HEADERS
        )
        found: dict[str, Any] = json.loads(body) if body.startswith(b"{") else {"text": body.decode()}
        return found | {"status": status}


@contextmanager
def explore(
    encoder: Encoder,
    folder: Path | str,
    corrections: Path,
    *,
    pipeline: Pipeline | None = None,
    calibration: Path | None = None,
    learned: LearnedFile | None = None,
    archives: bool = False,
    **beginning: Any,
) -> Iterator[Explorer]:
    """Encode a folder's images, then serve its page."""
    pipeline = pipeline or Pipeline(16, 2)
    collection = Collection(str(folder), encoder.spec.dim, archives=archives)
    collection.encode(encoder, pipeline, threading.Event())
    fitted = {"calibration": calibration, "learned": learned}
    with served(encoder, collection, corrections, pipeline, **fitted, **beginning) as explorer:
        yield explorer


@contextmanager
def served(
    encoder: Encoder,
    collection: Collection,
    corrections: Path,
    pipeline: Pipeline,
    *,
    calibration: Path | None = None,
    learned: LearnedFile | None = None,
    **beginning: Any,
) -> Iterator[Explorer]:
    """Serve the page of a collection."""
    kept = Corrections(corrections)
    try:
        session = Session(encoder, collection, kept, pipeline, None, calibration, learned)
    except BaseException:
        kept.close()
        raise
    token = Token()
    place = bind("127.0.0.1", 0)
    application = Application(session, token, Beginning(**beginning))
    try:
        with serving(application, place):
            yield Explorer(session, token, place.address, place.port, application)
    finally:
        kept.close()


def made_up(folder: Path, files: list[Path], count: int, encoder: Encoder, towards: Features) -> Collection:
    """Return a collection of made-up features, each nearest to one of some rows.

    Its images are those of one folder of links to some files, seen through many links to that folder: 100,000 images
    cost some hundreds of links.

    Args:
        folder: Where the links are made.
        files: Images that stand for all.
        count: How many images.
        encoder: The model.
        towards: Unit rows, shape ``(n, dim)``, one of which each image is near.
    """
    generator = np.random.default_rng(0)
    dim = towards.shape[1]
    rows = generator.standard_normal((count, dim), dtype=np.float32)
    rows *= np.float32(1.2 / np.sqrt(dim))
    rows += towards[generator.integers(len(towards), size=count)]
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    first = folder / "0000"
    first.mkdir()
    names = [f"{place:04}{file.suffix}" for place, file in enumerate(files)]
    for name, file in zip(names, files, strict=True):
        (first / name).symlink_to(file)
    n_folders = -(-count // len(files))
    for number in range(1, n_folders):
        (folder / f"{number:04}").symlink_to(first, target_is_directory=True)
    paths = [f"{folder}/{number:04}/{name}" for number in range(n_folders) for name in names][:count]
    collection = Collection(str(folder), dim)
    collection.add(Block(paths, rows, {}, (count,)))
    stopped = threading.Event()
    stopped.set()
    collection.encode(encoder, Pipeline(), stopped)  # there is nothing to encode
    return collection


@contextmanager
def running(*arguments: object) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the command until the block ends; give it and the address that it printed."""
    process = subprocess.Popen(
        [*COMMAND, *map(str, arguments), "--model", "tiny", "--no-open"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()


def ask(address: str, name: str, **asked: object) -> dict[str, Any]:
    """Ask the page at a printed address as the page does."""
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
    token = parts.fragment.removeprefix("token=")
    connection.request("POST", f"/api/{name}", json.dumps(asked).encode(), {"Authorization": f"Bearer {token}"})
    found: dict[str, Any] = json.loads(connection.getresponse().read())
    return found
