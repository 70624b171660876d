"""Reports: what is in them, that nothing in them runs, and how they behave in a browser."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support.browser import Page, find_chromium, open_browser
from support.fakes import FakeEncoder
from zeroshot.classifier import Decision, build_classifier, build_manifest, classify_paths
from zeroshot.evaluation import statistics
from zeroshot.evaluation.datasets import Dataset
from zeroshot.evaluation.evaluate import Run, encode_dataset, evaluate
from zeroshot.features.pipeline import Pipeline
from zeroshot.output.report import ClassifyReport, eval_report, plots
from zeroshot.output.report.markup import escape, tag
from zeroshot.output.report.thumbnails import make_thumbnails
from zeroshot.prompts.labels import Label, LabelSet
from zeroshot.prompts.template_sets import from_templates
from zeroshot.results import Failure, Prediction, Ranked

ATTACK = "<script>document.title='owned'</script>"
HOSTILE = (
    "red " + ATTACK,
    "green\" onmouseover=\"document.title='owned'",
    "blue </style></script><img src=x onerror=document.title='owned'>",
)
"""Labels that a careless page would run; each names a colour, so that the encoder tells them apart."""

needs_browser = pytest.mark.skipif(find_chromium() is None, reason="no Chromium here: apt-get install chromium")


def hostile_names(index: int) -> str:
    return [f"{index}<b>&amp;.png", f"{index}\"onerror='x'.png", f"{index}\u202egnp.exe.png", f"{index}\udcff.png"][
        index % 4
    ]


@pytest.fixture(scope="session")
def eval_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of an evaluation whose labels and file names are hostile; a third of the answers are wrong."""
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
    page = folder / "report.html"
    page.write_bytes(eval_report(Run(evaluate(data, classifier, HOSTILE), manifest), Pipeline(workers=2)))
    return page


@pytest.fixture(scope="session")
def classify_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a classification of a dozen pictures, with hostile labels and one failure."""
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
        assert made == '<p title="&quot;&#x27;&gt;&lt;" data-x="1">&lt;b&gt;&amp;</p>'

    def test_markup_is_not_escaped_twice(self) -> None:
        """An element inside an element stays one; absent attributes are left out."""
        assert tag("p", tag("br"), class_=None, hidden=True) == "<p hidden><br></p>"

    def test_invisible_characters_are_spelled_out(self) -> None:
        """What would turn the text around, or is no character at all, is shown as its code."""
        assert escape("a\u202eb\x00c\udcff") == "a\\u202eb\\x00c\\udcff"


class TestPlots:
    """The drawings."""

    def test_are_well_formed_and_describe_themselves(self) -> None:
        """Each drawing is XML with a title and a description, whatever the labels are."""
        confidence = np.linspace(0.05, 0.95, 40)
        right = np.arange(40) % 3 > 0
        drawings = [
            plots.reliability(statistics.reliability(confidence, right), standalone=True),
            plots.risk_coverage(statistics.risk_coverage(confidence, right), standalone=True),
            plots.confusion(np.array([[3, 1, 0], [0, 2, 2], [0, 0, 0]]), HOSTILE, standalone=True),
            plots.confusion(np.eye(80, dtype=np.int64), [f"label {i}" for i in range(80)], standalone=True),
        ]
        for drawing in drawings:
            root = ElementTree.fromstring(drawing)
            names = [child.tag.rsplit("}", 1)[-1] for child in root]
            assert names[:2] == ["title", "desc"]
            assert not root.findall(".//{http://www.w3.org/2000/svg}script")

    def test_confusion_says_what_each_cell_is(self) -> None:
        """A cell's title names both labels and the count."""
        drawing = plots.confusion(np.array([[3, 1], [0, 2]]), ("cat", "dog"))
        assert "cat taken for dog: 1 of 4" in drawing


class TestFile:
    """What stands in the file."""

    def test_policy_names_style_and_script(self, eval_page: Path) -> None:
        """The page's policy allows one style and one script, by hash, and pictures inside the page: nothing else."""
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
        assert html.escape(ATTACK) in text
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
        assert len(images) > 60
        assert all(re.search(r'alt="[^"]*(answer|unknown)[^"]*"', image) for image in images)

    def test_failures_are_listed(self, eval_page: Path, classify_page: Path) -> None:
        """Pictures that could not be read stand in a table with their reason."""
        assert "&lt;gone&gt;.png" in eval_page.read_text(encoding="utf-8")
        assert "no such file" in classify_page.read_text(encoding="utf-8")

    def test_five_thousand_images_fit(self, tmp_path: Path) -> None:
        """A page of 5,000 detailed pictures stays under 30 MB: measured on a hundred of them, thumbnails and cards."""
        generator = np.random.default_rng(1)
        coarse = generator.integers(0, 255, size=(100, 24, 32, 3), dtype=np.uint8)
        report = ClassifyReport()
        top = tuple(Ranked(f"label number {index}", 0.2, 0.3, 3.0) for index in range(5))
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
        """A thumbnail keeps its picture's shape and is small; a file that is gone has none."""
        path = str(images("wide.png", "red", (900, 300)))
        made = make_thumbnails([path, path, str(tmp_path / "gone.png")], Pipeline(workers=2))
        assert list(made) == [path]
        image = Image.open(io.BytesIO(base64.b64decode(made[path].partition(",")[2])))
        assert max(image.size) <= 112
        assert image.width / image.height == pytest.approx(3, abs=0.1)


class TestClassifyReport:
    """Collecting records."""

    def ranked(self, n: int) -> tuple[Ranked, ...]:
        return tuple(Ranked(f"label {index}", 1 / n, 0.1, 1.0) for index in range(n))

    def test_matrix_up_to_fifty_images(self) -> None:
        """Up to fifty pictures every label is kept for the matrix; beyond, only the best few of each."""
        report = ClassifyReport()
        for index in range(50):
            report.write(Prediction(f"{index}.png", "label 0", 0.5, self.ranked(20)))
        assert {len(record.top) for record in report._predictions} == {20}
        report.write(Prediction("more.png", None, 0.5, self.ranked(20)))
        assert {len(record.top) for record in report._predictions} == {5}

    def test_memory_is_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Beyond the page's limit records are counted and not kept."""
        monkeypatch.setattr("zeroshot.output.report.classify_page.MAX_IMAGES", 60)
        report = ClassifyReport()
        for index in range(100):
            report.write(Prediction(f"{index}.png", "label 0", 0.5, self.ranked(3)))
        report.write(Failure("gone.png", "no such file"))
        assert report.n_thumbnails == 60
        encoder = FakeEncoder()
        classifier = build_classifier(encoder, LabelSet((Label("red"), Label("blue"))), from_templates(["a {}"]))
        text = report.page(build_manifest(encoder.spec, classifier, {}), Pipeline(workers=1)).decode()
        assert "101 inputs" in text
        assert "The first 60 of 100." in text


def shown(page: Page) -> list[str]:
    return page.run(
        '[...document.querySelectorAll(".gallery .card")].filter(c => !c.hidden).map(c => c.dataset.verdict)'
    )


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
        assert len(shown(browser)) == 60
        set_field(browser, "verdict", "wrong")
        assert shown(browser) == ["wrong"] * 15
        assert browser.run("document.querySelector('form.filter output').textContent") == "15 of 60 pictures"
        set_field(browser, "label", "1")
        assert 0 < len(shown(browser)) < 15
        set_field(browser, "from", "100")
        assert shown(browser) == []
        browser.run("document.querySelector('form.filter button').click()")
        assert browser.run(
            "new Promise(done => setTimeout(() => done(document.querySelector('output').textContent)))"
        ) == ("60 of 60 pictures")

    def test_without_script(self, browser: Page, eval_page: Path) -> None:
        """Without JavaScript everything is there to read, and no control that would do nothing is shown."""
        browser.open(eval_page, script=False)
        assert len(shown(browser)) == 60
        assert browser.run("document.querySelector('form.filter').checkVisibility()") is False
        assert browser.run("document.querySelectorAll('button').length") == 1
        assert browser.run("document.querySelectorAll('svg.plot[role=img][aria-label]').length") == 2

    def test_matrix(self, browser: Page, classify_page: Path) -> None:
        """Up to fifty pictures, a matrix shows every picture against every label."""
        browser.open(classify_page)
        assert browser.run("document.querySelectorAll('#matrix tbody tr').length") == 12
        assert browser.run("document.querySelectorAll('#matrix tbody td').length") == 36
        heads = browser.run("[...document.querySelectorAll('#matrix thead th')].map(h => h.title || h.textContent)")
        assert heads == ["picture", *HOSTILE]
        assert "cosine" in browser.run("document.querySelector('#matrix td').title")
