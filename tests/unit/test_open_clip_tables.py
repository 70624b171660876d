"""open_clip's tables, read without open_clip: the same as its own, and torch stays out."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType

import pytest

from zeroshot.models import open_clip_tables


def test_tables_equal(open_clip: ModuleType) -> None:
    """Architectures, weight tags and their entries are those that open_clip itself gives."""
    assert open_clip_tables.list_pretrained() == open_clip.list_pretrained()
    assert open_clip_tables.list_architectures() == sorted(open_clip.list_models())
    for architecture, tag in open_clip.list_pretrained():
        assert open_clip_tables.pretrained_config(architecture, tag) == open_clip.get_pretrained_cfg(architecture, tag)
    for architecture in ("ViT-B-32", "ViT-B-16-SigLIP", "coca_ViT-B-32"):
        assert open_clip_tables.model_config(architecture) == open_clip.get_model_config(architecture)


def test_unknown() -> None:
    """What open_clip does not know is empty, not an error."""
    assert open_clip_tables.pretrained_config("ViT-B-32", "nothing") == {}
    assert open_clip_tables.pretrained_config("nothing", "openai") == {}
    assert open_clip_tables.model_config("nothing") == {}
    assert open_clip_tables.model_config("../model_configs/ViT-B-32") == {}
    with pytest.raises(AttributeError):
        open_clip_tables.templates("NO_TEMPLATES")


def test_imagenet(open_clip: ModuleType) -> None:
    """The synset ids stand beside open_clip's names, in the published order."""
    names = open_clip_tables.imagenet_names()
    assert tuple(names.values()) == tuple(open_clip.IMAGENET_CLASSNAMES)
    assert list(names)[:2] == ["n01440764", "n01443537"]
    assert names["n01440764"] == "tench"
    assert list(names)[-1] == "n15075141"


def test_vocabulary() -> None:
    """The byte-pair vocabulary is where it is said to be."""
    assert open_clip_tables.bpe_vocabulary().is_file()


def test_torch_stays_out() -> None:
    """Reading every table imports neither torch nor open_clip, and leaves masked modules importable."""
    code = (
        "import sys; from zeroshot.models import open_clip_tables as t; t.list_pretrained(); t.imagenet_names();"
        "t.templates('OPENAI_IMAGENET_TEMPLATES');"
        "assert not {'torch', 'torchvision', 'open_clip', 'timm'} & set(sys.modules);"
        "import huggingface_hub; assert huggingface_hub.__version__"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_other_threads_still_import_what_the_tables_go_without() -> None:
    """While the tables are read, nothing that threads share is masked: another thread imports the hub's client."""
    code = (
        "import sys, threading, zeroshot.models.open_clip_tables as tables\n"
        "seen = []\n"
        "light = tables._import_light\n"
        "def watched(name, *how, **named):\n"
        "    if name == 'huggingface_hub':\n"
        "        thread = threading.Thread(target=lambda: seen.append(__import__('huggingface_hub')))\n"
        "        thread.start(), thread.join()\n"
        "    return light(name, *how, **named)\n"
        "tables._import_light = watched\n"
        "tables.list_pretrained()\n"
        "print(len(seen))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) >= 1
