"""The torch-free engine must be torch-free, give the same features however it is fed, and refuse damaged exports."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.models import vit
from zeroshot.engines import onnx_engine, onnx_manifest
from zeroshot.engines.export import graphs
from zeroshot.errors import ModelError
from zeroshot.models.resolvers import builtin_folder

TEXTS = [f"a photo of {'very ' * (i % 23)}big thing number {i}!" for i in range(700)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("models") / "export"
    graphs.write_export(vit(), path)
    return path


def test_nothing_of_pytorch_is_imported(folder: Path) -> None:
    """Loading an export and encoding with it imports neither torch nor open_clip nor timm."""
    code = (
        "import sys, numpy; from pathlib import Path; from zeroshot.engines import onnx_engine\n"
        "encoder = onnx_engine.load(Path(sys.argv[1]))\n"
        "encoder.encode_images(numpy.zeros((1, 32, 32, 3), numpy.uint8)); encoder.encode_texts(['dog', 'caf\u00e9'])\n"
        "print(sorted({'torch', 'torchvision', 'open_clip', 'timm', 'transformers'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_rows_are_unit_float32(folder: Path) -> None:
    """Both towers give float32 rows of length one in the order of their inputs."""
    encoder = onnx_engine.load(folder)
    pixels = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    for features in (encoder.encode_images(pixels), encoder.encode_texts(TEXTS)):
        assert features.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-6)


def test_features_do_not_depend_on_the_batch(folder: Path) -> None:
    """An image or sentence has the same features alone, among others, and on one thread."""
    encoder = onnx_engine.load(folder)
    alone = onnx_engine.load(folder, threads=1)
    pixels = np.random.default_rng(0).integers(0, 256, (33, 32, 32, 3), dtype=np.uint8)
    together = encoder.encode_images(pixels)
    np.testing.assert_allclose(together, np.concatenate([alone.encode_images(p[None]) for p in pixels]), atol=1e-6)
    np.testing.assert_allclose(together[::-1], encoder.encode_images(pixels[::-1]), atol=1e-6)
    texts = encoder.encode_texts(TEXTS)
    some = [0, 22, 23, 301, 699]
    np.testing.assert_array_equal(texts[some], [alone.encode_texts([TEXTS[i]])[0] for i in some])
    np.testing.assert_array_equal(texts[:40], encoder.encode_texts(TEXTS[:40]))


def test_a_shared_beginning_is_read_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Most of the sentences of one beginning are read from its end on, and their features are those of whole ones."""
    encoder = onnx_engine.load(folder)
    texts = [f"a photo of a big thing number {i}!" for i in range(100, 200)]
    alone = np.concatenate([encoder.encode_texts([text]) for text in texts])
    session = encoder._session(onnx_manifest.TEXT_GRAPH)
    read: list[tuple[int, ...]] = []

    class Watched:
        def get_inputs(self) -> Any:
            return session.get_inputs()

        def run(self, names: Any, inputs: dict[str, Any]) -> Any:
            read.append((*inputs["tokens"].shape, inputs["beginning"].shape[1]))
            return session.run(names, inputs)

    monkeypatch.setitem(encoder._sessions, onnx_manifest.TEXT_GRAPH, Watched())
    np.testing.assert_array_equal(encoder.encode_texts(texts), alone)
    whole = [rows for rows, positions, before in read if not before]
    assert sum(rows for rows, _, _ in read) == len(texts)
    assert len(whole) < 5 and set(whole) == {2}


def test_nothing_in_nothing_out(folder: Path) -> None:
    """No images and no sentences give no rows, of the right width."""
    encoder = onnx_engine.load(folder)
    assert encoder.encode_images(np.zeros((0, 32, 32, 3), np.uint8)).shape == (0, 64)
    assert encoder.encode_texts([]).shape == (0, 64)
    assert encoder.count_tokens([]) == []


def test_folder_behind_a_link_works(folder: Path, tmp_path: Path) -> None:
    """ONNX Runtime keeps weights inside the model's folder; a link to that folder still leads there."""
    link = tmp_path / "link"
    link.symlink_to(folder, target_is_directory=True)
    assert onnx_engine.load(link).encode_texts(["dog"]).shape == (1, 64)


@pytest.mark.parametrize("name", [onnx_manifest.IMAGE_GRAPH, f"{onnx_manifest.TEXT_GRAPH}.data"])
def test_file_cut_short_is_refused(folder: Path, tmp_path: Path, name: str) -> None:
    """A file of another size than the manifest says is named in the error."""
    damaged = shutil.copytree(folder, tmp_path / "damaged")
    os.truncate(damaged / name, 100)
    with pytest.raises(ModelError, match=f"{name} is missing or damaged"):
        onnx_engine.load(damaged)


def flip_a_bit(path: Path) -> None:
    """Damage a file without changing its size."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", [onnx_manifest.IMAGE_GRAPH, onnx_manifest.TEXT_GRAPH])
def test_damaged_graph_is_refused_at_load(folder: Path, tmp_path: Path, name: str) -> None:
    """A graph of the right size with another bit is an error with a hint before anything is encoded."""
    damaged = shutil.copytree(folder, tmp_path / "damaged")
    flip_a_bit(damaged / name)
    with pytest.raises(ModelError, match=f"{name} is missing or damaged") as raised:
        onnx_engine.load(damaged)
    assert "--engine torch" in raised.value.hint


def test_damaged_data_is_refused_where_its_tower_is_opened(folder: Path, tmp_path: Path) -> None:
    """A bit of the weights that turned over is an error at their first use, and the other tower can still be used."""
    damaged = shutil.copytree(folder, tmp_path / "damaged")
    flip_a_bit(damaged / f"{onnx_manifest.IMAGE_GRAPH}.data")
    encoder = onnx_engine.load(damaged, remedy="do this")
    assert encoder.encode_texts(["dog"]).shape == (1, 64)
    with pytest.raises(ModelError, match=r"image\.onnx\.data is missing or damaged") as raised:
        encoder.encode_images(np.zeros((1, 32, 32, 3), np.uint8))
    assert raised.value.hint == "do this"


def test_loading_does_not_read_the_weights(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only graphs are hashed until a tower is used: a run that finds its features in the cache needs no weights."""
    read: list[str] = []
    hash_file = onnx_manifest.hash_content
    monkeypatch.setattr(onnx_manifest, "hash_content", lambda path: read.append(path.name) or hash_file(path))
    encoder = onnx_engine.load(folder)
    assert sorted(read) == ["image.onnx", "text.onnx"]
    encoder.encode_texts(["dog"])
    encoder.encode_texts(["cat"])
    assert sorted(read) == ["image.onnx", "text.onnx", "text.onnx.data"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("format", 0),
        ("spec", {}),
        ("tokenizer", {"kind": "unknown"}),
        ("text", 3),
        ("files", []),
        ("files", {}),
        ("text", {"dynamic": True, "spare": None}),
        ("files", {"image.onnx": {"size": 1e400, "sha256": ""}}),
        ("agreement", {"image": None, "text": 1, "difference": 0, "torch": ""}),
    ],
)
def test_manifest_that_cannot_be_used_is_a_model_error(folder: Path, tmp_path: Path, key: str, value: object) -> None:
    """A manifest of another version or shape is refused, not half understood."""
    damaged = shutil.copytree(folder, tmp_path / "damaged")
    path = damaged / onnx_manifest.MANIFEST_NAME
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(ModelError):
        onnx_engine.load(damaged).encode_texts(["dog"])


def test_export_is_recognised_by_its_files(folder: Path, tmp_path: Path) -> None:
    """A folder counts as an export when its graphs and manifest are all there."""
    assert onnx_manifest.is_export(folder)
    assert not onnx_manifest.is_export(tmp_path)
    assert not onnx_manifest.is_export(tmp_path / ("n" * 300))


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("spec", "dim"), -1),
        (("spec", "dim"), 0),
        (("spec", "dim"), "256"),
        (("spec", "dim"), 10**9),
        (("spec", "dim"), 255),
        (("spec", "context_length"), -32),
        (("spec", "context_length"), 31),
        (("spec", "logit_scale"), "nan"),
        (("spec", "logit_scale"), float("nan")),
        (("spec", "logit_scale"), -1.0),
        (("spec", "logit_scale"), True),
        (("spec", "logit_bias"), "none"),
        (("spec", "special_tokens"), 3),
        (("spec", "versions"), None),
        (("spec", "model"), 7),
        (("spec", "weights_sha256"), "x"),
        (("spec", "score"), "best"),
        (("spec", "more"), 1),
        (("spec", "preprocessing"), []),
        (("spec", "preprocessing", "size"), [224, -224]),
        (("spec", "preprocessing", "size"), [224]),
        (("spec", "preprocessing", "size"), [64, 64]),
        (("spec", "preprocessing", "mean"), "nan"),
        (("spec", "preprocessing", "std"), [0, 0, 0]),
        (("spec", "preprocessing", "fill_color"), 256),
        (("text", "spare"), -1),
        (("text", "dynamic"), "yes"),
        (("tokenizer", "context_length"), "32"),
        (("tokenizer", "clean"), ["lower"]),
        (("tokenizer", "kind"), "unknown"),
        (("tokenizer", "surplus"), 1),
        (("files",), []),
        (("files", "image.onnx", "size"), -1),
        (("files", "image.onnx", "sha256"), 3),
        (("files", "../x"), {"size": 1, "sha256": "0" * 64}),
        (("weights_file",), "/etc/passwd"),
        (("agreement",), "good"),
        (("agreement", "image"), "1"),
        (("int8",), 5),
        (("format",), "2"),
    ],
    ids=str,
)
def test_an_altered_manifest_is_one_error(tmp_path: Path, keys: tuple[str, ...], value: object) -> None:
    """Whatever stands in a manifest, loading or encoding raises an error with the remedy, and never anything else."""
    folder = shutil.copytree(builtin_folder(), tmp_path / "tiny")
    document = json.loads((folder / onnx_manifest.MANIFEST_NAME).read_text())
    place = document
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    (folder / onnx_manifest.MANIFEST_NAME).write_text(json.dumps(document))
    with pytest.raises(ModelError) as refused:
        encoder = onnx_engine.load(folder, remedy="the remedy")
        encoder.encode_texts(["a cat"])
        encoder.encode_images(np.zeros((1, *encoder.spec.preprocessing.size, 3), dtype=np.uint8))
    assert refused.value.hint == "the remedy"
