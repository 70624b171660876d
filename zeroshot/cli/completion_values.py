"""The values that a shell completes: models, weight tags, template sets."""

from __future__ import annotations

from collections.abc import Iterable

import typer


def _matching(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.casefold().startswith(incomplete.casefold())]


def complete_model(incomplete: str) -> list[str]:
    """Return the aliases, then the architectures; folders are completed by the shell where none fits."""
    from ..models.aliases import ALIASES
    from ..models.open_clip_tables import list_architectures

    return _matching([*(alias.name for alias in ALIASES), *list_architectures()], incomplete)


def complete_pretrained(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the weight tags of the architecture that is named already; of every one where none is."""
    from ..models.open_clip_tables import list_pretrained

    named = ctx.params.get("model")
    models = [named] if isinstance(named, str) else named or []
    tags = [tag for architecture, tag in list_pretrained() if not models or architecture in models]
    return _matching(dict.fromkeys(tags), incomplete)


def complete_prompts(incomplete: str) -> list[str]:
    """Return the shipped template sets."""
    from ..prompts.template_sets import list_names

    return _matching(list_names(), incomplete)


def complete_device(incomplete: str) -> list[str]:
    """Return the kinds of device, and all of the one that there may be several of."""
    return _matching(["auto", "cuda", "cuda:all", "mps", "cpu"], incomplete)


def complete_labels_file(incomplete: str) -> list[str]:
    """Return the name that stands for ImageNet's labels; files are completed by the shell where it does not fit."""
    return _matching(["imagenet"], incomplete) if incomplete else []
