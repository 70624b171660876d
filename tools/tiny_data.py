"""Pictures and words for `train_tiny.py`: decoded thumbnails, the held-back split, captions and the rules on both."""

from __future__ import annotations

import hashlib
import io
import json
import random
import re
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
import yaml
from PIL import Image
from torch import Tensor
from tqdm import tqdm

IMAGE_SIZE = 64
TOOLS = Path(__file__).resolve().parent
TEMPLATE_SETS = ("plain", "general", "photo")


@dataclass(frozen=True, slots=True)
class Pictures:
    """Decoded pictures: ``pixels`` of shape ``(n, 64, 64, 3)`` uint8, ``classes`` of shape ``(n,)``."""

    pixels: np.ndarray
    classes: np.ndarray
    is_small: np.ndarray  # (n,) True where the source has 32 px


def read_index(data: Path) -> dict:
    """Return ``photos64/index.json``."""
    return json.loads((data / "photos64" / "index.json").read_text())


def _members(archives: Iterable[Path]) -> Iterator[tuple[str, bytes]]:
    for archive in archives:
        with zipfile.ZipFile(archive) as handle:
            for name in handle.namelist():
                if name.endswith(".webp"):
                    yield name, handle.read(name)


def _decode(content: bytes) -> tuple[np.ndarray, bool]:
    """Return pixels ``(64, 64, 3)`` and whether the source was smaller; bicubic, as the checkpoint's preprocessing."""
    picture = Image.open(io.BytesIO(content)).convert("RGB")
    small = min(picture.size) < IMAGE_SIZE
    if picture.size != (IMAGE_SIZE, IMAGE_SIZE):
        picture = picture.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC)
    return np.asarray(picture), small


def decode_archives(archives: list[Path], keys: list[str], forbidden: set[str] = frozenset()) -> Pictures:
    """Decode every picture of ``archives`` whose content is not in ``forbidden`` (SHA-1 of the file).

    Args:
        archives: zip files with members ``<class key>/<id>.webp``.
        keys: class keys; a picture's class is the position of its key.
        forbidden: contents that must not be used; such pictures are left out and counted on the log.
    """
    position = {key: i for i, key in enumerate(keys)}
    pixels, classes, small, dropped = [], [], [], 0
    for name, content in tqdm(_members(archives), desc="decode", unit=" pictures", mininterval=5):
        if hashlib.sha1(content).hexdigest() in forbidden:
            dropped += 1
            continue
        array, is_small = _decode(content)
        pixels.append(array)
        classes.append(position[name.partition("/")[0]])
        small.append(is_small)
    if forbidden:
        print(f"{len(classes)} training pictures; {dropped} left out, equal to a validation or test picture")
    return Pictures(np.stack(pixels), np.asarray(classes, np.int64), np.asarray(small, bool))


def load_training(data: Path, work: Path, keys: list[str]) -> Pictures:
    """Decode the training archives once, into ``work``; validation and test contents are refused by name and hash."""
    index = read_index(data)
    folder = data / "photos64"
    train = [folder / name for name in index["train"]]
    held = [folder / name for part in ("val_tiny_imagenet", "test_cifar10") for name in index[part]]
    assert not set(train) & set(held), "a validation or test archive is listed as training data"
    cached = [work / f"train-{part}.npy" for part in ("pixels", "classes", "small")]
    if not all(path.exists() for path in cached):
        forbidden = {hashlib.sha1(content).hexdigest() for _, content in _members(held)}
        pictures = decode_archives(train, keys, forbidden)
        for path, array in zip(cached, (pictures.pixels, pictures.classes, pictures.is_small), strict=True):
            np.save(path, array)
        print(f"checked: no training picture is one of the {len(forbidden)} validation and test pictures")
    return Pictures(*(np.load(path) for path in cached))


def split_held_back(classes: np.ndarray, share: float = 0.02) -> tuple[np.ndarray, np.ndarray]:
    """Return positions to train on and positions held back (``share`` of each class), always the same ones."""
    generator = np.random.default_rng(0)
    held = []
    for label in np.unique(classes):
        of_class = np.flatnonzero(classes == label)
        held.append(generator.choice(of_class, max(1, round(share * len(of_class))), replace=False))
    held_back = np.sort(np.concatenate(held))
    return np.setdiff1d(np.arange(len(classes)), held_back), held_back


def _singulars(word: str) -> set[str]:
    """Return the words that ``word`` may be a plural of, itself included."""
    found = {word}
    for ending, replacement in (("ies", "y"), ("es", ""), ("s", "")):
        if word.endswith(ending):
            found.add(word.removesuffix(ending) + replacement)
    return found


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower())


class Vocabulary:
    """Names, broader words and held-out words of every class, from ``index.json`` and ``vocabulary.yaml``.

    Attributes:
        keys: class keys; the order is that of ``index.json``.
        labels: the usual name of each class.
        names: for each class, the names that captions use.
        broader: words that cover several classes; ``covers`` (n_broader, n_classes) says which.
        ambiguous: ``(n_classes, n_classes)``; True where row's picture may rightly be called by column's name.
        groups: names of the test groups; ``group_of`` gives each class's, ``group_words`` their places in ``broader``.
        held_out: class key to its held-out names.
    """

    def __init__(self, data: Path, prompts: Path, table: Path = TOOLS / "vocabulary.yaml") -> None:
        spec = yaml.safe_load(table.read_text())
        index = read_index(data)["classes"]
        if index.keys() != spec["classes"].keys():
            raise ValueError(f"{table.name} and index.json differ: {sorted(index.keys() ^ spec['classes'].keys())}")
        self.keys = list(index)
        self.labels = [index[key][0] for key in self.keys]
        self.groups = list(spec["groups"])
        entries = [spec["classes"][key] for key in self.keys]
        self.group_of = np.asarray([self.groups.index(entry["group"]) for entry in entries])
        self.held_out = {k: e["held_out"] for k, e in zip(self.keys, entries, strict=True) if e.get("held_out")}
        self._forbidden = {w for words in self.held_out.values() for w in words}
        dropped = set(spec["drop_names"])
        self.names = [
            [
                n
                for n in dict.fromkeys([*index[key], *entry.get("names", [])])
                if n not in dropped and self.is_allowed(n)
            ]
            for key, entry in zip(self.keys, entries, strict=True)
        ]
        wider = [{e["group"], *spec["groups"][e["group"]], *e.get("broader", [])} for e in entries]
        self.broader = sorted(set().union(*wider))
        self.group_words = [self.broader.index(group) for group in self.groups]
        self.covers = np.asarray(
            [[b in w or b in names for w, names in zip(wider, self.names, strict=True)] for b in self.broader]
        )
        own = [set(names) for names in self.names]
        n = len(self.keys)
        self.ambiguous = np.zeros((n, n), bool)
        for i in range(n):
            for j in range(n):
                self.ambiguous[i, j] = i != j and bool(own[i] & wider[j] or own[j] & wider[i] or own[i] & own[j])
        self.templates = list(dict.fromkeys([*self._read_templates(prompts, TEMPLATE_SETS), *spec["templates"]]))
        self.general = self._read_templates(prompts, ("general",))
        self.check([*self.captions(), *self.broader])

    @staticmethod
    def _read_templates(prompts: Path, sets: Iterable[str]) -> list[str]:
        found: list[str] = []
        for name in sets:
            found += yaml.safe_load((prompts / f"{name}.yaml").read_text())["templates"]
        return list(dict.fromkeys(template.replace("{c}", "{}") for template in found))

    def captions(self) -> Iterator[str]:
        """Yield every caption that training can show for a class or a broader word."""
        for phrase in self.phrases():
            for template in self.templates:
                yield template.replace("{}", phrase)

    def phrases(self) -> list[str]:
        """Return the distinct names and broader words."""
        return list(dict.fromkeys([*(n for names in self.names for n in names), *self.broader]))

    def is_allowed(self, text: str) -> bool:
        """Say whether ``text`` is free of held-out words, their plurals included."""
        return not any(_singulars(word) & self._forbidden for word in _words(text))

    def check(self, texts: Iterable[str]) -> int:
        """Assert that no text holds a held-out word; return how many texts were looked at."""
        count = 0
        for text in texts:
            assert self.is_allowed(text), f"held-out word in {text!r}"
            count += 1
        print(f"checked: none of {count} texts holds one of {len(self._forbidden)} held-out words")
        return count

    def draw_template(self, generator: random.Random) -> str:
        """Return a template: the bare label a fifth of the time, else any."""
        return "{}" if generator.random() < 0.2 else generator.choice(self.templates)

    def draw_captions(self, n_broader: int, generator: random.Random) -> tuple[list[tuple[str, str]], list[int]]:
        """Return (template, phrase) for each class and then for ``n_broader`` broader words, and which words.

        The groups are always among the broader words.
        """
        others = [word for word in range(len(self.broader)) if word not in self.group_words]
        broader = sorted([*self.group_words, *generator.sample(others, n_broader - len(self.group_words))])
        phrases = [n[0] if generator.random() < 0.4 else generator.choice(n) for n in self.names]
        phrases += [self.broader[i] for i in broader]
        return [(self.draw_template(generator), phrase) for phrase in phrases], broader


def augment(pixels: Tensor, is_small: Tensor, size: int, strength: float) -> Tensor:
    """Return randomly cropped, mirrored, coloured and blurred pictures.

    Args:
        pixels: ``(n, 64, 64, 3)`` uint8.
        is_small: ``(n,)``; the other pictures are blurred now and then, so that blur does not give a data set away.
        size: edge of the result in pixels.
        strength: 1 for the full range of crops and colours, 0 for none.

    Returns:
        ``(n, 3, size, size)`` in -1..1, channels last in memory.
    """
    n, device = len(pixels), pixels.device
    x = pixels.permute(0, 3, 1, 2).float().div_(127.5).sub_(1)

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(n, device=device) * (high - low) + low

    blurred = (torch.rand(n, device=device) < 0.2 * strength) & ~is_small
    if blurred.any():
        low = F.interpolate(x[blurred], scale_factor=0.5, mode="bilinear", antialias=True)
        x[blurred] = F.interpolate(low, size=x.shape[-2:], mode="bicubic").clamp_(-1, 1)
    area = uniform(1 - 0.65 * strength, 1).sqrt()
    ratio = torch.exp(uniform(-0.25, 0.25) * strength)
    width, height = (area * ratio).clamp(max=1), (area / ratio).clamp(max=1)
    theta = torch.zeros(n, 2, 3, device=device)
    theta[:, 0, 0] = width * (torch.randint(0, 2, (n,), device=device) * 2 - 1)
    theta[:, 1, 1] = height
    theta[:, 0, 2] = (1 - width) * uniform(-1, 1)
    theta[:, 1, 2] = (1 - height) * uniform(-1, 1)
    grid = F.affine_grid(theta, [n, 3, size, size], align_corners=False)
    x = F.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    brightness, contrast, saturation = (
        uniform(1 - 0.3 * strength, 1 + 0.3 * strength)[:, None, None, None] for _ in range(3)
    )
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * saturation
    x = (x - x.mean((1, 2, 3), keepdim=True)) * contrast + (brightness - 1) + x.mean((1, 2, 3), keepdim=True)
    return x.clamp_(-1, 1).contiguous(memory_format=torch.channels_last)
