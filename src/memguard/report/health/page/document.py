"""
The live page: the state of a guard as HTML, complete without a script and updated by it.

Pure, except for asking for the current directory, against which file names are shortened. Each part
of the page is rendered only here: the script replaces a part by a newer one from the same code.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass

from memguard._version import __version__
from memguard.relief.records import ReliefReport
from memguard.report.health.health_report import current_level
from memguard.report.health.page.assets import SCRIPT, STYLE
from memguard.report.health.page.curve import SPANS, MemoryHistory, SpanName
from memguard.report.health.page.sections import (
    alerts_section,
    collector_section,
    containers_section,
    head_section,
    memory_section,
    relief_section,
    reports_section,
)
from memguard.report.render.html import components
from memguard.report.render.html.markup import Markup, element, join
from memguard.report.render.words import Locations, printable
from memguard.report.state import GuardState

_HEADINGS = {
    "containers": "Containers",
    "collector": "Garbage collector",
    "alerts": "Alerts",
    "reports": "Leak reports",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LastRun:
    """The last relief run requested over HTTP."""

    at: float
    """When it ended, seconds since the epoch."""
    process_id: int
    report: ReliefReport


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """A page's parts, rendered at one moment."""

    title: str
    """For the browser's tab."""
    process_id: int
    instance: str
    """The process among all that may answer at one address: a process ID alone is not unique."""
    time: float
    """Seconds since the epoch."""
    parts: Mapping[str, Markup]

    def to_dict(self) -> dict[str, object]:
        """Return it for the script of the page."""
        return {
            "title": self.title,
            "process_id": self.process_id,
            "instance": self.instance,
            "time_seconds": self.time,
            "parts": {name: str(part) for name, part in self.parts.items()},
        }


def render_parts(
    state: GuardState, history: MemoryHistory, last: LastRun | None, *, instance: str = ""
) -> Parts:
    """
    Return what the page shows.

    Args:
        state: The state of the guard.
        history: What its memory did, for the curve.
        last: The last run requested over HTTP.
        instance: What distinguishes this process from others that may answer at the same address.
    """
    locations = Locations()
    ratio = state.pressure.used_ratio
    level, _ = current_level(state)
    share = "" if ratio is None or level == "insufficient_data" else f"{ratio:.0%} \u00b7 "
    return Parts(
        title=f"{share}{printable(state.name, longest=60)} \u2013 memguard",
        process_id=os.getpid(),
        instance=instance,
        time=state.time,
        parts={
            "head": head_section(state, history),
            "memory": memory_section(state, history),
            "containers": containers_section(state.containers),
            "collector": collector_section(state.gc),
            "alerts": alerts_section(state),
            "reports": reports_section(state, locations),
            "relief": relief_section(state, None if last is None else (last.at, last.report)),
        },
    )


def render_document(parts: Parts, span: SpanName, *, every: float, with_form: bool) -> str:
    """
    Return the whole page, UTF-8, ending in a newline.

    Its addresses are relative, so that it works under any prefix, and behind a proxy that takes the
    prefix away without a word.

    Args:
        parts: What it shows.
        span: The stretch of time of its curve.
        every: Seconds between two questions of its script.
        with_form: True if memory may be freed from here.
    """
    shown = {name: _part(name, markup) for name, markup in parts.parts.items()}
    sections = [
        element("section", element("h2", title), shown[name]) for name, title in _HEADINGS.items()
    ]
    main = element(
        "main",
        element(
            "div",
            element("p", f"memguard, process {parts.process_id}", class_="kicker"),
            element("p", f"as of {_clock(parts.time)}", id="state", role="status"),
            class_="top",
        ),
        shown["head"],
        element(
            "section",
            element("div", element("h2", "Memory"), _tabs(span), class_="bar-heading"),
            shown["memory"],
        ),
        *sections,
        element("section", element("h2", "Memory freed"), shown["relief"], _form(parts, with_form)),
        _footer(),
        data_source="memguard/data",
        data_every=f"{every:g}",
        data_instance=parts.instance,
    )
    return _html(parts.title, join(main, element("script", Markup(SCRIPT))))


def notice_page(title: str, text: str) -> str:
    """Return a small page that answers the form if there is no script."""
    body = element(
        "main",
        element("h1", title),
        element("p", text, class_="lede"),
        element("footer", element("a", "Back to the page", href="../memguard")),
    )
    return _html(title, body)


def _html(title: str, body: Markup) -> str:
    return components.document(title, body, style=STYLE, meta={"robots": "noindex"})


def _part(name: str, markup: Markup) -> Markup:
    return element("div", markup, data_part=name)


def _tabs(chosen: SpanName) -> Markup:
    links = [
        element("a", title, href=f"?span={name}", aria_current="true" if name == chosen else None)
        for name, title in SPANS.items()
    ]
    return element("nav", *links, aria_label="Stretch of time")


def _form(parts: Parts, with_form: bool) -> Markup | None:  # noqa: FBT001 - reason: private
    if not with_form:
        return None
    return element(
        "div",
        element(
            "form",
            element("input", type="hidden", name="instance", value=parts.instance),
            element(
                "label",
                "Token",
                element("input", type="password", name="token", required=True, autocomplete="off"),
            ),
            element(
                "label",
                "Bytes wanted",
                element("input", name="target", placeholder="all, or 100MiB", autocomplete="off"),
            ),
            element("button", "Free memory now", type="submit"),
            method="post",
            action="memguard/relieve",
        ),
        element("p", id="answer", role="status"),
        class_="card ask",
    )


def _footer() -> Markup:
    return element(
        "footer",
        f"memguard {__version__}. Names and numbers only, never values. The same as data: ",
        element("a", "health/memory", href="health/memory"),
        ".",
    )


def _clock(seconds: float) -> str:
    return time.strftime("%H:%M:%S UTC", time.gmtime(seconds))
