"""What is installed: versions as `importlib.metadata` gives them, without importing it."""

from __future__ import annotations

import importlib.metadata
import re
import shlex
import sys
import tomllib
from pathlib import Path

import pytest

from support import ROOT
from zeroshot.system import installed


def test_versions_are_those_of_the_metadata() -> None:
    """Of every package in this environment, however its name is spelled; one that is not there is missing."""
    names = [found.metadata["Name"] for found in importlib.metadata.distributions()]
    assert len(names) > 20
    expected = {name: importlib.metadata.version(name) for name in names}
    assert installed.versions([*names, "no-such-package"]) == expected | {"no-such-package": "missing"}
    assert installed.versions(["Open_CLIP.torch"]) == {"Open_CLIP.torch": expected["open_clip_torch"]}


def test_the_first_on_the_path_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for imports; what stands on the path and is no folder is passed over."""
    for folder, version in (("first", "1.2+cu1"), ("second", "3")):
        made = tmp_path / folder / f"some_package-{version}.dist-info"
        made.mkdir(parents=True)
        (made / "METADATA").write_text(f"Metadata-Version: 2.1\nName: some-package\nVersion: {version}\n")
    path = [str(tmp_path / name) for name in ("none.zip", "first", "second")]
    monkeypatch.setattr(sys, "path", [*path, *sys.path])
    monkeypatch.setattr(installed, "_installed", installed._installed.__wrapped__)
    assert installed.versions(["some-package"]) == {"some-package": importlib.metadata.version("some-package")}
    assert installed.versions(["some-package"]) == {"some-package": "1.2+cu1"}


def test_an_extra_is_installed_by_its_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each extra by the names of its packages, never by this project's, which is another one's on PyPI."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    for extra, packages in extras.items():
        command, word, *found = shlex.split(installed.how_to_install(extra))
        assert (command, word) == ("pip", "install")
        assert set(map(named, found)) == set(map(named, packages))
    assert installed.how_to_install("none") == "pip install '.[none]' in the checkout"
    monkeypatch.setattr(importlib.metadata, "requires", raises)
    assert installed.how_to_install("cloud") == "pip install '.[cloud]' in the checkout"


def named(requirement: str) -> str:
    return re.split(r"[<>=\[]", requirement)[0].lower().replace("_", "-")


def raises(package: str) -> None:
    raise importlib.metadata.PackageNotFoundError(package)
