"""Allows one `explore` per folder, archive or prefix: a second one finds the address of the first, and names it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from ..errors import InputError, OutputError
from ..images.sources.image_names import scheme_of
from ..system.durable_files import BusyError, open_locked
from ..system.user_folders import data_folder


def state_folder(folder: str) -> Path:
    """Return where the corrections and the address of a folder's explore are kept; it may not exist yet.

    Args:
        folder: The folder, archive or prefix; an address without secrets, see `address_secrets.check_address`.
    """
    real = folder.rstrip("/") if scheme_of(folder) else os.path.realpath(folder)
    name = hashlib.sha256(os.fsencode(real)).hexdigest()[:16]
    return data_folder() / "explore" / f"{_plain(Path(real).name)}-{name}"


def _plain(name: str) -> str:
    return "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in name)[:40].strip("-") or "folder"


class Instance:
    """Holds a folder for this process until it is closed.

    Args:
        folder: As for `state_folder`.

    Raises:
        InputError: Another process explores it; the message names its address.
        OutputError: Nothing can be written in the user's data folder.
    """

    def __init__(self, folder: str) -> None:
        self._path = state_folder(folder) / "address"
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._descriptor = open_locked(self._path)
        except BusyError as error:
            address = self._path.read_text(encoding="utf-8").strip()
            where = f" at {address}" if address else ""
            raise InputError(
                f"{folder} is already open in another `zeroshot explore`{where}", "open that address, or end that one"
            ) from error
        except OSError as error:
            raise OutputError(
                f"cannot write {self._path}: {error.strerror}", "$ZEROSHOT_DATA names a folder"
            ) from error
        os.chmod(self._path, 0o600)  # noqa: PTH101 - the address holds the token

    def publish(self, address: str) -> None:
        """Let a second explore find the address."""
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{address}\n".encode(), 0) if hasattr(os, "pwrite") else os.write(
            self._descriptor, f"{address}\n".encode()
        )

    def close(self) -> None:
        """Let the folder go."""
        os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)
