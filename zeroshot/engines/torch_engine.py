"""The PyTorch engine: checkpoints through open_clip.

With the check of weights and the short text tower, the only module that imports torch, torchvision or open_clip.
It is the reference, the engine for GPUs, and the one that reads every family open_clip knows.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..encoder import Device, EncoderSpec, Engine, Features, Pixels, Precision, Preprocessing, Score
from ..errors import MORE_MEMORY, ModelError, ResourceError, UsageError
from ..images.preprocess import normalise
from ..models.checkpoint import Files
from ..models.configuration import count_parameters
from ..models.transformers_folder import is_transformers_folder
from ..models.weights_file import hash_file
from ..strings import as_many
from ..system.installed import available_cores, versions
from ..system.memory import is_out_of_memory
from .load_errors import explain_loading
from .short_text import by_length, short_text_tower
from .transformers_weights import as_open_clip_folder, to_open_clip
from .weights_check import check_weights

_TEXT_BATCH = 256
_MEND_TORCH = "pip install --upgrade --force-reinstall torch torchvision open_clip_torch"


def import_open_clip() -> Any:
    """Import open_clip, and explain its most common import error.

    Raises:
        ModelError: torch and torchvision are of different builds, or one of them is missing or broken.
    """
    try:
        import open_clip
    except (ImportError, RuntimeError, OSError, AttributeError) as error:
        there = versions(("torch", "torchvision", "open_clip_torch"))
        found = ", ".join(f"{name} {version}" for name, version in there.items())
        what = " ".join(str(error).split())
        if "torchvision::" in what or "torchvision" in what:
            what = f"torch and torchvision are of different builds ({what})"
        raise ModelError(f"open_clip cannot be imported: {what}; installed: {found}", _MEND_TORCH) from error
    return open_clip


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what open_clip logs through the root logger and warns before raising; errors are translated here."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def choose_device(asked: Device) -> str:
    """Return the device to run on: as asked, else CUDA, Apple's GPU or the CPU, in that order.

    Raises:
        UsageError: The device is not there.
    """
    import torch

    there = {Device.CUDA: torch.cuda.is_available(), Device.MPS: torch.backends.mps.is_available(), Device.CPU: True}
    if asked is Device.AUTO:
        return next(str(device) for device in (Device.CUDA, Device.MPS, Device.CPU) if there[device])
    if not there[asked]:
        raise UsageError(
            f"--device {asked}: this torch sees no such device", "--device auto; `zeroshot doctor` lists the devices"
        )
    return str(asked)


def choose_precision(asked: Precision, device: str, config: dict[str, Any]) -> Precision:
    """Return the arithmetic to run in: as asked, else fp16 on CUDA and fp32 elsewhere; CoCa runs in fp32 only.

    Raises:
        UsageError: The device does not have it.
    """
    if asked is Precision.FP16 and device == Device.CPU:
        raise UsageError("--precision fp16 needs a GPU", "use fp32, or bf16 where the processor has it")
    # open_clip builds the mask of CoCa's text tower in float32, which attention in half precision refuses.
    if "multimodal_cfg" in config:
        return Precision.FP32
    if asked is Precision.AUTO:
        return Precision.FP16 if device == Device.CUDA else Precision.FP32
    return asked


def load(
    files: Files,
    device: Device = Device.AUTO,
    precision: Precision = Precision.AUTO,
    warn: Callable[[str], None] = lambda _: None,
) -> TorchEncoder:
    """Build a checkpoint's model, load its weights as tensors only, and make it ready to encode.

    Args:
        files: The checkpoint.
        device: Where to run.
        precision: Arithmetic of the towers.
        warn: Told, in one line, of a precision that the model does not run in.

    Raises:
        ModelError: The weights are unsafe, damaged or of another architecture; or a package is missing.
        UsageError: The device or precision is not there.
    """
    open_clip = import_open_clip()
    where = choose_device(device)
    chosen = choose_precision(precision, where, files.config)
    if chosen is not (precision if precision is not Precision.AUTO else choose_precision(precision, where, {})):
        warn(f"{files.source.model} is a CoCa model, which runs in no half precision; it runs in {chosen}")
    check_weights(files.weights)
    _check_fits(files)
    try:
        with _quiet():
            model, tokenizer = _build(open_clip, files, str(chosen), where)
    except Exception as error:  # open_clip, timm and transformers raise anything; the cause is named, and chained
        raise explain_loading(error, files) from error
    # open_clip creates models in training mode: dropout on, batch statistics used.
    model.eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    if where == Device.CUDA:
        import torch

        model.to(memory_format=torch.channels_last)  # what half-precision convolutions are quick with
    return TorchEncoder(model, tokenizer, _describe(model, tokenizer, files, where, chosen))


def _build(open_clip: Any, files: Files, precision: str, device: str) -> tuple[Any, Any]:
    """Return a checkpoint's model with its weights, and its tokenizer."""
    if files.folder is not None and is_transformers_folder(files.folder):
        with as_open_clip_folder(files) as folder:
            name = f"local-dir:{folder}"
            model = open_clip.create_model(
                name, load_weights=False, pretrained_text=False, precision=precision, device=device
            )
            tokenizer = open_clip.get_tokenizer(name)
        tensors = open_clip.factory.load_state_dict(str(files.weights), weights_only=True)
        model.load_state_dict(to_open_clip(tensors, siglip="init_logit_bias" in files.config), strict=True)
        return model, tokenizer
    name = f"local-dir:{files.folder}" if files.folder is not None else files.source.architecture
    options = {} if files.source.quick_gelu is None else {"quick_gelu": files.source.quick_gelu}
    model = open_clip.create_model(
        name, load_weights=False, pretrained_text=False, precision=precision, device=device, **options
    )
    open_clip.load_checkpoint(model, str(files.weights), strict=True, weights_only=True)
    return model, open_clip.get_tokenizer(name)


def _check_fits(files: Files) -> None:
    """Refuse a folder's configuration that needs more than its weights hold, before the memory for it is taken.

    Raises:
        ModelError: It describes more parameters than the file has bytes.
    """
    if files.folder is None:  # the sizes are open_clip's own
        return
    needed, there = count_parameters(files.config), files.weights.stat().st_size
    if needed > there:
        raise ModelError(
            f"{files.weights.name} does not fit the architecture {files.source.architecture}: the configuration"
            f" describes {needed:,} parameters or more, and the file has {there:,} bytes",
            f"see the layers and widths in {files.folder}",
        )


def _describe(model: Any, tokenizer: Any, files: Files, device: str, precision: Precision) -> EncoderSpec:
    """Collect the facts about a loaded model."""
    bias = getattr(model, "logit_bias", None)
    config = files.config
    quick = bool(config.get("quick_gelu")) if files.source.quick_gelu is None else files.source.quick_gelu
    control = getattr(tokenizer, "all_special_ids", None)
    if hasattr(tokenizer, "tokenizer"):
        special = tuple(str(token) for token in tokenizer.tokenizer.all_special_tokens)
    elif control is not None:
        special = tuple(tokenizer.decoder[token] for token in control)
    else:
        special = ()
    return EncoderSpec(
        model=files.source.model,
        architecture=files.source.architecture,
        pretrained=files.source.pretrained,
        source=files.origin,
        weights_sha256=hash_file(files.weights),
        preprocessing=files.preprocessing,
        dim=int(config["embed_dim"]),
        context_length=int(tokenizer.context_length),
        special_tokens=special,
        logit_scale=float(model.logit_scale.detach().float().exp()),
        logit_bias=None if bias is None else float(bias.detach().float()),
        # A learned bias belongs to the sigmoid loss: Zhai et al., "Sigmoid Loss for Language Image Pre-Training".
        score=Score.SOFTMAX if bias is None else Score.SIGMOID,
        activation="quick_gelu" if quick else "gelu",
        engine=Engine.TORCH,
        device=device,
        precision=precision,
        configuration=files.configuration,
        versions=versions(("zeroshot", "torch", "open_clip_torch", "timm", "pillow", "numpy")),
    )


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
        self._text_tower = short_text_tower(model)
        self._probed: set[str] = set()
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
                f"{spec.model} encodes no {tower} on {spec.device} in {spec.precision}: {what}",
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
                planes = normalise_there(pixels, self._spec.preprocessing, self._spec.device)
            return self._unit(self._model.encode_image(planes.to(self._dtype), normalize=False))

    def encode_texts(self, texts: Sequence[str]) -> Features:
        """Encode sentences to unit rows ``(n_texts, dim)``, long ones together and short ones together."""
        texts = list(as_many(texts))
        self._probe("text", lambda: self._encode_texts([""]))
        return self._encode_texts(texts)

    def _encode_texts(self, texts: list[str]) -> Features:
        tokens = self._tokenizer(texts) if texts else self._torch.zeros(0, 1, dtype=self._torch.long)
        order, lengths = by_length(tokens)
        features = np.empty((len(texts), self._spec.dim), dtype=np.float32)
        with self._torch.inference_mode():
            for start in range(0, len(texts), _TEXT_BATCH):
                rows = order[start : start + _TEXT_BATCH]
                batch = tokens[self._torch.from_numpy(rows)].to(self._spec.device)
                if self._text_tower is None:
                    found = self._model.encode_text(batch, normalize=False)
                else:
                    found = self._text_tower(batch[:, : int(lengths[rows].max())])
                features[rows] = self._unit(found)
        return features

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Count each text's tokens before truncation, special ones included."""
        texts = list(as_many(texts))
        if hasattr(self._tokenizer, "encode"):
            return [len(self._tokenizer.encode(text)) + 2 for text in texts]
        cleaned = [self._tokenizer.clean_fn(text) for text in texts]
        return [len(ids) for ids in self._tokenizer.tokenizer(cleaned, truncation=False).input_ids]

    def _unit(self, features: Any) -> Features:
        """Convert features to float32, then normalise: half precision tells only a few hundred cosines apart."""
        rows = self._torch.nn.functional.normalize(features.float(), dim=-1)
        return np.asarray(rows.cpu().numpy(), dtype=np.float32)


def normalise_there(pixels: Pixels, how: Preprocessing, device: str) -> Any:
    """Normalise on the device as `preprocess.normalise` does; the pixels are sent as bytes.

    Args:
        pixels: Shape ``(n, height, width, 3)``.
        how: Whose mean and deviation.
        device: As torch names it; for a CUDA device the bytes are pinned, so that the copy does not wait for pages.

    Returns:
        A float32 tensor ``(n, 3, height, width)``, channels last in memory, as half-precision convolutions like it.
    """
    import torch

    rows = torch.from_numpy(np.ascontiguousarray(pixels))
    if device.startswith(Device.CUDA):
        rows = rows.pin_memory()
    planes = rows.to(device, non_blocking=True).permute(0, 3, 1, 2).float().div_(255)
    mean, std = (torch.tensor(values, device=device)[:, None, None] for values in (how.mean, how.std))
    return planes.sub_(mean).div_(std)


def list_devices() -> list[str]:
    """Return a line for each device that torch can use here."""
    import torch

    lines = [f"cpu, {torch.get_num_threads()} threads"]
    if torch.cuda.is_available():
        lines += [f"cuda:{index}, {torch.cuda.get_device_name(index)}" for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        lines.append("mps")
    return lines
