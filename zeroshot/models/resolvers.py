"""From what a user types after ``--model`` to the facts and files that an engine needs.

Nothing here imports torch: whether a checkpoint is known, cached or unreachable is said at once.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..encoder import Preprocessing
from ..errors import ModelError, UsageError, nearest
from . import open_clip_tables
from .catalogue import ALIASES
from .checkpoint_files import CONFIG_NAME, TOKENIZER_PATTERNS, WEIGHT_SUFFIXES, WEIGHTS
from .configuration import read_config, read_preprocessing
from .hub import download
from .weights_file import check_download, hash_file

DEFAULT_ALIAS = "base"
ENVIRONMENT = "ZEROSHOT_MODEL"
HUB_PREFIX = "hf-hub:"
FOLDER_PREFIX = "local-dir:"


@dataclass(frozen=True, slots=True)
class Source:
    """Where a checkpoint's parts are, before anything is downloaded.

    Attributes:
        model: As the user named it.
        architecture: open_clip's architecture, or a name for the folder.
        pretrained: The weight tag; empty where there is none.
        folder: An open_clip folder; None for an architecture with a weights file.
        weights: The weights file; None while it is still on the hub.
        repository: Hub repository that holds the weights or the folder; empty for local ones.
        weight_names: Names of the weights in the repository, in order of preference.
        whole_folder: The repository is an open_clip folder of its own.
        quick_gelu: Activation override of the weight tag; None where the configuration decides.
        preprocessing: Known preprocessing; None where the folder's configuration has it.
    """

    model: str
    architecture: str
    pretrained: str = ""
    folder: Path | None = None
    weights: Path | None = None
    repository: str = ""
    weight_names: tuple[str, ...] = ()
    whole_folder: bool = False
    quick_gelu: bool | None = None
    preprocessing: Preprocessing | None = None

    @property
    def arguments(self) -> str:
        """What names this checkpoint to ``zeroshot models pull``, quoted for a shell: model, and tag or file."""
        import shlex  # for hints only, and starting is to be quick

        words = [self.model]
        if self.pretrained and not any(
            (alias.name, alias.pretrained) == (self.model, self.pretrained) for alias in ALIASES
        ):
            words += ["--pretrained", self.pretrained]
        elif self.weights is not None and self.folder is None:
            words += ["--pretrained", str(self.weights)]
        return shlex.join(words)


@dataclass(frozen=True, slots=True)
class Files:
    """A checkpoint on this disk, ready for an engine.

    Attributes:
        source: Where it came from.
        config: open_clip's ``model_cfg``.
        preprocessing: How images are prepared.
        weights: The weights file.
        folder: The open_clip folder, or None for an architecture with a weights file.
    """

    source: Source
    config: dict[str, Any]
    preprocessing: Preprocessing
    weights: Path
    folder: Path | None

    @property
    def origin(self) -> str:
        """Where the weights came from, for manifests: a repository, or a file's name."""
        return f"{HUB_PREFIX}{self.source.repository}" if self.source.repository else str(self.folder or self.weights)

    @property
    def configuration(self) -> str:
        """SHA-256 over what decides a feature beside weights and images: heads, pooling, tokens and the like."""
        decisive = json.dumps([self.config, self.tokenizer], sort_keys=True)
        return hashlib.sha256(decisive.encode()).hexdigest()

    @property
    def tokenizer(self) -> dict[str, str]:
        """The SHA-256 of each file in the folder that a tokenizer may read; empty for CLIP's own."""
        if self.folder is None:
            return {}
        names = {path for pattern in TOKENIZER_PATTERNS for path in self.folder.glob(pattern)}
        return {path.name: hash_file(path) for path in sorted(names) if path.is_file()}


def default_model() -> str:
    """Return the model used where none is named: ``$ZEROSHOT_MODEL``, else ``base``."""
    return os.environ.get(ENVIRONMENT, "") or DEFAULT_ALIAS


def builtin_folder() -> Path:
    """Return the folder of the checkpoint inside the package."""
    return Path(__file__).parent / "checkpoints" / "tiny"


def resolve(model: str | None, pretrained: str | None = None, overrides: dict[str, Any] | None = None) -> Source:
    """Work out what a model's name means.

    Args:
        model: An alias, an architecture, ``hf-hub:ORG/REPO``, a folder; None for the default.
        pretrained: A weight tag or a weights file, with an architecture.
        overrides: Preprocessing given by the user (keys of open_clip's ``preprocess_cfg``).

    Raises:
        ModelError: There is no such model, tag or file.
        UsageError: A tag where the model already says which weights, or the lack of one where it does not.
    """
    name = model or default_model()
    alias = next((alias for alias in ALIASES if alias.name == name), None)
    if alias and not alias.architecture:
        _refuse_pretrained(name, pretrained)
        _refuse_overrides(name, overrides)
        return _resolve_folder(name, builtin_folder(), alias.name)
    if alias and not pretrained:
        return _resolve_tag(name, alias.architecture, alias.pretrained, overrides)
    if name.startswith(HUB_PREFIX):
        _refuse_pretrained(name, pretrained)
        _refuse_overrides(name, overrides)
        repository = name.removeprefix(HUB_PREFIX)
        if repository.count("/") != 1 or not all(repository.split("/")):
            raise ModelError(f"{name!r} names no repository", "write hf-hub:ORG/REPO")
        return Source(name, repository, repository=repository, weight_names=WEIGHTS, whole_folder=True)
    folder = Path(os.path.expanduser(name.removeprefix(FOLDER_PREFIX)))  # noqa: PTH111 (an unknown user's is no error)
    if name.startswith(FOLDER_PREFIX) or _is_folder(folder):
        _refuse_pretrained(name, pretrained)
        _refuse_overrides(name, overrides)
        return _resolve_folder(name, folder, folder.resolve().name)
    architecture = alias.architecture if alias else name.replace("/", "-")
    known = open_clip_tables.list_architectures()
    if architecture not in known:
        if folder.suffix in WEIGHT_SUFFIXES and _is_file(folder):
            raise UsageError(
                f"{name} is a weights file, which does not say its architecture",
                f"--model ARCHITECTURE --pretrained {name}",
            )
        raise ModelError(
            f"no model {name!r}{nearest(name, [*known, *(alias.name for alias in ALIASES)])}",
            f"`zeroshot models list` shows them; a folder needs {CONFIG_NAME}; hf-hub:ORG/REPO names a repository",
        )
    if not pretrained:
        tags = [tag for arch, tag in open_clip_tables.list_pretrained() if arch == architecture]
        raise UsageError(
            f"{name} is an architecture without weights", f"--pretrained one of: {', '.join(tags) or 'a weights file'}"
        )
    if open_clip_tables.pretrained_config(architecture, pretrained):
        return _resolve_tag(name, architecture, pretrained, overrides)
    return _resolve_file(name, architecture, pretrained, overrides)


def _refuse_pretrained(name: str, pretrained: str | None) -> None:
    if pretrained:
        raise UsageError(f"--pretrained {pretrained}: {name} says already which weights", "leave --pretrained out")


def _refuse_overrides(name: str, overrides: dict[str, Any] | None) -> None:
    if overrides:
        raise UsageError(
            f"{name} says itself how images are prepared; {', '.join(overrides)} cannot be given",
            "leave out --preprocess",
        )


def _resolve_tag(name: str, architecture: str, tag: str, overrides: dict[str, Any] | None) -> Source:
    """Resolve an architecture with one of open_clip's weight tags."""
    config = open_clip_tables.pretrained_config(architecture, tag)
    repository, _, filename = str(config.get("hf_hub", "")).rpartition("/")
    if filename:
        stem = filename.rsplit(".", 1)[0]
        names = tuple(dict.fromkeys((f"{stem}.safetensors", filename)))
    else:
        names = WEIGHTS
    model = open_clip_tables.model_config(architecture)
    # An architecture or a tag that says QuickGELU was trained with it; open_clip only warns where they disagree.
    quick = bool(config.get("quick_gelu")) or bool(model.get("quick_gelu"))
    return Source(
        name,
        architecture,
        pretrained=tag,
        repository=repository,
        weight_names=names,
        quick_gelu=quick,
        preprocessing=read_preprocessing({**config, **(overrides or {})}, model),
    )


def _resolve_file(name: str, architecture: str, pretrained: str, overrides: dict[str, Any] | None) -> Source:
    """Resolve an architecture with a weights file: its preprocessing has to be named or agreed upon."""
    path = Path(os.path.expanduser(pretrained))  # noqa: PTH111 (an unknown user's is no error)
    tags = [tag for arch, tag in open_clip_tables.list_pretrained() if arch == architecture]
    if not _is_file(path):
        raise ModelError(
            f"{architecture} has no weights {pretrained!r}{nearest(pretrained, tags)}",
            f"tags: {', '.join(tags) or 'none'}; or give the path of a weights file",
        )
    model = open_clip_tables.model_config(architecture)
    given = overrides or {}
    configs = [open_clip_tables.pretrained_config(architecture, tag) for tag in tags]
    gelus = {bool(config.get("quick_gelu")) or bool(model.get("quick_gelu")) for config in configs}
    known = {read_preprocessing({**config, **given}, model) for config in configs}
    if {"mean", "std", "interpolation", "resize_mode"} <= set(given):
        # Who knows that much of the file is believed about the name, which is GELU's or QuickGELU's as in open_clip.
        known = {read_preprocessing(given, model)}
        gelus = gelus if len(gelus) == 1 else {bool(model.get("quick_gelu"))}
    if len(known) != 1:
        raise UsageError(
            f"{path.name}: the preprocessing of these weights is not known"
            + (f" ({architecture} was trained with {len(known)} kinds)" if known else ""),
            "name it as it was trained: --preprocess FILE, or JSON with mean, std, interpolation and resize_mode",
        )
    if len(gelus) != 1:
        raise UsageError(
            f"{path.name}: {architecture} was trained both with GELU and QuickGELU, and the file does not say which",
            f"--model {architecture}-quickgelu for QuickGELU; a folder with {CONFIG_NAME} settles it",
        )
    return Source(name, architecture, weights=path, quick_gelu=gelus.pop(), preprocessing=known.pop())


def _resolve_folder(name: str, folder: Path, architecture: str) -> Source:
    if not _is_folder(folder):
        raise ModelError(f"no such folder: {folder}", f"a model's folder holds {CONFIG_NAME} and weights")
    if not (folder / CONFIG_NAME).is_file():
        raise ModelError(
            f"{folder} has no {CONFIG_NAME}",
            "save the model with open_clip.push_to_hf_hub.save_for_hf, or give --model ARCHITECTURE --pretrained FILE",
        )
    return Source(name, architecture, folder=folder, weights=_find_weights(folder))


# os.path: a name too long for the file system, or a place that one may not look into, is no file and not an error.
def _is_file(path: Path) -> bool:
    return os.path.isfile(path)  # noqa: PTH113


def _is_folder(path: Path) -> bool:
    return os.path.isdir(path)  # noqa: PTH112


def _find_weights(folder: Path) -> Path:
    """Return a folder's weights: a well-known name, else the only weights file there is."""
    for known in WEIGHTS:
        if (folder / known).is_file():
            return folder / known
    others = sorted(path for path in folder.iterdir() if path.suffix in WEIGHT_SUFFIXES and path.is_file())
    if len(others) != 1:
        what = "no weights" if not others else f"several weights ({', '.join(path.name for path in others)})"
        raise ModelError(f"{folder} has {what}", f"name the right file {WEIGHTS[0]}")
    return others[0]


def obtain(
    source: Source, on_progress: Callable[[download.Progress], None] | None = None, *, refresh: bool = False
) -> Files:
    """Bring a checkpoint to this disk, if it is not there yet, and read its configuration.

    Args:
        source: What `resolve` found.
        on_progress: Told of downloads.
        refresh: Ask the hub for the newest files of a folder even if the cache has one, and read the weights to see
            whether they are still what was downloaded.

    Raises:
        ModelError: It cannot be downloaded, its weights are damaged, or its configuration cannot be read.
    """
    folder, weights = source.folder, source.weights
    if source.whole_folder:
        folder = download.fetch_snapshot(source.repository, refresh=refresh, on_progress=on_progress)
        weights = _find_weights(folder)
    elif weights is None:
        weights = download.fetch(source.repository, source.weight_names, on_progress=on_progress)
    assert weights is not None
    if refresh:
        check_download(weights)
    if folder is not None:
        config, preprocessing = read_config(folder)
        return Files(source, config, preprocessing, weights, folder)
    assert source.preprocessing is not None
    return Files(source, open_clip_tables.model_config(source.architecture), source.preprocessing, weights, None)
