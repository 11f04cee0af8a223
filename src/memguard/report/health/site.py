"""
What is answered to whom: routes, tokens, and the one mutating request. Knows no server.

An adapter (`health_asgi`, `health_wsgi`) turns a server's request into a `Request`, asks `answer`,
and sends the `Response`; where it is given a `Wait`, it waits in its own way.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeVar
from urllib.parse import parse_qs, quote

from memguard.errors import ConfigError
from memguard.lifecycle.failures import Failures
from memguard.report.health.access import bearer, check_token, is_one_of, password
from memguard.report.health.background import Errand, Outcome
from memguard.report.health.data import HealthReport
from memguard.report.health.page.document import Parts, document, render_parts
from memguard.report.health.page.history import SPANS, SpanName, story
from memguard.report.health.relief import ReliefDesk
from memguard.report.health.response import Request, Response, Wait, data, html, moved, refusal
from memguard.report.state import Guarded, guard_state
from memguard.units import parse_seconds

T = TypeVar("T")
_READ_SECONDS = 5.0
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
class HealthStatistics:
    """What a health application answered. Counts."""

    unavailable: int
    """Requests for numbers that were told to come back: too many at once, or too slow."""
    wrong_tokens: int
    """Requests to give memory back that came without the right token."""
    errors: int
    """Failures caught, of every kind; each kind was logged once."""
    errors_by_kind: tuple[tuple[str, int], ...]


class HealthSite:
    """
    Answer for one guard.

    Bounded by: a thread for each kind of answer that is being made, five at most; 64 requests that
        wait for each; the last relief report.
    Locks: those of its errands; none is held while anything is gathered or given back.
    Keeps alive: the guard, or the function that returns it.
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
        relieve_wait = _between("relieve_seconds", relieve_seconds, 0.1, 300.0)
        self._read_token = check_token("read_token", read_token)
        self._critical_is_unready = critical_is_unready
        self._every = _between("refresh", refresh, 0.5, 3600.0)
        self._made = secrets.token_hex(8)
        self._failures = Failures("health.failed")
        self._unavailable = 0
        self._data: Errand[HealthReport] = Errand(
            "memguard-health-data", partial(self._counted, self._gather_data)
        )
        self._parts: dict[SpanName, Errand[Parts]] = {
            span: Errand(
                f"memguard-health-{span}", partial(self._counted, partial(self._gather_parts, span))
            )
            for span in SPANS
        }
        self._desk: ReliefDesk | None = None
        if self._relieve_token is not None:
            self._desk = ReliefDesk(
                self._find,
                self._instance,
                token=self._relieve_token,
                seconds=relieve_wait,
                failed=self._failures.add,
            )

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

    def failed(self, error: BaseException) -> Response:
        """Return what is sent where we failed ourselves; each kind is logged once."""
        self._failures.add("answer", error)
        return refusal(500, "failed", f"memguard failed: {type(error).__name__}")

    def statistics(self) -> HealthStatistics:
        """Return what was answered so far. Thread-safe."""
        return HealthStatistics(
            unavailable=self._unavailable,
            wrong_tokens=0 if self._desk is None else self._desk.wrong_tokens,
            errors=self._failures.count,
            errors_by_kind=self._failures.kinds,
        )

    def _answer(self, request: Request) -> Response | Wait:
        route = request.route
        allowed = _METHODS.get(route)
        if allowed is None:
            return refusal(404, "not found", "there is nothing of this name")
        if route == _RELIEVE and self._desk is None:
            return refusal(404, "not found", "memory cannot be given back from here: no token set")
        if request.method not in allowed:
            refused = refusal(405, "method not allowed", f"use {' or '.join(allowed)}")
            return refused.having("Allow", ", ".join(allowed))
        if route == _RELIEVE and self._desk is not None:
            return self._desk.answer(request)
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
            return self._reading(self._data, lambda report: data(200, report.to_dict()))
        return self._page(request)

    def _ready(self) -> Response:
        """Answer from what the monitor knows. Fails open: our failure is no failure of the host."""
        level = "insufficient_data"
        try:
            status = self._find().status()
            if status.running:
                level = status.pressure.level
        except Exception as error:  # noqa: BLE001 - reason: a host without a guard is ready
            self._failures.add("ready", error)
        unready = level == "critical" and self._critical_is_unready
        answer = data(503 if unready else 200, {"ready": not unready, "level": level})
        return answer.having("Retry-After", "5") if unready else answer

    def _instance(self) -> str:
        """Return what tells this process from its siblings and from those in other containers."""
        return f"{self._made}-{os.getpid()}"

    def _find(self) -> Guarded:
        guard = self._guard
        return guard() if callable(guard) else guard

    # -- what takes a moment ----------------------------------------------------------------------

    def _counted(self, gather: Callable[[], T]) -> T:
        try:
            return gather()
        except Exception as error:
            self._failures.add("gather", error)
            raise

    def _gather_data(self) -> HealthReport:
        return HealthReport.of(guard_state(self._find()))

    def _gather_parts(self, span: SpanName) -> Parts:
        guard = self._find()
        known = guard_state(guard)
        told = story(guard.history, span, known.reading, known.time)
        last = None if self._desk is None else self._desk.last
        return render_parts(known, told, last, instance=self._instance())

    def _page(self, request: Request) -> Wait:
        span = _span(request.query)
        if request.route == "/memguard/data":
            return self._reading(self._parts[span], lambda parts: data(200, parts.to_dict()))
        with_form = self._desk is not None

        def finish(parts: Parts) -> Response:
            return html(200, document(parts, span, every=self._every, with_form=with_form))

        return self._reading(self._parts[span], finish)

    def _reading(self, errand: Errand[T], make: Callable[[T], Response]) -> Wait:
        """Return how to wait for what is gathered, together with whoever waits for it already."""

        def ask(tell: Callable[[Outcome[T]], object]) -> Response | None:
            return None if errand.ask(tell, join=True) == "accepted" else late()

        def finish(outcome: Outcome[T]) -> Response:
            if outcome.value is None:
                return refusal(503, "unavailable", f"nothing could be gathered: {outcome.error}")
            return make(outcome.value)

        def late() -> Response:
            self._unavailable += 1
            return refusal(503, "busy", "this cannot be gathered now").having("Retry-After", "2")

        return Wait(ask=ask, finish=finish, late=late, seconds=_READ_SECONDS)


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
