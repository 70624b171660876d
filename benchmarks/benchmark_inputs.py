"""Makes the inputs of the benchmarks: photographs, repeated and enlarged, and a ViT-B-32 with random weights."""

from __future__ import annotations

import json
import os
from functools import cached_property
from pathlib import Path

from measure import zeroshot

LABELS = "cat,dog,bridge,boat,banana,desk,spider,organ,pretzel,fountain"
OTHER_LABELS = "animal,vehicle,food,furniture,building"
ADJECTIVES = ("red", "old", "wet", "big", "new", "blue", "tiny", "wild", "broken", "wooden")
NOUNS = ("boat", "chair", "dog", "house", "kite", "lamp", "pear", "ring", "ship", "tree")
HUNDRED_LABELS = [f"{adjective} {noun}" for adjective in ADJECTIVES for noun in NOUNS]


class Material:
    """Made when it is first asked for, and kept in one folder.

    Args:
        photos: Folder of photographs.
        work: Folder for everything that is made, the feature cache too.
    """

    def __init__(self, photos: Path, work: Path) -> None:
        self.photos = sorted(path for path in photos.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
        self.work = work
        os.environ["ZEROSHOT_CACHE"] = str(work / "cache")

    def folder(self, count: int) -> Path:
        """Return a folder of so many photographs, the given ones repeated, no two of the same bytes."""
        folder = self.work / f"photos-{count}"
        if not folder.exists():
            folder.mkdir()
            for index in range(count):
                source = self.photos[index % len(self.photos)]
                # Decoders stop at the end-of-image marker; the cache sees another file.
                (folder / f"{index:06}{source.suffix}").write_bytes(source.read_bytes() + b"%d" % index)
        return folder

    def paths(self, count: int) -> list[str]:
        """Return the paths of so many photographs."""
        return [str(path) for path in sorted(self.folder(count).iterdir())]

    def enlarged(self, count: int) -> list[str]:
        """Return the paths of so many JPEGs of 4,000 x 3,000 pixels, as cameras make them."""
        from PIL import Image

        folder = self.work / f"large-{count}"
        if not folder.exists():
            folder.mkdir()
            for index in range(count):
                with Image.open(self.photos[index % len(self.photos)]) as image:
                    whole = image.convert("RGB").resize((4000, 3000), Image.Resampling.BICUBIC)
                whole.save(folder / f"{index:06}.jpg", quality=90)
        return [str(path) for path in sorted(folder.iterdir())]

    @property
    def exports(self) -> list[Path]:
        """The exported models that were made."""
        return [path.parent for path in (self.work / "cache" / "exports").glob("*/zeroshot.json")]

    @cached_property
    def vit(self) -> Path:
        """An open_clip folder of a ViT-B-32 with random weights, exported for the torch-free engine."""
        folder = self.work / "vit"
        if not folder.exists():
            import open_clip
            from safetensors.torch import save_file

            model = open_clip.create_model("ViT-B-32")
            staging = self.work / "vit.part"
            staging.mkdir()
            preprocess = {"mean": [0.48, 0.46, 0.41], "std": [0.27, 0.26, 0.28], "interpolation": "bicubic"}
            config = {"model_cfg": open_clip.get_model_config("ViT-B-32"), "preprocess_cfg": preprocess}
            (staging / "open_clip_config.json").write_text(json.dumps(config))
            save_file(dict(model.state_dict()), staging / "open_clip_model.safetensors")
            staging.rename(folder)
        zeroshot("models", "pull", folder)  # anew: what is kept from an earlier run may be another version's
        return folder
