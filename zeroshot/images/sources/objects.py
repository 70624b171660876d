"""Objects of a store as images and as archives: read whole or in parts, and listed in the store's own order."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from ...errors import ImageError, InputError, OutputError
from .archives import check_size
from .byte_ranges import MAX_IMAGE_BYTES, Blob, LocalBlob, Stamp
from .image_names import STORE_SCHEMES, scheme_of
from .stores import NoPartsError, TransientError, hint_of, obstore, open_store, with_retries

T = TypeVar("T")

_PART = 16 << 20
"""Bytes of an archive that one request asks for."""

_PAGE = 1000
"""Keys that a store gives in one answer to a listing."""


def read_object(name: str) -> bytes:
    """Return an object's content, whole.

    Raises:
        ImageError: It is not there, denied, too large, or cannot be had.
    """
    if scheme_of(name) not in STORE_SCHEMES:
        from .web import fetch

        return fetch(name)
    try:
        return get_object(*open_store(name))
    except FileNotFoundError:
        raise ImageError("no such object") from None


def get_object(store: Any, key: str, limit: int | None = MAX_IMAGE_BYTES) -> bytes:
    """Return an object's content, whole.

    Args:
        store: Of obstore.
        key: In it.
        limit: Most bytes that it may have.

    Raises:
        FileNotFoundError: There is none.
        ImageError: It is denied, too large, or cannot be had.
    """

    def get() -> bytes:
        answer = obstore().get(store, key)
        size = int(answer.meta["size"])
        if limit is not None:
            check_size(size, limit)
        content = bytes(answer.bytes())
        if len(content) != size:
            raise TransientError(f"{len(content):,} of {size:,} bytes came")
        return content

    return with_retries(get)


class ObjectBlob:
    """An object that is read in parts; whole, where its store gives none."""

    stamp: Stamp | None = None

    def __init__(self, name: str) -> None:
        store, key = open_store(name)
        self._name, self._store, self._key = name, store, key
        self.size = int(_named(lambda: obstore().head(store, key))["size"])
        self._whole: LocalBlob | None = None

    def read(self, start: int, length: int) -> bytes:
        """Return the bytes from a place on, as `Blob.read`."""
        if self._whole is not None:
            return self._whole.read(start, length)
        try:
            return self._read(start, length)
        except NoPartsError:
            self._whole = self.fetch()
            return self._whole.read(start, length)

    def fetch(self) -> LocalBlob:
        """Return all of it, in a file without a name."""
        try:
            return _spool((self._read(start, _PART) for start in range(0, self.size, _PART)), self._name)
        except NoPartsError:
            return _named(lambda: _spool(self._stream(), self._name))

    def _stream(self) -> Iterator[bytes]:
        came = 0
        for part in obstore().get(self._store, self._key).stream(min_chunk_size=_PART):
            came += len(part)
            yield bytes(part)
        if came != self.size:
            raise TransientError(f"{came:,} of {self.size:,} bytes came")

    def _read(self, start: int, length: int) -> bytes:
        parts: list[bytes] = []
        end = min(self.size, start + length)
        while start < end:
            part = self._part(start, min(end, start + _PART))
            parts.append(part)
            start += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _part(self, start: int, end: int) -> bytes:
        def get() -> bytes:
            content = bytes(obstore().get_range(self._store, self._key, start=start, end=end))
            if len(content) != end - start:
                raise TransientError(f"{len(content):,} of {end - start:,} bytes came")
            return content

        return _named(get)


def open_object(name: str, *, whole: bool) -> Blob:
    """Open an object, or a file of a web server, for reading at places.

    Args:
        name: Its address.
        whole: It is fetched into a file without a name first, because all of it will be read.

    Raises:
        ImageError: It cannot be had.
        OutputError: There is no room for it.
    """
    if scheme_of(name) not in STORE_SCHEMES:
        from .web import fetch_parts

        return _spool(fetch_parts(name), name)
    blob = ObjectBlob(name)
    return blob.fetch() if whole else blob


def _spool(parts: Iterator[bytes], name: str) -> LocalBlob:
    try:
        with tempfile.TemporaryFile(prefix="zeroshot-") as file:
            for part in parts:
                file.write(part)
            file.flush()
            blob = LocalBlob(os.dup(file.fileno()))
    except OSError as error:
        raise OutputError(
            f"no room to fetch {name} to {tempfile.gettempdir()}: {error.strerror}", "free some space, or set TMPDIR"
        ) from error
    blob.stamp = None  # a file of our own, new each time
    return blob


def list_objects(prefix: str) -> Iterator[tuple[str, str]]:
    """Yield each object below a prefix, in the store's order: its name, and what follows the prefix.

    Raises:
        InputError: It cannot be listed.
    """
    store, key = open_store(prefix)
    base = prefix[: len(prefix) - len(key)] if key else prefix.rstrip("/") + "/"
    folder = key.rstrip("/") + "/" if key.rstrip("/") else ""
    pages = _Pages(store, folder, prefix)
    for entry in pages:
        if not entry.endswith("/"):
            yield base + entry, entry[len(folder) :]


def has_object(name: str) -> bool:
    """Say whether there is such an object.

    Raises:
        ImageError: The store does not say.
    """
    store, key = open_store(name)
    try:
        with_retries(lambda: obstore().head(store, key))
    except FileNotFoundError:
        return False
    return True


class _Pages:
    """A listing that is taken up behind its last key where a page of it cannot be had."""

    def __init__(self, store: Any, folder: str, shown: str) -> None:
        self._store, self._folder, self._shown = store, folder, shown
        self._last = ""
        self._pages: Iterator[Any] | None = None

    def __iter__(self) -> Iterator[str]:
        while True:
            try:
                page = with_retries(self._next)
            except (ImageError, FileNotFoundError) as error:
                reason = getattr(error, "message", "no such bucket")
                raise InputError(f"cannot list {self._shown}: {reason}", hint_of(error)) from error
            if page is None:
                return
            for entry in page:
                self._last = entry["path"]
                if self._last.startswith(self._folder):
                    yield self._last

    def _next(self) -> Any:
        if self._pages is None:
            listing = obstore().list(self._store, self._folder or None, offset=self._last or None, chunk_size=_PAGE)
            self._pages = iter(listing)
        try:
            return next(self._pages, None)
        except BaseException:
            self._pages = None
            raise


def _named(request: Callable[[], T]) -> T:
    try:
        return with_retries(request)
    except FileNotFoundError:
        raise ImageError("no such object") from None
