"""The path to a CUDA device, run on the CPU with what is asked of the device written down."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from support.fixtures import SaveImage
from support.models import vit
from zeroshot.cli.pipeline_options import ImageOptions
from zeroshot.encoder import BatchingEncoder, ParallelEncoder
from zeroshot.engines.cuda_engine import CudaEncoder, Streams
from zeroshot.engines.torch_engine import TorchEncoder
from zeroshot.features.pipeline import Pipeline, encode_batches

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)


class Recorded(Streams):
    """A device that is this processor: every request is done at once, and written down."""

    def __init__(self, free: int = 1 << 36) -> None:
        self.log: list[str] = []
        self.copying, self.encoding, self.free, self.current = "copying", "encoding", free, "none"

    def pinned(self, shape: tuple[int, ...]) -> Any:
        self.log.append(f"pin {shape[0]}")
        return torch.empty(shape, dtype=torch.uint8)

    @contextmanager
    def on(self, stream: Any) -> Any:
        before, self.current = self.current, stream
        yield
        self.current = before

    def send(self, rows: Any) -> Any:
        self.log.append(f"send {len(rows)} on {self.current}")
        return rows.clone()

    def mark(self, stream: Any) -> Any:
        return _Event(self.log, stream)

    def wait(self, stream: Any, event: Any) -> None:
        self.log.append(f"{stream} waits for {event.stream}")

    def keep(self, rows: Any, stream: Any) -> None:
        self.log.append(f"keep for {stream}")

    def free_memory(self) -> int:
        return self.free


class _Event:
    def __init__(self, log: list[str], stream: str) -> None:
        self.stream, self._log = stream, log

    def synchronize(self) -> None:
        self._log.append(f"host waits for {self.stream}")


@pytest.fixture
def both() -> tuple[TorchEncoder, CudaEncoder, Recorded]:
    """The plain engine, and the same model behind a device whose requests are written down."""
    torch.manual_seed(0)
    plain, streams = vit(), Recorded()
    encoder = CudaEncoder(plain.model, plain.tokenizer, plain.spec, streams)
    encode = plain.model.encode_image

    def encode_image(planes: torch.Tensor, normalize: bool) -> torch.Tensor:
        assert planes.is_contiguous(memory_format=torch.channels_last) or streams.current == "none"
        streams.log.append(f"encode {len(planes)} on {streams.current}")
        return encode(planes, normalize=normalize)

    plain.model.encode_image = encode_image
    return plain, encoder, streams


def test_the_next_batch_is_launched_before_the_last_is_fetched(
    both: tuple[TorchEncoder, CudaEncoder, Recorded], images: SaveImage
) -> None:
    """Bytes go out on one stream, and are encoded on another; the host waits for a batch only for its features."""
    plain, encoder, streams = both
    paths = [str(images(f"{index}.png", (index, 0, 9 * index))) for index in range(20)]
    pipeline = Pipeline(4, 1, fixed_batches=True)
    found = [item for batch in encode_batches(encoder, paths, pipeline) for item in batch]
    launch = ["send 4 on copying", "encoding waits for copying", "encode 4 on encoding", "keep for encoding"]
    first, fetch = ["encode 1 on none"], ["host waits for encoding"]
    pinned = ["pin 4", *launch]
    assert streams.log == [*first, *pinned, *pinned, *pinned, *fetch, *launch, *fetch, *launch, *fetch, *fetch, *fetch]
    expected = [item for batch in encode_batches(plain, paths, pipeline) for item in batch]
    assert [item.path for item in found] == [item.path for item in expected] == paths
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.features, other.features, atol=1e-6)


def test_features_are_the_engines_own_and_stay(both: tuple[TorchEncoder, CudaEncoder, Recorded]) -> None:
    """Whatever lies in the buffer later, and however often a batch is asked for; smaller batches fit a used buffer."""
    plain, encoder, streams = both
    assert isinstance(encoder, ParallelEncoder) and isinstance(encoder, BatchingEncoder)
    first, second = encoder.submit(PIXELS[:6]), encoder.submit(PIXELS[6:])
    np.testing.assert_allclose(second.result(), plain.encode_images(PIXELS[6:]), atol=1e-6)
    np.testing.assert_allclose(first.result(), plain.encode_images(PIXELS[:6]), atol=1e-6)
    kept = first.result().copy()
    encoder.encode_images(PIXELS[6:9])
    np.testing.assert_array_equal(first.result(), kept)
    assert [line for line in streams.log if line.startswith("pin")] == ["pin 6", "pin 6"]
    encoder.encode_images(PIXELS)
    assert streams.log.count("pin 12") == 1


def test_mean_and_deviation_are_made_once(
    both: tuple[TorchEncoder, CudaEncoder, Recorded], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They stay on the device."""
    _, encoder, _ = both
    made: list[Any] = []
    tensor = torch.tensor
    monkeypatch.setattr(torch, "tensor", lambda *given, **how: made.append(given) or tensor(*given, **how))
    for _ in range(3):
        encoder.encode_images(PIXELS[:2])
    assert len(made) == 2


def test_a_batch_without_room_is_halved(both: tuple[TorchEncoder, CudaEncoder, Recorded]) -> None:
    """Its buffer is free again, its rows keep their order, and what is launched afterwards goes on."""
    plain, encoder, _ = both
    whole = plain.encode_images(PIXELS)
    encode = plain.model.encode_image

    def small(planes: torch.Tensor, normalize: bool) -> torch.Tensor:
        if len(planes) > 3:
            raise torch.OutOfMemoryError("no room")
        return encode(planes, normalize=normalize)

    plain.model.encode_image = small
    np.testing.assert_allclose(encoder.submit(PIXELS).result(), whole, atol=1e-6)
    assert len(encoder._buffers) >= 1
    np.testing.assert_allclose(encoder.encode_images(PIXELS[:3]), whole[:3], atol=1e-6)


@pytest.mark.parametrize(("free", "batch"), [(80 << 30, 512), (16 << 30, 256), (8 << 30, 128), (1 << 30, 32), (0, 32)])
def test_the_batch_follows_the_memory_that_is_free(
    free: int, batch: int, both: tuple[TorchEncoder, CudaEncoder, Recorded], images: SaveImage
) -> None:
    """Unless it was chosen, or has to be the same on every machine."""
    _, encoder, streams = both
    streams.free = free
    assert encoder.best_batch == batch
    paths = [str(images(f"{index}.png", "red")) for index in range(40)]

    def largest(pipeline: Pipeline) -> int:
        streams.log.clear()
        for _ in encode_batches(encoder, paths, pipeline):
            pass
        return max(int(line.split()[1]) for line in streams.log if line.startswith("send"))

    assert largest(Pipeline(5, 2, suited=True, fixed_batches=True)) == 5
    assert largest(ImageOptions(batch_size=7, no_cache=True).pipeline()) <= 7
    assert largest(ImageOptions(no_cache=True).pipeline()) <= batch
    assert ImageOptions(no_cache=True).pipeline().suited


def test_what_is_loaded_for_cuda_is_this_engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The streams are the device's own, as torch names them."""
    asked: list[str] = []
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: asked.append(device) or device)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (asked.append(device) or 5, 9))
    streams = Streams(torch, "cuda:1")
    assert (streams.free_memory(), asked) == (5, ["cuda:1"] * 3)
