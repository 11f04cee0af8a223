"""
Pictures of the live page: a desk and a telephone, light and dark.

    python -m examples.page_screenshots docs/images

A guarded shop with caches, some pressure and a leak runs here; a real Chromium looks at its page.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from examples.page_screenshots.chromium import CHROMIUM, Tab, browser
from examples.page_screenshots.shop import forget_nothing, open_shop
from memguard import MemoryGuard
from memguard.observe import read_memory
from memguard.report.health import HealthWsgi

TOKEN = "only-for-these-pictures"  # noqa: S105 - reason: guards a server of this script for seconds
MiB = 1024**2
SIZES = {"desk": (1280, 900), "phone": (390, 844)}


class Server(ThreadingMixIn, WSGIServer):
    """The standard library's server, with a thread for each request."""

    daemon_threads = True


class Silent(WSGIRequestHandler):
    """Write no line for each request."""

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def main(directory: Path) -> None:
    """Take the pictures and write them into *directory*."""
    if not CHROMIUM:
        print("no Chromium here; Debian: apt-get install chromium")
        return
    directory.mkdir(parents=True, exist_ok=True)
    start = read_memory().private or 50 * MiB
    guard = MemoryGuard(
        limit=start + 70 * MiB,
        interval=0.1,
        hold_off=1.0,
        leak_options={
            "interval": 0.1,
            "min_samples": 12,
            "min_growth_bytes": "2MiB",
            "growth_threshold": 1.05,
            "trace_seconds": 0.5,
        },
        name="shop-web",
    )
    with guard:
        holders = open_shop()
        forget_nothing(guard, 34 * MiB)
        health = HealthWsgi(guard, relieve_token=TOKEN, refresh=0.5)
        server = make_server("127.0.0.1", 0, health, server_class=Server, handler_class=Silent)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            take(f"http://127.0.0.1:{server.server_port}/memguard", directory)
        finally:
            server.shutdown()
            thread.join(20)
            server.server_close()
        del holders


def take(url: str, directory: Path) -> None:
    """Open the page, press its button once, and take a picture of each size and scheme."""
    with browser() as new_tab:
        tab = new_tab()
        for device, (width, height) in SIZES.items():
            for scheme in ("light", "dark"):
                tab.resize(width, height, scheme=scheme)
                tab.open(url)
                tab.until("document.getElementById('state').className === 'live'")
                press(tab)
                file = directory / f"page-{device}-{scheme}.png"
                tab.picture(file)
                print(f"{file.name}: {width} pixels wide")


def press(tab: Tab) -> None:
    """Give memory back by the button of the page, and wait for what it says."""
    tab.value(f"document.querySelector('input[name=token]').value = {TOKEN!r}")
    tab.value("document.querySelector('input[name=target]').value = '256KiB'")
    tab.value("document.querySelector('button').click()")
    tab.until("document.getElementById('answer').textContent.startsWith('Memory ')")
    tab.until("document.querySelector('[data-part=relief] table')")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images"))
