"""Makes the export that was asked for after a run, or says what would make the next one quicker."""

from __future__ import annotations

import sys
import time
from functools import partial
from typing import TYPE_CHECKING

from ..enums import Device, Engine, Precision
from ..errors import ZeroshotError
from . import console

if TYPE_CHECKING:
    from ..encoder import Encoder
    from ..models.checkpoint import Source
    from .model_options import ModelOptions


_SLOW = 60.0
"""Seconds of the processor after which a run is told of 8-bit graphs."""


def follow_up(encoder: Encoder, asked: ModelOptions, seconds: float) -> None:
    """Have done or said, once the command's results are complete, what makes later runs on the CPU quicker.

    Args:
        encoder: As it was loaded.
        asked: The options.
        seconds: How long importing PyTorch and loading the model took.
    """
    spec = encoder.spec
    if spec.device != Device.CPU:
        return
    torch, told = spec.engine is Engine.TORCH, asked.precision is Precision.AUTO and sys.stderr.isatty()
    if torch and asked.export and spec.precision is not Precision.FP32:
        console.warn(f"--export stores float32, and this run has --precision {spec.precision}: nothing is exported")
    elif torch and asked.export:
        console.do_afterwards(partial(_export, encoder, asked.source()))
    elif torch and told and asked.engine is Engine.AUTO:
        text = f"importing PyTorch and loading {spec.model} took {seconds:.1f} s of this run; "
        text += (
            f"`zeroshot models pull {asked.source().arguments}` once spares later runs most of it (so does --export)"
        )
        console.do_afterwards(partial(console.note, text))
    elif told and not torch:
        console.do_afterwards(partial(_tell_of_int8, asked, time.process_time()))


def _tell_of_int8(asked: ModelOptions, begin: float) -> None:
    """Name the precision that is quicker, behind a run that was slow, as long as nobody has tried it."""
    from ..engines.choose import lacks_int8

    if time.process_time() - begin > _SLOW and lacks_int8(asked.source()):
        console.note(
            "--precision int8 is about twice as fast on a CPU; what it costs in accuracy on labelled images says"
            " `zeroshot eval DIR --precision fp32 --precision int8`"
        )


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
