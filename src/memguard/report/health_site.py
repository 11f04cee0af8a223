"""
What is answered to whom: routes, tokens, and the one mutating request. Knows no server.

An adapter (`health_asgi`, `health_wsgi`) turns a server's request into a `Request`, asks `answer`,
and sends the `Response`; where it is given a `Wait`, it waits in its own way.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import parse_qs, quote

from memguard import log
from memguard.errors import ConfigError, LifecycleError
from memguard.relief.record import ReliefReport
from memguard.report.figures import Guarded, figures
from memguard.report.health import HealthReport
from memguard.report.health_access import bearer, check_token, is_cross_site, is_one_of, password
from memguard.report.health_errand import Errand, Outcome
from memguard.report.health_response import (
    MOST_BODY,
    Request,
    Response,
    Teller,
    data,
    html,
    moved,
    refusal,
)
from memguard.report.page import LastRun, Parts, document, render_parts
from memguard.report.page_history import SPANS, SpanName, story
from memguard.units import format_bytes, format_seconds, parse_bytes, parse_seconds

_READ_SECONDS = 5.0
_LOG_SECONDS = 60.0
_READS = ("GET", "HEAD")
_RELIEVE = "/memguard/relieve"
_METHODS: Mapping[str, tuple[str, ...]] = {
    "": _READS,
    "/": _READS,
    "/health/live": _READS,
    "/health/ready": _READS,
    "/health/memory": _READS,
    "/memguard": _READS,
    "/memguard/": _READS,
    "/memguard/data": _READS,
    _RELIEVE: ("POST",),
}
ROUTES = tuple(route for route in _METHODS if route.strip("/") and not route.endswith("/"))
"""What is answered; the page is at the root as well, where nothing else is."""
_OPEN = ("/health/live", "/health/ready")
"""Answered without a token: probes have none."""

GuardSource = Guarded | Callable[[], Guarded]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Something that takes a moment: to be waited for, up to *seconds*."""

    ask: Callable[[Callable[[Outcome[Any]], object]], Response | None]
    """Begin, and have the outcome told from another thread; or answer at once."""
    finish: Callable[[Outcome[Any]], Response]
    late: Callable[[], Response]
    seconds: float


class HealthSite:
    """
    Answer for one guard.

    Bounded by: a thread for each kind of answer that is being made, five at most; 64 requests that
        wait for each; the last relief report.
    Locks: those of its errands; none is held while anything is gathered or given back.
    Keeps alive: the guard.
    """

    def __init__(
        self,
        guard: GuardSource,
        *,
        relieve_token: str | None,
        read_token: str | None,
        critical_is_unready: bool,
        refresh: float | str,
        relieve_seconds: float | str,
    ) -> None:
        if isinstance(guard, type) or not (callable(guard) or hasattr(guard, "status")):
            raise TypeError(
                "guard must be a MemoryGuard, or a function that returns one "
                f"(got {guard.__name__ if isinstance(guard, type) else type(guard).__name__})"
            )
        if not isinstance(critical_is_unready, bool):
            kind = type(critical_is_unready).__name__
            raise TypeError(f"critical_is_unready must be True or False (got {kind})")
        self._guard = guard
        self._relieve_token = check_token("relieve_token", relieve_token)
        self._read_token = check_token("read_token", read_token)
        self._critical_is_unready = critical_is_unready
        self._every = _between("refresh", refresh, 0.5, 3600.0)
        self._relieve_seconds = _between("relieve_seconds", relieve_seconds, 0.1, 300.0)
        self._last: LastRun | None = None
        self._refusals = 0
        self._refusal_logged = float("-inf")
        self._data: Errand[HealthReport] = Errand("memguard-health-data", self._gather_data)
        self._parts: dict[SpanName, Errand[Parts]] = {
            span: Errand(f"memguard-health-{span}", partial(self._gather_parts, span))
            for span in SPANS
        }
        self._relief: Errand[ReliefReport] = Errand("memguard-health-relief")

    # -- routing ----------------------------------------------------------------------------------

    @staticmethod
    def knows(route: str) -> bool:
        """Return whether *route* is one of ours; the root is not, where others are mounted."""
        return route in ROUTES

    @staticmethod
    def wants_body(method: str, route: str) -> bool:
        """Return whether the body of such a request is read."""
        return method == "POST" and route == _RELIEVE

    def answer(self, request: Request) -> Response | Wait:
        """Return the answer, or how to wait for it. Never raises; cost: microseconds."""
        try:
            return self._answer(request)
        except Exception as error:  # noqa: BLE001 - reason: law 2, no exception of ours reaches the host
            return self.failed(error)

    @staticmethod
    def failed(error: BaseException) -> Response:
        """Return what is sent where we failed ourselves, and log it."""
        kind = type(error).__name__
        log.event(logging.WARNING, "health.failed", error=kind)
        return refusal(500, "failed", f"memguard failed: {kind}")

    def _answer(self, request: Request) -> Response | Wait:
        route = request.route
        allowed = _METHODS.get(route)
        if allowed is None:
            return refusal(404, "not found", "there is nothing of this name")
        if route == _RELIEVE and self._relieve_token is None:
            return refusal(404, "not found", "memory cannot be given back from here: no token set")
        if request.method not in allowed:
            refused = refusal(405, "method not allowed", f"use {' or '.join(allowed)}")
            return refused.having("Allow", ", ".join(allowed))
        if route == _RELIEVE:
            return self._relieve(request)
        if route in _OPEN:
            return data(200, {"alive": True}) if route == "/health/live" else self._ready()
        return self._read(request)

    def _read(self, request: Request) -> Response | Wait:
        """Show numbers to those who may see them."""
        tokens = (self._read_token, self._relieve_token)
        given = (bearer(request.headers), password(request.headers))
        if self._read_token is not None and not is_one_of(given, tokens):
            refused = refusal(401, "no access", "a token is needed here")
            return refused.having("WWW-Authenticate", 'Basic realm="memguard", charset="UTF-8"')
        if request.route in ("", "/memguard/"):
            return _to_the_page(request)
        if request.route == "/health/memory":
            return _reading(self._data, lambda report: data(200, report.to_dict()))
        return self._page(request)

    def _ready(self) -> Response:
        """Answer from what the monitor knows. Fails open: our failure is no failure of the host."""
        level = "insufficient_data"
        try:
            status = self._find().status()
            if status.running:
                level = status.pressure.level
        except Exception as error:  # noqa: BLE001 - reason: a host without a guard is ready
            log.event(logging.DEBUG, "health.no_guard", error=type(error).__name__)
        unready = level == "critical" and self._critical_is_unready
        answer = data(503 if unready else 200, {"ready": not unready, "level": level})
        return answer.having("Retry-After", "5") if unready else answer

    def _find(self) -> Guarded:
        guard = self._guard
        return guard() if callable(guard) else guard

    # -- what takes a moment ----------------------------------------------------------------------

    def _gather_data(self) -> HealthReport:
        return HealthReport.of(figures(self._find()))

    def _gather_parts(self, span: SpanName) -> Parts:
        guard = self._find()
        known = figures(guard)
        told = story(guard.history, span, known.reading, known.time)
        return render_parts(known, told, self._last)

    def _page(self, request: Request) -> Wait:
        span = _span(request.query)
        if request.route == "/memguard/data":
            return _reading(self._parts[span], lambda parts: data(200, parts.to_dict()))
        with_form = self._relieve_token is not None

        def finish(parts: Parts) -> Response:
            return html(200, document(parts, span, every=self._every, with_form=with_form))

        return _reading(self._parts[span], finish)

    # -- the mutating request ---------------------------------------------------------------------

    def _relieve(self, request: Request) -> Response | Wait:
        """Check who asks, what is asked, and of which process; then have it done."""
        say = Teller.of(request.headers)
        try:
            goal = self._wish(request)
        except _RefusedError as refused:
            return say.refuse(*refused.args)
        return self._relieving(goal, say)

    def _wish(self, request: Request) -> int | None:
        """Return the bytes that are wanted, None for all that can be had."""
        if is_cross_site(request.headers):
            raise _RefusedError(403, "cross-site", "This came from another site.")
        form = _form(request)
        # Not the password of Basic: a browser sends that by itself, whoever made it ask.
        given = (bearer(request.headers), form.get("token"))
        if not is_one_of(given, (self._relieve_token,)):
            self._count_refusal()
            raise _RefusedError(403, "no access", "The token is not the right one.")
        if form.get("process", "") not in ("", str(os.getpid())):
            raise _RefusedError(421, "another process", "Another process answered; try again.")
        if self._find().relief is None:
            text = "This guard gives nothing back (relief=False)."
            raise _RefusedError(409, "no relief", text)
        try:
            return parse_bytes(form["target"], name="target") if form.get("target") else None
        except ConfigError as error:
            raise _RefusedError(400, "malformed", f"{error}.") from None

    def _count_refusal(self) -> None:
        """Log wrong tokens, once a minute at most: who tries them must not fill the host's log."""
        self._refusals += 1
        now = time.monotonic()
        if now - self._refusal_logged >= _LOG_SECONDS:
            self._refusal_logged = now
            log.event(logging.WARNING, "health.relief_refused", wrong_tokens=self._refusals)

    def _relieving(self, goal: int | None, say: Teller) -> Wait:
        busy = say.refuse(409, "busy", "A run is under way; nothing was done.")
        busy = busy.having("Retry-After", "1")

        def ask(tell: Callable[[Outcome[ReliefReport]], object]) -> Response | None:
            asked = self._relief.ask(tell, join=False, work=lambda: self._run(goal))
            if asked == "busy":
                return busy
            if asked == "no thread":
                return say.refuse(503, "no thread", "The system gives no thread for it.")
            return None

        def finish(outcome: Outcome[ReliefReport]) -> Response:
            report = outcome.value
            if report is None:
                return say.refuse(500, "failed", f"The run failed: {outcome.error}.")
            if report.busy:
                return busy
            fell = report.rss_freed
            amount = "an unknown amount" if fell is None else format_bytes(fell)
            message = f"Memory fell by {amount} in {format_seconds(report.seconds)}."
            return say.accept(200, message, process_id=os.getpid(), report=report.to_dict())

        def late() -> Response:
            return say.accept(202, "It is under way; the page will show what it gave.")

        return Wait(ask=ask, finish=finish, late=late, seconds=self._relieve_seconds)

    def _run(self, goal: int | None) -> ReliefReport:
        relief = self._find().relief
        if relief is None:
            raise LifecycleError("this guard gives nothing back (relief=False)")
        report = relief.relieve(goal)
        if not report.busy:
            self._last = LastRun(at=time.time(), report=report)
        return report


def _reading(errand: Errand[Any], make: Callable[[Any], Response]) -> Wait:
    """Return how to wait for what *errand* gathers, together with whoever waits for it already."""

    def ask(tell: Callable[[Outcome[Any]], object]) -> Response | None:
        return None if errand.ask(tell, join=True) == "accepted" else late()

    def finish(outcome: Outcome[Any]) -> Response:
        if outcome.error is not None:
            return refusal(503, "unavailable", f"nothing could be gathered: {outcome.error}")
        return make(outcome.value)

    def late() -> Response:
        return refusal(503, "busy", "this cannot be gathered now").having("Retry-After", "2")

    return Wait(ask=ask, finish=finish, late=late, seconds=_READ_SECONDS)


class _RefusedError(Exception):
    """A request that is refused: status, stable name, sentence."""


def _form(request: Request) -> dict[str, str]:
    if request.body is None:
        raise _RefusedError(413, "too large", f"More than {MOST_BODY} bytes were sent.")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if request.body and kind != "application/x-www-form-urlencoded":
        raise _RefusedError(415, "unsupported", "Send application/x-www-form-urlencoded.")
    try:
        text = request.body.decode("utf-8")
        fields = parse_qs(text, keep_blank_values=True, max_num_fields=8, errors="strict")
    except ValueError:
        raise _RefusedError(400, "malformed", "The form cannot be read.") from None
    return {name: values[-1] for name, values in fields.items()}


def _to_the_page(request: Request) -> Response:
    if request.route:
        return moved(308, "../memguard")
    last = request.mounted_at.rpartition("/")[2]
    return moved(308, f"./{quote(last)}/memguard" if last else "/memguard")


def _span(query: str) -> SpanName:
    wanted = parse_qs(query[:1000]).get("span", [""])[-1]
    return next((name for name in SPANS if name == wanted), "latest")


def _between(name: str, value: float | str, low: float, high: float) -> float:
    seconds = parse_seconds(value, name=name)
    if not low <= seconds <= high:
        raise ConfigError(f"{name} must be from {low:g} to {high:g} seconds (got {value!r})")
    return seconds
