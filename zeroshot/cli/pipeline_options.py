"""How a command opens images and feeds them to the encoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..enums import Resampler
from ..errors import UsageError
from . import options

if TYPE_CHECKING:
    from ..features.cache import FeatureCache
    from ..features.pipeline import Pipeline

BatchSize = Annotated[
    int | None,
    typer.Option(
        "--batch-size",
        min=1,
        max=4096,
        help="Images encoded together; no answer depends on it, but --resume needs the same. [default: 32; on CUDA by "
        "the memory that is free; in int8 the next multiple of the cores]",
        metavar="N",
        rich_help_panel=options.Panel.ADVANCED,
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=1,
        max=256,
        help="Workers that read and decode. [default: the cores available]",
        metavar="N",
        rich_help_panel=options.Panel.ADVANCED,
    ),
]
Isolate = Annotated[
    bool,
    typer.Option(
        "--isolate",
        help="Decode in processes, one per worker: an image that crashes or hangs its decoder is one failed record. "
        "Without it they are threads: a damaged file is a failed record too, but a crash ends the run (`classify "
        "--resume` continues it) and a hang stops it.",
        rich_help_panel=options.Panel.ADVANCED,
    ),
]
ImageTimeout = Annotated[
    float | None,
    typer.Option(
        "--image-timeout",
        min=0.1,
        max=86400,
        help="With --isolate: seconds that one image may take. [default: 60]",
        metavar="SECONDS",
        rich_help_panel=options.Panel.ADVANCED,
    ),
]
NoExif = Annotated[
    bool,
    typer.Option(
        "--no-exif",
        help="Leave images as stored, not turned upright; published protocols do the same.",
        rich_help_panel=options.Panel.ADVANCED,
    ),
]
Draft = Annotated[
    bool,
    typer.Option(
        "--draft",
        help="Decode large JPEGs at a half, quarter or eighth of their size, at least twice the model's: decoding "
        "is several times as fast; probabilities move, by 0.01 on average.",
        rich_help_panel=options.Panel.ADVANCED,
    ),
]
Resize = Annotated[
    Resampler,
    typer.Option(
        "--resize",
        help="What resizes images: exact as open_clip does; fast (extra `fast`) with nearly the same values, "
        "which reads photographs in two thirds of the time.",
        rich_help_panel=options.Panel.ADVANCED,
    ),
]
MaxPixels = Annotated[
    int | None,
    typer.Option(
        "--max-pixels",
        min=1,
        help="Reject images with more pixels. [default: 178956970, or what fits into the available memory]",
        metavar="N",
        rich_help_panel=options.Panel.ADVANCED,
    ),
]
NoCache = Annotated[
    bool,
    typer.Option(
        "--no-cache",
        help="Compute all features again, and store none (see `zeroshot cache`).",
        rich_help_panel=options.Panel.ADVANCED,
    ),
]


@dataclass(frozen=True, slots=True)
class ImageOptions:
    """How images are opened and fed to the encoder.

    Raises:
        UsageError: There is a time limit, and nothing that could be stopped by it.
    """

    no_exif: NoExif = False
    max_pixels: MaxPixels = None
    draft: Draft = False
    resize: Resize = Resampler.EXACT
    no_cache: NoCache = False
    batch_size: BatchSize = None
    workers: Workers = None
    isolate: Isolate = False
    image_timeout: ImageTimeout = None

    def __post_init__(self) -> None:
        if self.image_timeout is not None and not self.isolate:
            raise UsageError("--image-timeout needs --isolate: a thread cannot be stopped", "add --isolate")

    def pipeline(self, *, as_stored: bool = False) -> Pipeline:
        """Return the pipeline, with the feature cache unless it is refused.

        Args:
            as_stored: Leave images as stored, whatever was asked for, and resize them exactly.

        Raises:
            UsageError: What resizes is not installed, or not what a published protocol is measured with.
        """
        from ..features.pipeline import DEFAULT_BATCH, Pipeline
        from ..images.decode import DEFAULT_MAX_PIXELS, MOST_BYTES, DecodeOptions
        from ..images.isolate import DEFAULT_SECONDS, Isolation
        from ..system.installed import available_cores
        from ..system.memory import available_memory

        if as_stored and self.resize is not Resampler.EXACT:
            raise UsageError(
                f"--resize {self.resize}: published protocols are measured with exact resizing", "leave out --resize"
            )
        if self.resize is not Resampler.EXACT:
            from ..images.fast_resize import version_of

            version_of(self.resize)  # before the model is loaded
        count = self.workers or available_cores()
        # Half of what there is: the other half is for the model, which is loaded later, and for its batches.
        memory = None if self.max_pixels or (free := available_memory()) is None else free // 2 // count
        most = self.max_pixels or DEFAULT_MAX_PIXELS
        decode_options = DecodeOptions(
            exif=not (self.no_exif or as_stored), max_pixels=most, memory=memory, draft=self.draft, resize=self.resize
        )
        limit = most * MOST_BYTES if memory is None else min(most * MOST_BYTES, memory)
        return Pipeline(
            self.batch_size or DEFAULT_BATCH,
            count,
            decode_options,
            self._open_cache(),
            isolation=Isolation(self.image_timeout or DEFAULT_SECONDS, limit) if self.isolate else None,
            suited=self.batch_size is None,
        )

    def _open_cache(self) -> FeatureCache | None:
        if self.no_cache:
            return None
        from ..features.cache import FeatureCache
        from .console import warn

        return FeatureCache(warn=warn)

    def choices(self, pipeline: Pipeline) -> dict[str, Any]:
        """Return what a manifest says about the way images were opened."""
        chosen: dict[str, Any] = {"exif": pipeline.decode_options.exif}
        chosen |= {"draft": True} if self.draft else {}
        if self.resize is not Resampler.EXACT:
            from ..images.fast_resize import version_of

            chosen["resize"] = f"{self.resize} {version_of(self.resize)}"
        chosen |= {"max_pixels": self.max_pixels} if self.max_pixels else {}
        return chosen
