"""Reports: what is in them, that nothing in them runs, and how they behave in a browser."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from support.browser import Page, find_chromium, open_browser
from support.fakes import FakeEncoder
from zeroshot.classifier import build_classifier, build_manifest, classify_paths
from zeroshot.evaluation import statistics
from zeroshot.evaluation.evaluate import Run, encode_dataset, evaluate
from zeroshot.evaluation.labelled_folders import Dataset
from zeroshot.features.pipeline import Pipeline
from zeroshot.output.report import ClassifyReport, eval_report, plots
from zeroshot.output.report.confusion import _heat, describe_mistakes
from zeroshot.output.report.embedded_images import make_thumbnails
from zeroshot.output.report.gallery import Sample
from zeroshot.output.report.markup import escape, tag
from zeroshot.output.report.similarity_matrix import build_matrix
from zeroshot.prompts.labels import Label, LabelSet
from zeroshot.prompts.template_sets import from_templates
from zeroshot.results import Failure, Prediction, Ranked
from zeroshot.scoring import Decision

ATTACK = "<script>document.title='owned'</script>"
HOSTILE = (
    "red " + ATTACK,
    "green\" onmouseover=\"document.title='owned'",
    "blue </style></script><img src=x onerror=document.title='owned'>",
)
"""Labels that a careless page would run; each names a colour, so that the encoder tells them apart."""

CONTRAST = Path(__file__).with_name("contrast.js").read_text(encoding="utf-8")

needs_browser = pytest.mark.skipif(find_chromium() is None, reason="no Chromium here: apt-get install chromium")


def hostile_names(index: int) -> str:
    return [f"{index}<b>&amp;.png", f"{index}\"onerror='x'.png", f"{index}\u202egnp.exe.png", f"{index}\udcff.png"][
        index % 4
    ]


@pytest.fixture(scope="session")
def eval_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """An evaluation whose labels and file names are hostile; a third of the answers are wrong."""
    folder = tmp_path_factory.mktemp("report")
    generator = np.random.default_rng(0)
    paths, targets = [], []
    for index in range(60):
        target = index % 3
        shown = (target + 1) % 3 if index % 4 == 3 else target
        colour = np.full(3, 60) + generator.integers(0, 60, size=3)
        colour[shown] = 150 + index
        path = folder / hostile_names(index)
        Image.new("RGB", (40 + index, 30), tuple(int(value) for value in colour)).save(str(path))
        paths.append(str(path))
        targets.append(target)
    labels = LabelSet(tuple(Label(name) for name in HOSTILE))
    dataset = Dataset((*paths, str(folder / "<gone>.png")), np.array([*targets, 0]), labels, HOSTILE)
    encoder = FakeEncoder(logit_scale=4.0)
    classifier = build_classifier(encoder, labels, from_templates(["a {}"]))
    data = encode_dataset(encoder, dataset, Pipeline(16, 1))
    manifest = build_manifest(encoder.spec, classifier, {"data": "<i>val</i>"})
    return Run(evaluate(data, classifier, HOSTILE), manifest)


@pytest.fixture(scope="session")
def eval_page(eval_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its report."""
    page = tmp_path_factory.mktemp("page") / "report.html"
    page.write_bytes(eval_report(eval_run, Pipeline(workers=2)))
    return page


@pytest.fixture(scope="session")
def classify_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a classification of a dozen images, with hostile labels and one failure."""
    folder = tmp_path_factory.mktemp("classified")
    paths = []
    for index in range(12):
        colour = [90, 90, 90]
        colour[index % 3] = 255
        paths.append(str(folder / hostile_names(index)))
        Image.new("RGB", (30, 40), tuple(colour)).save(paths[-1])
    encoder = FakeEncoder()
    classifier = build_classifier(encoder, LabelSet(tuple(Label(name) for name in HOSTILE)), from_templates(["a {}"]))
    report = ClassifyReport()
    for record in classify_paths(encoder, classifier, [*paths, str(folder / "gone.png")], Decision(3, 0.5)):
        report.write(record)
    page = folder / "report.html"
    page.write_bytes(report.page(build_manifest(encoder.spec, classifier, {}), Pipeline(workers=2)))
    return page


@pytest.fixture(scope="session")
def browser() -> Iterator[Page]:
    with open_browser() as page:
        yield page


class Elements(HTMLParser):
    """Collects a page's elements with their attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, list[tuple[str, str]]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str]]) -> None:
        self.found.append((tag, attrs))


class TestMarkup:
    """Escaping."""

    def test_strings_are_escaped(self) -> None:
        """Text and attribute values cannot end the place they stand in."""
        made = tag("p", "<b>&", title="\"'><", data_x=1)
        assert made == '<p title="&#34;&#39;&gt;&lt;" data-x="1">&lt;b&gt;&amp;</p>'

    def test_markup_is_not_escaped_twice(self) -> None:
        """An element inside an element stays one; absent attributes are left out."""
        assert tag("p", tag("br"), class_=None, hidden=True) == "<p hidden><br></p>"

    def test_invisible_characters_are_spelled_out(self) -> None:
        """What would turn the text around, or is no character at all, is shown as its code."""
        assert escape("a\u202eb\x00c\udcff") == "a\\u202eb\\x00c\\udcff"


class TestPlots:
    """The drawings."""

    def test_are_well_formed_and_describe_themselves(self) -> None:
        """Each drawing is XML with a title and a description, and says how many images its bars stand for."""
        confidence = np.linspace(0.05, 0.95, 40)
        right = np.arange(40) % 3 > 0
        drawings = [
            plots.reliability(statistics.reliability(confidence, right)),
            plots.risk_coverage(statistics.risk_coverage(confidence, right)),
        ]
        for drawing in drawings:
            root = ElementTree.fromstring(drawing)
            names = [child.tag.rsplit("}", 1)[-1] for child in root]
            assert names[:2] == ["title", "desc"]
            assert not root.findall(".//{http://www.w3.org/2000/svg}script")

    def test_bars_that_are_too_sure_and_unsure_differ(self) -> None:
        """A bin that is less often right than it says is drawn otherwise than one that is more often right."""
        for right, kind in ((False, "gap"), (True, "under")):
            drawing = plots.reliability(statistics.reliability(np.full(8, 0.7), np.full(8, right)))
            assert re.findall(r'<g><title>.*?</title>.*?class="(gap|under)"', drawing) == [kind]


class TestFile:
    """What stands in the file."""

    def test_policy_names_style_and_script(self, eval_page: Path) -> None:
        """The page's policy allows one style and one script, by hash, and images inside the page: nothing else."""
        text = eval_page.read_text(encoding="utf-8")
        policy = html.unescape(re.search(r'Content-Security-Policy" content="([^"]*)"', text).group(1))
        parts = dict(part.strip().split(" ", 1) for part in policy.split(";"))
        assert parts["default-src"] == "'none'"
        assert parts["img-src"] == "data:"
        for element, name in (("style", "style-src"), ("script", "script-src")):
            (content,) = re.findall(f"<{element}>(.*?)</{element}>", text, re.DOTALL)
            assert parts[name] == f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"

    @pytest.mark.parametrize("which", ["eval_page", "classify_page"])
    def test_hostile_text_is_inert(self, which: str, request: pytest.FixtureRequest) -> None:
        """Labels and file names stand in the page as text only; it names no address outside itself."""
        text = request.getfixturevalue(which).read_text(encoding="utf-8")
        assert ATTACK not in text
        assert escape(ATTACK) in text
        assert text.count("<script>") == text.count("<style>") == 1
        elements = Elements()
        elements.feed(text)
        attributes = {name for _, found in elements.found for name, _ in found}
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        addresses = [value for _, found in elements.found for name, value in found if name in ("src", "href")]
        assert all(address.startswith(("data:image/webp;base64,", "#")) for address in addresses)

    def test_every_image_has_words(self, eval_page: Path) -> None:
        """Each thumbnail has an alternative text that says what it is taken for."""
        images = re.findall(r"<img [^>]*>", eval_page.read_text(encoding="utf-8"))
        assert len(images) == 61
        assert all(re.search(r'alt="[^"]*(answer|unknown)[^"]*"', image) for image in images if "src=" in image)

    def test_failures_are_listed(self, eval_page: Path, classify_page: Path) -> None:
        """Images that could not be read stand in a table with their reason."""
        assert "&lt;gone&gt;.png" in eval_page.read_text(encoding="utf-8")
        assert "no such file" in classify_page.read_text(encoding="utf-8")

    def test_five_thousand_images_fit(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A page of 5,000 detailed images stays under 30 MB: measured on a hundred of them, thumbnails and cards."""
        generator = np.random.default_rng(1)
        coarse = generator.integers(0, 255, size=(100, 24, 32, 3), dtype=np.uint8)
        report = ClassifyReport()
        top = tuple(Ranked(f"label number {index}", 0.2, 0.3, 3.0) for index in range(5))
        monkeypatch.setattr("zeroshot.output.report.embedded_images._MANY", 50)
        for index, pixels in enumerate(coarse):
            path = tmp_path / f"a picture with a name of usual length {index}.jpg"
            Image.fromarray(pixels).resize((640, 480), Image.Resampling.BICUBIC).save(path)
            report.write(Prediction(str(path), "label number 0", 0.2, top))
        encoder = FakeEncoder()
        classifier = build_classifier(encoder, LabelSet((Label("red"), Label("blue"))), from_templates(["a {}"]))
        page = report.page(build_manifest(encoder.spec, classifier, {}), Pipeline(workers=2))
        assert len(page) / 100 * 5000 < 30e6


class TestThumbnails:
    """Thumbnails."""

    def test_shape_and_absence(self, images, tmp_path: Path) -> None:
        """A thumbnail keeps its image's shape and is small; a file that is gone has none."""
        path = str(images("wide.png", "red", (900, 300)))
        made = make_thumbnails([path, path, str(tmp_path / "gone.png")], Pipeline(workers=2))
        assert list(made) == [path]
        image = Image.open(io.BytesIO(base64.b64decode(made[path].partition(",")[2])))
        assert max(image.size) == 224
        assert image.width / image.height == pytest.approx(3, abs=0.1)


class TestClassifyReport:
    """Collecting records."""

    def ranked(self, n: int) -> tuple[Ranked, ...]:
        return tuple(Ranked(f"label {index}", 1 / n, 0.1, 1.0) for index in range(n))

    def page(self, report: ClassifyReport, labels: tuple[str, ...] = ("red", "blue")) -> str:
        encoder = FakeEncoder()
        classifier = build_classifier(encoder, LabelSet(tuple(map(Label, labels))), from_templates(["a {}"]))
        return report.page(build_manifest(encoder.spec, classifier, {}), Pipeline(workers=1)).decode()

    def test_matrix_up_to_fifty_images(self) -> None:
        """Up to fifty images there is a matrix; beyond, there is none and only the best labels of each are kept."""
        report = ClassifyReport()
        for index in range(50):
            report.write(Prediction(f"{index}.png", "label 0", 0.5, self.ranked(30)))
        assert 'id="matrix"' in self.page(report)
        report.write(Prediction("more.png", None, 0.5, self.ranked(30)))
        assert 'id="matrix"' not in self.page(report)
        assert {len(record.top) for record in report._sample.items()} == {20}

    def test_each_label_is_sampled(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Beyond the page's limit a label that comes late and seldom still has its images, the least sure first."""
        monkeypatch.setattr(Sample, "_prune", count_calls := CountedCalls(Sample._prune))
        report = ClassifyReport()
        report._sample = Sample(60)
        for index in range(1000):
            report.write(Prediction(f"red{index}.png", "red", 0.9 - index / 2000, self.ranked(3)))
        for index in range(5):
            report.write(Prediction(f"blue{index}.png", "blue", 0.8, self.ranked(3)))
        report.write(Failure("gone.png", "no such file"))
        text = self.page(report)
        assert count_calls.count
        assert report.n_thumbnails == 60
        assert "1006 inputs" in text
        assert "60 of 1005: a sample of each label." in text
        paths = re.findall(r'data-path="&#34;(\w+)\.png', text)
        assert sum(path.startswith("blue") for path in paths) == 5
        assert paths[0] == "red999"

    def test_labels_without_answers_are_listed(self) -> None:
        """The table has every label, those that no image was given too."""
        report = ClassifyReport()
        report.write(Prediction("a.png", "red", 0.9, (Ranked("red", 0.9, 0.3, 1.0), Ranked("blue", 0.1, 0.2, 1.0))))
        rows = re.findall(r'<tr><th scope="row">(<a [^>]*>)?(\w+)(?:</a>)?</th>.*?>(\d+)<', self.page(report))
        assert [(bool(link), *rest) for link, *rest in rows] == [(True, "red", "1"), (False, "blue", "0")]

    def test_failures_only(self) -> None:
        """Where no image could be read there is no gallery, and nothing leads to one."""
        report = ClassifyReport()
        report.write(Failure("gone.png", "no such file"))
        text = self.page(report)
        assert "1 input, 2 labels" in text
        assert 'id="failures"' in text
        assert "#images" not in text
        assert 'id="images"' not in text


class CountedCalls:
    """Counts the calls of a method that it wraps."""

    def __init__(self, method) -> None:
        self.count = 0
        self._method = method

    def __get__(self, instance, owner):
        def call() -> None:
            self.count += 1
            self._method(instance)

        return call


class TestMatrix:
    """The similarity matrix."""

    def test_winners_lie_on_the_diagonal(self) -> None:
        """Labels are ordered by the images they win, each row marks one, is shaded by itself and has no -0.00."""
        tops = [("c", 0.301, "a", -0.001, "b", 0.299), ("b", 0.2, "a", 0.1, "c", 0.0), ("c", 0.5, "b", 0.4, "a", 0.1)]
        records = [
            Prediction(f"{i}.png", top[0], 0.6, tuple(Ranked(top[k], 0.6 - k / 10, top[k + 1], 1.0) for k in (0, 2, 4)))
            for i, top in enumerate(tops)
        ]
        matrix = build_matrix(records, {}, ["a", "b", "c"])
        assert matrix.names == ("c", "b", "a")
        assert [row.name for row in matrix.rows] == ["0.png", "2.png", "1.png"]
        assert [[cell.wins for cell in row.cells].index(True) for row in matrix.rows] == [0, 0, 1]
        assert matrix.rows[0].cells[2].cosine == "0.00"
        assert [(row.cells[0].cosine_shade, row.cells[2].cosine_shade) for row in matrix.rows] == [
            (10, 0),
            (10, 0),
            (0, 2),
        ]


class TestConfusion:
    """The heat map and its sentence."""

    def test_mistakes_are_shaded_by_their_own_maximum(self) -> None:
        """One mistake and the most frequent one do not look alike, however many images are right."""
        heat = _heat(np.array([[5000, 127], [1, 5000]]), ["cat", "dog"], 127)
        assert [[cell.shade for cell in row] for row in heat] == [[10, 10], [1, 10]]

    def test_sentence_names_the_commonest_mistake(self, eval_page: Path) -> None:
        """The first thing below the title is top-1, and what is taken for what."""
        text = eval_page.read_text(encoding="utf-8")
        assert re.search(r'class="headline"><b>75\.0%</b>', text)
        assert re.search(r'class="verdict">(Mostly|Most often) takes .*: \d+ of 15 mistakes( each)?\.<', text)

    @pytest.mark.parametrize(
        ("confusion", "sentence"),
        [
            ([[4, 3, 0], [1, 4, 1], [0, 0, 4]], "Mostly takes cat for dog: 3 of 5 mistakes."),
            ([[4, 2, 0], [1, 4, 1], [0, 0, 4]], "Most often takes cat for dog: 2 of 4 mistakes."),
            ([[4, 2, 0], [2, 4, 0], [0, 0, 4]], "Most often takes cat for dog and dog for cat: 2 of 4 mistakes each."),
            ([[4, 1, 0], [1, 4, 0], [0, 0, 4]], "The mistakes are spread: no pair of labels is confused twice."),
        ],
    )
    def test_sentence_says_no_more_than_is_so(self, confusion: list[list[int]], sentence: str) -> None:
        """Only what is more than half of the mistakes is called most of them, and of equals both are named."""
        counts = np.array(confusion)
        right = np.repeat([True, False], [np.trace(counts), counts.sum() - np.trace(counts)])
        result = SimpleNamespace(right=right, confusion=counts)
        assert describe_mistakes(result, ["cat", "dog", "cow"]) == sentence  # type: ignore[arg-type]


def shown(page: Page) -> list[str]:
    return page.run('[...document.querySelectorAll(".gallery .card")].map(c => c.dataset.verdict)')


def set_field(page: Page, name: str, value: str) -> None:
    page.run(
        f'(() => {{ const f = document.querySelector("form.filter").elements.namedItem("{name}");'
        f' f.value = "{value}"; f.dispatchEvent(new Event("input", {{bubbles: true}})); }})()'
    )


@needs_browser
class TestInBrowser:
    """What Chromium makes of the page."""

    @pytest.mark.parametrize("which", ["eval_page", "classify_page"])
    @pytest.mark.parametrize("width", [1280, 390])
    def test_renders(self, browser: Page, which: str, width: int, request: pytest.FixtureRequest) -> None:
        """Nothing is blocked, fetched or thrown, nothing hostile ran, and the page is no wider than the window."""
        browser.open(request.getfixturevalue(which), width=width)
        assert (browser.complaints, browser.requests) == ([], [])
        assert not browser.run("document.title").startswith("owned")
        assert browser.run("document.querySelectorAll('script').length") == 1
        assert browser.run("document.documentElement.scrollWidth") <= width
        assert browser.run("document.querySelectorAll('#manifest dt').length") == 7
        assert browser.run("[...document.images].filter(i => !i.hasAttribute('alt')).length") == 0
        assert browser.run("getComputedStyle(document.querySelector('.tile')).borderRadius") == "8px"

    def test_hover_runs_nothing(self, browser: Page, eval_page: Path) -> None:
        """Moving over a label that looks like an event handler does nothing."""
        browser.open(eval_page)
        browser.run("document.querySelectorAll('main *').forEach(e => e.dispatchEvent(new MouseEvent('mouseover')))")
        assert browser.run("document.title").startswith("Evaluation")

    def test_dark(self, browser: Page, eval_page: Path) -> None:
        """The page follows the reader's choice of light or dark, and text keeps its contrast in both."""
        for dark in (False, True):
            browser.open(eval_page, dark=dark)
            colours = browser.run(
                "(() => { const s = getComputedStyle(document.body); return [s.backgroundColor, s.color]; })()"
            )
            page, ink = (sum(map(int, re.findall(r"\d+", colour)[:3])) / 3 for colour in colours)
            assert (page < 60 and ink > 200) if dark else (page > 240 and ink < 60)

    def test_sorts(self, browser: Page, eval_page: Path) -> None:
        """The table of labels sorts by number and by name, up and down, with the keyboard alone."""
        browser.open(eval_page)
        browser.run("document.querySelector('#labels details').open = true")
        first = "[...document.querySelectorAll('#labels tbody tr')].map(r => r.cells[{}].textContent)"
        browser.run("document.querySelectorAll('#labels th button')[2].focus()")
        recalls = []
        for order in ("ascending", "descending"):
            browser.press("Enter")
            assert browser.run("document.querySelectorAll('#labels th')[2].getAttribute('aria-sort')") == order
            recalls.append([float(text.rstrip("%")) for text in browser.run(first.format(2))])
        assert recalls[0] == sorted(recalls[0])
        assert recalls[1] == sorted(recalls[0], reverse=True)
        browser.press("Tab")
        assert browser.run("document.activeElement.textContent") == "precision"
        browser.run("document.querySelectorAll('#labels th button')[0].click()")
        assert browser.run(first.format(0)) == sorted(HOSTILE)

    def test_filters(self, browser: Page, eval_page: Path) -> None:
        """The gallery is narrowed by verdict, label and confidence, says how many are left, and can be reset."""
        browser.open(eval_page)
        assert shown(browser) == ["wrong"] * 15
        browser.run("document.querySelector('input[name=view][value=all]').click()")
        assert len(shown(browser)) == 60
        set_field(browser, "answer", "1")
        assert 0 < len(shown(browser)) < 60
        set_field(browser, "from", "100")
        assert shown(browser) == []
        browser.run("document.querySelector('form.filter button').click()")
        assert browser.run("document.querySelector('form.filter output').textContent") == "60 of 60 images"

    def test_cell_shows_its_images(self, browser: Page, eval_page: Path) -> None:
        """Clicking a cell of the confusion matrix shows as many images as it counts, all given and answered so."""
        browser.open(eval_page)
        cell = "document.querySelector('#confusion td.miss a')"
        count = int(browser.run(f"{cell}.textContent"))
        wanted = browser.run(f"({cell}.click(), [{cell}.dataset.given, {cell}.dataset.answer])")
        cards = "[...document.querySelectorAll('.card')].map(c => [c.dataset.given, c.dataset.answer])"
        assert browser.run(cards) == [wanted] * count

    def test_row_filters(self, browser: Page, classify_page: Path) -> None:
        """A row of the table of labels shows the images of that label."""
        browser.open(classify_page)
        link = "document.querySelector('#numbers a.show')"
        key = browser.run(f"({link}.click(), {link}.dataset.answer)")
        answers = browser.run("[...document.querySelectorAll('.card')].map(c => c.dataset.answer)")
        assert answers
        assert set(answers) == {key}

    def test_enlarged_with_all_probabilities(self, browser: Page, eval_page: Path) -> None:
        """A click on an image opens it with the probability of each label; arrow keys go on."""
        browser.open(eval_page)
        browser.run("document.querySelector('.card .open').click()")
        assert browser.run("document.querySelector('dialog').open") is True
        assert browser.run("document.querySelectorAll('dialog tbody tr').length") == 3
        percents = browser.run("[...document.querySelectorAll('dialog td.number')].map(c => parseFloat(c.textContent))")
        assert sum(percents) == pytest.approx(100, abs=0.5)
        assert browser.run("document.querySelector('dialog img').getBoundingClientRect().width") == 448

    def test_ticked_images_are_saved(self, browser: Page, eval_page: Path) -> None:
        """Ticked images are saved as JSON lines with the exact path and the chosen label."""
        browser.open(eval_page)
        browser.run(
            "URL.createObjectURL = (blob) => { window.saved = blob; return '#'; };"
            "document.querySelectorAll('.tick').forEach(box => box.click());"
            "document.querySelector('.ticks select').value = 'given';"
            "document.querySelector('[data-do=save]').click()"
        )
        lines = [json.loads(line) for line in browser.run("saved.text()").splitlines()]
        assert len(lines) == 15
        for line in lines:
            assert set(line) == {"path", "label"}
            assert Path(line["path"]).exists()
            assert line["label"] in HOSTILE

    def test_the_curve_begins_at_a_calibrations_threshold(self, browser: Page, eval_run: Run, tmp_path: Path) -> None:
        """Where a calibration has a threshold, the slider stands at the surest answers above it at first."""
        page = tmp_path / "page.html"
        sure = np.sort(eval_run.result.probabilities[:, 0])
        least = float(sure[len(sure) // 2])
        page.write_bytes(eval_report(replace(eval_run, threshold=least), Pipeline(workers=2)))
        browser.open(page)
        answered = float(np.mean(sure >= least))
        assert 0 < answered < 1
        read_out = browser.run("document.querySelector('.readout output').textContent")
        assert read_out.startswith(f"threshold {least:.3f}: answers {100 * answered:.1f}%, ")

    def test_threshold_is_read_out(self, browser: Page, eval_page: Path) -> None:
        """The slider below the risk curve says what a threshold answers and gets wrong."""
        browser.open(eval_page)
        words = "document.querySelector('.readout output').textContent"
        assert "answers 100.0%, of those 25.0% wrong" in browser.run(words)
        browser.run(
            "(s => { s.value = 0; s.dispatchEvent(new Event('input')); })(document.querySelector('.readout input'))"
        )
        assert "answers 100.0%" not in browser.run(words)

    @pytest.mark.parametrize("which", ["eval_page", "classify_page"])
    @pytest.mark.parametrize("dark", [False, True])
    def test_contrast(self, browser: Page, which: str, dark: bool, request: pytest.FixtureRequest) -> None:
        """Text has a contrast of at least 4.5 to what lies behind it, heat map cells included."""
        browser.open(request.getfixturevalue(which), dark=dark)
        browser.run("document.querySelectorAll('details').forEach(d => d.open = true)")
        assert browser.run(CONTRAST) == []

    def test_without_script(self, browser: Page, eval_page: Path) -> None:
        """Without JavaScript everything is there to read, and no control that would do nothing is shown."""
        browser.open(eval_page, script=False)
        assert len(shown(browser)) == 60
        assert browser.run("document.querySelector('form.filter').checkVisibility()") is False
        visible = "[...document.querySelectorAll('button')].filter(b => b.checkVisibility()).length"
        assert browser.run(visible) == 0
        assert browser.run("document.querySelectorAll('svg.plot[role=img][aria-label]').length") == 2

    def test_matrix(self, browser: Page, classify_page: Path) -> None:
        """Up to fifty images, a matrix shows every image against every label."""
        browser.open(classify_page)
        assert browser.run("document.querySelectorAll('#matrix tbody tr').length") == 12
        assert browser.run("document.querySelectorAll('#matrix tbody td').length") == 36
        heads = browser.run("[...document.querySelectorAll('#matrix thead th')].map(h => h.title || h.textContent)")
        assert heads[0] == "image"
        assert sorted(heads[1:]) == sorted(HOSTILE)
        assert "cosine" in browser.run("document.querySelector('#matrix td').title")
