"""The PyTorch engine: a model of open_clip as an encoder.

It is the reference, the engine for GPUs, and the one that runs every family open_clip knows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..encoder import Device, EncoderSpec, Features, Pixels, Precision
from ..errors import MORE_MEMORY, ModelError, ResourceError
from ..images.preprocess import normalise
from ..messages import as_many
from ..system.installed import available_cores
from ..system.memory import is_out_of_memory
from .unpadded_text import by_length, unpadded_text_tower

_TEXT_BATCH = 256


class TorchEncoder:
    """An open_clip model as an `Encoder`.

    Args:
        model: In evaluation mode, on its device.
        tokenizer: open_clip's for the model.
        spec: The facts about both.
    """

    def __init__(self, model: Any, tokenizer: Any, spec: EncoderSpec) -> None:
        import torch

        self._torch = torch
        self._model = model
        self._tokenizer = tokenizer
        self._spec = spec
        self._dtype = {Precision.FP16: torch.float16, Precision.BF16: torch.bfloat16}.get(spec.precision, torch.float32)
        self._text_tower = unpadded_text_tower(model)
        self._probed: set[str] = set()
        self._scaling: tuple[Any, Any] | None = None
        torch.set_num_threads(available_cores())

    @property
    def spec(self) -> EncoderSpec:
        """The facts about the loaded model."""
        return self._spec

    @property
    def model(self) -> Any:
        """The torch module, for exporting."""
        return self._model

    @property
    def tokenizer(self) -> Any:
        """open_clip's tokenizer, for exporting."""
        return self._tokenizer

    def _probe(self, tower: str, encode: Callable[[], Features]) -> None:
        """Let a tower encode one row before the first real ones: what does not run is one error, and soon.

        Raises:
            ModelError: The tower does not run.
            ResourceError: It does not fit the memory.
        """
        if tower in self._probed:
            return
        try:
            encode()
        except Exception as error:  # torch, open_clip and timm raise anything; the cause is named, and chained
            spec = self._spec
            if is_out_of_memory(error):
                raise ResourceError(
                    f"{spec.model}: the memory of {spec.device} is not enough for one {tower}", MORE_MEMORY
                ) from error
            what = " ".join(str(error).split())[:200] or type(error).__name__
            raise ModelError(
                f"{spec.model} cannot encode {tower}s on {spec.device} in {spec.precision}: {what}",
                "--precision fp32"
                if spec.precision is not Precision.FP32
                else "check the sizes in the model's configuration, or --device cpu",
            ) from error
        self._probed.add(tower)

    def encode_images(self, pixels: Pixels) -> Features:
        """Encode ``(n_images, height, width, 3)`` pixels to unit rows ``(n_images, dim)``.

        A batch that runs out of a GPU's memory is halved and tried again.
        """
        self._probe("image", lambda: self._encode_images(np.full_like(pixels[:1], 128)))
        try:
            return self._encode_images(pixels)
        except self._torch.OutOfMemoryError:
            if len(pixels) == 1:
                raise ModelError(
                    "one image alone runs out of the device's memory", "--device cpu, or a smaller model"
                ) from None
        self._torch.cuda.empty_cache()
        half = len(pixels) // 2
        return np.concatenate([self.encode_images(pixels[:half]), self.encode_images(pixels[half:])])

    def _encode_images(self, pixels: Pixels) -> Features:
        with self._torch.inference_mode():
            if self._spec.device == Device.CPU:
                planes = self._torch.from_numpy(normalise(pixels, self._spec.preprocessing))
            else:
                rows = self._torch.from_numpy(np.ascontiguousarray(pixels)).to(self._spec.device)
                planes = normalise_there(rows, *self._scale())
            return self._unit(self._model.encode_image(planes.to(self._dtype), normalize=False))

    def _scale(self) -> tuple[Any, Any]:
        """Return mean and deviation on the device, shape ``(3, 1, 1)`` each; made once."""
        if self._scaling is None:
            how = self._spec.preprocessing
            mean, std = (self._torch.tensor(v, device=self._spec.device)[:, None, None] for v in (how.mean, how.std))
            self._scaling = mean, std
        return self._scaling

    def encode_texts(self, texts: Sequence[str]) -> Features:
        """Encode sentences to unit rows ``(n_texts, dim)``, long ones together and short ones together."""
        texts = list(as_many(texts))
        self._probe("text", lambda: self._encode_texts([""]))
        return self._encode_texts(texts)

    def _encode_texts(self, texts: list[str]) -> Features:
        tokens = self._tokenizer(texts) if texts else self._torch.zeros(0, 1, dtype=self._torch.long)
        order, lengths = by_length(tokens)
        features = np.empty((len(texts), self._spec.dim), dtype=np.float32)
        waiting = [order[start : start + _TEXT_BATCH] for start in range(0, len(texts), _TEXT_BATCH)]
        while waiting:
            rows = waiting.pop()
            try:
                features[rows] = self._encode_rows(tokens[self._torch.from_numpy(rows)], int(lengths[rows].max()))
            except self._torch.OutOfMemoryError:
                if len(rows) == 1:
                    raise
                self._torch.cuda.empty_cache()
                waiting += [rows[: len(rows) // 2], rows[len(rows) // 2 :]]
        return features

    def _encode_rows(self, tokens: Any, longest: int) -> Features:
        """Encode token rows ``(n_rows, context_length)``, of which none is longer than so many positions."""
        with self._torch.inference_mode():
            batch = tokens.to(self._spec.device)
            if self._text_tower is None:
                return self._unit(self._model.encode_text(batch, normalize=False))
            return self._unit(self._text_tower(batch[:, :longest]))

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Count each text's tokens before truncation, special ones included."""
        texts = list(as_many(texts))
        if hasattr(self._tokenizer, "encode"):
            return [len(self._tokenizer.encode(text)) + 2 for text in texts]
        cleaned = [self._tokenizer.clean_fn(text) for text in texts]
        return [len(ids) for ids in self._tokenizer.tokenizer(cleaned, truncation=False).input_ids]

    def _unit(self, features: Any) -> Features:
        return np.asarray(self._unit_there(features).cpu().numpy(), dtype=np.float32)

    def _unit_there(self, features: Any) -> Any:
        """Convert features to float32, then normalise: half precision tells only a few hundred cosines apart."""
        return self._torch.nn.functional.normalize(features.float(), dim=-1)


def normalise_there(rows: Any, mean: Any, std: Any) -> Any:
    """Normalise on the device as `preprocess.normalise` does; the pixels are sent as bytes.

    Args:
        rows: A uint8 tensor ``(n, height, width, 3)``.
        mean: Shape ``(3, 1, 1)``, on the same device.
        std: Likewise.

    Returns:
        A float32 tensor ``(n, 3, height, width)``, channels last in memory, as half-precision convolutions like it.
    """
    return rows.permute(0, 3, 1, 2).float().div_(255).sub_(mean).div_(std)
