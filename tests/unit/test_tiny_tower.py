"""How the built-in checkpoint's text tower begins, and the estimates that it is trained towards."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from support import ROOT

WORDS = ("dog", "cat", "car", "tree", "house", "boat")


@pytest.fixture(scope="module")
def tools() -> Iterator[None]:
    """The scripts of the training, importable."""
    sys.path.insert(0, str(ROOT / "tools" / "tiny"))
    yield
    sys.path.remove(str(ROOT / "tools" / "tiny"))


@pytest.fixture(scope="module")
def tower(tools: None) -> ModuleType:
    return importlib.import_module("text_tower")


@pytest.fixture(scope="module")
def vectors(tools: None) -> ModuleType:
    return importlib.import_module("sentence_vectors")


def test_an_untrained_tower_says_where_its_word_is(tower: ModuleType) -> None:
    """Before its first step, a sentence lies nearest to the place of the only word in it that has one."""
    torch = importlib.import_module("torch")
    model_of = importlib.import_module("open_clip.model").CLIP
    width = 96
    captions = tower.Captions(16)
    tokens = captions([("{}", word) for word in WORDS])[:, 1]
    places = torch.zeros(49408, width)
    places[tokens] = torch.eye(width)[: len(WORDS)]
    torch.manual_seed(0)
    model = model_of(
        embed_dim=width,
        vision_cfg={"image_size": 32, "layers": 1, "width": 32, "patch_size": 16, "head_width": 16},
        text_cfg={"context_length": 16, "vocab_size": 49408, "width": width, "heads": 4, "layers": 2},
    )
    tower.begin_as_mean(model)
    table = tower.TokenTable(places, torch.zeros(49408, 2), tokens, tokens[:0]).eval()
    with torch.no_grad():
        model.positional_embedding.zero_()  # random at first, and as loud as a word where a token has no place
        found = tower.encode_by_length(model, table, captions, [("my {}", word) for word in WORDS])
    assert (found @ places[tokens].T).argmax(1).tolist() == list(range(len(WORDS)))


def test_only_taught_tokens_have_something_of_their_own(tower: ModuleType) -> None:
    """The written table is the map of what is known, plus what a taught token learned; others share nothing."""
    torch = importlib.import_module("torch")
    places, natures = torch.randn(10, 4), torch.randn(10, 3)
    table = tower.TokenTable(places, natures, torch.tensor([2, 5]), torch.tensor([5]))
    with torch.no_grad():
        table.own.fill_(7.0)
    written = table.table()
    assert torch.equal(written[[0, 1, 3, 9]], places[[0, 1, 3, 9]])
    assert torch.allclose(written[[2, 5]], places[[2, 5]] + 7.0)
    assert torch.equal(table.eval()(torch.arange(10)[None])[0], written)


def test_a_steady_token_keeps_its_own_in_every_step(tower: ModuleType) -> None:
    """In training a word now and then has the map alone, a sentence's token never."""
    torch = importlib.import_module("torch")
    table = tower.TokenTable(torch.zeros(3, 2), torch.zeros(3, 1), torch.tensor([0, 1]), torch.tensor([1])).train()
    with torch.no_grad():
        table.own[:2] = 1.0
    torch.manual_seed(0)
    rows = torch.stack([table(torch.tensor([[0, 1]]))[0] for _ in range(60)])
    assert 0 < rows[:, 0].eq(0).all(1).sum() < 60
    assert rows[:, 1].eq(1).all()


def test_kernel_ridge_by_hand(vectors: ModuleType) -> None:
    """Two known rows at a right angle: the solution of the two equations."""
    torch = importlib.import_module("torch")
    known, outputs = torch.eye(2), torch.tensor([[3.0], [1.0]])
    near = float(np.exp(-8.0))
    a, b = np.linalg.solve([[1.1, near], [near, 1.1]], [1.0, -1.0])  # the mean, 2, is taken off
    found = vectors.kernel_ridge(known, outputs, torch.tensor([[1.0, 0.0]]))
    assert found.item() == pytest.approx(a + near * b, abs=1e-6)


def write_names(folder: Path, rows: int = 2) -> None:
    data = folder / "datasets" / "metadata"
    data.mkdir(parents=True)
    (data / "lvis_v1_train_cat_info.json").write_text(
        json.dumps([{"id": 2, "name": "cab_(taxi)"}, {"id": 1, "name": "ceiling_fan"}])
    )
    (data / "Objects365_names_fix.csv").write_text("1,Cab,Cab\n")
    (folder / "detic/data/datasets").mkdir(parents=True)
    (folder / "detic/data/datasets/oid.py").write_text(
        "categories = [{'id': 1, 'name': \"Boat\", 'freebase_id': '/m'}]"
    )
    np.save(data / "lvis_v1_clip_a+cname.npy", np.array([[2.0, 0.0, 0.0], [0.0, 4.0, 0.0]])[:rows])
    np.save(data / "oid_clip_a+cname.npy", np.array([[0.0, 0.0, 5.0]]))
    np.save(data / "o365_clip_a+cnamefix.npy", np.array([[0.0, 1.0, 0.0]]))


def test_names_and_their_vectors_stay_together(vectors: ModuleType, tmp_path: Path) -> None:
    """Names are read in the order of the rows, cleaned, and one that two lists have is their mean."""
    write_names(tmp_path)
    found = vectors.read_clip_words(tmp_path)
    assert set(found) == {"ceiling fan", "cab", "boat"}
    centred = np.eye(3) - 1 / 3
    for word, row in zip(("ceiling fan", "cab", "boat"), centred, strict=True):
        assert found[word] == pytest.approx(row / np.linalg.norm(row), abs=1e-6)


def test_rows_that_do_not_match_their_names_are_refused(vectors: ModuleType, tmp_path: Path) -> None:
    """A file of another length than its names would give every word its neighbour's vector."""
    write_names(tmp_path, rows=1)
    with pytest.raises(SystemExit, match="1 rows for 2 names"):
        vectors.read_clip_words(tmp_path)


def test_a_small_view_is_drawn_by_name(tools: None) -> None:
    """The same name gives the same size, of 40 to 128 px; a smaller image stays as it is."""
    make_small = importlib.import_module("training_images").make_small
    image = Image.new("RGB", (600, 300))
    sizes = [make_small(image, f"photo {i}").size for i in range(40)]
    assert sizes == [make_small(image, f"photo {i}").size for i in range(40)]
    assert len(set(sizes)) > 10
    assert all(40 <= height <= 128 and abs(width - 2 * height) <= 1 for width, height in sizes)
    assert make_small(Image.new("RGB", (30, 90)), "x").size == (30, 90)
