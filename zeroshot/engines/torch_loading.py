"""Checkpoints become models of PyTorch through open_clip, their weights loaded as tensors only."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ..encoder import Device, EncoderSpec, Engine, Precision, Score
from ..errors import ModelError, UsageError
from ..models.checkpoint import Files
from ..models.configuration import count_parameters
from ..models.transformers_folder import is_transformers_folder
from ..models.weights_hash import hash_file
from ..system.installed import versions
from .cuda_engine import CudaEncoder
from .load_errors import explain_loading
from .safe_weights import check_weights
from .torch_engine import TorchEncoder
from .transformers_weights import as_open_clip_folder, to_open_clip

_FIX_TORCH = "pip install --upgrade --force-reinstall torch torchvision open_clip_torch"


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
        raise ModelError(f"open_clip cannot be imported: {what}; installed: {found}", _FIX_TORCH) from error
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
            f"--device {asked}: PyTorch finds no such device", "--device auto; `zeroshot doctor` lists the devices"
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
        warn(f"{files.source.model} is a CoCa model, which cannot run in half precision; it runs in {chosen}")
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
    kind = CudaEncoder if where == Device.CUDA else TorchEncoder
    return kind(model, tokenizer, _describe(model, tokenizer, files, where, chosen))


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


def list_devices() -> list[str]:
    """Return a line for each device that torch can use here."""
    import torch

    lines = [f"cpu, {torch.get_num_threads()} threads"]
    if torch.cuda.is_available():
        lines += [f"cuda:{index}, {torch.cuda.get_device_name(index)}" for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        lines.append("mps")
    return lines
