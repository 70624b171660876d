"""Downloads from the Hugging Face hub, into the cache that all of its tools share.

What is in the cache is used without asking the network, even where the hub has something newer or preferable: a
run must not wait for, or depend on, a network that it does not need. What is not there is downloaded here and not by
``hf_hub_download``, whose recent versions drop what an interrupted download had brought, keep retrying where there is
no network, and verify no more than the size over plain HTTP. Names, headers, tokens, locks and the layout of the cache
are huggingface_hub's, so every other tool finds the files.
"""

from __future__ import annotations

import errno
import fnmatch
import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import ModelError
from ...system.durable_files import hash_content
from ...system.sizes import in_bytes
from ..checkpoint_files import CONFIGS, PREPROCESSOR_NAMES, TOKENIZER_PATTERNS, WEIGHTS, largest
from . import metadata
from .errors import cache_folder, endpoint, full, one_line, refused
from .metadata import ask, file_metadata, list_names, transport_error

if TYPE_CHECKING:
    from huggingface_hub import HfFileMetadata


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one file is.

    Attributes:
        repo: The repository.
        name: The file in it.
        done: Bytes on disk, those of an earlier, interrupted download included.
        size: Bytes in all; None if the hub does not say.
    """

    repo: str
    name: str
    done: int
    size: int | None

    @property
    def title(self) -> str:
        """The file and its size, such as ``org/repo/model.bin (605 MB)``."""
        return f"{self.repo}/{self.name}" + (f" ({in_bytes(self.size)})" if self.size is not None else "")


Report = Callable[[Progress], None]


def find_cached(repo: str, names: Sequence[str], *, revision: str | None = None) -> Path | None:
    """Return the first of `names` that the cache holds, without using the network."""
    folder = _repo_folder(repo)
    try:
        commit = (folder / "refs" / (revision or "main")).read_text().strip()
    except (OSError, ValueError):
        commit = revision or "main"  # a commit is its own name
    with _guarded():
        return next((path for name in names if (path := folder / "snapshots" / commit / name).is_file()), None)


def fetch(repo: str, names: Sequence[str], *, revision: str | None = None, on_progress: Report | None = None) -> Path:
    """Return the local path of the first of `names` that a repository has, downloading it if none is cached.

    Any cached candidate wins over any that would have to be downloaded.

    Args:
        repo: ``organisation/name``.
        names: Candidates, the preferred one first.
        revision: Branch, tag or commit; None for the main branch.
        on_progress: Called when a download starts and after each piece of it; never for a cached file.

    Raises:
        ModelError: The file cannot be had; the hint says what to do. Without a network this takes at most 7 seconds
            (``HF_HUB_ETAG_TIMEOUT`` changes it). A download that stalls ends 20 seconds after its last byte (twice
            ``HF_HUB_DOWNLOAD_TIMEOUT``); what arrived stays, and the next call continues there.
    """
    with _guarded():
        cached = find_cached(repo, names, revision=revision)
        if cached is not None:
            return cached
        path, commit = _fetch_first(repo, names, revision or "main", on_progress)
        _remember(repo, revision or "main", commit)
        return path


def fetch_snapshot(
    repo: str, *, revision: str | None = None, refresh: bool = False, on_progress: Report | None = None
) -> Path:
    """Return a local folder with a repository's configuration, one weights file and its tokenizer, if it has one.

    The weights come last, so a cached folder that has them is complete.

    Args:
        repo: ``organisation/name``.
        revision: Branch, tag or commit; None for the main branch.
        refresh: Ask the hub for its newest files even if the cache has a folder.
        on_progress: As in `fetch`.

    Raises:
        ModelError: As in `fetch`, or the repository holds no model that is read.
    """
    with _guarded():
        config = find_cached(repo, CONFIGS, revision=revision)
        if config and not refresh and find_cached(repo, WEIGHTS, revision=revision):
            return config.parent
        config, commit = _fetch_first(repo, CONFIGS, revision or "main", on_progress)
        names = ask(repo, partial(list_names, repo, commit))
        for name in names:
            if any(fnmatch.fnmatch(name, pattern) for pattern in (*TOKENIZER_PATTERNS, *PREPROCESSOR_NAMES)):
                _fetch_first(repo, [name], commit, on_progress)
        _fetch_first(repo, [name for name in WEIGHTS if name in names] or WEIGHTS, commit, on_progress)
        _remember(repo, revision or "main", commit)
        return config.parent


def _fetch_first(repo: str, names: Sequence[str], revision: str, on_progress: Report | None) -> tuple[Path, str]:
    """Download the first of `names` that the hub has into the cache; return its path and the commit it is from."""
    for name in names:
        known = ask(repo, partial(file_metadata, repo, name, revision))
        if known is None:
            continue
        commit = str(known.commit_hash)
        path = _repo_folder(repo) / "snapshots" / commit / name
        if not path.is_file():
            _place(repo, name, known, path, on_progress)
        return path, commit
    raise ModelError(
        f"{endpoint()}/{repo} has none of these files at revision {revision}: {', '.join(names)}",
        "check the name with `zeroshot models list`, or give a folder: `--model ./folder`",
    )


def _place(repo: str, name: str, known: HfFileMetadata, path: Path, on_progress: Report | None) -> None:
    """Download a file into the cache's ``blobs`` and link it from its snapshot, under huggingface_hub's own lock."""
    from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]  # listed in its documentation

    blob = _repo_folder(repo) / "blobs" / str(known.etag)
    lock = cache_folder() / ".locks" / _repo_folder(repo).name / f"{known.etag}.lock"
    for folder in (blob.parent, path.parent, lock.parent):
        folder.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(lock):
        if path.is_file():  # another process has placed it while this one waited
            return
        if not blob.is_file():
            begun = blob.with_name(f"{blob.name}.incomplete")
            _download(repo, name, known, begun, on_progress)
            _verify(repo, name, known, begun)
            begun.replace(blob)
        path.unlink(missing_ok=True)
        try:
            path.symlink_to(os.path.relpath(blob, path.parent))
        except OSError:  # Windows without developer mode, some network drives
            blob.replace(path)


def _download(repo: str, name: str, known: HfFileMetadata, begun: Path, on_progress: Report | None) -> None:
    """Download a file, continuing a partial one, until it has its full size.

    A dropped connection is taken up again for as long as each attempt brings something new.

    Raises:
        ModelError: The hub refuses, the connection brings nothing more, or more comes than was stated.
    """
    from huggingface_hub import hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError

    # Pinned to the commit, so that a resumed file is the same file. The client follows the redirect to the storage host
    # and keeps the token to itself.
    url = hf_hub_url(repo, name, revision=known.commit_hash)
    size, retried = known.size, False
    if size is None or (begun.exists() and begun.stat().st_size > size):
        begun.unlink(missing_ok=True)
    begun.touch()
    done = begun.stat().st_size
    most = largest(name) if size is None else size
    report = on_progress or (lambda _: None)
    report(Progress(repo, name, done, size))
    _check_space(begun, (size or 0) - done)
    while size is None or done < size:
        start, reason = done, "the server ended it early"
        try:
            for done in _append(url, begun, start, most):
                report(Progress(repo, name, done, size))
            if size is None and done <= most:
                return
        except HfHubHTTPError as error:
            if error.response.status_code < 500 or retried:
                raise refused(repo, error) from error
            retried = True
            time.sleep(metadata.RETRY_PAUSE_SECONDS)
            continue
        except transport_error() as error:
            reason = str(error) or type(error).__name__
        if done > most:
            begun.unlink()
            what = "the hub stated" if size is not None else f"any {name} has"
            raise ModelError(
                f"{repo}/{name} was stopped and removed: more than the {in_bytes(most)} came that {what}",
                "a proxy or mirror (HF_ENDPOINT) sends something else",
            )
        if done <= start:
            raise ModelError(
                f"the download of {repo}/{name} stopped at {in_bytes(done)} of {in_bytes(size or 0)}:"
                f" {one_line(reason)}",
                "run the same command again: it continues where this one stopped",
            )


def _append(url: str, begun: Path, start: int, most: int) -> Iterator[int]:
    """Append what the server sends to a partial file; yield its size after each piece, the last time beyond `most`."""
    from huggingface_hub import constants, get_session
    from huggingface_hub.utils import build_hf_headers, hf_raise_for_status  # type: ignore[attr-defined]  # likewise

    headers = {**build_hf_headers(library_name="zeroshot"), "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
    with (
        get_session().stream("GET", url, headers=headers, timeout=timeout, follow_redirects=True) as response,
        begun.open("ab") as file,
    ):
        hf_raise_for_status(response)
        done = start
        if start and response.status_code != 206:  # the server sends all of it again
            file.truncate(0)
            done = 0
            yield done
        for chunk in response.iter_bytes():
            done += len(chunk)
            if done <= most:
                file.write(chunk)
            yield done
            if done > most:
                return


def _verify(repo: str, name: str, known: HfFileMetadata, begun: Path) -> None:
    """Compare a finished file with the size and the SHA-256 that the hub states; remove it if it differs."""
    damage = ""
    if known.size is not None and begun.stat().st_size != known.size:
        damage = f"it has {begun.stat().st_size} bytes instead of {known.size}"
    # The hub's tag of a large file is the hash of its content.
    elif re.fullmatch(r"[0-9a-f]{64}", str(known.etag)):
        found = hash_content(begun)
        if found != known.etag:
            damage = f"its SHA-256 is {found[:12]}... instead of {str(known.etag)[:12]}..."
    if damage:
        begun.unlink()
        raise ModelError(
            f"{repo}/{name} arrived damaged and was removed: {damage}",
            "run the same command again; if it repeats, a proxy or mirror (HF_ENDPOINT) changes the file",
        )


@contextmanager
def _guarded() -> Iterator[None]:
    """Keep huggingface_hub's log off stderr, and turn what goes wrong with the cache folder into a `ModelError`."""
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise full("no space is left") from error
        raise ModelError(
            f"cannot use the model cache {cache_folder()}: {error.strerror or one_line(str(error))}",
            "set HF_HUB_CACHE to a folder that can be written",
        ) from error
    finally:
        logger.setLevel(level)


def _check_space(begun: Path, needed: int) -> None:
    """Refuse a download that cannot fit, before it fills the disk."""
    free = shutil.disk_usage(begun.parent).free
    if needed > free:
        raise full(f"{in_bytes(needed)} are needed and {in_bytes(free)} are free")


def _remember(repo: str, revision: str, commit: str) -> None:
    """Record which commit a branch or tag is, as huggingface_hub does, once its files are in the cache."""
    ref = _repo_folder(repo) / "refs" / revision
    if revision != commit and not (ref.is_file() and ref.read_text() == commit):
        ref.parent.mkdir(parents=True, exist_ok=True)
        beside = ref.with_name(f"{ref.name}.{os.getpid()}.tmp")
        beside.write_text(commit)
        beside.replace(ref)


def _repo_folder(repo: str) -> Path:
    return cache_folder() / f"models--{repo.replace('/', '--')}"
