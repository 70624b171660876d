"""Files of a folder that are images by their first bytes, though not by their names: ``bee.jpg_large``, ``bee.dat``."""

from __future__ import annotations

import io
import os
from collections import Counter
from pathlib import Path, PurePath

from PIL import Image

from .camera_formats import BY_CONTENT, is_heif, is_raw
from .decode import SUFFIXES, looks_like_image

_HEAD_BYTES = 64

_ENDINGS = {"JPEG": ".jpg", "MPO": ".jpg", "JPEG2000": ".jp2", "TIFF": ".tif"}
"""Endings of formats, as Pillow calls them, that are not their name in small letters."""

_NO_IMAGES = frozenset(
    f".{ending}"
    for ending in (
        *("aac", "aae", "aif", "aiff", "apk", "ass", "bash", "bib", "bz2", "c", "caption", "cc", "cfg"),
        *("class", "conf", "cpp", "css", "csv", "db", "deb", "dll", "dmg", "doc", "docx", "ds_store", "eml"),
        *("eot", "exe", "feather", "flac", "go", "gpx", "gz", "h", "h5", "hdf5", "hpp", "htm", "html", "ics"),
        *("ini", "ipynb", "iso", "jar", "java", "js", "json", "jsonl", "key", "kml", "lnk", "lock", "log"),
        *("lrv", "lua", "m3u", "m4a", "map", "mat", "md", "md5", "mid", "mp3", "msg", "msi", "ndjson", "nfo"),
        *("npy", "npz", "odp", "ods", "odt", "ogg", "onnx", "opus", "otf", "part", "php", "pickle", "pkl"),
        *("pl", "pps", "ppt", "pptx", "ps1", "pt", "pth", "py", "pyc", "r", "rb", "rpm", "rs", "rst", "rtf"),
        *("safetensors", "sav", "sh", "sha1", "sha256", "so", "sql", "sqlite", "sqlite3", "srt", "sub"),
        *("swp", "tex", "tfrecord", "thm", "toml", "torrent", "ts", "tsv", "ttf", "txt", "url", "vcf", "vtt"),
        *("wav", "wma", "woff", "woff2", "xls", "xlsx", "xml", "xmp", "xz", "yaml", "yml", "zst"),
    )
)
"""Endings whose files are known to be no images, so that they are not looked into."""

_MOST_IN_VAIN = 16
"""Files of one unknown ending that are looked into without finding an image, until that ending is left alone."""

_MOST_ENDINGS = 1000
"""Unknown endings that are looked into, so that a folder with an ending for each file costs no more."""


def find_ending(content: bytes) -> str:
    """Return an ending by which an image of this content is found; nothing where it is none, or of a RAW format."""
    head = content[:_HEAD_BYTES]
    if is_heif(head):
        return ".heic"
    if is_raw(head):
        return ""
    try:
        with Image.open(io.BytesIO(content)) as image:
            kind = image.format or ""
    except Exception:  # Pillow raises what its decoders raise
        return ""
    ending = _ENDINGS.get(kind, f".{kind.lower()}")
    return ending if ending in SUFFIXES else ""


def is_image_by_content(path: str) -> bool:
    """Whether a regular file begins as an image does, and not as a video."""
    try:
        if not Path(path).is_file():
            return False
        with Path(path).open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return False
    video = head[4:8] == b"ftyp" and not (is_heif(head) or is_raw(head) or b"avif" in head)
    return looks_like_image(head) and not video


class Looker:
    """Looks into the files of one walk whose endings nobody knows, a few of each kind."""

    def __init__(self) -> None:
        self._in_vain: Counter[str] = Counter()

    def look(self, entry: os.DirEntry[str]) -> str:
        """Return `BY_CONTENT` for a file that begins as an image does; else an empty text."""
        ending = PurePath(entry.name).suffix.lower()
        if ending in _NO_IMAGES or self._in_vain[ending] >= _MOST_IN_VAIN or len(self._in_vain) > _MOST_ENDINGS:
            return ""
        if is_image_by_content(entry.path):
            return BY_CONTENT
        self._in_vain[ending] += bool(ending)  # of those without one, such as those of a download folder, all
        return ""
