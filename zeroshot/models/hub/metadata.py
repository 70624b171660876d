"""Metadata requests to the hub, with a time limit and clear errors."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote

from ...errors import ModelError
from ..checkpoint_files import largest
from .errors import endpoint, no_hub, offline, one_line, refused

if TYPE_CHECKING:
    from huggingface_hub import HfFileMetadata

RETRY_PAUSE_SECONDS = 1.0  # after a server error
_ANSWER_SECONDS = 7.0  # for the hub to say what a file is; an error within 10 seconds leaves 3 for starting up
_LARGEST_ANSWER = 8_000_000  # bytes; a name takes about 50, and large repositories have thousands of files
_NAME = re.compile(r"\w[\w.+=-]{0,200}", re.ASCII)
_T = TypeVar("_T")


def file_metadata(repo: str, name: str, revision: str) -> HfFileMetadata | None:
    """Ask the hub for a file's commit, tag and size; None if the repository has no such file.

    Raises:
        ValueError: The answer is no hub's.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError

    url = hf_hub_url(repo, name, revision=revision)
    try:
        known = get_hf_file_metadata(url, timeout=answer_seconds(), library_name="zeroshot")
    except HfHubHTTPError as error:
        # A mirror does not always say what was not found.
        code = error.response.headers.get("X-Error-Code", "EntryNotFound")
        if error.response.status_code == 404 and code == "EntryNotFound":
            return None
        raise
    # The commit and the tag become names on disk.
    if not _NAME.fullmatch(known.commit_hash or "") or not _NAME.fullmatch(known.etag or ""):
        raise ValueError("no commit, or no tag")
    if known.size is not None and not 0 <= known.size <= largest(name):
        raise ValueError(f"a size of {known.size}")
    return known


def list_names(repo: str, revision: str) -> list[str]:
    """Ask the hub for the names of the files at the top of a repository.

    Raises:
        ValueError: The answer is no hub's.
    """
    from huggingface_hub import get_session
    from huggingface_hub.utils import build_hf_headers, hf_raise_for_status  # type: ignore[attr-defined]  # documented

    url = f"{endpoint()}/api/models/{repo}/revision/{quote(revision, safe='')}"
    content = bytearray()
    headers = build_hf_headers(library_name="zeroshot")
    with get_session().stream("GET", url, headers=headers, timeout=answer_seconds(), follow_redirects=True) as response:
        hf_raise_for_status(response)
        for chunk in response.iter_bytes():
            content += chunk
            if len(content) > _LARGEST_ANSWER:
                raise ValueError(f"an answer of more than {_LARGEST_ANSWER} bytes")
    names = [sibling["rfilename"] for sibling in json.loads(content)["siblings"]]
    return [name for name in names if _NAME.fullmatch(name)]


def ask(repo: str, question: Callable[[], _T]) -> _T:
    """Return the hub's answer to a metadata request, or raise a clear error within the time limit.

    It runs in a thread of its own, because no timeout of the client bounds the whole: looking up a name has none, and
    connecting has one for each of the host's addresses.
    """
    # The client is imported before the clock runs: a slow disk is not the hub's fault.
    from huggingface_hub import constants, get_hf_file_metadata  # noqa: F401
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    answers: list[_T] = []
    failures: list[BaseException] = []

    def work() -> None:
        try:
            try:
                answers.append(question())
            except HfHubHTTPError as error:
                if error.response.status_code < 500:
                    raise
                time.sleep(RETRY_PAUSE_SECONDS)
                answers.append(question())
        except BaseException as error:
            failures.append(error)

    if constants.HF_HUB_OFFLINE:
        raise offline(repo, "HF_HUB_OFFLINE is set")
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(answer_seconds())
    if answers:
        return answers[0]
    if not failures:
        raise offline(repo, f"{endpoint()} did not answer within {answer_seconds():g} seconds")
    try:
        raise failures[0]
    except HfHubHTTPError as error:
        raise refused(repo, error) from error
    except HFValidationError as error:
        raise ModelError(f"{repo!r} is not the name of a hub repository", "write it as `hf-hub:ORG/REPO`") from error
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise no_hub(repo) from error  # a page instead of JSON, or JSON of another shape
    except (transport_error(), OSError) as error:
        raise offline(repo, f"{endpoint()}: {one_line(str(error) or type(error).__name__)}") from error


def answer_seconds() -> float:
    """Return the time limit for an answer in seconds: ``HF_HUB_ETAG_TIMEOUT`` where it is set, else 7 seconds."""
    from huggingface_hub import constants

    chosen = constants.HF_HUB_ETAG_TIMEOUT
    return _ANSWER_SECONDS if chosen == constants.DEFAULT_ETAG_TIMEOUT else float(chosen)


def transport_error() -> type[Exception]:
    """Return the client's error for a connection that fails or drops; the client is httpx or its successor."""
    from huggingface_hub.errors import HfHubHTTPError

    return next(base for base in HfHubHTTPError.__mro__ if base.__name__ == "HTTPError")
