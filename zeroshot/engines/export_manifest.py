"""What an export says of itself: ``zeroshot.json``, written when it is made and read before its graphs are.

A folder that `export` made holds ``image.onnx`` (uint8 pixels to features), ``text.onnx`` (token ids to features)
and ``zeroshot.json``, which says everything else. Their weights lie beside them: in data files of their own, or, for
the built-in checkpoint, in the safetensors file that PyTorch reads too.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..choices import Engine, Interpolation, Precision, ResizeMode, Score
from ..encoder import EncoderSpec, Preprocessing
from ..errors import ModelError

MANIFEST_NAME = "zeroshot.json"
IMAGE_GRAPH = "image.onnx"
TEXT_GRAPH = "text.onnx"
TOKENIZER_NAME = "tokenizer.json"
FORMAT = 1
"""Version of the manifest; an export of another version is made anew."""

REMAKE = "remove the folder and export the model again with `zeroshot models pull`, or use --engine torch"


@dataclass(frozen=True, slots=True)
class TextGraph:
    """What the text graph needs to know about its rows.

    Attributes:
        dynamic: It reads any number of positions: a causal tower, which never looks beyond a sentence's end.
        spare: Positions beyond the longest sentence that it has to be given all the same.
    """

    dynamic: bool
    spare: int = 0


@dataclass(frozen=True, slots=True)
class Agreement:
    """How near the graphs come to PyTorch on fixed pictures and sentences.

    Attributes:
        image: Lowest cosine between the two engines' features of one picture.
        text: The same for sentences.
        difference: Largest difference of any value of any unit row.
        torch: PyTorch's version.
    """

    image: float
    text: float
    difference: float
    torch: str


@dataclass(frozen=True, slots=True)
class ExportManifest:
    """The content of ``zeroshot.json``.

    Attributes:
        spec: The facts about the model; engine, device and versions are the loading process's own.
        text: How the text graph is fed.
        tokenizer: Its kind and the arguments that build it.
        sizes: Bytes of each file, to notice one that was cut short.
        weights_file: File of another owner that the graphs point into, checked by `EncoderSpec.weights_sha256`
            because an offset into other bytes would be read as weights; empty where the export has its own data.
        agreement: The check that the export passed.
        int8: How near the 8-bit graphs come to the float32 ones; None where there are none.
    """

    spec: EncoderSpec
    text: TextGraph
    tokenizer: dict[str, Any]
    sizes: dict[str, int]
    weights_file: str
    agreement: Agreement
    int8: Agreement | None = None


def int8_name(graph: str) -> str:
    """Return the name of a graph's 8-bit form."""
    return graph.replace(".onnx", ".int8.onnx")


def write_manifest(manifest: ExportManifest, folder: Path) -> None:
    """Write ``zeroshot.json`` into a folder."""
    document = {"format": FORMAT, **asdict(manifest)}
    (folder / MANIFEST_NAME).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> ExportManifest:
    """Read ``zeroshot.json`` and check that the files it names are whole.

    Raises:
        ModelError: There is none, it is of another version, or a file is missing or of another size.
    """
    path = folder / MANIFEST_NAME
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document.pop("format") != FORMAT:
            raise ModelError(f"{folder} was exported by another version of zeroshot", REMAKE)
        manifest = ExportManifest(
            spec=_read_spec(document["spec"]),
            text=TextGraph(**document["text"]),
            tokenizer=dict(document["tokenizer"]),
            sizes={name: int(document["sizes"][name]) for name in {IMAGE_GRAPH, TEXT_GRAPH, *document["sizes"]}},
            weights_file=str(document["weights_file"]),
            agreement=Agreement(**document["agreement"]),
            int8=Agreement(**document["int8"]) if document.get("int8") else None,
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelError(f"{path} cannot be read: {error!r}", REMAKE) from error
    for name, size in manifest.sizes.items():
        file = folder / name
        if not file.is_file() or file.stat().st_size != size:
            raise ModelError(f"{file} is missing or damaged", REMAKE)
    return manifest


def _read_spec(document: dict[str, Any]) -> EncoderSpec:
    shape = document["preprocessing"]
    preprocessing = Preprocessing(
        size=(int(shape["size"][0]), int(shape["size"][1])),
        mean=tuple(shape["mean"]),
        std=tuple(shape["std"]),
        interpolation=Interpolation(shape["interpolation"]),
        resize_mode=ResizeMode(shape["resize_mode"]),
        fill_color=int(shape["fill_color"]),
    )
    return EncoderSpec(
        **{
            **document,
            "preprocessing": preprocessing,
            "special_tokens": tuple(document["special_tokens"]),
            "score": Score(document["score"]),
            "engine": Engine(document["engine"]),
            "precision": Precision(document["precision"]),
        }
    )


def is_export(folder: Path) -> bool:
    """Whether a folder holds graphs for this engine; says nothing about their health."""
    return all((folder / name).is_file() for name in (MANIFEST_NAME, IMAGE_GRAPH, TEXT_GRAPH))
