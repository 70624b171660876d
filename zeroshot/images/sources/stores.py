"""Object stores through obstore: how a bucket is reached, how often it is asked again, and what its errors mean.

Credentials come from the environment and the files that the stores' own tools read. What obstore says of an error may
hold addresses with signatures in them: nothing of it is passed on but the kind and the HTTP status.
"""

from __future__ import annotations

import configparser
import os
import random
import re
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from ...errors import ImageError, InputError, ZeroshotError
from ...system.installed import how_to_install
from ...system.signals import stopping
from .image_names import scheme_of

T = TypeVar("T")


STORE, SERVER = "the store", "the server"

NO_ANSWER = tuple(f"{who} gave no usable answer" for who in (STORE, SERVER))
DENIED = tuple(f"{who} denies access to it" for who in (STORE, SERVER))
"""What begins the reason of a failure that may be the store's and not the object's."""

STOPPED = "the run was stopped"
"""The reason of what is not asked for any more; no record is written of it."""

_SECONDS = 60.0
_TRIES = 5
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 10.0
_LOOK_UP = 0.1
"""Seconds after which a pause looks whether the run was stopped."""
_STATUS = re.compile(r"(?:status|HTTP|Server returned)\D{0,20}([45]\d\d)")

_ADDRESS = re.compile(r'https?://[^\s",]+')
"""Part of a message that holds a key, in which anything may stand."""

_KEY = re.compile(r'Path ("(?:[^"\\]|\\.)*")')
"""The key that obstore names, which is all of its message that may be told."""

_TIMEOUTS, _NO_CONNECTION = ("timed out", "kind: timeout"), "no connection"

_NO_KEY = "obstore reads no keys with an empty part (`//`)"

_VARIABLES = {"s3": "AWS", "gs": "GOOGLE", "az": "AZURE"}
"""How the names of a store's own environment variables begin."""

_stores: dict[tuple[str, str], Any] = {}
_lock = threading.Lock()


def request_seconds() -> float:
    """Return how long one request may take: ``$ZEROSHOT_STORE_TIMEOUT``, else 60 seconds."""
    try:
        return max(0.1, float(os.environ["ZEROSHOT_STORE_TIMEOUT"]))
    except (KeyError, ValueError):
        return _SECONDS


def request_tries() -> int:
    """Return how often a request is made until its object cannot be read: ``$ZEROSHOT_STORE_TRIES``, else 5 times."""
    try:
        return max(1, int(os.environ["ZEROSHOT_STORE_TRIES"]))
    except (KeyError, ValueError):
        return _TRIES


def obstore() -> Any:
    """Import obstore.

    Raises:
        InputError: It is not installed.
    """
    try:
        import obstore as module
    except ImportError as error:
        raise InputError("object stores need the package obstore", how_to_install("cloud")) from error
    return module


def open_store(name: str) -> tuple[Any, str]:
    """Return the store that a name lies in, and its key there.

    Raises:
        InputError: The package is missing, or the bucket cannot be reached as things are configured.
    """
    obstore()
    scheme, bucket, key = split_url(name)
    with _lock:
        if (scheme, bucket) not in _stores:
            try:
                _stores[scheme, bucket] = _connect(scheme, bucket)
            except InputError:
                raise
            except BaseException as error:  # obstore has a class for each store's mistakes; their text may hold secrets
                if not isinstance(error, Exception) and not _is_panic(error):
                    raise
                raise InputError(
                    f"{scheme}://{bucket} cannot be reached as the environment is set ({type(error).__name__})",
                    "set the store's own variables, such as AWS_REGION and AWS_ENDPOINT_URL",
                ) from None
        return _stores[scheme, bucket], key


def split_url(name: str) -> tuple[str, str, str]:
    """Return scheme, bucket and key of ``s3://bucket/key``; nothing in a key is decoded."""
    rest = name.partition("://")[2]
    bucket, _, key = rest.partition("/")
    if not bucket or "@" in bucket:
        raise InputError(f"{scheme_of(name)}:// names no bucket", f"{scheme_of(name)}://BUCKET/KEY")
    return scheme_of(name), bucket, key


def _connect(scheme: str, bucket: str) -> Any:
    from obstore import store

    seconds = timedelta(seconds=request_seconds())
    common: dict[str, Any] = {
        # Asking again is done by `with_retries`, which also knows bodies that are cut short.
        "retry_config": {"max_retries": 0, "retry_timeout": seconds},
        "client_options": {"timeout": seconds, "connect_timeout": min(seconds, timedelta(seconds=10))},
    }
    if os.environ.get(f"{_VARIABLES[scheme]}_ALLOW_HTTP", "").lower() in (
        "1",
        "true",
    ):  # obstore reads it only by itself
        common["client_options"]["allow_http"] = True
    if scheme == "gs":
        return store.GCSStore(bucket, **common)
    if scheme == "az":
        return store.AzureStore(bucket, **common)
    config = _aws_files() | {"region": os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")}
    config["endpoint"] = (
        os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or config.get("endpoint")
    )
    if config["endpoint"]:
        _check_endpoint(config["endpoint"])
    if str(config["endpoint"] or "").startswith("http://"):
        common["client_options"]["allow_http"] = True
    given: dict[str, Any] = {"region": "us-east-1"} | {key: value for key, value in config.items() if value}
    return store.S3Store(bucket, **given, **common)


def _check_endpoint(endpoint: str) -> None:
    """Refuse what is no address, which obstore would only find out, and panic, at its first request.

    Raises:
        InputError: It is none.
    """
    try:
        parts = urlsplit(endpoint)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or not endpoint.isascii() or not endpoint.isprintable() or " " in endpoint:
        shown = "" if "@" in endpoint else f": {endpoint!r}"  # a password may stand before it
        raise InputError(
            f"AWS_ENDPOINT_URL, or endpoint_url in AWS's files, is no address of a store{shown}",
            "https://HOST, or http://HOST:PORT",
        )


def _is_panic(error: BaseException) -> bool:
    """Say whether Rust code ended in a defect, which is raised as no `Exception`."""
    return type(error).__name__ == "PanicException"


def _aws_files() -> dict[str, str | None]:
    """Read the profile of AWS's own files; the environment's keys win over it."""
    if os.environ.get("AWS_ACCESS_KEY_ID"):
        return {}
    found: dict[str, str | None] = {}
    profile = os.environ.get("AWS_PROFILE") or "default"
    places = {
        os.environ.get("AWS_CONFIG_FILE") or "~/.aws/config": profile if profile == "default" else f"profile {profile}",
        os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials": profile,
    }
    for place, section in places.items():
        parser = configparser.RawConfigParser()
        try:
            parser.read(Path(place).expanduser())
        except (OSError, configparser.Error, UnicodeDecodeError, RuntimeError):
            continue
        if parser.has_section(section):
            entries = dict(parser.items(section))
            found |= {
                "access_key_id": entries.get("aws_access_key_id", found.get("access_key_id")),
                "secret_access_key": entries.get("aws_secret_access_key", found.get("secret_access_key")),
                "session_token": entries.get("aws_session_token", found.get("session_token")),
                "region": entries.get("region", found.get("region")),
                "endpoint": entries.get("endpoint_url", found.get("endpoint")),
            }
    return found


class TransientError(Exception):
    """A request that may succeed if it is made again.

    Args:
        reason: In a few words, for a message.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class NoPartsError(ImageError):
    """The store gives whole objects alone."""


def with_retries(request: Callable[[], T], who: str = STORE) -> T:
    """Make a request, and again after a pause that doubles where the error may pass.

    Args:
        request: Makes it once.
        who: Is asked, for messages.

    Raises:
        FileNotFoundError: There is no such object.
        ImageError: It is denied, or there was no usable answer however often it was asked for.
    """
    reason, tries = "", request_tries()
    for attempt in range(tries):
        if attempt:
            _pause(min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**attempt) * random.uniform(0.5, 1))
        if stopping():
            raise ImageError(STOPPED)
        try:
            return request()
        except TransientError as error:
            reason = error.reason
        except (ZeroshotError, FileNotFoundError):
            raise
        except Exception as error:
            reason = _explain(error)
        except BaseException as error:
            if not _is_panic(error):
                raise
            problem = "its client, obstore, failed; look at how the store is set up"
            raise ImageError(f"{who} gave no usable answer: {problem}") from None
    raise ImageError(f"{who} gave no usable answer in {tries} tries: {reason}")


def _pause(seconds: float) -> None:
    """Wait, but not on when a signal has stopped the run."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 and not stopping():
        time.sleep(min(left, _LOOK_UP))


def _explain(error: Exception) -> str:
    """Say in a few words what kind of error it is that may pass.

    Raises:
        FileNotFoundError: There is no such object.
        ImageError: It is an error that stays.
    """
    kind, text = type(error).__name__, _ADDRESS.sub("", str(error))
    status = found[1] if (found := _STATUS.search(text)) else ""
    if kind == "NotFoundError" or status in ("404", "410"):
        raise FileNotFoundError from None
    if kind in ("PermissionDeniedError", "UnauthenticatedError") or status in ("401", "403"):
        raise ImageError(f"{STORE} denies access to it{f' (HTTP {status})' if status else ''}") from None
    if kind == "InvalidPathError":
        key = f": {found[1]}" if (found := _KEY.search(str(error))) else ""
        raise ImageError(f"{_NO_KEY}, or with `.` or `..` as a part{key}") from None
    if "non-partial response" in str(error):
        raise NoPartsError("the store gives no parts of it") from None
    if kind in ("NotSupportedError", "UnknownConfigurationKeyError"):
        raise ImageError(f"the store's client refuses it ({kind})") from None
    if kind in ("AlreadyExistsError", "PreconditionError", "TypeError", "AttributeError"):
        raise error
    if status:
        return f"HTTP {status}"
    if any(sign in text.lower() for sign in _TIMEOUTS):
        return "no answer in time"
    if "kind: Connect" in text:
        return _NO_CONNECTION
    return "the answer was cut short" if "IncompleteBody" in text else kind


def hint_of(error: ImageError | FileNotFoundError) -> str:
    """Return what helps where a store does not do what it is asked for."""
    message = error.message if isinstance(error, ImageError) else ""
    if message.startswith(_NO_KEY):
        return "give the object another name"
    if not message.startswith(NO_ANSWER):
        return "check address and credentials"
    if message.endswith(_NO_CONNECTION):
        return "check its address, such as AWS_ENDPOINT_URL, and the network"
    return "run the command again"
