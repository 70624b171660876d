"""Explains what open_clip, timm and transformers raise while a model is built, in one line with a remedy."""

from __future__ import annotations

from ..errors import MORE_MEMORY, ModelError, ResourceError, ZeroshotError
from ..models.checkpoint import Files
from ..system.installed import how_to_install
from ..system.memory import is_out_of_memory


def explain_loading(error: Exception, files: Files) -> ZeroshotError:
    """Make one line of what open_clip and its libraries raise while a model is built."""
    what = " ".join(str(error).split())
    name = files.source.model
    if is_out_of_memory(error):
        return ResourceError(f"there is not enough memory to load {name}", MORE_MEMORY)
    if isinstance(error, ImportError) or ("transformers" in what.lower() and "install" in what.lower()):
        return ModelError(f"{name} needs a package that is missing: {what[:200]}", how_to_install("transformers"))
    if (
        "Missing key(s)" in what
        or "Unexpected key(s)" in what
        or "size mismatch" in what
        or isinstance(error, KeyError)
    ):
        return ModelError(
            f"{files.weights.name} does not fit the architecture {files.source.architecture}: {what[:200]}",
            "give the architecture that the weights were trained with",
        )
    if "huggingface.co" in what or "offline" in what.lower() or "connect" in what.lower():
        return ModelError(
            f"{name} needs files from the hub that are not cached (a tokenizer or text tower): {what[:200]}",
            "run `zeroshot models pull` where there is a network",
        )
    return ModelError(
        f"{name} cannot be loaded: {type(error).__name__}: {what[:300]}",
        "`zeroshot doctor` checks the installation; `zeroshot models info` shows the model",
    )
