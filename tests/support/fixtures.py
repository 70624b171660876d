"""Types of the fixtures in conftest.py."""

from collections.abc import Callable
from pathlib import Path

SaveImage = Callable[..., Path]
SaveModelFolder = Callable[..., Path]
