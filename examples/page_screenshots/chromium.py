"""A headless Chromium, driven over its DevTools protocol through two pipes: no package needed."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)

# Chromium reads its orders from descriptor 3 and answers on 4, each message ended by a NUL.
_START = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.dup2(int(sys.argv[2]), 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # no network for a picture
)


_numbers = itertools.count(1)


class BrowserError(RuntimeError):
    """The browser refused an order, or gave no answer in time."""


class Tab:
    """
    One page of a browser.

    Bounded by: the events since the last order, which is looked through and kept as *events*,
        at most 5,000.
    """

    def __init__(self, orders: int, answers: int) -> None:
        self._orders, self._answers = orders, answers
        self._number = next(_numbers) * 1_000_000  # answers to another tab must not fit
        self._rest = b""
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []
        self._target = self.order("Target.createTarget", url="about:blank")["targetId"]
        session = self.order("Target.attachToTarget", targetId=self._target, flatten=True)
        self._session = session["sessionId"]
        for room in ("Page", "Runtime", "Network", "Log"):
            self.order(f"{room}.enable")

    def order(self, method: str, *, seconds: float = 40, **parameters: Any) -> dict[str, Any]:
        """Give an order and return its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._orders, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + seconds
        while True:
            answer = self._next(deadline)
            if answer.get("id") != self._number:
                if answer.get("sessionId") == self._session:
                    self.events = [*self.events[-4999:], answer]
            elif "error" in answer:
                raise BrowserError(f"{method}: {answer['error']['message']}")
            else:
                result: dict[str, Any] = answer["result"]
                return result

    def _next(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._rest:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._answers], [], [], left)[0]:
                raise BrowserError("the browser gave no answer in time")
            part = os.read(self._answers, 1 << 16)
            if not part:
                raise BrowserError("the browser has ended")
            self._rest += part
        message, _, self._rest = self._rest.partition(b"\0")
        answer: dict[str, Any] = json.loads(message)
        return answer

    def close(self) -> None:
        """Close the tab."""
        self._session = None
        self.order("Target.closeTarget", targetId=self._target)

    def open(self, url: str) -> None:
        """Load *url* and wait until it is there."""
        found = self.order("Page.navigate", url=url)
        if found.get("errorText"):
            raise BrowserError(found["errorText"])
        self.until("document.readyState === 'complete'")

    def value(self, expression: str) -> Any:
        """Return what a JavaScript expression gives; a promise is waited for."""
        found = self.order(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in found:
            raise BrowserError(str(found["exceptionDetails"].get("exception", found)))
        return found["result"].get("value")

    def until(self, expression: str, *, seconds: float = 30) -> None:
        """Wait until an expression is true."""
        deadline = time.monotonic() + seconds
        while True:
            # While a new page comes in, there is a moment without a place to ask.
            with contextlib.suppress(BrowserError):
                if self.value(f"Boolean({expression})"):
                    return
            if time.monotonic() > deadline:
                raise BrowserError(f"it did not become true: {expression}")
            time.sleep(0.05)

    def resize(
        self, width: int, height: int, *, scheme: str = "light", script: bool = True
    ) -> None:
        """Be a screen of this size, with a reader who likes it light or dark."""
        self.order(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.order("Emulation.setEmulatedMedia", features=[feature])
        self.order("Emulation.setScriptExecutionDisabled", value=not script)

    def picture(self, file: Path) -> None:
        """Write the whole page as a PNG."""
        size = self.order("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        shot = self.order("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(shot["data"]))

    def requests(self) -> list[str]:
        """Return every address that was asked for since the tab was opened."""
        sent = [e["params"] for e in self.events if e.get("method") == "Network.requestWillBeSent"]
        return [each["request"]["url"] for each in sent]

    def complaints(self) -> list[str]:
        """Return the console's messages: errors, and what a policy has stopped."""
        found = [
            event["params"]["entry"]["text"]
            for event in self.events
            if event.get("method") == "Log.entryAdded"
        ]
        found += [
            str(event["params"]["exceptionDetails"])
            for event in self.events
            if event.get("method") == "Runtime.exceptionThrown"
        ]
        return found


@contextlib.contextmanager
def browser() -> Iterator[Callable[[], Tab]]:
    """Start a browser of its own, and give a function that opens a tab."""
    home = tempfile.mkdtemp(prefix="memguard-chromium-")
    theirs_in, orders = os.pipe()
    answers, theirs_out = os.pipe()
    command = [sys.executable, "-c", _START, str(theirs_in), str(theirs_out), CHROMIUM, *_FLAGS]
    command += [f"--user-data-dir={home}", "--remote-debugging-pipe"]
    process = subprocess.Popen(
        command,
        pass_fds=(theirs_in, theirs_out),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "HOME": home},
    )
    os.close(theirs_in)
    os.close(theirs_out)
    try:
        yield lambda: Tab(orders, answers)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
        os.close(orders)
        os.close(answers)
        shutil.rmtree(home, ignore_errors=True)
