"""The report of ``zeroshot classify``: what was found, picture by picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from ...features.pipeline import Pipeline
from ...results import Failure, Manifest, Prediction, Record
from .gallery import MAX_IMAGES, Card, filtered
from .markup import Safe, join, tag
from .page import Section, build_page, column_heads, manifest_section, table, tiles
from .thumbnails import make_thumbnails

MATRIX_IMAGES = 50
"""Up to this many pictures, the page shows their similarity to every label."""

MATRIX_LABELS = 200
"""Beyond this many labels the matrix shows those that are among the answers' runners-up."""

_KEPT = 5


class ClassifyReport:
    """Collects records as they are written, then makes the page.

    Records should list every label (``Decision.top_k`` of all answers), for the similarity matrix; beyond
    `MATRIX_IMAGES` pictures the lists are cut, so that memory does not grow with pictures times labels.
    """

    def __init__(self) -> None:
        self._predictions: list[Prediction] = []
        self._failures: list[Failure] = []
        self._known: Counter[str] = Counter()
        self._unknown = 0

    def write(self, record: Record) -> None:
        """Take one record."""
        if isinstance(record, Failure):
            self._failures.append(record)
            return
        if record.label is None:
            self._unknown += 1
        else:
            self._known[record.label] += 1
        if len(self._predictions) == MATRIX_IMAGES:
            self._predictions = [replace(kept, top=kept.top[:_KEPT]) for kept in self._predictions]
        if len(self._predictions) >= MATRIX_IMAGES:
            record = replace(record, top=record.top[:_KEPT])
        if len(self._predictions) < MAX_IMAGES:
            self._predictions.append(record)

    @property
    def n_thumbnails(self) -> int:
        """How many pictures the page will show."""
        return len(self._predictions)

    def page(
        self,
        manifest: Manifest,
        pipeline: Pipeline,
        on_progress: Callable[[int], None] = lambda _: None,
    ) -> bytes:
        """Return the page, in UTF-8.

        Args:
            manifest: What decided the answers.
            pipeline: How pictures are opened, for thumbnails.
            on_progress: Called with the number of thumbnails finished since the last call.
        """
        shown = self._predictions
        n_known = sum(self._known.values())
        total = n_known + self._unknown + len(self._failures)
        thumbnails = make_thumbnails((record.path for record in shown), pipeline, on_progress)
        names = list(dict.fromkeys(ranked.label for record in shown for ranked in record.top[:_KEPT]))
        key_of = {name: index for index, name in enumerate(names)}
        order = {label["name"]: index for index, label in enumerate(manifest.labels["labels"])}
        sections = [Section("numbers", "Answers", self._summary(n_known, total))]
        if shown and n_known + self._unknown <= MATRIX_IMAGES:
            lead = "Cosine of each picture with each label; the darker, the nearer among all cells."
            sections.append(Section("matrix", "Pictures and labels", _matrix(shown, thumbnails, order), lead))
        lead = "In the order of the input."
        if len(shown) < n_known + self._unknown:
            lead += f" The first {len(shown)} of {n_known + self._unknown}."
        items = [_card(record, key_of) for record in shown]
        answered = [(key_of[name], name) for name, _ in self._known.most_common() if name in key_of]
        body = filtered(items, thumbnails, answered, ("known", "unknown"))
        sections.append(Section("pictures", "Pictures", body, lead))
        if self._failures:
            rows = [(failure.path, failure.error) for failure in self._failures]
            caption = "Pictures that could not be read"
            sections.append(Section("failures", "Not read", table(("picture", "why"), rows, caption=caption)))
        sections.append(manifest_section(manifest))
        summary = f"{total} inputs, {len(manifest.labels['labels'])} labels, model {manifest.model['model']}."
        return build_page("Classification", summary, sections)

    def _summary(self, n_known: int, total: int) -> Safe:
        numbers = tiles(
            [
                ("Inputs", str(total), ""),
                ("Answered", str(n_known), f"{len(self._known)} different labels"),
                ("Unknown", str(self._unknown), "below the threshold, or background"),
                ("Not read", str(len(self._failures)), ""),
            ]
        )
        rows = [(name, count, f"{100 * count / total:.1f}%") for name, count in self._known.most_common()]
        counts = table(("label", "pictures", "share"), rows, caption="Pictures by label", sortable=True, numbers=1)
        return join([numbers, counts if rows else ""])


def _card(record: Prediction, key_of: dict[str, int]) -> Card:
    runners = record.top[1:3] if record.label is not None else record.top[:3]
    return Card(
        path=record.path,
        answer=record.label,
        probability=record.probability,
        verdict="known" if record.label is not None else "unknown",
        labels=() if record.label is None else (key_of[record.label],),
        note=", ".join(f"{ranked.label} {100 * ranked.probability:.1f}%" for ranked in runners),
    )


def _matrix(records: Sequence[Prediction], thumbnails: dict[str, str], order: dict[str, int]) -> Safe:
    """Return the table of cosines, thumbnails along one side and labels, in their own order, along the other."""
    near = list(dict.fromkeys(ranked.label for record in records for ranked in record.top))
    if len(near) > MATRIX_LABELS:
        near = list(dict.fromkeys(ranked.label for record in records for ranked in record.top[:_KEPT]))
    near.sort(key=lambda name: order.get(name, len(order)))
    cosines = [{ranked.label: ranked.similarity for ranked in record.top} for record in records]
    values = [row[name] for row in cosines for name in near if name in row]
    low, high = min(values), max(values)
    rows = []
    for record, row in zip(records, cosines, strict=True):
        title = f"{record.path}: {record.label if record.label is not None else 'unknown'}"
        address = thumbnails.get(record.path)
        image = tag("img", src=address, alt=title, width=40, height=40) if address else ""
        cells = [tag("th", image, tag("span", record.path.rsplit("/", 1)[-1]), scope="row", title=record.path)]
        for name in near:
            if name not in row:
                cells.append(tag("td", "", class_="zero"))
                continue
            shade = round(10 * (row[name] - low) / max(high - low, 1e-9))
            words = f"{record.path.rsplit('/', 1)[-1]} and {name}: cosine {row[name]:.3f}"
            cells.append(tag("td", f"{row[name]:.2f}", class_=f"hit s{shade}", title=words))
        rows.append(tag("tr", join(cells)))
    whole = tag(
        "table",
        tag("caption", "Cosine of each picture with each label"),
        column_heads("picture", near),
        tag("tbody", join(rows)),
        class_="heat",
    )
    return tag("div", whole, class_="scroll tall", tabindex="0", role="region", aria_label="Similarity matrix")
