"""Choose an engine and load a model into it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import hub, models
from .encoder import Device, Encoder, Engine, Precision


def load_encoder(
    model: str | None = None,
    pretrained: str | None = None,
    *,
    device: Device = Device.AUTO,
    precision: Precision = Precision.AUTO,
    engine: Engine = Engine.AUTO,
    preprocessing: dict[str, Any] | None = None,
    on_progress: Callable[[hub.Progress], None] | None = None,
) -> Encoder:
    """Load a model, downloading it on first use.

    Args:
        model: An alias (``tiny``, ``base``, ...), an open_clip architecture, ``hf-hub:ORG/REPO`` or a folder; None
            for ``$ZEROSHOT_MODEL``, else ``base``.
        pretrained: With an architecture: open_clip's weight tag or a weights file.
        device: Where to run.
        precision: Arithmetic of the towers.
        engine: What runs the towers.
        preprocessing: For a weights file whose preprocessing is not known: ``mean``, ``std``, ``interpolation``,
            ``resize_mode``.
        on_progress: Told of downloads.

    Raises:
        ModelError: The model is unknown, cannot be had, or is unsafe or damaged.
        UsageError: The options contradict each other.
    """
    source = models.resolve(model, pretrained, preprocessing)
    files = models.obtain(source, on_progress)
    from . import engine_torch

    return engine_torch.load(files, device, precision)
