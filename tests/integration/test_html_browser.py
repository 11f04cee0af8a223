"""The HTML report in a real browser: what it shows, what it fetches, what a hostile name can do."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from memguard.leaks.report import CurvePoint, LeakReport
from memguard.report.compare import compare
from memguard.report.compare import render_html as compared_html
from memguard.report.render.html.page import render_html
from tests.html_page import Page
from tests.specimens import MiB, leak_report

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)

pytestmark = [
    pytest.mark.stress,
    pytest.mark.skipif(not CHROMIUM, reason="no Chromium here; Debian: apt-get install chromium"),
    pytest.mark.timeout(120),
]


@dataclass
class Site:
    """A server that the browser may ask, and what it was asked for."""

    address: str
    pages: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def url(self, path: str) -> str:
        return self.address + path


@pytest.fixture
def site() -> Iterator[Site]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            here.asked.append(self.path)
            page = here.pages.get(self.path)
            self.send_response(200 if page is not None else 404)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write((page or "").encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    here = Site(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield here
    server.shutdown()
    thread.join(20)
    server.server_close()


@dataclass
class Visit:
    """What a browser made of a page."""

    dom: str
    console: str
    urls: set[str]
    """Every address that any part of the browser began to load."""


def visit(url: str, home: Path) -> Visit:
    profile, network = home / "profile", home / "network.json"
    shutil.rmtree(profile, ignore_errors=True)
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    flags += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    flags += [f"--user-data-dir={profile}", f"--log-net-log={network}", "--enable-logging=stderr"]
    flags += ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]  # no network for a test
    done = subprocess.run(
        [CHROMIUM, *flags, "--virtual-time-budget=3000", "--dump-dom", url],
        capture_output=True,
        text=True,
        timeout=90,
        check=True,
        env={**os.environ, "HOME": str(home)},
    )
    urls = set(re.findall(r'"url":"([^"]*)"', network.read_text("utf-8", "replace")))
    console = "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)
    return Visit(done.stdout, console, urls)


def hostile_report(site: Site) -> LeakReport:
    """Return a report whose every name tries to load something from *site* or to run."""
    bait = site.url("/stolen")
    names = [
        f"<img src={bait}?image>",
        f"<script>fetch('{bait}?script')</script>",
        f"</style><style>@import url({bait}?style)</style>",
        f"</title></head><body onload=\"location='{bait}?load'\">",
        f'" onmouseover="location=\'{bait}?over\'" x="',
        f"<svg><image href='{bait}?svg'/></svg>",
        f"<link rel=stylesheet href={bait}?link><iframe src={bait}?frame></iframe>",
        f"<meta http-equiv=refresh content='0;url={bait}?refresh'>",
        "&lt;script&gt;alert(1)&lt;/script&gt;",
        "--><!-- ]]> <base href=//127.0.0.1:9>",
    ]
    full = leak_report()
    name = " ".join(names)
    return replace(
        full,
        id=name,
        detector=name,
        python=name,
        limits=tuple(names),
        holders=tuple(replace(full.holders[0], path=name, type=name) for name in names),
        suspects=tuple(
            replace(full.suspects[0], file=name, function=name, source=name) for name in names
        ),
        types=tuple(replace(full.types[0], name=name) for name in names),
        trend=replace(full.trend, kind=name, limit_source=name),
        verdict=replace(full.verdict, advice=name, reasons=tuple(names)),
    )


def long_report() -> LeakReport:
    """Return a report with a curve, and with names that have no place to be broken."""
    full = leak_report()
    curve = tuple(CurvePoint(seconds=30.0 * n, bytes=(96 + n) * MiB) for n in range(60))
    name = "a" * 190
    return replace(
        full,
        trend=replace(full.trend, curve=curve, limit_bytes=200 * MiB),
        holders=(*full.holders, replace(full.holders[0], path=f"{name}.b.c", type=name)),
        suspects=(*full.suspects, replace(full.suspects[0], file=name, source=name)),
        types=(*full.types, replace(full.types[0], name=name)),
        limits=(name,),
        verdict=replace(full.verdict, advice=name, reasons=(name,)),
    )


def test_a_report_fetches_nothing_and_its_style_is_let_in(site: Site, tmp_path: Path) -> None:
    site.pages["/leak.html"] = render_html(long_report())
    seen = visit(site.url("/leak.html"), tmp_path)
    assert site.asked == ["/leak.html"]
    own = {url for url in seen.urls if url != site.url("/")}  # the log names the server itself, too
    assert {url for url in own if "127.0.0.1" in url} == {site.url("/leak.html")}
    assert seen.console == ""  # a style that its policy does not name would be told here
    assert "leaky_shop.app.SESSIONS" in Page.of(seen.dom).text.replace("\u200b", "")


def test_a_file_on_disk_opens_as_well(tmp_path: Path) -> None:
    file = tmp_path / "leak.html"
    file.write_text(render_html(long_report()), "utf-8")
    seen = visit(file.as_uri(), tmp_path)
    assert Page.of(seen.dom).strangers() == []
    assert seen.console == ""
    assert {url for url in seen.urls if url.startswith("file:")} <= {file.as_uri()}


def test_hostile_names_stay_text_and_reach_nobody(site: Site, tmp_path: Path) -> None:
    report = hostile_report(site)
    site.pages["/leak.html"] = render_html(report)
    site.pages["/compared.html"] = compared_html(compare(report, leak_report()))
    for path in ("/leak.html", "/compared.html"):
        site.asked.clear()
        seen = visit(site.url(path), tmp_path)
        assert site.asked == [path]
        assert not [url for url in seen.urls if "stolen" in url]
        page = Page.of(seen.dom)
        assert page.strangers() == []
        text = page.text.replace("\u200b", "")
        for holder in report.holders:
            assert holder.path in text


def test_the_same_names_would_act_if_they_were_let_in(site: Site, tmp_path: Path) -> None:
    """The traps of the test above do snap: without escaping and policy they fetch."""
    page = html.unescape(render_html(hostile_report(site)))
    site.pages["/leak.html"] = page
    seen = visit(site.url("/leak.html"), tmp_path)
    assert Page.of(seen.dom).strangers() != []
    without_policy = re.sub(r"<meta http-equiv=\"Content-Security-Policy\"[^>]*>", "", page)
    site.pages["/open.html"] = without_policy
    visit(site.url("/open.html"), tmp_path)
    assert [path for path in site.asked if path.startswith("/stolen")]


def test_even_what_is_let_in_is_stopped_by_the_policy(site: Site, tmp_path: Path) -> None:
    """The second wall: markup that got through could load no image, script, style or frame."""
    bait = site.url("/stolen")
    injected = (
        f"<img src={bait}?image><script>fetch('{bait}?script')</script>"
        f"<style>@import url({bait}?style)</style><iframe src={bait}?frame></iframe>"
        f"<link rel=stylesheet href={bait}?link><p style='background:url({bait}?inline)'>x</p>"
    )
    site.pages["/leak.html"] = render_html(leak_report()).replace("<main>", f"<main>{injected}")
    seen = visit(site.url("/leak.html"), tmp_path)
    assert site.asked == ["/leak.html"]
    assert "Content Security Policy" in seen.console


MEASURE = """<!DOCTYPE html><body>
<iframe id="phone" src="/leak.html" width="390" height="900" frameborder="0"></iframe>
<iframe id="desk" src="/leak.html" width="1200" height="900" frameborder="0"></iframe>
<iframe id="dark" src="/leak.html" width="390" height="900" style="color-scheme: dark"></iframe>
<pre id="measured"></pre>
<script>
window.onload = () => {
  const result = {};
  for (const frame of document.querySelectorAll("iframe")) {
    const page = frame.contentDocument, style = getComputedStyle(page.body);
    const chart = page.querySelector("figure svg").getBoundingClientRect();
    const wide = [...page.querySelectorAll("body *")].filter(
      (part) => part.getBoundingClientRect().right > frame.clientWidth + 1 && !part.closest("svg"));
    result[frame.id] = {
      width: page.documentElement.scrollWidth, background: style.backgroundColor,
      color: style.color, scripts: page.scripts.length, chart: [chart.width, chart.height],
      label: getComputedStyle(page.querySelector("figure text")).fontSize,
      wide: wide.map((part) => part.tagName + "." + part.className),
    };
  }
  document.getElementById("measured").textContent = JSON.stringify(result);
};
</script>"""


def test_it_fits_a_telephone_and_a_desk_in_light_and_in_dark(site: Site, tmp_path: Path) -> None:
    site.pages["/leak.html"] = render_html(long_report())
    site.pages["/measure.html"] = MEASURE
    seen = visit(site.url("/measure.html"), tmp_path)
    found = re.search(r'<pre id="measured">(.+?)</pre>', seen.dom)
    assert found, seen.dom
    measured = json.loads(html.unescape(found[1]))
    assert measured["phone"]["width"] <= 390
    assert measured["phone"]["wide"] == []
    assert measured["desk"]["width"] <= 1200
    assert measured["phone"]["chart"][0] > 300
    assert measured["phone"]["chart"][1] == measured["desk"]["chart"][1] == 240
    assert measured["phone"]["label"] == measured["desk"]["label"] == "12px"
    assert (
        brightness(measured["phone"]["background"]) > 200 > brightness(measured["phone"]["color"])
    )
    assert brightness(measured["dark"]["background"]) < 60 < brightness(measured["dark"]["color"])
    assert all(measured[frame]["scripts"] == 0 for frame in measured)


def brightness(color: str) -> float:
    """Return the mean of ``rgb(r, g, b)``."""
    parts = [int(part) for part in re.findall(r"\d+", color)[:3]]
    return sum(parts) / 3
