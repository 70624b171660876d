"""How a command opens images and feeds them to the encoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..enums import Resampler
from ..errors import UsageError
from . import options

if TYPE_CHECKING:
    from ..features.cache import FeatureCache
    from ..features.pipeline import Pipeline


@dataclass(frozen=True, slots=True)
class ImageOptions:
    """How images are opened and fed to the encoder.

    Raises:
        UsageError: There is a time limit, and nothing that could be stopped by it.
    """

    no_exif: options.NoExif = False
    max_pixels: options.MaxPixels = None
    draft: options.Draft = False
    resize: options.Resize = Resampler.EXACT
    no_cache: options.NoCache = False
    batch_size: options.BatchSize = None
    workers: options.Workers = None
    isolate: options.Isolate = False
    image_timeout: options.ImageTimeout = None

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
