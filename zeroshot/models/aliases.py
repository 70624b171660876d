"""Short names (aliases) for recommended checkpoints."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Alias:
    """A short name for a recommended checkpoint.

    Attributes:
        name: What is typed.
        architecture: open_clip's architecture; empty for the built-in folder.
        pretrained: open_clip's weight tag.
        megabytes: Size of the download.
        licence: Of the weights.
        accuracy: ImageNet-1k top-1 with open_clip's 80 templates, in percent, as published; empty: see its card.
        source: Where that number and the weights come from.
        note: What it is good for.
    """

    name: str
    architecture: str
    pretrained: str
    megabytes: int
    licence: str
    accuracy: str
    source: str
    note: str


ALIASES = (
    Alias(
        "tiny",
        "",
        "",
        20,
        "MIT AND Apache-2.0",
        "",
        "this project, on Google's EfficientNet-Lite0",
        "built in, works offline, everyday photographs",
    ),
    Alias(
        "base",
        "ViT-B-32-256",
        "datacomp_s34b_b86k",
        605,
        "MIT",
        "72.81",
        "DataComp, laion",
        "the default: accurate for its size",
    ),
    Alias(
        "base-16",
        "ViT-B-16",
        "datacomp_xl_s13b_b90k",
        599,
        "MIT",
        "73.5",
        "DataComp, laion",
        "finer patches than base, about 3 x slower",
    ),
    Alias(
        "large",
        "ViT-L-14",
        "datacomp_xl_s13b_b90k",
        1711,
        "MIT",
        "79.2",
        "DataComp, laion",
        "markedly better, about 15 x slower than base",
    ),
    Alias(
        "openai", "ViT-B-32", "openai", 605, "MIT", "63.32", "OpenAI", "the original, for reproducing published numbers"
    ),
    Alias(
        "siglip",
        "ViT-B-16-SigLIP",
        "webli",
        813,
        "Apache-2.0",
        "76.04",
        "Google, timm",
        "for --score sigmoid; needs the transformers extra",
    ),
    Alias(
        "siglip2",
        "ViT-B-16-SigLIP2",
        "webli",
        1501,
        "Apache-2.0",
        "78.2",
        "Google, timm",
        "many languages; needs the transformers extra",
    ),
    Alias(
        "mobile",
        "MobileCLIP2-S0",
        "dfndr2b",
        298,
        "Apple research",
        "71.53",
        "Apple",
        "fast on a CPU; research use only",
    ),
)
"""The checkpoints that `models list` shows; open_clip knows nearly two hundred more by architecture and tag."""
