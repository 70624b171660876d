"""The joint space of `train.py`: a projection of the fixed image features, and an anchor for each class.

An anchor is where a class's images lie after the projection. Those of ImageNet's classes come from the classifier that
the image tower was published with, also for classes of which there is no image at hand: its answers are imitated on
photographs, and on features that were moved until it names a class drawn at random.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from tqdm import tqdm

RELU6 = 6.0  # the pooled features lie between 0 and this
N_CLASSES = 1000


@dataclass(frozen=True, slots=True)
class Domain:
    """Images that are told apart among their own labels.

    Attributes:
        name: for the log.
        features: of the images, ``(n, n_features)``.
        labels: ``(n,)`` the row of ``phrases`` that names each image.
        phrases: ``(n_labels,)`` rows of the lexicon's mixtures.
        weight: of the domain's loss.
        imitates: whether the classifier's answers on these images are worth imitating (not on thumbnails).
    """

    name: str
    features: Tensor
    labels: Tensor
    phrases: Tensor
    weight: float
    imitates: bool

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return ``count`` features, each label as often as any other if possible, and their labels."""
        rows = torch.multinomial(self.odds(), count, replacement=True, generator=generator)
        return self.features[rows].float(), self.labels[rows]

    def draw_some(self, count: int, most: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Return ``count`` features, labels ``(count,)`` among at most ``most`` phrases, and those phrases."""
        chosen = torch.randperm(len(self.phrases), generator=generator)[:most]
        place = torch.full((len(self.phrases),), -1)
        place[chosen] = torch.arange(len(chosen))
        weights = self.odds() * (place[self.labels] >= 0)
        rows = torch.multinomial(weights, count, replacement=True, generator=generator)
        return self.features[rows].float(), place[self.labels[rows]], self.phrases[chosen]

    def odds(self) -> Tensor:
        """Return each image's chance: inverse to the root of its label's count."""
        counts = torch.bincount(self.labels, minlength=len(self.phrases)).clamp(min=1)
        return counts[self.labels].float().pow(-0.5)


class Classifier:
    """The published classifier on pooled features: ``weight`` ``(1000, n_features)`` and ``bias`` ``(1000,)``."""

    def __init__(self, weight: Tensor, bias: Tensor, pool: Tensor) -> None:
        self.weight, self.bias = weight, bias
        self.mean = pool.mean(0)
        centred = pool - self.mean
        covariance = centred.T @ centred / len(pool)
        self.covariance = covariance + 1e-3 * covariance.diagonal().mean() * torch.eye(len(covariance))
        self.moves = weight @ self.covariance  # (1000, n_features): the likeliest way towards each class

    def __call__(self, features: Tensor) -> Tensor:
        """Return logits ``(n, 1000)``."""
        return features @ self.weight.T + self.bias

    def factors(self, dim: int) -> tuple[Tensor, Tensor]:
        """Return projection ``(dim, n_features)`` and anchors ``(1000, dim)`` that keep most of the variance."""
        values, vectors = torch.linalg.eigh(self.covariance)
        root, inverse = (vectors * values.pow(power) @ vectors.T for power in (0.5, -0.5))
        u, s, v = torch.linalg.svd((self.weight - self.weight.mean(0)) @ root, full_matrices=False)
        return (v[:dim] * s[:dim, None].sqrt()) @ inverse, u[:, :dim] * s[:dim].sqrt()

    def move(self, features: Tensor, generator: torch.Generator) -> Tensor:
        """Return features like ``features`` that the classifier takes for classes drawn at random, by any margin."""
        n = len(features)
        logits = self(features)
        best, now = logits.max(1)
        wanted = torch.randint(N_CLASSES, (n,), generator=generator)
        margin = 8 * torch.rand(n, generator=generator) - 1
        direction = self.moves[wanted] - self.moves[now]
        gain = ((self.weight[wanted] - self.weight[now]) * direction).sum(1)
        step = (margin + best - logits.gather(1, wanted[:, None])[:, 0]) / gain.clamp(min=1e-6)
        return (features + step.clamp(min=0)[:, None] * direction).clamp(0, RELU6)


class JointSpace(nn.Module):
    """Projection ``(dim, n_features)`` with bias, anchors ``(n_columns, dim)`` and the logarithm of the logit scale."""

    def __init__(self, classifier: Classifier, n_columns: int, dim: int) -> None:
        super().__init__()
        projection, anchors = classifier.factors(dim)
        self.projection = nn.Linear(projection.shape[1], dim)
        self.anchors = nn.Parameter(torch.zeros(n_columns, dim))
        with torch.no_grad():
            self.projection.weight.copy_(projection)
            self.projection.bias.copy_(-projection @ classifier.mean)
            self.anchors[:N_CLASSES] = anchors
        self.log_scale = nn.Parameter(torch.tensor(3.0))

    def images(self, features: Tensor) -> Tensor:
        """Return unit rows ``(n, dim)`` of image features ``(n, n_features)``."""
        return F.normalize(self.projection(features), dim=-1)

    def phrases(self, mixtures: Tensor) -> Tensor:
        """Return unit rows ``(n_phrases, dim)``: the mixtures ``(n_phrases, n_columns)`` of unit anchors."""
        return F.normalize(mixtures @ F.normalize(self.anchors, dim=-1), dim=-1)

    @torch.no_grad()
    def set_means(self, domains: list[Domain], mixtures: Tensor) -> None:
        """Start each further anchor from the mean of the images whose label is nearest to it alone."""
        for domain in domains:
            x = self.images(domain.features.float())
            for label, phrase in enumerate(domain.phrases.tolist()):
                of_label = domain.labels == label
                for column in mixtures[phrase, N_CLASSES:].nonzero()[:, 0].tolist():
                    if of_label.any():
                        self.anchors[N_CLASSES + column] = F.normalize(x[of_label].mean(0), dim=0) * 5


def draw_images(classifier: Classifier, domains: list[Domain], count: int, generator: torch.Generator) -> Tensor:
    """Return image features ``(about count, n_features)``: half of them moved to classes drawn at random."""
    share = count // (2 * len(domains)) + 1
    real = torch.cat([domain.draw(share, generator)[0] for domain in domains])
    photographs = [domain for domain in domains if domain.imitates]
    share = count // (2 * len(photographs)) + 1
    return torch.cat([real, classifier.move(torch.cat([d.draw(share, generator)[0] for d in photographs]), generator)])


def train_space(
    space: JointSpace,
    classifier: Classifier,
    domains: list[Domain],
    mixtures: Tensor,
    steps: int,
    seed: int,
    rate: float = 2e-3,
) -> None:
    """Train projection, anchors and scale: each domain's own labels, and the classifier's answers."""
    generator, batch = torch.Generator().manual_seed(seed), 256
    optimizer = torch.optim.AdamW(space.parameters(), lr=1e-3, weight_decay=0.0)
    photographs = [domain for domain in domains if domain.imitates]
    bar = tqdm(range(steps), desc="anchors", mininterval=10)
    for step in bar:
        factor = min(1.0, 20 * (step + 1) / steps) * (1 - step / steps)
        optimizer.param_groups[0]["lr"] = rate * factor
        anchors, scale = F.normalize(space.anchors[:N_CLASSES], dim=-1), space.log_scale.exp()
        loss, seen = 0.0, []
        for domain in domains:
            features, labels = domain.draw(batch, generator)
            logits = scale * space.images(features) @ space.phrases(mixtures[domain.phrases]).T
            loss = loss + domain.weight * F.cross_entropy(logits, labels)
        for domain in photographs:
            seen.append(domain.draw(batch // len(photographs) + 1, generator)[0])
        seen = torch.cat(seen)
        for features, weight in ((seen, 0.5), (classifier.move(seen, generator), 1.0)):
            wanted = classifier(features).softmax(-1)
            found = (scale * space.images(features) @ anchors.T).log_softmax(-1)
            loss = loss + weight * F.kl_div(found, wanted, reduction="batchmean")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 0:
            bar.set_postfix(loss=f"{loss.item():.3f}", scale=f"{scale.item():.1f}")
