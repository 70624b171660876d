"""`tools/acceptance.py`, the check of published weights, against the stand-in for the hub."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import huggingface_hub
import pytest
from huggingface_hub import constants

from support import ROOT
from support.fixtures import SaveModelFolder
from support.hub_server import Server, serve
from support.models import CONFIG, PREPROCESS

pytestmark = pytest.mark.slow
NAME = "hf-hub:org/small"
LABELS = "a diagram,a dog,a cat"


@pytest.fixture(scope="module")
def acceptance() -> ModuleType:
    spec = importlib.util.spec_from_file_location("acceptance", ROOT / "tools" / "acceptance.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules["acceptance"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def folder(save_model_folder: SaveModelFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model_folder(tmp_path_factory.mktemp("models") / "small", CONFIG, PREPROCESS)


@pytest.fixture
def hub(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with serve({"org/small": {path.name: path.read_bytes() for path in folder.iterdir()}}) as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        huggingface_hub.close_session()
        yield server


@pytest.fixture(scope="module")
def published(folder: Path) -> list[float]:
    """What open_clip itself gives: the stand-in for what the publishers' page says."""
    import open_clip
    import torch
    from PIL import Image

    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    model.eval()
    with torch.no_grad(), Image.open(ROOT / "examples" / "cat.jpg") as image:
        tokens = open_clip.get_tokenizer(f"local-dir:{folder}")(LABELS.split(","))
        texts = model.encode_text(tokens, normalize=True)
        logits = model.logit_scale.exp() * model.encode_image(transform(image)[None], normalize=True) @ texts.T
        probabilities: list[float] = logits.softmax(dim=-1)[0].tolist()
    return probabilities


def run(acceptance: ModuleType, tmp_path: Path, probabilities: list[float], *more: str) -> int:
    document = [{"model": NAME, "labels": LABELS, "probabilities": probabilities, "source": "open_clip"}]
    (tmp_path / "references.json").write_text(json.dumps(document))
    image = str(ROOT / "examples" / "cat.jpg")
    arguments = ["--models", NAME, "--image", image, "--references", str(tmp_path / "references.json"), *more]
    code: int = acceptance.main(arguments)
    return code


def test_weights_as_published_pass_every_line(
    acceptance: ModuleType, hub: Server, published: list[float], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pulled, compared with the reference, exported and evaluated: a line each, all ok, exit code 0."""
    assert run(acceptance, tmp_path, published) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split() == ["model", "check", "expected", "found"]
    assert [line.split()[0] for line in lines] == ["ok"] * 5
    for line, check in zip(lines, ("pull", "load", "published probabilities", "export", "evaluation"), strict=True):
        assert check in line


def test_other_numbers_are_told(
    acceptance: ModuleType, hub: Server, published: list[float], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Probabilities and an accuracy that were published otherwise are BAD lines, and the exit code is 1."""
    other = [published[0] + 0.01, published[1] - 0.01, published[2]]
    assert run(acceptance, tmp_path, other, "--expect-accuracy", f"{NAME}=99.99") == 1
    bad = [line for line in capsys.readouterr().out.splitlines() if line.startswith("BAD")]
    assert ["published probabilities" in bad[0], "published accuracy" in bad[1], len(bad)] == [True, True, 2]


def test_what_cannot_be_pulled_is_a_line(
    acceptance: ModuleType, hub: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A hub that refuses ends a model, not the table."""
    hub.faults.refuse = 403
    assert run(acceptance, tmp_path, [1, 0, 0]) == 1
    (line,) = capsys.readouterr().out.splitlines()[1:]
    assert line.startswith("BAD") and "pull" in line and "HTTP 403" in line


def test_the_published_numbers_are_those_of_the_readme(acceptance: ModuleType) -> None:
    """CLIP.png with ViT-B/32: each a probability, together one."""
    (reference,) = acceptance.PUBLISHED
    assert reference.probabilities == (0.99279, 0.00421, 0.003)
    assert sum(reference.probabilities) == pytest.approx(1, abs=1e-5)
