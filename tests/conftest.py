"""Fixtures that several test files share. Only here is open_clip imported: it takes many seconds, once a session."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image

from support.fakes import COLOURS, FakeModel
from support.fixtures import SaveImage, SaveModelFolder
from zeroshot.engines import choose

# They stop processes with fork, rlimits and signals that Windows has not, from their imports on.
collect_ignore = [f"faults/test_{name}.py" for name in ("clock", "faults", "hostile")] if os.name == "nt" else []

Colour = str | tuple[int, int, int]


# Where this is started in the background by a shell without job control, SIGINT is ignored: tests of Ctrl-C would wait.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def images(tmp_path: Path) -> SaveImage:
    """Save solid images below `tmp_path`: ``images("a/1.png", "red", (8, 6))`` returns the path."""

    def save(name: str, colour: Colour = "red", size: tuple[int, int] = (16, 12), **options: Any) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, COLOURS[colour] if isinstance(colour, str) else colour).save(path, **options)
        return path

    return save


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the features, exports and corrections of the user who runs it."""
    monkeypatch.setenv("ZEROSHOT_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("ZEROSHOT_DATA", str(tmp_path_factory.mktemp("data")))


@pytest.fixture
def fake_model(monkeypatch: pytest.MonkeyPatch) -> FakeModel:
    """Every command loads the colour encoder; a test may put another one in ``fake_model.encoder`` first."""
    fake = FakeModel()
    monkeypatch.setattr(choose, "load_encoder", fake.load_encoder)
    return fake


@pytest.fixture
def folder(fake_model: FakeModel, images: SaveImage, tmp_path: Path) -> Path:
    """Three images in a folder, blue, red and magenta in natural order, and the colour encoder to look at them."""
    for name, colour in [("1.png", "blue"), ("2.png", "red"), ("10.png", "magenta")]:
        images(f"all/{name}", colour)
    return tmp_path / "all"


@pytest.fixture(scope="session")
def open_clip() -> ModuleType:
    """open_clip itself, the reference."""
    import open_clip

    return open_clip


@pytest.fixture(scope="session")
def save_model_folder(open_clip: ModuleType) -> SaveModelFolder:
    """Write an open_clip folder with random weights: ``save_model_folder(path, model_cfg, preprocess_cfg, seed=0)``."""
    import torch
    from safetensors.torch import save_file

    def save(path: Path, model_cfg: dict[str, Any], preprocess_cfg: dict[str, Any], seed: int = 0) -> Path:
        path.mkdir(parents=True, exist_ok=True)
        config = {"model_cfg": model_cfg, "preprocess_cfg": preprocess_cfg}
        (path / "open_clip_config.json").write_text(json.dumps(config))
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = open_clip.create_model(f"local-dir:{path}", load_weights=False, pretrained_text=False)
        tensors = {name: tensor.detach().clone().contiguous() for name, tensor in model.state_dict().items()}
        save_file(tensors, path / "open_clip_model.safetensors")
        return path

    return save
