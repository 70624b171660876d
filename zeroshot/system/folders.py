"""The cache folder: exports and features, all of which can be made again."""

from __future__ import annotations

import os
from pathlib import Path

ENVIRONMENT = "ZEROSHOT_CACHE"


def cache_folder() -> Path:
    """Return ``$ZEROSHOT_CACHE``, else the platform's folder for caches; it need not exist yet."""
    if chosen := os.environ.get(ENVIRONMENT):
        return Path(os.path.expanduser(chosen))  # noqa: PTH111 (leaves the name of an unknown user as it is)
    import platformdirs

    return platformdirs.user_cache_path("zeroshot", appauthor=False)


def exports_folder() -> Path:
    """Return the folder that holds a folder for each exported model; it need not exist yet."""
    return cache_folder() / "exports"
