"""The choices that a user has, each spelled in one place. Imports nothing, so that ``--help`` is quick."""

from __future__ import annotations

import enum


class Format(enum.StrEnum):
    """How records are written."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"
    TSV = "tsv"


class ReportFormat(enum.StrEnum):
    """How a summary is written."""

    TABLE = "table"
    JSON = "json"


class PlanFormat(enum.StrEnum):
    """How the plan of a `sort` is written."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"


class PartFormat(enum.StrEnum):
    """How the parts of a run are written."""

    JSONL = "jsonl"
    PARQUET = "parquet"


class Field(enum.StrEnum):
    """Numbers that a record gives for each label."""

    PROBABILITY = "probability"
    SIMILARITY = "similarity"
    LOGIT = "logit"


class Score(enum.StrEnum):
    """How logits become probabilities."""

    SOFTMAX = "softmax"  # the labels compete: probabilities sum to 1
    SIGMOID = "sigmoid"  # each label on its own; only for models trained with a sigmoid loss (SigLIP)


class Device(enum.StrEnum):
    """Where a model runs."""

    AUTO = "auto"
    CUDA = "cuda"
    MPS = "mps"
    CPU = "cpu"


class Precision(enum.StrEnum):
    """The arithmetic of the towers; logits and probabilities are float32 always."""

    AUTO = "auto"
    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"
    INT8 = "int8"  # 8-bit weights on the torch-free engine; its measured agreement stands in the manifest


class Engine(enum.StrEnum):
    """What runs the towers."""

    AUTO = "auto"
    TORCH = "torch"
    ONNX = "onnx"


class ResizeMode(enum.StrEnum):
    """How an image of any shape becomes the model's rectangle; names are open_clip's."""

    SHORTEST = "shortest"  # the short side fits, the middle is cut out
    LONGEST = "longest"  # the long side fits, the rest is padded
    SQUASH = "squash"  # both sides fit, the shape is lost


class Interpolation(enum.StrEnum):
    """The resampling filter."""

    BICUBIC = "bicubic"
    BILINEAR = "bilinear"


class Resampler(enum.StrEnum):
    """What resizes images."""

    EXACT = "exact"  # Pillow, as open_clip's own transform
    FAST = "fast"  # vector instructions (extra `fast`): nearly the same values, several times as fast


class Placement(enum.StrEnum):
    """How `sort` brings an image into its folder."""

    LINK = "link"  # a hard link; a symbolic one across file systems
    COPY = "copy"
    MOVE = "move"
