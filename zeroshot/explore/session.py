"""Holds the state of one `explore`: its images, labels, searches and corrections, and what follows from them."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..classifier import build_classifier
from ..encoder import Encoder, Features
from ..enums import Score
from ..errors import InputError, ZeroshotError
from ..evaluation.calibration_file import load_calibration
from ..evaluation.learned_file import LearnedFile
from ..features.pipeline import Pipeline
from ..messages import printable, some_of
from ..prompts.labels import LabelSet
from ..prompts.template_sets import TemplateSet, from_templates, load_templates
from ..scoring import Classifier
from ..search import build_query, rows_by_name
from .background_encoding import Encoding
from .collection import Collection, absolute
from .corrections import Corrections, Said
from .folder_map import FolderMap
from .label_features import RowMemory
from .label_scores import Columns, Scored, score
from .label_text import read_label_text
from .ranked_rows import Marks, Ranking, Sorting, rank
from .search_terms import add_up, parse_terms
from .tab_view import Asked, GoneError, TemplatesError, View

_MOST_VIEWS = 12
_MOST_DROPS = 32
_MOST_UNDO = 200


class Session:
    """One folder, one model, any number of tabs.

    Args:
        encoder: The model.
        collection: The images.
        corrections: What the user has said.
        pipeline: How images are opened.
        score: How logits become probabilities; None for softmax.
        calibration: A calibration file, applied to the labels and templates that it was fitted for.
        learned: Learned weights, applied to the labels and templates that they were learned for.

    Raises:
        InputError: The weights were learned for another model or score.
    """

    def __init__(
        self,
        encoder: Encoder,
        collection: Collection,
        corrections: Corrections,
        pipeline: Pipeline,
        score: Score | None = None,
        calibration: Path | None = None,
        learned: LearnedFile | None = None,
    ) -> None:
        self.encoder = encoder
        self.collection = collection
        self.corrections = corrections
        self.pipeline = pipeline
        self.score = score
        self.calibration = calibration
        self.learned = learned
        self.map = FolderMap()
        self._known = rows_by_name(learned.build(encoder.spec, score=score)) if learned else {}
        self.encoding: Encoding | None = None
        self._lock = threading.RLock()
        self._texts = threading.Lock()
        self._columns = Columns()
        self._rows = RowMemory()
        self._views: OrderedDict[str, View] = OrderedDict()
        self._scored: tuple[object, Classifier, Scored] | None = None
        self._drops: OrderedDict[str, Features] = OrderedDict()
        self._undo: deque[dict[str, Said]] = deque(maxlen=_MOST_UNDO)
        self._number = 0
        self.run = secrets.token_hex(4)

    @property
    def version(self) -> int:
        """A number that is another whenever a sort may give other rows of the same number of images."""
        return self.corrections.version + self.collection.version

    def view(self, key: str) -> View:
        """Return a view that was made before.

        Raises:
            GoneError: It was made too long ago.
        """
        with self._lock:
            if key not in self._views:
                raise GoneError(key)
            self._views.move_to_end(key)
            return self._views[key]

    def sort(self, asked: Asked) -> View:
        """Sort all images by the labels asked for.

        Raises:
            ZeroshotError: The labels or templates cannot be used; one line says why.
        """
        labels = read_label_text(asked.text)
        if labels is None:
            _, here = self.collection.shown
            ids = np.flatnonzero(here).astype(np.int32)
            everything = Ranking(ids, np.zeros(len(ids), np.float32))
            with self._lock:
                return self._keep(View(self._next(), here, hits=everything, asked=asked))
        with self._texts:  # many new labels take seconds, in which images and other requests are answered
            classifier, notes = self._classifier(labels, asked)
        with self._lock:
            features, here = self.collection.shown
            classifier, calibrated, refused = self._calibrate(classifier)
            sorting = self._sorting(classifier, features, here)
            learned = bool(classifier.learned)
            return self._keep(View(self._next(), here, sorting, None, asked, (*notes, *refused), calibrated, learned))

    def _sorting(self, classifier: Classifier, features: Features, here: npt.NDArray[np.bool_]) -> Sorting:
        columns = self._columns.similarities(features, classifier.weights)
        # A correction changes rows, not scores: the last ones are at hand.
        key = (classifier.weights.tobytes(), classifier.logit_scale, classifier.labels, len(features))
        if self._scored is None or self._scored[0] != key:
            self._scored = (key, classifier, score(classifier, columns))
        return Sorting(classifier, self._scored[2], self.marks(classifier.labels, here), features, here)

    def _classifier(self, labels: LabelSet, asked: Asked) -> tuple[Classifier, tuple[str, ...]]:
        """Return the classifier of learned weights where they fit, else that of the texts, and what to say of it."""
        templates = read_templates(asked)
        notes: tuple[str, ...] = ()
        if self.learned:
            try:
                classifier = self.learned.build(self.encoder.spec, labels, templates, self.score)
                return classifier, (f"with the weights of {self.learned.source}",)
            except InputError as error:
                notes = (f"the texts alone decide: {error.message}",)
        return build_classifier(self.encoder, labels, templates, self.score, self._rows), notes

    def _calibrate(self, classifier: Classifier) -> tuple[Classifier, bool, tuple[str, ...]]:
        """Return the classifier, calibrated where the calibration fits, whether it does, and why not."""
        if self.calibration is None:
            return classifier, False, ()
        try:
            fitted = load_calibration(self.calibration, self.encoder.spec, classifier)
        except InputError as error:
            return classifier, False, (f"not calibrated: {error.message}",)
        return fitted.apply(classifier), True, ()

    def fitted_threshold(self, asked: Asked) -> float:
        """Return the threshold that the calibration states for these labels; 0 where none fits them."""
        try:
            labels = read_label_text(asked.text)
            if self.calibration is None or labels is None:
                return 0.0
            with self._texts:
                classifier, _ = self._classifier(labels, asked)
            return load_calibration(self.calibration, self.encoder.spec, classifier).threshold or 0.0
        except ZeroshotError:  # the page says so when it sorts
            return 0.0

    def marks(self, labels: LabelSet, here: npt.NDArray[np.bool_]) -> Marks:
        """Return what was said about the images that are here, in terms of the answers of a label list."""
        index = {name: answer for answer, (name, _) in enumerate(labels.answers)}
        given: dict[int, int] = {}
        refused: dict[int, frozenset[int]] = {}
        for path, said in self.corrections.all().items():
            image = self.collection.find(path)
            if image is None or image >= len(here) or not here[image]:
                continue
            if said.label in index:
                given[image] = index[said.label]
            if some := frozenset(index[name] for name in said.refused if name in index):
                refused[image] = some
        return Marks(given, refused)

    def search(self, text: str, images: Sequence[tuple[float, int]], drops: Sequence[tuple[float, str]]) -> View:
        """Rank all images by their cosine to a sum of texts, images of the folder, and dropped images.

        Raises:
            ZeroshotError: There is nothing to search for, or it cannot be read.
            LookupError: There is no such image.
        """
        terms = parse_terms(text)
        features, here = self.collection.shown
        with self._lock:
            parts = [(weight, features[image]) for weight, image in images if 0 <= image < len(features)]
            if len(parts) < len(images):
                raise LookupError("no such image")
            parts += [(weight, self._drops[key]) for weight, key in drops]
        query = add_up(parts, self._encode_words, terms)
        hits = rank(features, query).among(here)
        with self._lock:
            return self._keep(View(self._next(), here, hits=hits))

    def _encode_words(self, words: str) -> Features:
        return build_query(self.encoder, [words], [], self.pipeline, known=self._known)

    def keep_drop(self, features: Features) -> str:
        """Keep the features of an image that was dropped, and return what it is called by."""
        with self._lock:
            key = self._next()
            self._drops[key] = features
            while len(self._drops) > _MOST_DROPS:
                self._drops.popitem(last=False)
            return key

    def correct(self, images: Iterable[int], change: Callable[[int, Said], Said]) -> int:
        """Say something about images.

        Args:
            images: Their ids.
            change: Gives what is said now for an image and what was said before.

        Returns:
            How many images it changed something for.

        Raises:
            ZeroshotError: It cannot be kept: of all images, or of those that the message names.
        """
        with self._lock:
            changes: dict[str, Said] = {}
            for image in images:
                if not self.collection.is_here(image):
                    continue
                path = absolute(self.collection.path(image))
                before = self.corrections.of(path)
                if (now := change(image, before)) != before:
                    changes[path] = now
            earlier = self.corrections.say(changes)
            if earlier:
                self._undo.append(earlier)
        if left := [printable(path) for path in changes if path not in earlier]:
            kept = f"; kept for the other {len(earlier):,}" if earlier else ""
            raise InputError(
                f"cannot be kept, for the name is not UTF-8: {some_of(left, 3)}{kept}", "rename what is named"
            )
        return len(changes)

    def uncorrect(self) -> int:
        """Take back what was said last, whichever tab said it; return for how many images."""
        with self._lock:
            if not self._undo:
                return 0
            last = self._undo[-1]
            self.corrections.say(last)
            self._undo.pop()
            return len(last)

    def moved(self, places: dict[str, str]) -> None:
        """Note that images have another place; what was said about them follows.

        Raises:
            ZeroshotError: That cannot be kept.
        """
        with self._lock:
            self.collection.move(places)
            self._undo.clear()  # it names the old places
            said = {source: what for source in places if (what := self.corrections.of(source))}
            kept = self.corrections.say({places[source]: what for source, what in said.items()})
            # What a place whose name is no text cannot be said of stays where it was, for an undo.
            self.corrections.say({source: Said() for source in said if places[source] in kept})

    def _next(self) -> str:
        self._number += 1
        return f"{self.run}-{self._number}"  # no other run on the same port has it

    def _keep(self, view: View) -> View:
        self._views[view.key] = view
        while len(self._views) > _MOST_VIEWS:
            self._views.popitem(last=False)
        return view


def read_templates(asked: Asked) -> TemplateSet:
    """Return the templates that the page asked for.

    Raises:
        TemplatesError: They cannot be used.
    """
    try:
        return from_templates(asked.templates) if asked.templates else load_templates(asked.set_name)
    except ZeroshotError as error:
        raise TemplatesError(error.message.removeprefix("--template: "), error.hint) from error
