"""What decides every record of a run, as plain data: enough to make the classifier anew on another machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from ..classifier import build_classifier
from ..encoder import Encoder, EncoderSpec
from ..enums import Device, Engine, Field, Precision, Score
from ..errors import InputError, ModelError
from ..evaluation.calibrate import cool
from ..evaluation.learned_file import parse_learned
from ..images.decode import DEFAULT_MAX_PIXELS, DecodeOptions
from ..output.render.records import Layout
from ..output.resume_manifest import first_difference
from ..prompts.labels import Label, LabelSet
from ..prompts.template_sets import TemplateSet
from ..scoring import Classifier, Decision

_FACTS = (
    *("architecture", "pretrained", "weights_sha256", "configuration", "activation", "preprocessing", "dim"),
    *("context_length", "score"),
)
"""What of a model is the same whatever it runs on."""


@dataclass(frozen=True, slots=True)
class RunRecipe:
    """A run's recipe.

    Attributes:
        model: What `load_encoder` is asked for: ``model``, ``pretrained``, ``preprocessing``.
        facts: What has to be true of the model that is loaded, its weights' hash first.
        precision: As asked.
        engine: As asked.
        labels: The labels, with their groups.
        templates: The template set.
        score: As asked; None for softmax.
        temperature: Of a calibration; None where none is applied.
        learned: The file of weights that were learned, as plain data; None where the texts alone decide.
        top_k: How many of the best answers a record lists.
        threshold: Below this probability the label is None.
        fields: Numbers given for each label.
        exif: Images are turned upright.
        draft: Large JPEGs are decoded at a part of their size.
        max_pixels: Images with more pixels are refused; None for the default.
        private_hosts: Web addresses may lead into private networks.
        batch_size: Images encoded together.
        parquet: Parts are Parquet files instead of JSON lines.
        features: Parts hold features too.
    """

    model: dict[str, Any]
    facts: dict[str, Any]
    labels: LabelSet
    templates: TemplateSet
    precision: Precision = Precision.AUTO
    engine: Engine = Engine.AUTO
    score: Score | None = None
    temperature: float | None = None
    learned: dict[str, Any] | None = None
    top_k: int = 5
    threshold: float = 0.0
    fields: tuple[Field, ...] = (Field.PROBABILITY,)
    exif: bool = True
    draft: bool = False
    max_pixels: int | None = None
    private_hosts: bool = False
    batch_size: int = 32
    parquet: bool = False
    features: bool = field(default=False)

    @property
    def layout(self) -> Layout:
        """What of a record is written."""
        return Layout(self.fields, self.top_k)

    @property
    def decision(self) -> Decision:
        """When a probability becomes an answer; the same for an image whichever shard it is in."""
        return Decision(self.top_k, self.threshold, alone=True)

    def decode_options(self, memory: int | None) -> DecodeOptions:
        """Return how images are opened on a machine that has so many bytes for one of them."""
        limit = self.max_pixels or DEFAULT_MAX_PIXELS
        return DecodeOptions(self.exif, limit, None if self.max_pixels else memory, self.draft)

    def document(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)

    def load(
        self,
        device: Device = Device.AUTO,
        on_progress: Callable[[Any], None] | None = None,
        warn: Callable[[str], None] = lambda _: None,
    ) -> tuple[Encoder, Classifier]:
        """Load the model and build the classifier.

        Raises:
            ModelError: The model is not the one that the run was planned with.
        """
        from ..engines.choose import load_encoder

        encoder = load_encoder(
            self.model["model"],
            self.model["pretrained"],
            device=device,
            precision=self.precision,
            engine=self.engine,
            preprocessing=self.model["preprocessing"],
            on_progress=on_progress,
            warn=warn,
        )
        if difference := first_difference(self.facts, facts_of(encoder.spec)):
            raise ModelError(
                f"{encoder.spec.model} is not the model that the run was planned with: {difference}",
                "give this machine the same weights, or plan another run",
            )
        if self.learned is None:
            classifier = build_classifier(encoder, self.labels, self.templates, self.score)
        else:
            weights = parse_learned(self.learned, "the weights that the run was planned with")
            classifier = weights.build(encoder.spec, self.labels, self.templates, self.score)
        return encoder, classifier if self.temperature is None else cool(classifier, self.temperature)


def facts_of(spec: EncoderSpec) -> dict[str, Any]:
    """Return what of a model is the same whatever it runs on, as it reads back from JSON."""
    plain = asdict(spec)
    facts = {name: plain[name] for name in _FACTS}
    facts["score"] = str(facts["score"])
    size, mean, std = (list(facts["preprocessing"][name]) for name in ("size", "mean", "std"))
    named = {name: str(facts["preprocessing"][name]) for name in ("interpolation", "resize_mode")}
    facts["preprocessing"] = {**facts["preprocessing"], **named, "size": size, "mean": mean, "std": std}
    return facts


def parse_recipe(document: dict[str, Any]) -> RunRecipe:
    """Read a recipe from plain data.

    Raises:
        InputError: It is not one that this version wrote.
    """
    try:
        given = dict(document)
        labels, templates = given.pop("labels"), given.pop("templates")
        score = given.pop("score")
        return RunRecipe(
            labels=LabelSet(
                tuple(
                    Label(entry["name"], tuple(entry["aliases"]), tuple(entry["prompts"]), entry["background"])
                    for entry in labels["labels"]
                ),
                tuple((name, tuple(members)) for name, members in labels["groups"]),
            ),
            templates=TemplateSet(**{**templates, "templates": tuple(templates["templates"])}),
            score=None if score is None else Score(score),
            precision=Precision(given.pop("precision")),
            engine=Engine(given.pop("engine")),
            fields=tuple(Field(name) for name in given.pop("fields")),
            **given,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"the recipe of the run cannot be read: {error}", "use the version of zeroshot that planned it"
        ) from error
