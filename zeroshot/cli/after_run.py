"""What follows a run: the export that was asked for, or a line about what would make the next run start sooner."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from ..enums import Device, Engine, Precision
from ..errors import ZeroshotError
from . import console

if TYPE_CHECKING:
    from ..encoder import Encoder
    from ..models.checkpoint import Source
    from .model_options import ModelOptions


def follow_up(encoder: Encoder, asked: ModelOptions, find_source: Callable[[], Source], seconds: float) -> None:
    """Have done, once the command's results are complete, what spares later runs PyTorch.

    Args:
        encoder: As it was loaded.
        asked: The options.
        find_source: Finds what the model was loaded from.
        seconds: How long importing PyTorch and loading the model took.
    """
    spec = encoder.spec
    if (spec.engine, spec.device) != (Engine.TORCH, Device.CPU):
        return
    if asked.export and spec.precision is not Precision.FP32:
        console.warn(f"--export stores float32, and this run has --precision {spec.precision}: nothing is exported")
    elif asked.export:
        console.do_afterwards(partial(_export, encoder, find_source()))
    elif (asked.engine, asked.precision) == (Engine.AUTO, Precision.AUTO) and sys.stderr.isatty():
        told = f"importing PyTorch and loading {spec.model} took {seconds:.1f} s of this run; "
        told += f"`zeroshot models pull {find_source().arguments}` once spares later runs most of it (so does --export)"
        console.do_afterwards(partial(console.note, told))


def _export(encoder: Encoder, source: Source) -> None:
    """Export a model that was loaded for a run; that it cannot be exported is a warning, for the run was well."""
    from ..engines.choose import export_loaded
    from ..system.sizes import in_bytes

    console.end_stdout()
    name, begin = encoder.spec.model, time.monotonic()
    try:
        with console.doing(f"the results are complete; exporting {name} for later runs"):
            folder = export_loaded(source, encoder)
    except ZeroshotError as error:
        console.warn(f"{name} was not exported: {error.message}" + (f" ({error.hint})" if error.hint else ""))
    except KeyboardInterrupt:
        console.say(f"zeroshot: the results are complete; {name} was not exported")
        raise
    else:
        if folder is not None:
            size = in_bytes(sum(path.stat().st_size for path in folder.iterdir()))
            console.note(
                f"exported {name} in {time.monotonic() - begin:.0f} s, {size}; later runs start without PyTorch"
            )
