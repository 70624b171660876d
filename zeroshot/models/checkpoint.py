"""Describes a checkpoint twice: as a name stands for it before any download, and as files on this disk."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..encoder import Preprocessing
from .aliases import ALIASES
from .checkpoint_files import TOKENIZER_PATTERNS
from .weights_hash import hash_file

HUB_PREFIX = "hf-hub:"


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
        revision: Branch, tag or commit of the repository; empty for the main branch.
        whole_folder: The repository is a model's folder of its own.
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
    revision: str = ""
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
        """Where the weights came from, for manifests: a repository with the revision asked for, or a file's name."""
        if not self.source.repository:
            return str(self.folder or self.weights)
        revision = f"@{self.source.revision}" if self.source.revision else ""
        return f"{HUB_PREFIX}{self.source.repository}{revision}"

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
