"""The live page in a browser: what is typed, pressed, dragged and dropped, as a user does it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from support.browser import Page, find_chromium, open_browser
from support.explorer import Explorer, explore, made_up, served
from support.fakes import COLOURS, FakeEncoder
from unit.test_archives import make_zip, png
from zeroshot.classifier import build_classifier
from zeroshot.encoder import Features
from zeroshot.features.pipeline import Pipeline
from zeroshot.prompts.labels import parse_labels
from zeroshot.prompts.template_sets import from_templates
from zeroshot.results import Failure

needs_browser = pytest.mark.skipif(find_chromium() is None, reason="no Chromium here: apt-get install chromium")
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="no node here: apt-get install nodejs")

PAGE = Path(__file__).parents[2] / "zeroshot/explore/page"
HOSTILE = ("red <img src=x onerror=document.title='owned'>", "green\"><script>document.title='owned'</script>", "blue")

PICKED = "[...document.querySelectorAll('.tile.picked')].map((one) => one.tile.id).sort()"
STATUS = "document.getElementById('status').textContent"
TITLE = "document.getElementById('title').textContent"
COUNTS = "[...document.querySelectorAll('.row')].map((row) => row.getAttribute('aria-label'))"
IN_SIGHT = """(() => {
    const tile = document.querySelector('.picked');
    return [tile, tile.closest('.row').firstChild].map((one) => {
        const { left, right, top, bottom } = one.getBoundingClientRect();
        return [left + 4, right - 4].every((x) => [top + 4, bottom - 4].every((y) =>
            one.contains(document.elementFromPoint(x, y))));
    });
})()"""
"""Whether the image that is selected is wholly in sight, and its row's header, with nothing above them."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Page]:
    with open_browser() as page:
        yield page


@pytest.fixture
def explorer(tmp_path: Path) -> Iterator[Explorer]:
    """Nine images in three colours, with hostile names."""
    folder = tmp_path / "images"
    folder.mkdir()
    for index in range(9):
        colour = [40 + 8 * index] * 3
        colour[index % 3] = 255
        name = f"{index}<img src=x onerror=document.title='owned'>.png" if index == 4 else f"{index}.png"
        Image.new("RGB", (64, 48), tuple(colour)).save(folder / name)
    with explore(FakeEncoder(logit_scale=4.0), folder, tmp_path / "corrections.csv") as found:
        yield found


@pytest.fixture
def page(browser: Page, explorer: Explorer) -> Page:
    browser.open(explorer.url)
    browser.wait("document.querySelectorAll('.tile img[src]').length === 9")
    return browser


def open_map(page: Page) -> None:
    """Open the map by its key, and wait for it."""
    page.run("document.activeElement.blur()")
    page.press("v")
    page.wait("document.getElementById('map-status').textContent.startsWith('9 images, 1.0 times')")


def enclose_all(page: Page) -> tuple[float, float]:
    """Draw an outline around the whole map, with Shift held; return where its corner is."""
    left, top, width, height = page.run(
        "(({x, y, width, height}) => [x, y, width, height])"
        "(document.getElementById('map-canvas').getBoundingClientRect())"
    )
    corners = ((1, 1), (width - 2, 1), (width - 2, height - 2), (1, height - 2))
    page.drag(*((left + x, top + y) for x, y in corners), shift=True)
    return left, top


def name_all(page: Page, name: str, how: str) -> None:
    """Select the whole map and give it a name."""
    enclose_all(page)
    page.wait("!document.getElementById('map-name').hidden")
    page.run(f"document.getElementById('map-label').value = {json.dumps(name)}")
    page.click(f"#map-name [value={how}]")


def hold(page: Page, name: str) -> None:
    """Hold back the answers to one kind of request until `letGo()`, and count them in `held`."""
    page.run(
        "{ const send = window.fetch, gone = new Promise((done) => { window.letGo = done; }); window.held = 0;"
        "window.fetch = async (address, asked) => { const answer = await send(address, asked);"
        f"if (address === '/api/{name}') {{ window.held += 1; await gone; }} return answer; }}; }}"
    )


def sort_nine(page: Page) -> None:
    """Type three labels, and leave the field."""
    type_labels(page, "red\ngreen\nblue")
    page.wait(f"{COUNTS}.join() === 'red: 3,green: 3,blue: 3'")
    page.run("document.activeElement.blur()")


def said(explorer: Explorer) -> dict[int | None, str | None]:
    """Return the labels that were given, by the numbers of the images."""
    return {
        explorer.session.collection.find(path): one.label for path, one in explorer.session.corrections.all().items()
    }


def push_out(explorer: Explorer) -> None:
    """Sort so often, as another tab, that no view of before is kept."""
    for number in range(13):
        explorer.post("sort", labels=f"red, green, blue, {number}")


def open_the_first(page: Page) -> None:
    """Sort into three labels, and open the first image of the first one large."""
    type_labels(page, "red\ngreen\nblue")
    page.wait(f"{COUNTS}.join() === 'red: 3,green: 3,blue: 3'")
    page.run("document.activeElement.blur()")
    page.press("ArrowRight")
    page.press("Enter")
    page.wait("document.getElementById('viewer-title').textContent.startsWith('red')")


def type_labels(page: Page, text: str) -> None:
    page.run("document.getElementById('labels').focus(); document.getElementById('labels').select()")
    page.type(text)


@needs_browser
class TestPage:
    """The page and a user."""

    def test_sorts_as_labels_are_typed(self, page: Page) -> None:
        """Rows appear with their counts, whatever is wrong is named meanwhile, and the token leaves the address."""
        type_labels(page, "red\ngreen\nblue")
        page.wait(f"{COUNTS}.join() === 'red: 3,green: 3,blue: 3'")
        assert page.run("location.href").endswith("/") and "token" not in page.run("location.href")
        page.run(
            "const l = document.getElementById('labels'); l.value += ', blue'; l.dispatchEvent(new Event('input'))"
        )
        page.wait("!document.getElementById('problem').hidden")
        assert "twice" in page.run("document.getElementById('problem').textContent")
        assert page.run(COUNTS) == ["red: 3", "green: 3", "blue: 3"]
        page.send("Page.reload")
        page.wait("document.querySelectorAll('.tile img[src]').length === 9")
        assert [
            said for said in page.complaints if "400" not in said
        ] == []  # how a label that stands twice is answered

    def test_hostile_labels_stay_text(self, page: Page) -> None:
        """Markup in labels and names is shown as written; nothing of it runs or is fetched."""
        page.run(f"document.getElementById('labels').value = {json.dumps(chr(10).join(HOSTILE))}")
        page.run("document.getElementById('labels').dispatchEvent(new Event('input'))")
        page.wait(f"{COUNTS}.length === 3")
        page.run("document.querySelectorAll('.tile')[1].click()")
        page.press("Enter")
        page.wait("document.getElementById('viewer-path').textContent !== ''")
        page.press("Escape")
        assert page.run("[...document.querySelectorAll('.row b')].map((b) => b.textContent)") == list(HOSTILE)
        assert "owned" not in page.run("document.title")
        assert all(address.startswith("http://127.0.0.1:") for address in page.requests if address != "about:blank")

    def test_corrects_by_keys_and_takes_back(self, page: Page, explorer: Explorer, browser: Page) -> None:
        """A range by shift, a key for a label, `x`, accuracy with its interval, `u`; another tab sees it."""
        type_labels(page, "red\ngreen\nblue")
        page.wait(f"{COUNTS}.join() === 'red: 3,green: 3,blue: 3'")
        page.run("document.activeElement.blur()")
        page.press("ArrowRight")
        page.press("ArrowRight", shift=True)
        assert page.run("document.getElementById('picked-count').textContent") == "2 images"
        page.press("3")
        page.wait(f"{COUNTS}.join() === 'red: 1,green: 3,blue: 5'")
        assert page.run("document.getElementById('accuracy').textContent").startswith("0 % 0 of 2 right (0 to 66 %)")
        page.press("x")
        page.wait(f"!{COUNTS}.join().includes('red: 1')")
        table = explorer.session.corrections.path.read_text().splitlines()
        assert len(table) == 4 and table[3].endswith(",,red")
        explorer.post("uncorrect")  # another tab
        page.wait(f"{COUNTS}.join() === 'red: 1,green: 3,blue: 5'")
        page.press("u")
        page.wait(f"{COUNTS}.join() === 'red: 3,green: 3,blue: 3'")
        assert page.complaints == []

    def test_a_sort_moves_images_and_not_what_is_selected(self, page: Page, explorer: Explorer) -> None:
        """Another tab's correction and another threshold move a range and its focus; a key is said of those images."""
        type_labels(page, "red\ngreen\nblue")
        page.wait(f"{COUNTS}.join() === 'red: 3,green: 3,blue: 3'")
        page.run("document.activeElement.blur()")
        page.press("ArrowRight")
        page.press("ArrowRight")
        page.press("ArrowRight", shift=True)
        chosen = page.run(PICKED)
        assert len(chosen) == 2 and page.run("document.activeElement.tile.id") in chosen
        other = next(image for image in (0, 3, 6) if image not in chosen)
        view = explorer.post("sort", labels="red, green, blue")["view"]
        explorer.post("correct", view=view, images=[chosen[0]], label="blue")  # another tab: the range is scattered
        page.wait(f"{COUNTS}.join() === 'red: 2,green: 3,blue: 4'")
        assert page.run(PICKED) == chosen
        page.run("const t = document.getElementById('threshold'); t.value = 1; t.dispatchEvent(new Event('input'))")
        page.wait(f"{COUNTS}[0] === 'unknown: 8'")
        assert page.run(PICKED) == chosen
        assert page.run("document.getElementById('picked-count').textContent") == "2 images"
        page.press("2")
        page.wait(f"{COUNTS}.includes('green: 2')")
        said = explorer.session.corrections.all()
        assert {explorer.session.collection.find(path) for path in said} == set(chosen)
        assert {one.label for one in said.values()} == {"green"} and other not in chosen

    def test_a_range_beyond_what_was_shown_is_kept_by_its_images(self, page: Page, explorer: Explorer) -> None:
        """With its anchor, a range can be made longer after a sort, and holds images that are not on the board."""
        type_labels(page, "red\ngreen\nblue")
        page.wait(f"{COUNTS}.join() === 'red: 3,green: 3,blue: 3'")
        page.run("document.activeElement.blur()")
        page.press("ArrowRight")
        page.press("ArrowRight", shift=True)
        explorer.post("correct", view=explorer.post("sort", labels="red, green, blue")["view"], images=[1], label="red")
        page.wait(f"{COUNTS}.join() === 'red: 4,green: 2,blue: 3'")  # it stands first now
        page.press("ArrowRight", shift=True)
        page.wait("document.getElementById('picked-count').textContent === '3 images'")
        assert 1 not in page.run(PICKED)

    def test_the_large_view_stays_with_its_image(self, page: Page, explorer: Explorer) -> None:
        """While others are corrected it shows the same image, and what was said of it meanwhile."""
        type_labels(page, "red\ngreen\nblue")
        page.wait(f"{COUNTS}.join() === 'red: 3,green: 3,blue: 3'")
        page.run("document.activeElement.blur()")
        page.press("ArrowRight")
        (first,) = page.run(PICKED)
        page.press("Enter")
        page.wait("document.getElementById('viewer-title').textContent.startsWith('red')")
        path = page.run("document.getElementById('viewer-path').textContent")
        view = explorer.post("sort", labels="red, green, blue")["view"]
        explorer.post("correct", view=view, images=[1], label="red")  # stands first from now on
        page.wait(f"{COUNTS}.includes('red: 4')")
        explorer.post("correct", view=view, images=[first], label="green")
        page.wait("document.getElementById('viewer-said').textContent === 'You said: green.'")
        assert page.run("document.getElementById('viewer-path').textContent") == path
        page.press("x")
        page.wait("document.getElementById('toast').textContent.includes('not this')")
        assert explorer.session.corrections.of(path).refused == ("green",)
        page.press("Escape")

    def test_keys_in_quick_succession_go_on(self, page: Page, explorer: Explorer) -> None:
        """Three keys pressed at once are said of three images, one after the other."""
        type_labels(page, "red\ngreen\nblue")
        page.wait(f"{COUNTS}.join() === 'red: 3,green: 3,blue: 3'")
        page.run("document.activeElement.blur()")
        page.press("ArrowRight")
        page.run(
            "for (let time = 0; time < 3; time += 1) "
            "document.body.dispatchEvent(new KeyboardEvent('keydown', { key: '3', bubbles: true }))"
        )
        page.wait(f"{COUNTS}.join() === 'red: 0,green: 3,blue: 6'")
        assert {one.label for one in explorer.session.corrections.all().values()} == {"blue"}

    def test_labels_a_whole_row_without_closing(self, page: Page) -> None:
        """The image that empties its row gives way to the next row's; closing it leaves the focus on the board."""
        open_the_first(page)
        for left in (2, 1, 0):
            page.press("3")
            page.wait(f"{COUNTS}.join() === 'red: {left},green: 3,blue: {6 - left}'")
            page.wait("document.getElementById('toast').matches(':popover-open')")
        page.wait("document.getElementById('viewer-title').textContent.startsWith('green')")
        page.press("Escape")
        page.wait("/^[147]\\D/.test(document.activeElement.getAttribute('aria-label') ?? '')")

    def test_threshold_fills_the_unknown(self, page: Page) -> None:
        """Dragging the threshold moves images to the row of unknown ones, which stands first."""
        type_labels(page, "red\ngreen\nblue")
        page.wait(f"{COUNTS}.join() === 'red: 3,green: 3,blue: 3'")
        page.run("const t = document.getElementById('threshold'); t.value = 1; t.dispatchEvent(new Event('input'))")
        page.wait(f"{COUNTS}[0] === 'unknown: 9'")
        assert "0 of 9 images answered" in page.run("document.getElementById('at-threshold').textContent")

    def test_the_histogram_is_told_too(self, page: Page) -> None:
        """A screen reader is told where the probabilities lie: with one label, all at 100 %."""
        type_labels(page, "red")
        page.wait(f"{COUNTS}.join() === 'red: 9'")
        told = [
            node["name"]["value"]
            for node in page.send("Accessibility.getFullAXTree")["nodes"]
            if not node["ignored"] and "Histogram" in node.get("name", {}).get("value", "")
        ]
        assert told == [
            "Histogram of the best probabilities: a tenth of the images up to 100 %, half up to 100 %, "
            "nine tenths up to 100 %"
        ]

    def test_searches_by_text_and_more_like_this(self, page: Page) -> None:
        """A sum of texts ranks all images with their cosines, a cut-off narrows them, Escape ends it."""
        page.run("document.activeElement.blur()")
        page.press("/")
        page.type("red - blue")
        page.wait("document.getElementById('title').textContent.startsWith('Search')")
        page.wait("document.querySelectorAll('.tile img[src]').length === 9")
        first = page.run("document.querySelector('.tile').getAttribute('aria-label')")
        assert first.startswith(("0.png", "3.png", "6.png"))
        page.run(
            "const c = document.getElementById('cutoff'); c.value = c.max - 0.02; c.dispatchEvent(new Event('input'))"
        )
        page.wait("/Search [1-8] image/.test(document.getElementById('title').textContent)")
        page.press("Escape")
        page.wait("document.getElementById('title').textContent.startsWith('9 images')")
        page.run("document.querySelectorAll('.tile')[2].click()")
        page.press("m")
        page.wait("document.querySelectorAll('.chip').length === 1 && document.querySelectorAll('.tile').length === 9")
        page.press("Escape")

    def test_searches_by_a_dropped_image(self, page: Page) -> None:
        """An image dropped onto the page, from anywhere, finds those like it."""
        page.run("""(async () => {
            const canvas = document.createElement('canvas');
            canvas.getContext('2d').fillStyle = 'rgb(0,0,255)';
            canvas.getContext('2d').fillRect(0, 0, 300, 150);
            const blob = await new Promise((done) => canvas.toBlob(done, 'image/png'));
            const data = new DataTransfer();
            data.items.add(new File([blob], 'blue.png', { type: 'image/png' }));
            window.dispatchEvent(new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true }));
        })()""")
        page.wait("document.querySelectorAll('.chip img').length === 1")
        page.wait(
            "document.querySelectorAll('.tile').length === 9 && "
            "/^[258].png/.test(document.querySelector('.tile').getAttribute('aria-label'))"
        )
        assert page.complaints == []

    def test_names_a_part_of_the_map_by_keys(self, page: Page, explorer: Explorer) -> None:
        """`v`, the frame made as large as the map, Enter, a name, Enter: a label, and no correction."""
        open_map(page)
        for _ in range(6):
            page.press("ArrowRight", shift=True)
        page.press("+")
        page.press("0")
        page.press("Enter")
        page.wait("document.getElementById('map-status').textContent === '9 of 9 images selected'")
        page.wait("document.activeElement.id === 'map-label'")
        page.type("red")
        page.press("Enter")
        page.wait("document.getElementById('map-legend').textContent === 'red'")
        assert page.run("document.getElementById('labels').value") == "red"
        page.press("Escape")
        page.wait(f"document.getElementById('map').hidden && {COUNTS}.join() === 'red: 9'")
        assert explorer.session.corrections.all() == {}
        assert page.complaints == []

    def test_labels_a_part_of_the_map_by_the_mouse(self, page: Page, explorer: Explorer) -> None:
        """Shift and the mouse enclose images, which get a name with markup as a correction; undo takes it back."""
        open_map(page)
        left, top = enclose_all(page)
        page.wait("document.getElementById('map-status').textContent === '9 of 9 images selected'")
        page.run(f"document.getElementById('map-label').value = {json.dumps(HOSTILE[0] + ', x')}")
        page.click("#map-name [value=label]")
        page.wait("document.getElementById('toast').textContent.includes('9 images labelled')")
        said = explorer.session.corrections.all().values()
        assert {one.label for one in said} == {HOSTILE[0] + ", x"}
        assert page.run("document.querySelector('#map-legend').textContent") == HOSTILE[0] + ", x"
        page.click("#toast button")
        page.wait("document.getElementById('toast').textContent.includes('undone for 9 images')")
        assert explorer.session.corrections.all() == {}
        page.drag((left + 200, top + 200), (left + 260, top + 240))  # the whole map stays where it is
        page.press("v")
        page.wait("document.getElementById('map').hidden")
        assert "owned" not in page.run("document.title")
        assert page.complaints == []

    def test_opens_one_image(self, page: Page) -> None:
        """Path, probabilities, cosines, prompts and facts; arrows go on."""
        type_labels(page, "red\ngreen\nblue")
        page.wait(f"{COUNTS}.join() === 'red: 3,green: 3,blue: 3'")
        page.run("document.activeElement.blur()")
        page.press("ArrowRight")
        page.press("Enter")
        page.wait(
            "document.querySelectorAll('#viewer-top tr').length === 3 && "
            "document.getElementById('viewer-image').naturalWidth === 64"
        )
        first = page.run("document.getElementById('viewer-path').textContent")
        assert "64 × 48 pixels" in page.run("document.getElementById('viewer-facts').textContent")
        assert page.run("document.getElementById('viewer-prompts').children.length") > 3
        page.press("ArrowRight")
        page.wait(f"document.getElementById('viewer-path').textContent !== {json.dumps(first)}")
        page.press("Escape")

    def test_the_large_view_has_names_for_its_parts(self, page: Page) -> None:
        """What a screen reader is told of the probabilities: a table, its columns, no bar beside its number."""
        open_the_first(page)
        told: dict[str, list[str]] = {}
        for node in page.send("Accessibility.getFullAXTree")["nodes"]:
            if not node["ignored"]:
                told.setdefault(node["role"]["value"], []).append(node.get("name", {}).get("value", ""))
        assert told["table"] == ["Labels of this image"]
        assert told["columnheader"] == ["label", "probability", "cosine"]
        assert "meter" not in told
        page.press("Escape")

    def test_sorts_into_folders_and_takes_back(self, page: Page, explorer: Explorer, tmp_path: Path) -> None:
        """The plan first, then the sort, then its undo, all by buttons."""
        type_labels(page, "red\ngreen\nblue")
        page.wait(f"{COUNTS}.join() === 'red: 3,green: 3,blue: 3'")
        page.run("document.getElementById('open-acting').click()")
        page.run("document.querySelector('[value=move]').click(); document.getElementById('sorting').requestSubmit()")
        page.wait("!document.getElementById('plan').hidden")
        assert "Nothing is changed yet. This would move 9 images" in page.run(
            "document.getElementById('plan').textContent"
        )
        assert not (tmp_path / "images-sorted").exists()
        page.run("document.getElementById('carry-out').click()")
        page.wait("document.getElementById('job-text').textContent.startsWith('9 of 9 images sorted')")
        assert page.run("document.activeElement.id") == "job-text"
        assert len(list((tmp_path / "images-sorted/red").iterdir())) == 3
        page.wait("!document.getElementById('undo-sort').disabled")
        page.run("document.getElementById('undo-sort').click()")
        page.wait("document.getElementById('job-text').textContent.startsWith('9 of 9 images taken back')")
        assert len(list((tmp_path / "images").iterdir())) == 9
        page.run("document.querySelector('#acting [data-close]').click()")

    def test_an_archive_is_sorted_by_copies(self, browser: Page, tmp_path: Path) -> None:
        """Images of a zip are seen, opened by their member's path, and copied: nothing else can be chosen."""
        members = [(f"a/{index}.png", png(name)) for index, name in enumerate(("red", "green", "blue") * 3)]
        archive = make_zip(tmp_path / "x.zip", members)
        with explore(FakeEncoder(logit_scale=4.0), archive, tmp_path / "corrections.csv") as explorer:
            browser.open(explorer.url)
            browser.wait(
                "[...document.querySelectorAll('.tile img[src]')].filter((one) => one.naturalWidth).length === 9"
            )
            assert browser.run("document.getElementById('folder').textContent") == "x.zip"
            open_the_first(browser)
            assert f"{archive}::a/0.png" in browser.run("document.getElementById('viewer').textContent")
            browser.press("Escape")
            browser.run("document.getElementById('open-acting').click()")
            assert browser.run(
                "[...document.querySelectorAll('[name=placement]:enabled')].map((one) => one.value)"
            ) == ["copy"]
            assert "never moved" in browser.run("document.getElementById('sorting').innerText")
            browser.run("document.getElementById('sorting').requestSubmit()")
            browser.wait("!document.getElementById('plan').hidden")
            assert "This would copy 9 images" in browser.run("document.getElementById('plan').textContent")
            browser.run("document.getElementById('carry-out').click()")
            browser.wait("document.getElementById('job-text').textContent.startsWith('9 of 9 images sorted')")
            assert (tmp_path / "x-sorted/green/1.png").read_bytes() == members[1][1]
            browser.wait("!document.getElementById('undo-sort').disabled")
            browser.run("document.getElementById('undo-sort').click()")
            browser.wait("document.getElementById('job-text').textContent.startsWith('9 of 9 images taken back')")
            browser.run("document.querySelector('#acting [data-close]').click()")
        assert not list(tmp_path.glob("x-sorted/*/*.png")) and archive.is_file()

    def test_a_sort_that_failed_is_repeated(self, page: Page) -> None:
        """Without an answer the page says that what is shown is not what is typed, and sorts once there is one."""
        network = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        page.send("Network.emulateNetworkConditions", offline=True, **network)
        type_labels(page, "red\ngreen\nblue")
        page.wait(f"{STATUS} === 'the server does not answer; the images are not sorted yet by what is typed'")
        page.run("document.querySelector('.tile').click()")
        page.press("x")
        page.wait("document.getElementById('toast').textContent.includes('nothing was kept')")
        page.send("Network.emulateNetworkConditions", offline=False, **network)
        page.wait(f"{COUNTS}.join() === 'red: 3,green: 3,blue: 3'")
        page.wait(f"{STATUS} === '9 images'")

    def test_says_that_it_waits_for_labels(
        self, page: Page, explorer: Explorer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """While new labels are worked out the page says so, and shows an image that is opened."""
        type_labels(page, "red\ngreen\nblue")
        page.wait(f"{COUNTS}.join() === 'red: 3,green: 3,blue: 3'")
        encode, go_on = explorer.session.encoder.encode_texts, threading.Event()

        def slow(texts: list[str]) -> Features:
            go_on.wait(60)
            return encode(texts)

        monkeypatch.setattr(explorer.session.encoder, "encode_texts", slow)
        page.type("s")
        try:
            page.wait(f"{STATUS} === 'working out the labels …'")
            page.run("document.querySelector('.tile').focus(); document.querySelector('.tile').click()")
            page.press("Enter")
            page.wait("document.getElementById('viewer-title').textContent.startsWith('red')")
        finally:
            go_on.set()
        page.press("Escape")
        page.wait(f"{STATUS} === '9 images'")

    def test_what_another_tab_pushed_out_is_made_anew(self, page: Page, explorer: Explorer) -> None:
        """After many sorts of another tab, the first key press counts, and the export is there."""
        type_labels(page, "red\ngreen\nblue")
        page.wait(f"{COUNTS}.join() === 'red: 3,green: 3,blue: 3'")
        page.run("document.activeElement.blur()")
        page.press("ArrowRight")
        push_out(explorer)
        page.press("2")
        page.wait(f"{COUNTS}.join() === 'red: 2,green: 4,blue: 3'")
        push_out(explorer)
        page.click("#open-acting")
        page.wait("document.getElementById('command').value.includes('red,green,blue')")
        push_out(explorer)
        page.run("document.getElementById('sorting').requestSubmit()")
        page.wait("!document.getElementById('plan').hidden")
        page.press("Escape")

    def test_another_run_of_the_server_begins_anew(self, page: Page, explorer: Explorer) -> None:
        """What was selected in the images of before is said of none of those that have their numbers now."""
        type_labels(page, "red\ngreen\nblue")
        page.wait(f"{COUNTS}.join() === 'red: 3,green: 3,blue: 3'")
        page.run("document.activeElement.blur()")
        page.press("ArrowRight")
        explorer.session.run = "another"
        explorer.session._views.clear()
        page.press("2")
        page.wait("document.getElementById('toast')?.textContent.startsWith('The server was started anew')")
        page.wait("document.querySelectorAll('.row').length === 3")
        page.wait(f"{COUNTS}.join() === 'red: 3,green: 3,blue: 3'")  # typed before the page was loaded again
        assert explorer.session.corrections.all() == {}

    def test_what_is_typed_outlives_a_reload(self, page: Page) -> None:
        """Labels, the threshold and templates are there again, half typed ones too."""
        type_labels(page, "red\ngreen")
        page.run(
            "{ const s = document.getElementById('set'), t = document.getElementById('templates');"
            "s.value = ''; s.dispatchEvent(new Event('change')); t.value = 'a {}'; t.dispatchEvent(new Event('input'));"
            "const h = document.getElementById('threshold'); h.value = 0.123; h.dispatchEvent(new Event('input')); }"
        )
        page.wait(f"{COUNTS}.length >= 2")
        assert page.run("document.getElementById('threshold-value').textContent") == "12.3 %"
        page.run(
            "{ const t = document.getElementById('templates'); t.value = 'a {'; t.dispatchEvent(new Event('input')); }"
        )
        page.wait("!document.getElementById('templates-problem').hidden")
        assert page.run("document.getElementById('problem').hidden")
        page.send("Page.reload")
        page.wait("document.querySelectorAll('.tile img[src]').length === 9")
        fields = "['labels', 'set', 'templates', 'threshold'].map((name) => document.getElementById(name).value)"
        assert page.run(fields) == ["red\ngreen", "", "a {", "0.123"]
        page.wait("!document.getElementById('templates-problem').hidden")
        page.run(
            "{ const t = document.getElementById('templates'); t.value = 'a {}'; t.dispatchEvent(new Event('input')); }"
        )
        page.wait(f"{COUNTS}.join().includes('red: ')")

    def test_searches_show_all_until_a_cut_off_is_chosen(self, page: Page) -> None:
        """Another text's cosines are lower than the first one's: no image is left out. Mistakes leave no old hits."""
        page.run("document.activeElement.blur()")
        page.press("/")
        page.type("white")
        for more in (" - 3*white + black", " - 3*green"):
            page.wait(f"{TITLE} === 'Search 9 images nearest first'")
            least = page.run("document.getElementById('cutoff').min")
            page.type(more)
            page.wait(f"document.getElementById('cutoff').min !== '{least}'")
            page.wait("document.querySelectorAll('.tile img[src]').length === 9")
        page.type(" + + blue")
        page.wait(f"{TITLE}.includes('for example: beach + night')")
        assert page.run("document.querySelectorAll('.tile').length") == 0
        page.press("Escape")
        page.wait(f"{TITLE}.startsWith('9 images')")

    def test_the_map_has_its_own_heading_and_no_bar(self, page: Page) -> None:
        """Over a search it says that it is the map, nothing hidden is labelled from there, and images can be opened."""
        page.run("document.querySelector('.tile').click()")
        page.wait("!document.getElementById('picked').hidden")
        page.press("m")
        page.wait(f"{TITLE}.startsWith('Search')")
        assert page.run("document.getElementById('board').contains(document.activeElement)")
        page.press("v")
        page.wait("document.getElementById('map-status').textContent.startsWith('9 images')")
        assert page.run(TITLE) == "Map of 9 images"
        assert page.run("document.getElementById('picked').hidden && document.getElementById('back').hidden")
        page.run(
            "{ const c = document.getElementById('map-canvas'), { left, top } = c.getBoundingClientRect();"
            "for (let x = 0; x < c.clientWidth; x += 20) for (let y = 0; y < c.clientHeight; y += 20)"
            "c.dispatchEvent(new MouseEvent('dblclick', { clientX: left + x, clientY: top + y, bubbles: true })); }"
        )
        page.wait("document.getElementById('viewer-path').textContent !== ''")
        page.press("Escape")
        page.press("v")
        page.wait(f"{TITLE}.startsWith('Search 9 images')")
        page.press("Escape")

    def test_the_undo_in_sight_can_be_pressed(self, page: Page, explorer: Explorer) -> None:
        """Over an image opened large, its undo takes the correction back; a word without a row is said to have none."""
        open_the_first(page)
        page.press("3")
        page.wait(f"{COUNTS}.join() === 'red: 2,green: 3,blue: 4'")
        assert page.run("document.getElementById('toast').matches('dialog :popover-open')")
        page.click("#toast button")
        page.wait(f"{COUNTS}.join() === 'red: 3,green: 3,blue: 3'")
        assert explorer.session.corrections.all() == {}
        page.press("Escape")
        page.wait("!document.getElementById('viewer').open")
        page.wait("document.getElementById('board').contains(document.activeElement)")  # given back, once it is closed
        page.run("document.getElementById('picked-label').focus()")
        page.type("owl")
        page.press("Enter")
        page.wait("document.getElementById('toast').textContent.includes('labelled owl, which has no row')")
        page.wait("document.getElementById('picked-count').textContent === '1 image'")

    def test_names_on_the_map_that_join_no_labels(self, page: Page, explorer: Explorer) -> None:
        """A label that is there, YAML, and a word that would be a note are not dropped in silence."""
        type_labels(page, "red\ngreen")
        page.wait(f"{COUNTS}.length === 2")
        open_map(page)
        name_all(page, "red", "add")
        page.wait("document.getElementById('map-status').textContent === 'red is among the labels already'")
        name_all(page, "RED", "label")
        page.wait("document.getElementById('map-status').textContent.includes('twice')")
        assert page.run("document.getElementById('labels').value") == "red\ngreen"
        page.run("document.getElementById('labels').value = 'labels: [red]'")
        name_all(page, "blue", "label")
        page.wait("document.getElementById('map-status').textContent.startsWith('The labels are YAML')")
        assert explorer.session.corrections.all() == {}
        page.run("document.getElementById('labels').value = 'red'")
        name_all(page, "# one: two", "label")
        page.wait("document.getElementById('map-legend').textContent.includes('# one: two')")
        page.wait("document.getElementById('toast').textContent.includes('9 images labelled')")
        assert {said.label for said in explorer.session.corrections.all().values()} == {"# one: two"}
        assert page.run("document.getElementById('labels').value") == "red\n\\# one\\: two"
        page.press("v")

    def test_a_row_alone_is_that_of_its_label(self, page: Page) -> None:
        """Other labels before it leave the same images under its title; without it all rows are there again."""
        type_labels(page, "red\ngreen\nblue")
        page.wait(f"{COUNTS}.join() === 'red: 3,green: 3,blue: 3'")
        page.run("document.querySelector('.row header button').click()")
        page.wait(f"{TITLE} === 'red 3 images'")
        # At once, as a paste: typed slowly, the row's label is gone for a moment, which closes the row.
        page.run(
            "const box = document.getElementById('labels'); box.value = 'blue\\ngreen\\nred';"
            "box.dispatchEvent(new Event('input', { bubbles: true }))"
        )
        first = "document.querySelector('.tile')?.getAttribute('aria-label') ?? ''"
        page.wait(f"{TITLE} === 'red 3 images' && /^[036]\\D/.test({first})")
        type_labels(page, "blue\ngreen")
        page.wait(f"{COUNTS}.length === 2")

    def test_an_empty_folder_has_an_empty_map(self, browser: Page, tmp_path: Path) -> None:
        """It says so, and does not seem to be worked out for ever."""
        (tmp_path / "empty").mkdir()
        with explore(FakeEncoder(), tmp_path / "empty", tmp_path / "c.csv") as explorer:
            browser.open(explorer.url)
            browser.wait(f"{TITLE}.startsWith('0 images')")
            browser.press("v")
            browser.wait("document.getElementById('map-status').textContent === 'There are no images on the map yet'")
            assert browser.run("document.getElementById('folder').textContent") == "empty"

    def test_what_is_gone_is_not_on_the_map(self, page: Page, explorer: Explorer) -> None:
        """Neither counted nor enclosed; the rest keep their numbers, and the page sorts anew by itself."""
        sort_nine(page)
        Path(explorer.session.collection.path(0)).unlink()
        explorer.session.collection.encode(explorer.session.encoder, explorer.session.pipeline, threading.Event())
        page.wait(f"{COUNTS}.join() === 'red: 2,green: 3,blue: 3'")
        page.press("v")
        page.wait("document.getElementById('map-status').textContent.startsWith('8 images, 1.0 times')")
        name_all(page, "it", "label")
        page.wait(f"{COUNTS}.join().startsWith('red: 0')")
        assert said(explorer) == dict.fromkeys(range(1, 9), "it")

    def test_says_what_is_left_out(self, page: Page, explorer: Explorer) -> None:
        """Unreadable images with their reasons, those not encoded, labels that cannot be used, a changed form."""
        type_labels(page, "red\ngreen")
        page.wait(f"{COUNTS}.length === 2")
        explorer.session.collection._failures.append(Failure("/a/broken.png", "cannot be decoded"))
        explorer.session.collection._found += 3
        page.wait("!document.getElementById('open-failed').hidden")
        page.click("#open-failed")
        page.wait("document.getElementById('failed-list').textContent === '/a/broken.png: cannot be decoded'")
        page.press("Escape")
        page.run("const l = document.getElementById('labels'); l.value += ', red'; l.dispatchEvent(new Event('input'))")
        page.wait("!document.getElementById('problem').hidden")
        page.click("#open-acting")
        page.wait("document.getElementById('acting-note').textContent.startsWith('What is typed cannot be used')")
        page.run("document.getElementById('sorting').requestSubmit()")
        page.wait("!document.getElementById('plan').hidden")
        left = page.run("document.getElementById('plan-left').textContent")
        assert "1: cannot be read: cannot be decoded" in left and "2: not encoded yet, and left out" in left
        page.click("#sorting [value=copy]")
        assert page.run("document.getElementById('plan').hidden")
        page.press("Escape")

    @pytest.mark.parametrize(
        ("note", "short"),
        [
            ("encoding has stopped: there is not enough memory", "encoding has stopped"),
            ("3 files were passed over: 2 .mov, 1 .heic (rename them)", "3 files were passed over"),
        ],
    )
    def test_a_note_is_seen_and_read_whole(self, page: Page, explorer: Explorer, note: str, short: str) -> None:
        """Its beginning stands beside the status and is told to screen readers; Enter on it shows the rest."""
        assert not page.run("document.getElementById('open-note').checkVisibility()")
        explorer.session.collection._note = note
        page.wait("document.getElementById('open-note').checkVisibility()")
        assert page.run("document.querySelector('[role=status] #open-note').textContent") == short
        page.run("document.getElementById('open-note').focus()")
        page.press("Enter")
        page.wait("document.getElementById('noted').open")
        assert page.run("document.getElementById('noted').innerText").startswith(note)
        page.press("Escape")
        page.wait("!document.getElementById('noted').open")
        assert page.run("document.activeElement.id") == "open-note"
        explorer.session.collection._note = ""
        page.wait("!document.getElementById('open-note').checkVisibility()")

    def test_an_image_too_large_is_named(self, page: Page) -> None:
        """It is not sent at all, and the page says how large it may be."""
        page.run("""(() => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(65e6)], 'large.png', { type: 'image/png' }));
            window.dispatchEvent(new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true }));
        })()""")
        page.wait("document.getElementById('toast').textContent.startsWith('large.png has 65 MB; 64 MB are the most')")

    def test_what_a_narrow_window_folds_a_wide_one_shows(self, browser: Page, explorer: Explorer) -> None:
        """Threshold and templates come back where there is no line to open them by, as a window grows or turns."""
        browser.open(explorer.url, width=800)
        browser.wait("document.querySelectorAll('.tile img[src]').length === 9")
        shown = "document.getElementById('set').checkVisibility()"
        assert not browser.run(shown)
        browser.resize(1280)
        browser.wait(shown)
        browser.resize(800)
        browser.wait(f"!{shown}")

    def test_nothing_breaks_in_a_narrow_window(self, browser: Page, explorer: Explorer) -> None:
        """Counts of competing labels stay on one line, a long path stays in its dialog, also on a phone."""
        browser.open(explorer.url, width=390)
        browser.wait("document.querySelectorAll('.tile img[src]').length === 9")
        browser.run("document.getElementById('more').open = true")
        type_labels(browser, "red and a name that is rather long\ndark red and a name that is rather long too")
        browser.wait("document.querySelectorAll('#pairs span').length === 1")
        browser.run("document.querySelector('#pairs span').textContent = '273'")
        lines = (
            "(() => { const r = document.createRange(); r.selectNodeContents(document.querySelector('#pairs span'));"
        )
        assert browser.run(lines + "return r.getClientRects().length; })()") == 1
        browser.run("document.getElementById('open-keys').click()")
        browser.run("document.getElementById('kept').textContent = 'kept in /' + 'a-long-folder-'.repeat(20)")
        assert browser.run("document.getElementById('keys').scrollWidth <= document.getElementById('keys').clientWidth")
        browser.press("Escape")
        browser.run("document.getElementById('open-acting').click()")
        for part, text in (("plan", "plan-summary"), ("job", "job-text")):
            browser.run(f"document.getElementById('{part}').hidden = false")
            browser.run(f"document.getElementById('{text}').textContent = 'into /' + 'a_long_folder_'.repeat(20)")
        left = "Object.assign(document.createElement('li'), {textContent: '1: /' + 'a_long_name_'.repeat(20)})"
        browser.run(f"document.getElementById('plan-left').replaceChildren({left})")
        assert browser.run("(({ scrollWidth, clientWidth }) => scrollWidth <= clientWidth)(acting)")

    @pytest.mark.parametrize("width", [390, 1280, 2560])
    @pytest.mark.parametrize("dark", [False, True])
    def test_fits_every_window(self, browser: Page, explorer: Explorer, width: int, dark: bool) -> None:
        """Nothing is wider than the window, every control has a name."""
        browser.open(explorer.url, width=width, dark=dark)
        browser.wait("document.querySelectorAll('.tile img[src]').length === 9")
        type_labels(browser, "red\ngreen\nblue")
        browser.wait(f"{COUNTS}.length === 3")
        assert browser.run("document.documentElement.scrollWidth") <= width
        unnamed = browser.run("""[...document.querySelectorAll('button, input, select, textarea')].filter((one) =>
            one.checkVisibility() && !(one.labels?.length || one.getAttribute('aria-label') || one.textContent.trim()))
            .map((one) => one.outerHTML.slice(0, 90))""")
        assert unnamed == []

    @pytest.mark.parametrize(
        ("width", "height"), [(844, 390), (640, 450), (640, 360), (320, 480), (390, 400), (390, 620), (1000, 400)]
    )
    def test_a_low_window_holds_a_row(self, browser: Page, explorer: Explorer, width: int, height: int) -> None:
        """On a phone held sideways and at large zoom, an arrow key or a click leaves an image and its row in sight."""
        browser.open(explorer.url, width=width, height=height)
        browser.wait("document.querySelectorAll('.tile').length > 0")
        type_labels(browser, "red\ngreen\nblue\nyellow\ncyan\nmagenta")
        browser.wait(f"{TITLE} === '9 images in 6 labels'")
        browser.run("document.activeElement.blur()")
        for key, row in (("ArrowRight", "red"), ("ArrowDown", "green"), ("ArrowDown", "blue"), ("ArrowUp", "green")):
            browser.press(key)
            browser.wait(f"document.querySelector('.picked')?.closest('.row').ariaLabel === '{row}: 3'", 20)
            assert browser.run(IN_SIGHT) == [True, True], (key, row)
        browser.press("Escape")
        browser.click(".row[aria-label='blue: 3'] .tile")
        assert browser.run(f"{IN_SIGHT}[0]")
        assert browser.run("document.documentElement.scrollWidth") <= width

    def test_without_the_token_says_what_to_do(self, browser: Page, explorer: Explorer) -> None:
        """A page opened without its token, or with another one, shows nothing and says where to look."""
        for address in (explorer.address, explorer.address + "#token=wrong"):
            browser.open(address)
            if "wrong" not in address:
                browser.run("sessionStorage.clear()")
            browser.open(address)
            browser.wait("document.body.textContent.includes('the address that the terminal printed')")
            assert browser.run("document.querySelectorAll('.tile').length") == 0


def in_row(row: int, place: int) -> str:
    return f"document.querySelectorAll('.row')[{row}].querySelectorAll('.tile')[{place}]"


@needs_browser
class TestSelection:
    """What a key is said of, and where the focus is afterwards."""

    def test_a_key_counts_for_what_is_selected_when_it_is_pressed(self, page: Page, explorer: Explorer) -> None:
        """While labels are worked out, what is clicked between two keys is what the second one is said of."""
        sort_nine(page)
        hold(page, "sort")
        first, second = (page.run(f"{in_row(*at)}.tile.id") for at in ((0, 0), (1, 0)))
        page.run(f"{in_row(0, 0)}.click()")
        page.press("2")
        page.run(f"{in_row(1, 0)}.click()")
        page.press("3")
        page.run(f"{in_row(2, 0)}.click()")
        page.wait("document.getElementById('toast').textContent.includes('labelled blue')")
        assert said(explorer) == {first: "green", second: "blue"}
        page.run("letGo()")
        page.wait(f"{COUNTS}.join() === 'red: 2,green: 3,blue: 4'")

    def test_keys_before_the_answer_go_on_whatever_is_clicked(self, page: Page, explorer: Explorer) -> None:
        """Three keys while the first correction is on its way are three images' in a row, and a click changes none."""
        sort_nine(page)
        ids = page.run(f"[0, 1, 2].map((at) => {in_row(0, 0)}.parentNode.children[at].tile.id)")
        hold(page, "correct")
        page.run(f"{in_row(0, 0)}.click()")
        for _ in range(3):
            page.press("2")
        page.run(f"{in_row(2, 0)}.click()")
        page.run("letGo()")
        page.wait(f"{COUNTS}.join() === 'red: 0,green: 6,blue: 3'")
        assert said(explorer) == dict.fromkeys(ids, "green")

    def test_at_the_end_of_a_row_nothing_is_selected(self, page: Page, explorer: Explorer) -> None:
        """A key after the last image is said of none, and the toast says that the row ends."""
        sort_nine(page)
        last = page.run(f"{in_row(0, 2)}.tile.id")
        page.run(f"{in_row(0, 2)}.click()")
        page.run(
            "for (let time = 0; time < 2; time += 1) "
            "document.body.dispatchEvent(new KeyboardEvent('keydown', { key: '2', bubbles: true }))"
        )
        page.wait("document.getElementById('toast').textContent.includes('the row ends here')")
        page.wait(f"{COUNTS}.join() === 'red: 2,green: 4,blue: 3'")
        assert page.run("document.getElementById('picked').hidden")
        assert said(explorer) == {last: "green"}

    def test_a_key_that_changes_nothing_says_why(self, page: Page, explorer: Explorer) -> None:
        """`x` on an image whose only label was refused, `c` where nothing was said."""
        type_labels(page, "red")
        page.wait(f"{COUNTS}.join() === 'red: 9'")
        page.run("document.activeElement.blur()")
        page.run(f"{in_row(0, 0)}.click()")
        page.press("x")
        page.wait(f"{COUNTS}.join() === 'unknown: 1,red: 8'")
        page.run(f"{in_row(0, 0)}.click()")
        page.press("x")
        page.wait(
            "document.getElementById('toast').textContent"
            ".startsWith('nothing is changed: the image has no answer that could be refused')",
            20,
        )
        page.run(f"{in_row(1, 0)}.click()")
        page.press("c")
        page.wait(
            "document.getElementById('toast').textContent"
            ".startsWith('nothing is changed: nothing was said about the image')",
            20,
        )
        assert len(said(explorer)) == 1

    def test_only_enter_says_a_typed_label(self, page: Page, explorer: Explorer) -> None:
        """Escape gives up what is half typed and clears it, leaving the field says nothing."""
        sort_nine(page)
        page.run(f"{in_row(0, 0)}.click()")
        (first,) = page.run(PICKED)
        for leave in ("Escape", "Tab"):
            page.run("document.getElementById('picked-label').focus()")
            page.type("ow")
            page.press(leave)
            assert page.run("document.getElementById('picked-label').value") == ("" if leave == "Escape" else "ow")
        page.run("document.activeElement.blur()")
        page.press("2")
        page.wait(f"{COUNTS}.join() === 'red: 2,green: 4,blue: 3'")
        assert said(explorer) == {first: "green"}

    def test_keys_go_on_beyond_the_first_hits(self, browser: Page, tmp_path: Path) -> None:
        """In a search, images far down are labelled one after the other."""
        (tmp_path / "images").mkdir()
        Image.new("RGB", (16, 16), COLOURS["red"]).save(tmp_path / "red.png")
        encoder = FakeEncoder()
        towards = build_classifier(encoder, parse_labels("red,blue"), from_templates(["{}"])).weights
        collection = made_up(tmp_path / "images", [tmp_path / "red.png"], 400, encoder, towards)
        with served(encoder, collection, tmp_path / "c.csv", Pipeline(16, 2), text="red\nblue") as explorer:
            browser.open(explorer.url)
            browser.wait(f"{COUNTS}.length === 2")
            browser.press("/")
            browser.type("red")
            browser.wait(f"{TITLE} === 'Search 400 images nearest first'")
            browser.run("document.getElementById('board').scrollTop = 1e9")
            known = (
                "[...document.querySelectorAll('.tile')].filter((one) => one.tile.index > 380 && one.tile.id !== null)"
            )
            browser.wait(f"{known}.length === 19")
            ids = browser.run(f"{known}.filter((one) => one.tile.index < 393).map((one) => one.tile.id)")
            browser.run(f"{known}.find((one) => one.tile.index === 390).click()")
            for place in (390, 391, 392):
                browser.press("1")
                browser.wait(f"{PICKED}.length === 1 && document.querySelector('.picked').tile.index === {place + 1}")
            browser.wait("document.querySelectorAll('.given').length === 3")
            assert set(said(explorer)) <= set(ids) and len(said(explorer)) == 3

    def test_the_focus_stays_where_keys_act(self, page: Page, explorer: Explorer) -> None:
        """After a row alone, the undo of the toast, a label's button in the large view, and a part of a search."""
        sort_nine(page)
        on_board = "document.getElementById('board').contains(document.activeElement)"
        page.click(".tile")
        page.press("g")
        page.wait(f"{TITLE} === 'red 3 images'")
        assert page.run(on_board)
        page.press("g")
        page.wait("document.querySelectorAll('.row .tile img[src]').length === 9")
        page.click(".tile")
        (first,) = page.run(PICKED)
        page.press("2")
        page.wait(f"{COUNTS}[0] === 'red: 2'")
        page.click("#toast button")
        page.wait(f"{COUNTS}[0] === 'red: 3'")
        assert page.run(on_board)
        page.click(".tile")
        page.press("Enter")
        page.wait("document.getElementById('viewer-title').textContent.startsWith('red')")
        path = page.run("document.getElementById('viewer-path').textContent")
        page.click("#viewer-top button[title='Label it blue']")
        page.wait(f"document.getElementById('viewer-path').textContent !== {json.dumps(path)}")
        page.press("2")
        page.wait(f"{COUNTS}.join() === 'red: 1,green: 4,blue: 4'")
        assert said(explorer)[first] == "blue"
        page.press("m")
        page.wait("document.querySelectorAll('.chip').length === 1")
        page.click(".chip button:last-child")
        assert page.run("document.activeElement.id") == "query"


@needs_browser
class TestAnswers:
    """Answers that come late, and what they belong to."""

    def test_an_answer_for_another_view_is_asked_again(self, page: Page, explorer: Explorer) -> None:
        """A threshold that was moved before another tab's correction leaves that correction in sight."""
        sort_nine(page)
        hold(page, "rows")
        page.run("const t = document.getElementById('threshold'); t.value = 1; t.dispatchEvent(new Event('input'))")
        page.wait("held === 1")
        explorer.post(
            "correct", view=explorer.post("sort", labels="red, green, blue")["view"], images=[0], label="blue"
        )
        page.wait(f"{COUNTS}.join() === 'unknown: 8,red: 0,green: 0,blue: 1'")
        page.run("letGo()")
        page.wait("held === 2")
        assert page.run(COUNTS) == ["unknown: 8", "red: 0", "green: 0", "blue: 1"]

    def test_a_threshold_moved_during_a_sort_counts(self, page: Page) -> None:
        """What the sort was asked with is not what stays."""
        sort_nine(page)
        hold(page, "sort")
        page.run("document.getElementById('labels').focus()")
        page.type("s")
        page.wait("held === 1")
        page.run("const t = document.getElementById('threshold'); t.value = 1; t.dispatchEvent(new Event('input'))")
        page.wait(f"{COUNTS}[0] === 'unknown: 9'")
        page.run("letGo()")
        page.wait(f"{COUNTS}.join() === 'unknown: 9,red: 0,green: 0,blues: 0'")

    def test_a_search_that_was_ended_stays_so(self, page: Page) -> None:
        """Its answer opens nothing."""
        page.run("document.activeElement.blur()")
        hold(page, "search")
        page.press("/")
        page.type("red")
        page.wait("held === 1")
        page.run(
            "{ const title = document.getElementById('title'); window.titles = [];"
            "new MutationObserver(() => titles.push(title.textContent)).observe(title, { childList: true }); }"
        )
        page.press("Escape")
        page.run("letGo()")
        sort_nine(page)
        assert not any(title.startswith("Search") for title in page.run("titles"))

    def test_an_image_of_the_map_is_opened_by_keys(self, page: Page) -> None:
        """Space opens the one that is nearest to the middle of the frame."""
        open_map(page)
        for _ in range(12):
            page.press("ArrowDown", shift=True)
        page.press(" ")
        page.wait("document.getElementById('viewer').open")

    def test_a_cut_off_is_that_of_its_search(self, page: Page) -> None:
        """Another search shows all images again."""
        page.run("document.activeElement.blur()")
        page.press("/")
        page.type("white")
        page.wait(f"{TITLE} === 'Search 9 images nearest first'")
        page.run("const c = document.getElementById('cutoff'); c.value = c.max; c.dispatchEvent(new Event('input'))")
        page.wait(f"/^Search [0-3] image/.test({TITLE})")
        page.type(" - black")
        page.wait(f"{TITLE} === 'Search 9 images nearest first'")

    def test_more_like_an_image_of_the_map(self, page: Page) -> None:
        """Opened from there, and no image of any row, it is searched by; a correction leaves the map open meanwhile."""
        open_map(page)
        page.run(
            "{ const c = document.getElementById('map-canvas'), { left, top } = c.getBoundingClientRect();"
            "for (let x = 0; x < c.clientWidth; x += 20) for (let y = 0; y < c.clientHeight; y += 20)"
            "c.dispatchEvent(new MouseEvent('dblclick', { clientX: left + x, clientY: top + y, bubbles: true })); }"
        )
        page.wait("document.getElementById('viewer-path').textContent !== ''")
        page.press("m")
        page.wait(f"document.querySelectorAll('.chip').length === 1 && {TITLE}.startsWith('Search 9')")
        assert not page.run("document.getElementById('viewer').open") and page.run(
            "document.getElementById('map').hidden"
        )

    def test_the_map_stays_open_over_a_search(self, page: Page, explorer: Explorer) -> None:
        """A correction of another tab repeats the search, and closes nothing."""
        sort_nine(page)
        page.press("/")
        page.type("red")
        page.wait(f"{TITLE}.startsWith('Search 9')")
        open_map(page)
        page.run("window.done = 0; document.addEventListener('sorted', () => { window.done += 1; })")
        explorer.post("correct", view=explorer.post("sort", labels="red")["view"], images=[0], label="blue")
        page.wait("done > 0")
        assert not page.run("document.getElementById('map').hidden")

    def test_labels_that_cannot_be_used_leave_the_last_ones(self, page: Page) -> None:
        """Corrections are shown among the rows of before, also after a reload, and the refused sort is not repeated."""
        sort_nine(page)
        page.run(
            "const l = document.getElementById('labels'); l.value += '\\nblue'; l.dispatchEvent(new Event('input'))"
        )
        page.wait("!document.getElementById('problem').hidden")
        page.wait(f"{COUNTS}.join() === 'red: 3,green: 3,blue: 3'")
        refused = len(page.complaints)
        page.click(".tile")
        page.press("2")
        page.wait(f"{COUNTS}.join() === 'red: 2,green: 4,blue: 3'")
        assert len(page.complaints) == refused and "twice" in page.run("document.getElementById('problem').textContent")
        page.send("Page.reload")
        page.wait(f"{COUNTS}.join() === 'red: 2,green: 4,blue: 3'")
        assert page.run("document.getElementById('labels').value").endswith("blue\nblue")
        assert "twice" in page.run("document.getElementById('problem').textContent")


def documented(task: str) -> list[int]:
    """Return the numbers that `docs/measured.md` gives for a task on this page."""
    lines = (PAGE.parents[2] / "docs/measured.md").read_text("utf-8").splitlines()
    (row,) = (line for line in lines if line.startswith(f"| {task} |"))
    return [int(number) for number in re.findall(r"\b\d+\b", row.split("|")[2])]


@needs_browser
class TestFiveTasks:
    """The keys and clicks that `docs/measured.md` counts; a word that is typed is one."""

    def test_finds_all(self, page: Page) -> None:
        """The key of the search, the word."""
        page.run("document.activeElement.blur()")
        before = page.actions
        page.press("/")
        page.type("red")
        page.wait("document.getElementById('title').textContent === 'Search 9 images nearest first'")
        assert documented("find all X") == [page.actions - before]

    def test_splits_two_kinds(self, page: Page) -> None:
        """Two words and the pair; then the image, and a key that says what it is."""
        page.run("document.getElementById('labels').focus()")  # where the page begins with labels to type
        before = page.actions
        page.type("red\n")
        page.type("dark red")
        page.wait("document.querySelectorAll('#pairs button').length === 1")
        page.click("#pairs button")
        page.wait("document.getElementById('title').textContent.startsWith('red or dark red, closest first')")
        assert documented("split two confusable kinds") == [page.actions - before]
        page.click(".tile")
        page.press("2")
        page.wait("document.getElementById('toast').textContent.includes('1 image labelled dark red')")

    def test_chooses_a_threshold(self, page: Page) -> None:
        """A drag."""
        type_labels(page, "red\ngreen\nblue")
        page.wait(f"{COUNTS}.join() === 'red: 3,green: 3,blue: 3'")
        x, y, width, height = page.run(
            "(({x, y, width, height}) => [x, y, width, height])"
            "(document.getElementById('threshold').getBoundingClientRect())"
        )
        before = page.actions
        page.drag((x + 8, y + height / 2), (x + width / 2, y + height / 2), (x + width - 2, y + height / 2))
        page.wait(f"{COUNTS}[0] === 'unknown: 9'")
        assert documented("choose a threshold") == [page.actions - before]

    def test_names_what_is_there(self, page: Page) -> None:
        """A word; or the map's: its key, an outline, the word, Enter."""
        page.run("document.getElementById('labels').focus()")
        begun = page.actions
        page.type("red")
        page.wait(f"{COUNTS}.join() === 'red: 9'")
        counted = [page.actions - begun]
        begun = page.actions
        open_map(page)
        enclose_all(page)
        page.wait("document.activeElement.id === 'map-label'")
        page.type("blue")
        page.press("Enter")
        page.wait("document.getElementById('labels').value === 'red\\nblue'")
        assert documented("name what is in an unknown folder") == [*counted, page.actions - begun]
        page.press("Escape")
        page.wait(f"{COUNTS}.length === 2")

    def test_fixes_wrong_ones(self, page: Page, explorer: Explorer) -> None:
        """An arrow and a key for an image; those that lie beside each other are one key less for each but the first."""
        type_labels(page, "red\ngreen\nblue")
        page.wait(f"{COUNTS}.join() === 'red: 3,green: 3,blue: 3'")
        page.run("document.activeElement.blur()")
        begun = page.actions
        page.press("ArrowRight")
        for left in (2, 1):
            page.press("2")  # the next image is selected by itself
            page.wait(f"{COUNTS}[0] === 'red: {left}'")
            page.wait("document.getElementById('picked-count').textContent === '1 image'")
        assert len(explorer.session.corrections.all()) == 2
        least, most = documented("fix 20 wrong ones")
        used = page.actions - begun
        assert used - 1 == 2 * least / 20 and used <= 2 * most / 20


@needs_browser
def test_many_images_are_few_elements(browser: Page, tmp_path: Path) -> None:
    """20,000 images in 40 rows, or all in one grid, are some hundreds of elements, wherever one scrolls to."""
    folder = tmp_path / "images"
    folder.mkdir()
    colours = [name for name in COLOURS if name != "grey"]
    for colour in colours:
        Image.new("RGB", (16, 16), COLOURS[colour]).save(tmp_path / f"{colour}.png")
    encoder = FakeEncoder()
    labels = parse_labels(",".join(colours))
    towards = build_classifier(encoder, labels, from_templates(["{}"])).weights
    files = [tmp_path / f"{colour}.png" for colour in colours]
    collection = made_up(folder, files, 20_000, encoder, towards)
    names = "\n".join(
        [*colours, *(f"{colour} {other}" for colour in colours[:5] for other in colours[:6] if colour != other)]
    )
    with served(encoder, collection, tmp_path / "c.csv", Pipeline(16, 2), text=names) as explorer:
        browser.open(explorer.url, width=2560, height=1440)
        browser.wait("document.querySelectorAll('.tile img[src]').length > 20")
        most = []
        for place in (0, 500, 3000, 1e9):
            browser.run(f"document.getElementById('board').scrollTop = {place}")
            browser.wait("[...document.querySelectorAll('.tile')].every((tile) => tile.tile.id !== null)")
            most.append(browser.run("document.querySelectorAll('*').length"))
        browser.run("document.querySelector('.row header button:not([hidden])').click()")
        browser.wait("document.querySelectorAll('.row').length === 0")
        for place in (0, 1e5, 1e9):
            browser.run(f"document.getElementById('board').scrollTop = {place}")
            browser.wait(
                "document.querySelectorAll('.tile').length > 3 && "
                "[...document.querySelectorAll('.tile')].every((tile) => tile.tile.id !== null)"
            )
            most.append(browser.run("document.querySelectorAll('*').length"))
        assert max(most) <= 2000
        assert browser.complaints == []


@needs_node
def test_the_modules_are_sound() -> None:
    """Each module is read by node, and those that know nothing of the page pass their own tests."""
    for module in PAGE.glob("*.js"):
        subprocess.run(["node", "--check", module], check=True)
    done = subprocess.run(
        ["node", "--test", Path(__file__).with_name("explore.test.mjs")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


def test_the_modules_write_text_only() -> None:
    """No module makes markup of a string, runs one, or asks another server."""
    for module in PAGE.glob("*.js"):
        source = module.read_text(encoding="utf-8")
        for word in (
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "Function(",
            "://",
            "var ",
        ):
            assert word not in source, (module.name, word)
