"""From what a user types after ``--model`` to the facts and files that an engine needs.

Nothing here imports torch: whether a checkpoint is known, cached or unreachable is said at once.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import ModelError, UsageError, ZeroshotError, nearest
from . import open_clip_tables
from .aliases import ALIASES, Alias
from .checkpoint import HUB_PREFIX, Files, Source
from .checkpoint_files import CONFIG_NAME, CONFIGS, WEIGHT_SUFFIXES, WEIGHTS
from .configuration import read_config, read_preprocessing
from .hub import download
from .transformers_folder import is_transformers_folder, read_transformers_config
from .weights_hash import check_download

DEFAULT_ALIAS = "base"
ENVIRONMENT = "ZEROSHOT_MODEL"
FOLDER_PREFIX = "local-dir:"
_REPOSITORY = re.compile(r"(?P<repository>[\w-][\w.-]*/[\w-][\w.-]*)(?:@(?P<revision>[\w-][\w./-]*))?", re.ASCII)
_PREFERRED = ("datacomp_xl", "datacomp_s34b", "dfn", "dfndr", "webli", "laion2b", "metaclip", "openai")
"""How the weight tags begin that are recommended, the preferred one first: by published ImageNet accuracy."""


def default_model() -> str:
    """Return the model used where none is named: ``$ZEROSHOT_MODEL``, else ``base``."""
    return os.environ.get(ENVIRONMENT, "") or DEFAULT_ALIAS


def builtin_folder() -> Path:
    """Return the folder of the checkpoint inside the package."""
    return Path(__file__).parent / "checkpoints" / "tiny"


@dataclass(frozen=True, slots=True)
class Request:
    """What a user asks for.

    Attributes:
        name: The model.
        pretrained: A weight tag or a weights file; empty for none.
        overrides: Preprocessing given by the user (keys of open_clip's ``preprocess_cfg``).
    """

    name: str
    pretrained: str = ""
    overrides: Mapping[str, Any] = field(default_factory=dict)

    @property
    def alias(self) -> Alias | None:
        """The short name that it is, if it is one."""
        return next((alias for alias in ALIASES if alias.name == self.name), None)

    @property
    def architecture(self) -> str:
        """The architecture that it would be; an alias is that of its own."""
        return (self.alias.architecture if self.alias else "") or self.name.replace("/", "-")

    @property
    def folder(self) -> Path:
        """The folder that it would be."""
        # os.path: a home of an unknown user is no error.
        return Path(os.path.expanduser(self.name.removeprefix(FOLDER_PREFIX)))  # noqa: PTH111

    def refuse_options(self) -> None:
        """Refuse a tag and preprocessing, where the model itself says both.

        Raises:
            UsageError: One was given.
        """
        if self.pretrained:
            raise UsageError(
                f"--pretrained {self.pretrained}: {self.name} says already which weights", "leave --pretrained out"
            )
        if self.overrides:
            raise UsageError(
                f"{self.name} says itself how images are prepared; {', '.join(self.overrides)} cannot be given",
                "leave out --preprocess",
            )


def resolve(model: str | None, pretrained: str | None = None, overrides: Mapping[str, Any] | None = None) -> Source:
    """Work out what a model's name means: the first of `RESOLVERS` that knows it says so.

    Args:
        model: An alias, an architecture, ``hf-hub:ORG/REPO``, a folder; None for the default.
        pretrained: A weight tag or a weights file, with an architecture.
        overrides: Preprocessing given by the user (keys of open_clip's ``preprocess_cfg``).

    Raises:
        ModelError: There is no such model, tag or file.
        UsageError: A tag where the model already says which weights, or the lack of one where it does not.
    """
    request = Request(model or default_model(), pretrained or "", overrides or {})
    for resolver in RESOLVERS:
        if source := resolver(request):
            return source
    raise _explain_unknown(request)


def _resolve_built_in(request: Request) -> Source | None:
    if request.alias is None or request.alias.architecture:
        return None
    request.refuse_options()
    return _open_folder(request.name, builtin_folder(), request.alias.name)


def _resolve_alias(request: Request) -> Source | None:
    if request.alias is None or request.pretrained:
        return None
    return _open_tag(request, request.alias.pretrained)


def _resolve_hub(request: Request) -> Source | None:
    if not request.name.startswith(HUB_PREFIX):
        return None
    request.refuse_options()
    found = _REPOSITORY.fullmatch(request.name.removeprefix(HUB_PREFIX))
    if not found or ".." in request.name:
        raise ModelError(
            f"{request.name[:200]!r} names no repository", "write hf-hub:ORG/REPO or hf-hub:ORG/REPO@REVISION"
        )
    repository, revision = found["repository"], found["revision"] or ""
    return Source(
        request.name, repository, repository=repository, revision=revision, weight_names=WEIGHTS, whole_folder=True
    )


def _resolve_folder(request: Request) -> Source | None:
    if not request.name.startswith(FOLDER_PREFIX) and not _is_folder(request.folder):
        return None
    request.refuse_options()
    return _open_folder(request.name, request.folder, request.folder.resolve().name)


def _resolve_tag(request: Request) -> Source | None:
    if not request.pretrained or not open_clip_tables.pretrained_config(request.architecture, request.pretrained):
        return None
    return _open_tag(request, request.pretrained)


def _resolve_file(request: Request) -> Source | None:
    if not request.pretrained or request.architecture not in open_clip_tables.list_architectures():
        return None
    return _open_file(request)


RESOLVERS: tuple[Callable[[Request], Source | None], ...] = (
    _resolve_built_in,
    _resolve_alias,
    _resolve_hub,
    _resolve_folder,
    _resolve_tag,
    _resolve_file,
)
"""In order; each returns None for a request that is not its own, and raises where its own cannot be met."""


def _explain_unknown(request: Request) -> ZeroshotError:
    """Return the error for a request that no resolver knows: an architecture without weights, or nothing at all."""
    name, known = request.name, open_clip_tables.list_architectures()
    if request.architecture in known:
        return UsageError(f"{name} is an architecture without weights", _recommend(request.architecture))
    if request.folder.suffix in WEIGHT_SUFFIXES and _is_file(request.folder):
        return UsageError(
            f"{name} is a weights file, which does not say its architecture",
            f"--model ARCHITECTURE --pretrained {name}",
        )
    hint = f"`zeroshot models list` shows them; a folder needs {CONFIG_NAME}; hf-hub:ORG/REPO names a repository"
    if _REPOSITORY.fullmatch(name):
        hint = f"--model {HUB_PREFIX}{name} for that repository on the hub; `zeroshot models list` shows short names"
    return ModelError(f"no model {name!r}{nearest(name, [*known, *(alias.name for alias in ALIASES)])}", hint)


def _recommend(architecture: str) -> str:
    """Return the hint that names one weight tag of an architecture, and how to see the others."""
    tags = [tag for known, tag in open_clip_tables.list_pretrained() if known == architecture]
    if not tags:
        return "--pretrained FILE: open_clip has no weights of its own for it"
    best = min(tags, key=lambda tag: next((i for i, start in enumerate(_PREFERRED) if tag.startswith(start)), 99))
    others = f"; `zeroshot models list --all` shows all {len(tags)}" if len(tags) > 1 else ""
    return f"--pretrained {best}{others}; or the path of a weights file"


def _open_tag(request: Request, tag: str) -> Source:
    """Resolve an architecture with one of open_clip's weight tags."""
    architecture = request.architecture
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
        request.name,
        architecture,
        pretrained=tag,
        repository=repository,
        weight_names=names,
        quick_gelu=quick,
        preprocessing=read_preprocessing({**config, **request.overrides}, model),
    )


def _open_file(request: Request) -> Source:
    """Resolve an architecture with a weights file: its preprocessing has to be named or agreed upon."""
    architecture = request.architecture
    path = Path(os.path.expanduser(request.pretrained))  # noqa: PTH111 (an unknown user's is no error)
    tags = [tag for arch, tag in open_clip_tables.list_pretrained() if arch == architecture]
    if not _is_file(path):
        raise ModelError(
            f"{architecture} has no weights {request.pretrained!r}{nearest(request.pretrained, tags)}",
            _recommend(architecture),
        )
    model = open_clip_tables.model_config(architecture)
    given = request.overrides
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
    return Source(request.name, architecture, weights=path, quick_gelu=gelus.pop(), preprocessing=known.pop())


def _open_folder(name: str, folder: Path, architecture: str) -> Source:
    if not _is_folder(folder):
        raise ModelError(f"no such folder: {folder}", f"a model's folder holds {CONFIG_NAME} and weights")
    if not any((folder / name).is_file() for name in CONFIGS):
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
        folder = download.fetch_snapshot(
            source.repository, revision=source.revision or None, refresh=refresh, on_progress=on_progress
        )
        weights = _find_weights(folder)
    elif weights is None:
        weights = download.fetch(source.repository, source.weight_names, on_progress=on_progress)
    assert weights is not None
    if refresh:
        check_download(weights)
    if folder is not None:
        read = read_transformers_config if is_transformers_folder(folder) else read_config
        config, preprocessing = read(folder)
        return Files(source, config, preprocessing, weights, folder)
    assert source.preprocessing is not None
    return Files(source, open_clip_tables.model_config(source.architecture), source.preprocessing, weights, None)
