"""The report of ``zeroshot classify``: what was found, label by label and image by image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TypeVar

from ...features.pipeline import Pipeline
from ...result_columns import Answers
from ...results import Failure, Manifest, Prediction, Record
from .embedded_images import make_thumbnails
from .gallery import MAX_IMAGES, MAX_RANKED, Card, Gallery, Sample, View
from .page import Cell, Section, Table, Tile, build_page, count, failures_section, manifest_section
from .similarity_matrix import build_matrix

Named = TypeVar("Named", Prediction, Failure)

MATRIX_IMAGES = 50
"""Up to this many images, the page shows their similarity to every label."""


class ClassifyReport:
    """Collects records as they are written, then makes the page.

    Records should list every label (``Decision.top_k`` of all answers), for the similarity matrix; those of more
    images than `MATRIX_IMAGES` are cut and sampled, so that memory does not grow with the run.

    Args:
        names: What the page calls a path; others keep theirs. It may fill while records come.
    """

    def __init__(self, names: Mapping[str, str] = MappingProxyType({})) -> None:
        self._names = names
        self._sample: Sample[Prediction] = Sample(MAX_IMAGES)
        self._whole: list[Prediction] = []
        self._failures: list[Failure] = []
        self._known: Counter[str] = Counter()
        self._unknown = 0

    def write_all(self, answers: Answers) -> None:
        """Take the records of some inputs."""
        for record in answers.records():
            self.write(record)

    def write(self, record: Record) -> None:
        """Take one record."""
        if isinstance(record, Failure):
            self._failures.append(record)
            return
        if record.label is None:
            self._unknown += 1
        else:
            self._known[record.label] += 1
        if self._n_read <= MATRIX_IMAGES:
            self._whole.append(record)
        else:
            self._whole.clear()
        cut = replace(record, top=record.top[:MAX_RANKED])
        self._sample.add(record.label, record.probability, cut)

    @property
    def _n_read(self) -> int:
        return sum(self._known.values()) + self._unknown

    @property
    def n_thumbnails(self) -> int:
        """How many images the page will show."""
        return len(self._sample.items())

    def page(
        self,
        manifest: Manifest,
        pipeline: Pipeline,
        on_progress: Callable[[int], None] = lambda _: None,
    ) -> bytes:
        """Return the page, in UTF-8.

        Args:
            manifest: What decided the answers.
            pipeline: How images are opened, for thumbnails.
            on_progress: Called with the number of thumbnails finished since the last call.
        """
        sample = self._sample.items()
        total = self._n_read + len(self._failures)
        by_path = make_thumbnails((record.path for record in sample), pipeline, on_progress)
        thumbnails = {self._names.get(path, path): address for path, address in by_path.items()}
        shown = [self._named(record) for record in sample]
        names = list(dict.fromkeys([*_answers(manifest), *self._known]))
        keys = {name: index for index, name in enumerate(names)}
        sections = [Section("numbers", "Answers", "summary.html", self._summary(keys, total))]
        if self._whole:
            lead = "The outlined cell is the row's best label; shades run from the row's lowest number to its highest."
            matrix = build_matrix([self._named(record) for record in self._whole], thumbnails, names)
            sections.append(Section("matrix", "Images and labels", "matrix.html", matrix, lead))
        lead = "The least sure first."
        if len(shown) < self._n_read:
            lead = f"{len(shown)} of {self._n_read}: a sample of each label. " + lead
        if shown:
            sections.append(Section("images", "Images", "gallery.html", self._gallery(shown, keys, thumbnails), lead))
        if self._failures:
            sections.append(failures_section([self._named(failure) for failure in self._failures]))
        sections.append(manifest_section(manifest))
        labels = count(len(manifest.labels["labels"]), "label")
        summary = f"{count(total, 'input')}, {labels}, model {manifest.model['model']}."
        return build_page("Classification", summary, sections)

    def _named(self, record: Named) -> Named:
        return replace(record, path=self._names.get(record.path, record.path))

    def _summary(self, keys: Mapping[str, int], total: int) -> dict[str, object]:
        tiles = [
            Tile("Inputs", str(total)),
            Tile("Answered", str(sum(self._known.values())), f"{len(self._known)} different labels"),
            Tile("Unknown", str(self._unknown), "below the threshold, or background"),
            Tile("Not read", str(len(self._failures))),
        ]

        def row(name: Cell, count: int) -> tuple[Cell, ...]:
            return name, replace(name, text=count), Cell(f"{100 * count / max(total, 1):.1f}%")

        by_count = sorted(keys, key=lambda name: -self._known[name])
        rows = [
            row(Cell(name, answer=keys[name] if self._known[name] else None), self._known[name]) for name in by_count
        ]
        if self._unknown:
            rows.append(row(Cell("(unknown)", view="unknown"), self._unknown))
        table = Table("Images by label", ("label", "images", "share"), rows, numbers=1, sortable=True)
        return {"tiles": tiles, "table": table}

    def _gallery(self, shown: Sequence[Prediction], keys: Mapping[str, int], thumbnails: Mapping[str, str]) -> Gallery:
        cards = [_card(record, keys) for record in sorted(shown, key=lambda record: record.probability)]
        counts = Counter(card.verdict for card in cards)
        views = [View("all", "All", len(cards))]
        if counts["unknown"]:
            views += [View("known", "Answered", counts["known"]), View("unknown", "Unknown", counts["unknown"])]
        return Gallery(cards, thumbnails, list(keys), views)


def _answers(manifest: Manifest) -> list[str]:
    """Return the names that can be answered, a group in place of its members."""
    group_of = {member: name for name, members in manifest.labels["groups"].items() for member in members}
    labels = [label for label in manifest.labels["labels"] if not label["background"]]
    return list(dict.fromkeys(group_of.get(label["name"], label["name"]) for label in labels))


def _card(record: Prediction, keys: Mapping[str, int]) -> Card:
    runners = record.top[1:3] if record.label is not None else record.top[:3]
    verdict = "known" if record.label is not None else "unknown"
    return Card(
        path=record.path,
        answer=record.label,
        probability=record.probability,
        verdict=verdict,
        views=verdict,
        top=tuple((keys[ranked.label], ranked.probability) for ranked in record.top if ranked.label in keys),
        answer_key=None if record.label is None else keys[record.label],
        note=", ".join(f"{ranked.label} {100 * ranked.probability:.1f}%" for ranked in runners),
    )
