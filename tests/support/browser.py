"""A headless Chromium for tests of pages, spoken to over its debugging pipe: no driver, no port, no network."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars"),
)
PATIENCE_SECONDS = 300
"""A browser that is silent for so long hangs; a busy machine makes it slow, and that is no failure."""

_CODES = {
    "Tab": 9,
    "Enter": 13,
    "Escape": 27,
    " ": 32,
    "ArrowLeft": 37,
    "ArrowUp": 38,
    "ArrowRight": 39,
    "ArrowDown": 40,
}
"""Keys that are no characters, with their numbers."""


def find_chromium() -> str | None:
    """Return Chromium's path, or None where there is none."""
    return next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
    )


class Page:
    """One tab.

    Attributes:
        events: What the browser reported since the page was opened (console messages, errors, requests).
        actions: Keys, clicks and drags so far; a text that is typed is one.
    """

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self._to, self._from = to_browser, from_browser
        self._rest = b""
        self._number = 0
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []
        self.actions = 0
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the DevTools protocol and return its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while (answer := self._read()).get("id") != self._number:
            self.events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def open(
        self, page: Path | str, *, width: int = 1280, height: int = 900, dark: bool = False, script: bool = True
    ) -> None:
        """Load a file or an address and wait until it has loaded."""
        if isinstance(page, str):  # an address that differs in its fragment only would not be loaded anew
            self._navigate("about:blank")
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.send("Emulation.setEmulatedMedia", features=features)
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        self.send("Emulation.setScriptExecutionDisabled", value=not script)
        self._navigate(page if isinstance(page, str) else page.resolve().as_uri())

    def resize(self, width: int, height: int = 900) -> None:
        """Give the window another size."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def _navigate(self, address: str) -> None:
        self.events.clear()
        self.send("Page.navigate", url=address)
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._read())

    def run(self, expression: str) -> Any:
        """Evaluate JavaScript and return its value; the page's own script may be switched off meanwhile."""
        result = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def press(self, key: str, *, shift: bool = False) -> None:
        """Press a key: a character, or one of `_CODES`."""
        self.actions += 1
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        code = _CODES.get(key) or ord(key.upper())
        for kind in ("keyDown", "keyUp"):
            extra = {"text": text} if text and kind == "keyDown" else {}
            extra |= {"modifiers": 8} if shift else {}
            self.send("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **extra)

    def drag(self, *places: tuple[float, float], shift: bool = False) -> None:
        """Press the mouse at the first place, move it along the others, and let go at the last."""
        self.actions += 1
        for index, (x, y) in enumerate((*places, places[-1])):
            kind = "mousePressed" if index == 0 else "mouseReleased" if index == len(places) else "mouseMoved"
            held = {"button": "left", "buttons": int(kind != "mouseReleased"), "clickCount": 1}
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, modifiers=8 if shift else 0, **held)

    def click(self, selector: str) -> None:
        """Click into the middle of what a selector finds."""
        part = f"document.querySelector({json.dumps(selector)})"
        self.run(f"{part}.scrollIntoView({{block: 'nearest'}})")
        x, y, width, height = self.run(
            f"(({{x, y, width, height}}) => [x, y, width, height])({part}.getBoundingClientRect())"
        )
        self.drag((x + width / 2, y + height / 2))

    def type(self, text: str) -> None:
        """Type a text into what has the focus, a key at a time."""
        before = self.actions
        for character in text:
            self.press("Enter" if character == "\n" else character)
        self.actions = before + 1

    def wait(self, expression: str, seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until an expression of JavaScript is true.

        Raises:
            AssertionError: It never was.
        """
        end = time.monotonic() + seconds
        while not self._is_true(expression):
            assert time.monotonic() < end, f"never true: {expression}; the page says {self.complaints}"

    def _is_true(self, expression: str) -> bool:
        """Whether an expression is true; if not, some milliseconds later, in which the page may have gone elsewhere."""
        try:
            if self.run(expression):
                return True
            self.run("new Promise((done) => setTimeout(done, 20))")
        except AssertionError as error:
            if not any(words in str(error) for words in ("navigated or closed", "context was destroyed")):
                raise
        return False

    def screenshot(self, path: Path, *, whole: bool = True) -> None:
        """Save what is shown as PNG; the whole page, or the window."""
        shot = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))

    @property
    def requests(self) -> list[str]:
        """Addresses that the page asked for, itself and what stands inside it left out."""
        sent = [event["params"] for event in self.events if event.get("method") == "Network.requestWillBeSent"]
        return [
            request["request"]["url"]
            for request in sent
            if not request["request"]["url"].startswith(("data:", "file:"))
        ]

    @property
    def complaints(self) -> list[str]:
        """Errors that the browser reported: exceptions, and anything that the policy blocked."""
        found = [
            event["params"]["exceptionDetails"]["text"]
            for event in self.events
            if event.get("method") == "Runtime.exceptionThrown"
        ]
        entries = [event["params"]["entry"] for event in self.events if event.get("method") == "Log.entryAdded"]
        return found + [entry["text"] for entry in entries if entry["level"] == "error"]

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._from], [], [], PATIENCE_SECONDS)
            assert ready, "the browser does not answer"
            chunk = os.read(self._from, 1 << 20)
            assert chunk, "the browser ended"
            self._rest += chunk
        message, self._rest = self._rest.split(b"\0", 1)
        return json.loads(message)


@contextmanager
def open_browser() -> Iterator[Page]:
    """Start Chromium with a profile of its own, and end it."""
    chromium = find_chromium()
    assert chromium
    browser_reads, to_browser = os.pipe()
    from_browser, browser_writes = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        # The protocol's pipe is expected on the descriptors 3 and 4.
        command = f'exec "$@" 3<&{browser_reads} 4>&{browser_writes}'
        arguments = [chromium, *FLAGS, f"--user-data-dir={profile}", "--remote-debugging-pipe", "about:blank"]
        process = subprocess.Popen(
            ["bash", "-c", command, "bash", *arguments],
            pass_fds=(browser_reads, browser_writes),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(browser_reads)
        os.close(browser_writes)
        try:
            yield Page(to_browser, from_browser)
        finally:
            os.close(to_browser)
            os.close(from_browser)
            process.terminate()
            process.wait(timeout=20)
