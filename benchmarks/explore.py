"""The live page in Chromium: from a key press to the sorted images on the screen, and scrolling.

    python benchmarks/explore.py --photos ../shared/photos [--counts 10000,100000]

Features are made up (their distribution changes nothing of the time), the encoder is `tiny`, and the page is driven
over the debugging protocol. A key press is timed in the page, from the event to the second frame after the images
have their places. Beside the time by the clock stands that of the processor, which other work on the machine does not
lengthen: what the server computed and what the page's thread did.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from support.browser import Page, open_browser
from support.explorer import made_up, served
from zeroshot import build_classifier, load_encoder, load_templates, parse_labels
from zeroshot.features.pipeline import Pipeline

_ADJECTIVES = ("red", "old", "wet", "big", "new")
_NOUNS = ("boat", "chair", "dog", "house", "kite", "lamp", "pear", "ring", "ship", "tree")
LABELS = [f"{adjective} {noun}" for adjective in _ADJECTIVES for noun in _NOUNS]
WORDS = ("cat", "cup", "bus", "bed", "box", "bag")

WATCH = """
window.times = []; window.long = []; window.field = document.getElementById("labels");
new PerformanceObserver((list) => list.getEntries().forEach((one) => window.long.push(one.duration)))
  .observe({ type: "longtask" });
field.addEventListener("input", (event) => { window.pressed = event.timeStamp; });
document.addEventListener("sorted", () => requestAnimationFrame(() => requestAnimationFrame(() => {
  if (window.pressed) window.times.push(performance.now() - window.pressed);
  window.pressed = 0;
})));
field.focus(); field.setSelectionRange(1e6, 1e6);
"""
SCROLL = """
new Promise((done) => {
  const part = document.querySelector("%s");
  window.long.length = 0;
  let frames = 0, most = 0;
  const step = () => {
    part.%s += %d;
    frames += 1;
    if (frames %% 20 === 0) most = Math.max(most, document.querySelectorAll("*").length);
    if (frames < 80) requestAnimationFrame(step);
    else setTimeout(() => done([most, Math.max(0, ...window.long), window.long.length]), 300);
  };
  step();
})
"""
MOST_MILLISECONDS = 50
"""What no task of the page's thread should take."""


@contextmanager
def traced(page: Page) -> Iterator[list[float]]:
    """Trace the block; the list then holds the milliseconds of processor that each task of the page's thread took."""
    found: list[float] = []
    page.send("Tracing.start", traceConfig={"includedCategories": ["toplevel"]}, transferMode="ReportEvents")
    yield found
    page.send("Tracing.end")
    while not any(event["method"] == "Tracing.tracingComplete" for event in page.events if "method" in event):
        page.run("0")
    traces = [event["params"]["value"] for event in page.events if event.get("method") == "Tracing.dataCollected"]
    events = [event for trace in traces for event in trace]
    names = {(one["pid"], one["tid"]): one["args"]["name"] for one in events if one["name"] == "thread_name"}
    main = [one for one in events if names.get((one["pid"], one["tid"])) == "CrRendererMain" and "tdur" in one]
    found += [one["tdur"] / 1000 for one in main if one["name"] == "ThreadControllerImpl::RunTask"]
    page.events.clear()


def tasks(times: list[float]) -> str:
    """Return the longest task and how many are too long, as words."""
    over = sum(time > MOST_MILLISECONDS for time in times)
    return f"longest task {max(times, default=0):.0f} ms of processor, {over} of {len(times)} above {MOST_MILLISECONDS}"


def page_seconds(page: Page) -> float:
    """Return the processor's seconds that the page's thread took so far."""
    metrics = page.send("Performance.getMetrics")["metrics"]
    return float(next(one["value"] for one in metrics if one["name"] == "TaskDuration"))


def press(page: Page, key: str) -> tuple[float, float, float]:
    """Press a key in the field of labels; return milliseconds until all is sorted, of the server, of the page."""
    page.run("window.times.length = 0")
    server, thread = time.process_time(), page_seconds(page)
    page.press(key)
    page.wait("window.times.length > 0")
    server, thread = time.process_time() - server, page_seconds(page) - thread
    return float(page.run("window.times[0]")), 1000 * server, 1000 * thread


def scroll(page: Page, what: str, part: str, side: str, by: int) -> None:
    """Scroll for 80 frames, and print what that took."""
    before = page_seconds(page)
    with traced(page) as times:
        elements, longest, many = page.run(SCROLL % (part, side, by))
    taken = 1000 * (page_seconds(page) - before) / 80
    print(
        f"         scrolling {what}, {by} px a frame: {elements} elements, {taken:.1f} ms of processor a frame, "
        f"{tasks(times)}; by the clock {longest:.0f} ms, {many} above {MOST_MILLISECONDS}",
        flush=True,
    )


def measure(page: Page, count: int, photos: list[Path]) -> None:
    """Print the figures for so many images."""
    encoder = load_encoder("tiny")
    towards = build_classifier(encoder, parse_labels(",".join(LABELS)), load_templates("photo")).weights
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / "images"
        folder.mkdir()
        collection = made_up(folder, photos, count, encoder, towards)
        beginning = {"text": "\n".join(LABELS), "set_name": "photo"}
        with served(encoder, collection, Path(work) / "corrections.csv", Pipeline(), **beginning) as explorer:
            page.open(explorer.url)
            page.wait("document.querySelectorAll('.tile img[src]').length > 20")
            page.send("Performance.enable", timeDomain="threadTicks")
            page.run(WATCH)
            press(page, "Enter")
            found = []
            with traced(page) as times:
                for word in WORDS:
                    found += [press(page, key) for key in word]
                    press(page, "Enter")
            clock, server, thread = (sorted(column) for column in zip(*found, strict=True))
            print(
                f"{count:>8,} images, {len(LABELS)} labels and a letter: median {statistics.median(clock):.0f} ms, "
                f"90th percentile {statistics.quantiles(clock, n=10)[-1]:.0f}, best {clock[0]:.0f} of {len(clock)}; "
                f"of the processor {statistics.median(server):.0f} ms in the server, "
                f"{statistics.median(thread):.0f} in the page, {tasks(times)}",
                flush=True,
            )
            page.run("document.activeElement.blur()")
            scroll(page, "rows", "#board", "scrollTop", 40)
            scroll(page, "a strip", ".strip:not([hidden])", "scrollLeft", 60)
            page.run("field.value = ''; field.dispatchEvent(new Event('input'))")
            page.wait("document.querySelectorAll('.row').length === 0")
            for by in (60, 900, 20000):
                scroll(page, "all", "#board", "scrollTop", by)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="folder of photographs that stand for all images")
    parser.add_argument("--counts", default="10000,100000", help="numbers of images")
    options = parser.parse_args()
    photos = sorted(path for path in options.photos.rglob("*") if path.suffix in (".jpg", ".jpeg", ".png"))
    with open_browser() as page:
        for count in map(int, options.counts.split(",")):
            print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", flush=True)
            measure(page, count, photos)


if __name__ == "__main__":
    main()
