"""Refuses weights that would run code: they are read as plain tensors before open_clip, less strict, reads them."""

from __future__ import annotations

from pathlib import Path

from ..errors import ModelError
from ..models.weights_hash import how_to_replace


def check_weights(path: Path) -> None:
    """Refuse weights that would run code: anything but safetensors and what torch reads as plain tensors.

    open_clip falls back to an unguarded read where the guarded one raises a TypeError; this reads first.

    Raises:
        ModelError: The file is a pickle of more than tensors, or damaged.
    """
    import torch

    if path.suffix == ".safetensors":
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="pt"):
                return
        except (SafetensorError, OSError) as error:
            raise ModelError(
                f"{path.name} is damaged: {error}",
                how_to_replace(path),
            ) from error
    if path.suffix == ".npz":
        return  # open_clip reads it with numpy, which refuses pickles
    try:
        torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler raises whatever a hostile or damaged file makes it raise
        what = str(error)
        if "torch.jit" in what or "TorchScript" in what:
            raise ModelError(
                f"{path.name} is a TorchScript archive, which holds code", "use the same weights as safetensors"
            ) from error
        if "weights_only" in what.lower() or "Unsupported" in what or "GLOBAL" in what:
            raise ModelError(
                f"{path.name} is refused: it is a pickle that holds more than tensors and could run code",
                "convert it to safetensors where you trust it",
            ) from error
        raise ModelError(
            f"{path.name} is damaged or not a weights file: {' '.join(what.split())[:200]}",
            how_to_replace(path),
        ) from error
