"""Pictures with their answers, and the form that filters them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .markup import Safe, join, tag

MAX_IMAGES = 5000
"""Pictures in a page: about 25 MB."""


@dataclass(frozen=True, slots=True)
class Card:
    """One picture in the gallery.

    Attributes:
        path: As the person gave it.
        answer: The label given; None for "unknown".
        probability: The best label's probability, in [0, 1].
        verdict: ``right``, ``wrong``, ``known`` or ``unknown``.
        labels: Keys of the labels by which it is found.
        given: The true label, where that is another one; empty otherwise.
        note: A sentence below; empty for none.
    """

    path: str
    answer: str | None
    probability: float
    verdict: str
    labels: tuple[int, ...]
    given: str = ""
    note: str = ""

    @property
    def words(self) -> str:
        """The card in words, for those who do not see the picture."""
        answer = f"answer {self.answer}" if self.answer is not None else "unknown"
        given = f", labelled {self.given}" if self.given else ""
        return f"{self.path}: {answer}, {100 * self.probability:.1f}%{given}"


def cards(items: Sequence[Card], thumbnails: Mapping[str, str]) -> Safe:
    """Return a grid of pictures.

    Args:
        items: In order.
        thumbnails: ``data:`` addresses by path.
    """
    return tag("ul", join(_card(item, thumbnails.get(item.path)) for item in items), class_="cards")


def filtered(
    items: Sequence[Card], thumbnails: Mapping[str, str], labels: Sequence[tuple[int, str]], verdicts: Sequence[str]
) -> Safe:
    """Return a grid with a form above it that narrows it by label, verdict and confidence.

    The form does nothing without the script, so it is hidden until the script shows it.

    Args:
        items: In order.
        thumbnails: ``data:`` addresses by path.
        labels: Keys and names to filter by.
        verdicts: Verdicts to filter by.
    """
    form = tag(
        "form",
        _choice("label", "Label", [("", "all"), *((str(key), name) for key, name in labels)]),
        _choice("verdict", "Answer", [("", "all"), *((verdict, verdict) for verdict in verdicts)]),
        _number("from", "Confidence from", 0),
        _number("to", "to", 100),
        tag("button", "Show all", type="reset"),
        tag("output", f"{len(items)} of {len(items)} pictures", aria_live="polite"),
        class_="filter",
        hidden=True,
    )
    return tag("div", form, cards(items, thumbnails), class_="gallery")


def _card(item: Card, thumbnail: str | None) -> Safe:
    if thumbnail:
        image = tag("img", src=thumbnail, alt=item.words, title=item.path, loading="lazy", decoding="async")
    else:
        image = tag("span", "no picture", class_="nothing", role="img", aria_label=item.words)
    answer = item.answer if item.answer is not None else "(unknown)"
    caption = [
        tag("span", tag("b", answer, class_="answer"), f" {100 * item.probability:.1f}%", class_="line"),
        tag("span", "labelled ", tag("b", item.given), class_="line given") if item.given else "",
        tag("span", item.note, class_="line note") if item.note else "",
        tag("span", item.path, class_="line path", title=item.path, dir="auto"),
    ]
    return tag(
        "li",
        tag("figure", image, tag("figcaption", join(caption))),
        class_=f"card {item.verdict}",
        data_labels=" ".join(str(key) for key in item.labels),
        data_verdict=item.verdict,
        data_confidence=f"{100 * item.probability:.3f}",
    )


def _choice(name: str, title: str, options: Sequence[tuple[str, str]]) -> Safe:
    choices = join(tag("option", text, value=value) for value, text in options)
    return tag("label", tag("span", title), tag("select", choices, name=name))


def _number(name: str, title: str, value: int) -> Safe:
    field = tag("input", type="number", name=name, min=0, max=100, step="any", value=value, inputmode="decimal")
    return tag("label", tag("span", title), field, "%")
