"""The PyTorch engine on a CUDA device: the next batch is sent and launched before the last one is fetched.

One stream copies pixels, another encodes, so that a batch travels while the one before it is encoded. Batches lie in
buffers of pinned memory, from which they are copied without waiting; a buffer is used again once its batch was fetched.
What is asked of the device goes through `Streams`, so that the order of it can be watched without one.
"""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import numpy as np

from ..encoder import EncoderSpec, Features, Pixels
from .torch_engine import TorchEncoder, normalise_there

_MOST, _LEAST = 512, 32
_BYTES_AN_IMAGE = 32 << 20
"""What one image may take while it is encoded: that of a ViT-H at 336 pixels in half precision, by counting."""


class Streams:
    """What is asked of a CUDA device.

    Args:
        torch: The module.
        device: Its name.
    """

    def __init__(self, torch: Any, device: str) -> None:
        self._torch, self._device = torch, device
        self.copying = torch.cuda.Stream(device)
        self.encoding = torch.cuda.Stream(device)

    def pinned(self, shape: tuple[int, ...]) -> Any:
        """Return bytes of pinned memory as a tensor on the host."""
        return self._torch.empty(shape, dtype=self._torch.uint8, pin_memory=True)

    def on(self, stream: Any) -> Any:
        """Return a context in which work is given to a stream."""
        return self._torch.cuda.stream(stream)

    def send(self, rows: Any) -> Any:
        """Begin to copy pinned bytes to the device, on the stream that is current."""
        return rows.to(self._device, non_blocking=True)

    def mark(self, stream: Any) -> Any:
        """Return an event that happens when all that was given to a stream so far is done."""
        return stream.record_event()

    def wait(self, stream: Any, event: Any) -> None:
        """Let a stream wait for an event before what it is given next; the host does not wait."""
        stream.wait_event(event)

    def keep(self, rows: Any, stream: Any) -> None:
        """Keep the memory of a tensor that another stream made until this one is done with it."""
        rows.record_stream(stream)

    def free_memory(self) -> int:
        """Return the bytes of the device that nobody uses."""
        return int(self._torch.cuda.mem_get_info(self._device)[0])


class CudaEncoder(TorchEncoder):
    """An open_clip model on a CUDA device as a `ParallelEncoder`.

    Args:
        model: In evaluation mode, on its device.
        tokenizer: open_clip's for the model.
        spec: The facts about both.
        streams: What is asked of the device; None for the device itself.
    """

    n_devices = 1

    def __init__(self, model: Any, tokenizer: Any, spec: EncoderSpec, streams: Streams | None = None) -> None:
        super().__init__(model, tokenizer, spec)
        self._streams = streams or Streams(self._torch, spec.device)
        self._buffers: list[Any] = []  # those that no batch is in

    @property
    def best_batch(self) -> int:
        """How many images to encode together, by the memory that is free: a power of two."""
        fitting = self._streams.free_memory() // 2 // _BYTES_AN_IMAGE
        return max(_LEAST, min(_MOST, 1 << max(0, fitting.bit_length() - 1)))

    def encode_images(self, pixels: Pixels) -> Features:
        """Encode ``(n_images, height, width, 3)`` pixels to unit rows ``(n_images, dim)``, and wait for them."""
        return self.submit(pixels).result()

    def submit(self, pixels: Pixels) -> Future[Features]:
        """Launch a batch; its features are fetched when they are asked for.

        A batch that runs out of memory is encoded at once, in halves.
        """
        self._probe("image", lambda: self._encode_images(np.full_like(pixels[:1], 128)))
        try:
            return self._launch(pixels)
        except self._torch.OutOfMemoryError:
            self._torch.cuda.empty_cache()
        made: Future[Features] = Future()
        made.set_result(super().encode_images(pixels))
        return made

    def _launch(self, pixels: Pixels) -> _Launched:
        streams, n = self._streams, len(pixels)
        buffer = self._take(pixels.shape)
        try:
            buffer[:n].copy_(self._torch.from_numpy(np.ascontiguousarray(pixels)))
            with self._torch.inference_mode():
                mean, std = self._scale()
                with streams.on(streams.copying):
                    rows = streams.send(buffer[:n])
                streams.wait(streams.encoding, streams.mark(streams.copying))
                with streams.on(streams.encoding):
                    planes = normalise_there(rows, mean, std).to(self._dtype)
                    features = self._unit_there(self._model.encode_image(planes, normalize=False))
                    streams.keep(rows, streams.encoding)
                done = streams.mark(streams.encoding)
        except BaseException:
            streams.mark(streams.copying).synchronize()  # it may still be read
            self._buffers.append(buffer)
            raise
        return _Launched(self, features, done, buffer)

    def _take(self, shape: tuple[int, ...]) -> Any:
        """Return a buffer that holds at least so many images of this size; one that is too small is given up."""
        while self._buffers:
            buffer = self._buffers.pop()
            if len(buffer) >= shape[0] and tuple(buffer.shape[1:]) == shape[1:]:
                return buffer
        return self._streams.pinned(shape)

    def fetch(self, features: Any, done: Any, buffer: Any) -> Features:
        """Wait for a batch and copy its features; what it lay in is free again."""
        done.synchronize()
        self._buffers.append(buffer)
        return np.asarray(features.cpu().numpy(), dtype=np.float32)


class _Launched(Future[Features]):
    """A batch on the device; asking for its result is what fetches it."""

    def __init__(self, encoder: CudaEncoder, *launched: Any) -> None:
        super().__init__()
        self._encoder, self._launched = encoder, launched

    def result(self, timeout: float | None = None) -> Features:
        """Return the features, shape ``(n_images, dim)``; the same ones however often they are asked for."""
        if not self.done():
            self.set_result(self._encoder.fetch(*self._launched))
        return super().result(timeout)
