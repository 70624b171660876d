"""Few file descriptors and little memory: fewer workers or one line, never an image that is blamed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from support.commands import run
from support.fakes import FakeEncoder, FakeModel
from support.fixtures import SaveImage
from support.images import open_image
from zeroshot.engines import onnx_engine
from zeroshot.errors import ResourceError
from zeroshot.images.decode import DecodeOptions
from zeroshot.system.file_descriptors import affordable_workers
from zeroshot.system.memory import is_out_of_memory

resource = pytest.importorskip("resource")


@pytest.fixture
def descriptors() -> Iterator[None]:
    """Put the limit on open files back."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.usefixtures("descriptors")
def test_fewer_workers() -> None:
    """As many workers as the limit on open files allows, at least one, and never more than were asked for."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert affordable_workers(4, 1) == 4
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(list(Path("/dev/fd").iterdir())) + 41, hard))
    few = affordable_workers(64, 1)
    assert 1 < few < 64
    assert 1 <= affordable_workers(64, 5) < few
    resource.setrlimit(resource.RLIMIT_NOFILE, (10, hard))
    assert affordable_workers(64, 1) == 1


@pytest.mark.usefixtures("descriptors")
def test_an_image_is_not_blamed(images: SaveImage) -> None:
    """Where no further file can be opened, the limit is named; the image is not called damaged."""
    path = images("a.png")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    with pytest.raises(ResourceError) as caught:
        open_image(str(path), DecodeOptions())
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    assert "--workers" in caught.value.hint


def test_every_image_is_read_with_forty_descriptors(images: SaveImage, tmp_path: Path) -> None:
    """With 40 descriptors and 64 workers each of many healthy images has its prediction."""
    for number in range(80):
        images(f"all/{number}.{('png', 'jpg', 'tif', 'webp')[number % 4]}")
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40));"
        "from zeroshot.__main__ import main; sys.exit(main())"
    )
    arguments = ["classify", str(tmp_path / "all"), "--labels", "red,blue", "--model", "tiny", "-f", "jsonl"]
    done = subprocess.run([sys.executable, "-c", code, *arguments, "--workers", "64"], capture_output=True, text=True)
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 80), done.stderr
    assert '"error"' not in done.stdout.replace('"error": null', "")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("std::bad_alloc"),
        ImportError("x.so: failed to map segment from shared object"),
        OSError(12, "Cannot allocate memory"),
        RuntimeError("can't start new thread"),
    ],
    ids=str,
)
def test_little_memory_is_one_line(
    fake_model: FakeModel, folder: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Whatever says that memory has run out, a command says so in one line with a hint, without a traceback."""

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(FakeEncoder, "encode_images", fail)
    result = run("classify", folder, "--labels", "red,blue", "--no-cache")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-2:] == [
        "zeroshot: error: there is not enough memory",
        "  try: a smaller --batch-size, fewer --workers, a smaller model, or a machine or limit with more memory",
    ]
    assert not is_out_of_memory(ValueError("out of memory of what was said"))


def test_a_model_that_does_not_fit_is_not_damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    """An export that memory does not hold is not called damaged, and nobody is told to install anything again."""
    import onnxruntime

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("Failed to allocate memory for requested buffer of size 1 (std::bad_alloc)")

    monkeypatch.setattr(onnxruntime, "InferenceSession", fail)
    from zeroshot.engines.choose import load_encoder

    encoder = load_encoder("tiny")
    assert isinstance(encoder, onnx_engine.OnnxEncoder)
    with pytest.raises(ResourceError, match="memory") as caught:
        encoder.encode_images(np.zeros((1, *encoder.spec.preprocessing.size, 3), np.uint8))
    assert "install" not in caught.value.hint
