"""
News of a process that serves memguard's health routes: ``/health/memory`` over HTTP.

Whoever answers there may be anybody: no redirection is followed, no more is read than such a report
can have, and what is read is checked field by field.
"""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from typing import Any, NoReturn

from memguard.cli.top.sources import News, NobodyError
from memguard.errors import ConfigError, ReportFormatError
from memguard.report.health.data import HealthReport
from memguard.report.publish import bulletin
from memguard.report.publish.bulletin import (
    BULLETIN_VERSION,
    MOST_BYTES,
    MOST_CONTAINERS,
    MOST_REPORTS,
    AlertRow,
    Bulletin,
    ContainerRow,
    ReportRow,
)
from memguard.report.render.words import VERDICTS
from memguard.schema import read

_ROUTE = "/health/memory"
_TIMEOUT = 5.0
"""Seconds that each step of an answer may take."""
_DEADLINE = 10.0
"""Seconds for the whole body."""
_WITHIN = 5.0
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class UrlSource:
    """
    Ask a process over HTTP.

    Once it has answered, a process that does not answer is shown as it was, with the age of that.

    Bounded by: one answer of 256 KiB, some seconds of waiting.
    Locks: none; for one thread.
    Keeps alive: the last answer.

    Args:
        url: Where the health routes are mounted, or one of them.
        token: What ``read_token`` asks for; goes nowhere but there.
        timer: Monotonic seconds.

    Raises:
        ConfigError: *url* is no address of http or https, or *token* cannot stand in a header.
    """

    def __init__(
        self, url: str, *, token: str | None = None, timer: Callable[[], float] = time.monotonic
    ) -> None:
        self._url = address(url)
        self._headers = {"Accept": "application/json"}
        if token is not None:
            if not all("!" <= character <= "~" for character in token):
                raise ConfigError("MEMGUARD_TOKEN must be printable ASCII without spaces")
            self._headers["X-Memguard-Token"] = token
        self._timer = timer
        self._last: tuple[float, Bulletin] | None = None
        handlers: list[urllib.request.BaseHandler] = [_NoRedirection()]
        if urllib.parse.urlsplit(self._url).hostname in _LOOPBACK:
            handlers.append(urllib.request.ProxyHandler({}))  # no proxy knows our own machine
        self._opener = urllib.request.build_opener(*handlers)

    def read(self) -> News:
        """
        Return what the process answers now, or else what it answered last.

        Raises:
            NobodyError: It has never answered; the message says what came instead.
        """
        try:
            found = self._ask()
        except NobodyError:
            if self._last is None:
                raise
            at, found = self._last
            return News(found, self._timer() - at)
        self._last = (self._timer(), found)
        return News(found, 0.0)

    def _ask(self) -> Bulletin:
        request = urllib.request.Request(self._url, headers=self._headers)  # noqa: S310 - reason: http and https only, see address()
        try:
            with self._opener.open(request, timeout=_TIMEOUT) as response:
                content = self._body(response)
            report = read(HealthReport, bulletin.load(content), "health")
        except urllib.error.HTTPError as error:
            error.close()
            hint = {
                401: "; the token belongs into MEMGUARD_TOKEN",
                404: "; nobody serves memguard's health routes there",
            }
            self._refuse(f"it answers {error.code}{hint.get(error.code, '')}")
        except urllib.error.URLError as error:
            self._refuse(str(error.reason))
        except ReportFormatError as error:
            self._refuse(f"what it answers is no health report of this memguard: {error}")
        except (OSError, http.client.HTTPException, ValueError) as error:
            self._refuse(str(error) or type(error).__name__)
        return told_by(report, urllib.parse.urlsplit(self._url).netloc)

    def _body(self, response: Any) -> bytes:
        deadline = self._timer() + _DEADLINE
        content = b""
        while len(content) <= MOST_BYTES:
            part = response.read1(65536)
            if not part:
                break
            content += part
            if self._timer() > deadline:
                raise TimeoutError("the answer takes too long")
        return content

    def _refuse(self, why: str) -> NoReturn:
        raise NobodyError(f"{self._url}: {why}") from None


class _NoRedirection(urllib.request.HTTPRedirectHandler):
    """A token must go nowhere but to whom it was meant for."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def address(url: str) -> str:
    """
    Return where ``/health/memory`` is, given where the health routes are mounted.

    >>> address("http://127.0.0.1:8000/ops/")
    'http://127.0.0.1:8000/ops/health/memory'

    Raises:
        ConfigError: It is no address of http or https.
    """
    wrong = f"--url must be like http://127.0.0.1:8000/ops (got {url[:80]!r})"
    try:
        parts = urllib.parse.urlsplit(url)
        known = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1)
    except ValueError:
        raise ConfigError(wrong) from None
    if "@" in parts.netloc:
        raise ConfigError("--url must hold no user or password; a token goes into MEMGUARD_TOKEN")
    if not known or any(character <= " " or character > "~" for character in url):
        raise ConfigError(wrong)
    path = parts.path.rstrip("/").removesuffix("/memguard").removesuffix(_ROUTE) + _ROUTE
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))


def told_by(report: HealthReport, where: str) -> Bulletin:
    """Return *report* as a bulletin; what it does not tell is None, empty or 0."""
    memory, limit, gc, relief = report.memory, report.limit, report.gc, report.relief
    return Bulletin(
        version=BULLETIN_VERSION,
        memguard="",
        python="",
        pid=report.process_id,
        program=where,
        guard=report.guard,
        running=report.watching,
        written=report.time_seconds,
        within=_WITHIN,
        rss=memory.resident_bytes,
        private=memory.private_bytes,
        swap=memory.swapped_bytes,
        threads=memory.threads,
        level=report.level,
        reasons=report.reasons,
        used=limit.used_bytes,
        limit=limit.limit_bytes,
        source=limit.limit_source,
        bytes_per_minute=limit.growth_bytes_per_minute,
        stall_some=limit.stalled_percent,
        curve_seconds=(),
        curve_bytes=(),
        gc_share=None if gc is None else gc.pause_ratio,
        gc_longest=None if gc is None else gc.longest_pause_seconds,
        gc_collections=None if gc is None else gc.pauses,
        relief_runs=None if relief is None else relief.runs,
        relief_freed=None if relief is None else relief.freed_bytes,
        detector=report.leaks_state,
        findings=len(report.leaks),
        containers=tuple(
            ContainerRow(name=row.name, kind=row.kind, items=row.items, bytes=row.bytes)
            for row in report.containers.largest[:MOST_CONTAINERS]
        ),
        containers_count=report.containers.count,
        containers_bytes=report.containers.bytes,
        alerts=tuple(
            AlertRow(
                kind=row.kind,
                level=row.level,
                previous=row.previous_level,
                time=row.time_seconds,
                reasons=row.reasons,
            )
            for row in report.alerts[-10:]
        ),
        reports=tuple(
            ReportRow(
                id=row.id,
                kind=row.kind,
                updated_at=row.updated_at,
                growth_bytes=row.growth_bytes,
                bytes_per_minute=row.growth_bytes_per_hour / 60,
                verdict=VERDICTS.get(row.verdict, row.verdict),
                holder=row.holder,
                holder_type=None,
                place=None,
            )
            for row in report.leaks[-MOST_REPORTS:]
        ),
        errors=0 if relief is None else relief.errors,
    )
