"""Make the images of the documentation: the table as a terminal shows it, a report page, the live page. Needs Chromium.

    python tools/screenshots.py

Run it again when the table, the page or the built-in checkpoint changes, and look at the result.
"""

from __future__ import annotations

import io
import os
import pty
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "docs" / "images"
LABELS = ["--labels", "bee,bridge,cat,coffee,goldfish,moose,orange,rocket,tulip,windmill", "--model", "tiny"]
CLASSIFY = ["classify", "examples", *LABELS]
STYLE = (
    "body{margin:0;background:#16181d;color:#e6e6e6}"
    "pre{margin:0;padding:16px 20px;font:15px/1.45 'DejaVu Sans Mono',monospace}"
)


def terminal(*arguments: str, columns: int = 90) -> str:
    """Return what a terminal of this width gets on its stdout."""
    master, slave = pty.openpty()
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": str(columns)}
    with subprocess.Popen(
        [sys.executable, "-m", "zeroshot", *arguments],
        **{"cwd": ROOT, "stdout": slave, "stderr": subprocess.DEVNULL, "env": environment},
    ):
        os.close(slave)
        shown = b""
        while True:
            try:
                chunk = os.read(master, 65536)
            except OSError:  # how Linux says that the other end is closed
                break
            if not chunk:
                break
            shown += chunk
    return shown.decode().replace("\r\n", "\n")


def shoot(page: str, target: Path, width: int, height: int, top: int = 0, *, dark: bool = False) -> None:
    """Write a PNG of a page from `top` to `height`, in 128 colours, which keeps it small."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        raise SystemExit("Chromium is needed, and was not found on the PATH")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        raw = Path(profile) / "raw.png"
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={profile}"]
        flags += ["--virtual-time-budget=8000", *(["--force-dark-mode"] if dark else [])]
        arguments = [*flags, f"--window-size={width},{height}", f"--screenshot={raw}", page]
        subprocess.run([chromium, *arguments], check=True, stderr=subprocess.DEVNULL)
        with Image.open(raw) as image:
            image.convert("RGB").crop((0, top, width, height)).quantize(128).save(target, optimize=True)
    print(f"{target.relative_to(ROOT)}: {target.stat().st_size / 1000:.0f} kB")


def shoot_live_page() -> None:
    """Write docs/images/explore.png and explore-dark.png: the images of `examples/` among their labels."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as data:
        images = Path(folder) / "imgs"
        images.mkdir()
        for image in (ROOT / "examples").glob("*.jpg"):
            shutil.copy(image, images)
        command = [sys.executable, "-m", "zeroshot", "explore", "imgs", *LABELS, "--no-open"]
        environment = os.environ | {"ZEROSHOT_DATA": data}
        served = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True, env=environment)
        with served:
            address = served.stdout.readline().strip() if served.stdout else ""
            shoot(address, OUT / "explore.png", 1000, 560)
            shoot(address, OUT / "explore-dark.png", 1000, 560, dark=True)
            served.send_signal(signal.SIGINT)


def main() -> None:
    """Write the files of docs/images."""
    OUT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        html, report = Path(folder) / "table.html", Path(folder) / "page.html"
        command = "$ zeroshot " + " ".join(CLASSIFY)
        shown = Text.from_ansi(f"{command}\n{terminal(*CLASSIFY)}")
        console = Console(record=True, width=118, file=io.StringIO())
        console.print(shown)
        body = console.export_html(inline_styles=True, code_format="<pre>{code}</pre>")
        html.write_text(f"<meta charset=utf-8><style>{STYLE}</style>{body}", encoding="utf-8")
        shoot(html.as_uri(), OUT / "table.png", 1100, 40 + 22 * len(shown.plain.splitlines()))
        terminal(*CLASSIFY, "--report", str(report))
        shoot(report.as_uri(), OUT / "page.png", 1000, 2215, top=1685)
    shoot_live_page()


if __name__ == "__main__":
    main()
