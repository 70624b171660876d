"""The live page in Chromium: from a key press to the sorted images on the screen, and scrolling.

    python benchmarks/explore.py --photos ../shared/photos [--counts 10000,100000]

Features are made up (their distribution changes nothing of the time), the encoder is `tiny`, and the page is driven
over the debugging protocol. A key press is timed in the page, from the event to the second frame after the images
have their places.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from support.browser import Page, open_browser
from support.explorer import made_up, served

from zeroshot import build_classifier, load_encoder, load_templates, parse_labels
from zeroshot.features.pipeline import Pipeline

LABELS = [f"{adjective} {noun}" for adjective in ("red", "old", "wet", "big", "new") for noun in (
    *("boat", "chair", "dog", "house", "kite", "lamp", "pear", "ring", "ship", "tree"),
)]  # fmt: skip

WATCH = """
window.times = []; window.long = [];
new PerformanceObserver((list) => list.getEntries().forEach((one) => window.long.push(one.duration)))
  .observe({ type: "longtask" });
document.getElementById("labels").addEventListener("input", (event) => { window.pressed = event.timeStamp; });
document.addEventListener("sorted", () => requestAnimationFrame(() => requestAnimationFrame(() => {
  if (window.pressed) window.times.push(performance.now() - window.pressed);
  window.pressed = 0;
})));
"""
SCROLL = """
new Promise((done) => {
  const board = document.querySelector(%r);
  window.long.length = 0;
  let frames = 0, most = 0;
  const step = () => {
    board[%r] += %d;
    frames += 1;
    most = Math.max(most, document.querySelectorAll("*").length);
    if (frames < 240) requestAnimationFrame(step);
    else setTimeout(() => done([most, Math.max(0, ...window.long), window.long.length]), 300);
  };
  step();
})
"""


def press(page: Page, key: str) -> float:
    """Press a key in the field of labels; return the milliseconds until the images are sorted."""
    page.run("window.times.length = 0")
    page.press(key)
    page.wait("window.times.length > 0")
    return float(page.run("window.times[0]"))


def measure(page: Page, count: int, photos: list[Path], rounds: int) -> None:
    """Print the figures for so many images."""
    encoder = load_encoder("tiny")
    towards = build_classifier(encoder, parse_labels(",".join(LABELS)), load_templates("plain")).weights
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / "images"
        folder.mkdir()
        collection = made_up(folder, photos, count, encoder, towards)
        with served(
            encoder, collection, Path(work) / "corrections.csv", Pipeline(), text="\n".join(LABELS)
        ) as explorer:
            page.open(explorer.url, width=1280, height=900)
            page.wait("document.querySelectorAll('.tile img[src]').length > 20")
            page.run(WATCH)
            page.run(
                "document.getElementById('labels').focus(); document.getElementById('labels').setSelectionRange(1e6, 1e6)"
            )
            page.press("Enter")
            words = ["cat", "cup", "cow", "car", "cap", "can", "bus", "bed", "box", "bag"][:rounds]
            taken = []
            for word in words:
                page.wait("!window.pressed")
                taken += [press(page, key) for key in word]
                page.press("Enter")
            print(
                f"{count:>8,} images x {len(LABELS)} labels, a letter: median {statistics.median(taken):.0f} ms, "
                f"best {min(taken):.0f}, worst {max(taken):.0f}, of {len(taken)}",
                flush=True,
            )
            page.run("document.getElementById('labels').select()")
            page.press("b")
            page.wait("window.times.length > 0")
            page.run(
                """window.times.length = 0; document.getElementById('labels').focus();
                document.execCommand('selectAll'); document.execCommand('insertText', false, %r)"""
                % "\n".join(f"another {word}" for word in LABELS)
            )
            page.wait("window.times.length > 0")
            print(
                f"{'':>8} 50 labels pasted, none of them typed before: {page.run('window.times[0]'):.0f} ms", flush=True
            )
            for what, selector, side, by in (
                ("rows", "#board", "scrollTop", 40),
                ("a strip", ".strip:not([hidden])", "scrollLeft", 60),
            ):
                page.run("document.activeElement.blur()")
                elements, longest, tasks = page.run(SCROLL % (selector, side, by))
                print(
                    f"{'':>8} scrolling {what}: {elements} elements, longest task {longest:.0f} ms, "
                    f"{tasks} above 50 ms",
                    flush=True,
                )
            page.run("document.getElementById('labels').value = ''")
            page.run("document.getElementById('labels').dispatchEvent(new Event('input'))")
            page.wait("document.querySelectorAll('.row').length === 0")
            for by in (60, 900, 20000):
                elements, longest, tasks = page.run(SCROLL % ("#board", "scrollTop", by))
                print(
                    f"{'':>8} scrolling all, {by} px a frame: {elements} elements, longest task {longest:.0f} ms, "
                    f"{tasks} above 50 ms",
                    flush=True,
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="folder of photographs that stand for all images")
    parser.add_argument("--counts", default="10000,100000", help="numbers of images")
    parser.add_argument("--rounds", type=int, default=6, help="words that are typed")
    options = parser.parse_args()
    photos = sorted(options.photos.rglob("*.jp*g"))
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    with open_browser() as page:
        for count in map(int, options.counts.split(",")):
            measure(page, count, photos, options.rounds)


if __name__ == "__main__":
    main()
