"""Finds the folders of this program: the cache (exports, features), and the data of a user (corrections)."""

from __future__ import annotations

import os
from pathlib import Path

ENVIRONMENT = "ZEROSHOT_CACHE"
DATA_ENVIRONMENT = "ZEROSHOT_DATA"


def cache_folder() -> Path:
    """Return ``$ZEROSHOT_CACHE``, else the platform's folder for caches; it need not exist yet."""
    if chosen := os.environ.get(ENVIRONMENT):
        return Path(os.path.expanduser(chosen))  # noqa: PTH111 (leaves the name of an unknown user as it is)
    import platformdirs

    return platformdirs.user_cache_path("zeroshot", appauthor=False)


def exports_folder() -> Path:
    """Return the folder that holds a folder for each exported model; it need not exist yet."""
    return cache_folder() / "exports"


def data_folder() -> Path:
    """Return ``$ZEROSHOT_DATA``, else the platform's folder for a user's data; it may not exist yet."""
    if chosen := os.environ.get(DATA_ENVIRONMENT):
        return Path(os.path.expanduser(chosen))  # noqa: PTH111 (leaves the name of an unknown user as it is)
    import platformdirs

    return platformdirs.user_data_path("zeroshot", appauthor=False)
