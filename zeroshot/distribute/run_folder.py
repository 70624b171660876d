"""The folder of a run, on this machine or in an object store: small files that appear whole, or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from ..errors import ImageError, InputError, OutputError
from ..images.sources.image_names import STORE_SCHEMES, scheme_of
from ..system.durable_files import sync_folder

_TEMPORARY = ".tmp"


class Folder(Protocol):
    """Where a run stands; several processes and machines may use it at once.

    Attributes:
        place: As the user named it.
    """

    place: str

    def read(self, name: str) -> bytes:
        """Return a file's content.

        Raises:
            FileNotFoundError: There is none.
            InputError: It cannot be read.
        """
        ...

    def create(self, name: str, content: bytes) -> bool:
        """Write a file that is not there yet; it is on the disk, whole, when this returns.

        Returns:
            False where there is one already, which stays.

        Raises:
            OutputError: It cannot be written.
        """
        ...

    def replace(self, name: str, content: bytes) -> None:
        """Write a file whether or not there is one.

        Raises:
            OutputError: It cannot be written.
        """
        ...

    def remove(self, name: str) -> None:
        """Remove a file, if it is there.

        Raises:
            OutputError: It cannot be removed.
        """
        ...

    def names(self, folder: str) -> Iterator[str]:
        """Yield the names of the files in a folder of it, in no order; none where it is not there.

        Raises:
            InputError: It cannot be listed.
        """
        ...


def open_folder(place: str) -> Folder:
    """Return the folder of a run; it need not exist.

    Raises:
        InputError: It can be none.
    """
    scheme = scheme_of(place)
    if not scheme:
        return LocalFolder(place)
    if scheme not in STORE_SCHEMES:
        raise InputError(
            f"{place} cannot be a run's folder: nothing can be written there", "a local folder, or s3://BUCKET/FOLDER"
        )
    return StoreFolder(place)


class LocalFolder:
    """A folder of a file system, which several machines may share."""

    def __init__(self, place: str) -> None:
        self.place = place
        self._root = Path(place)

    def read(self, name: str) -> bytes:
        """Return a file's content, as `Folder.read`."""
        try:
            return (self._root / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            raise FileNotFoundError(name) from None
        except OSError as error:
            raise InputError(f"cannot read {self._root / name}: {error.strerror}", "look at its folder") from error

    def create(self, name: str, content: bytes) -> bool:
        """Write a file that is not there yet, as `Folder.create`."""
        target = self._root / name
        try:
            temporary = self._write(target, content)
            try:
                os.link(temporary, target)
                return True
            except FileExistsError:
                return False
            except OSError:  # a file system without hard links; whoever was first wrote the same
                if target.exists():
                    return False
                temporary.replace(target)
                return True
            finally:
                temporary.unlink(missing_ok=True)
                sync_folder(target.parent)
        except OSError as error:
            raise _cannot_write(target, error) from error

    def replace(self, name: str, content: bytes) -> None:
        """Write a file, as `Folder.replace`."""
        target = self._root / name
        try:
            self._write(target, content).replace(target)
            sync_folder(target.parent)
        except OSError as error:
            raise _cannot_write(target, error) from error

    def remove(self, name: str) -> None:
        """Remove a file, as `Folder.remove`."""
        target = self._root / name
        try:
            with suppress(FileNotFoundError):
                target.unlink()
                sync_folder(target.parent)
        except OSError as error:
            raise _cannot_write(target, error) from error

    def names(self, folder: str) -> Iterator[str]:
        """Yield names, as `Folder.names`."""
        try:
            with os.scandir(self._root / folder) as entries:
                yield from (entry.name for entry in entries if not entry.name.endswith(_TEMPORARY))
        except FileNotFoundError:
            return
        except OSError as error:
            raise InputError(f"cannot list {self._root / folder}: {error.strerror}", "look at the folder") from error

    def _write(self, target: Path, content: bytes) -> Path:
        """Write beside the target, under a name of this process's own."""
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}{_TEMPORARY}")
        try:
            with temporary.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        return temporary


class StoreFolder:
    """A prefix of an object store."""

    def __init__(self, place: str) -> None:
        from ..images.sources.stores import open_store

        self._store, key = open_store(place)
        self.place = place.rstrip("/")
        self._prefix = key.rstrip("/") + "/" if key.rstrip("/") else ""

    def read(self, name: str) -> bytes:
        """Return an object's content, as `Folder.read`."""
        from ..images.sources.objects import get_object
        from ..images.sources.stores import hint_of

        try:
            return get_object(self._store, self._prefix + name, limit=None)
        except ImageError as error:
            raise InputError(f"cannot read {self.place}/{name}: {error.message}", hint_of(error)) from error

    def create(self, name: str, content: bytes) -> bool:
        """Write an object that is not there yet, as `Folder.create`; the store holds it to that if it can."""
        from ..images.sources.stores import obstore

        try:
            self._put(name, content, "create")
        except obstore().exceptions.AlreadyExistsError:
            return False
        return True

    def replace(self, name: str, content: bytes) -> None:
        """Write an object, as `Folder.replace`."""
        self._put(name, content, "overwrite")

    def remove(self, name: str) -> None:
        """Remove an object, as `Folder.remove`."""
        from ..images.sources.stores import hint_of, obstore, with_retries

        try:
            with_retries(lambda: obstore().delete(self._store, self._prefix + name))
        except FileNotFoundError:
            return
        except ImageError as error:
            raise OutputError(f"cannot remove {self.place}/{name}: {error.message}", hint_of(error)) from error

    def names(self, folder: str) -> Iterator[str]:
        """Yield names, as `Folder.names`."""
        from ..images.sources.objects import list_objects

        for _, name in list_objects(f"{self.place}/{folder}/"):
            yield name

    def _put(self, name: str, content: bytes, mode: Any) -> None:
        from ..images.sources.stores import hint_of, obstore, with_retries

        # In one request: a part of a multipart upload would not be held to `create`.
        key = self._prefix + name
        try:
            with_retries(lambda: obstore().put(self._store, key, content, mode=mode, use_multipart=False))
        except (ImageError, FileNotFoundError) as error:
            reason = getattr(error, "message", "no such bucket")
            raise OutputError(f"cannot write {self.place}/{name}: {reason}", hint_of(error)) from error


def _cannot_write(target: Path, error: OSError) -> OutputError:
    return OutputError(
        f"cannot write {target}: {error.strerror or error}", "look at its folder and the free space, then run it again"
    )
