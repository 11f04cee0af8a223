"""
The health routes: which requests are answered, tokens, and the relief request.

It knows no server. An adapter (`HealthAsgi`, `HealthWsgi`) turns a server's request into a
`Request` and sends the `Response`; if it is given a `Wait`, it waits in its own way.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar
from urllib.parse import parse_qs, quote

from memguard import log
from memguard.bounded.options import check_callable, check_flag, check_seconds
from memguard.lifecycle.failures import Failures
from memguard.report.health.background import BackgroundWork, WorkFailedError
from memguard.report.health.health_report import HealthReport
from memguard.report.health.http import (
    Request,
    Response,
    Wait,
    bearer,
    check_token,
    data,
    html,
    is_one_of,
    moved,
    password,
    refusal,
)
from memguard.report.health.page.curve import SPANS, SpanName, memory_history
from memguard.report.health.page.document import Parts, render_document, render_parts
from memguard.report.health.relief_route import ReliefRoute
from memguard.report.state import Guarded, guard_state

T = TypeVar("T")
App = TypeVar("App", bound=Callable[..., object])
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

_LOCAL = ("localhost", "::1", "testserver")
GuardSource = Guarded | Callable[[], Guarded]


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthStatistics:
    """What a health application answered. Counts."""

    unavailable: int
    """Requests for numbers that were answered 503: too many at once, or too slow."""
    wrong_tokens: int
    """Requests to free memory that came without the right token."""
    errors: int
    """Failures caught, of every kind; each kind was logged once."""
    errors_by_kind: tuple[tuple[str, int], ...]


class HealthApplication(Generic[App]):
    """
    Answer the health routes for one guard: what `HealthAsgi` and `HealthWsgi` share.

    Bounded by: five threads, each while it has something to do; 64 requests that wait for each; a
        body of 4 KiB; one relief run at a time, and the report of the last one.
    Locks: small ones around what is under way; none is held while anything is gathered or freed.
    Keeps alive: the guard, or the function that returns it, and *app*.

    Args:
        guard: The `MemoryGuard`, or a function that returns it, called at each request:
            ``memguard.install`` if each worker process installs its own.
        app: The application for every other path; None answers those with 404.
        relieve_token: Lets who knows it free memory, by the button of the page or with
            ``X-Memguard-Token``; at least 16 characters. None disables relief.
        read_token: Needed to see numbers; the probes never need it. None: everyone may, and the
            first request to an address that is not loopback logs a warning.
        critical_is_unready: ``/health/ready`` answers 503 while memory is critical.
        refresh: Seconds between two questions of the page, 0.5 to 3600.
        relieve_seconds: Longest wait for a relief run, 0.1 to 300; a longer run continues,
            and 202 is answered.

    Raises:
        TypeError: An option is of the wrong kind.
        ConfigError: It is out of its range.
    """

    def __init__(
        self,
        guard: GuardSource,
        app: App | None = None,
        *,
        relieve_token: str | None = None,
        read_token: str | None = None,
        critical_is_unready: bool = False,
        refresh: float | str = 2.0,
        relieve_seconds: float | str = 10.0,
    ) -> None:
        if isinstance(guard, type) or not (callable(guard) or hasattr(guard, "status")):
            raise TypeError(
                "guard must be a MemoryGuard, or a function that returns one "
                f"(got {guard.__name__ if isinstance(guard, type) else type(guard).__name__})"
            )
        self._guard = guard
        self._app: App | None = check_callable(app, "app")
        self._relieve_token = check_token("relieve_token", relieve_token)
        self._read_token = check_token("read_token", read_token)
        self._critical_is_unready = check_flag(critical_is_unready, "critical_is_unready")
        self._refresh = check_seconds(refresh, "refresh", 0.5, 3600)
        relieve_wait = check_seconds(relieve_seconds, "relieve_seconds", 0.1, 300)
        self._made = secrets.token_hex(8)
        self._failures = Failures("health.failed")
        self._unavailable = 0
        self._warned = False
        self._data: BackgroundWork[HealthReport] = BackgroundWork("memguard-health-data")
        self._parts: dict[SpanName, BackgroundWork[Parts]] = {
            span: BackgroundWork(f"memguard-health-{span}") for span in SPANS
        }
        self._relief: ReliefRoute | None = None
        if self._relieve_token is not None:
            self._relief = ReliefRoute(
                self._find,
                self._instance,
                token=self._relieve_token,
                seconds=relieve_wait,
                failed=self._failures.add,
            )

    def statistics(self) -> HealthStatistics:
        """Return what was answered so far. Thread-safe."""
        return HealthStatistics(
            unavailable=self._unavailable,
            wrong_tokens=0 if self._relief is None else self._relief.wrong_tokens,
            errors=self._failures.count,
            errors_by_kind=self._failures.kinds,
        )

    # -- for the adapters -------------------------------------------------------------------------

    def _notice_server(self, host: object) -> None:
        """Warn once, with the first request, if numbers can be read by all who reach *host*."""
        if self._read_token is not None or self._warned or not isinstance(host, str):
            return
        if not host or host.startswith(("/", "127.")) or host in _LOCAL:
            return
        self._warned = True
        log.event(
            log.WARNING,
            "health.open_reads",
            host=host[:100],
            advice="set read_token=, or serve these routes on a loopback address only",
        )

    def _app_for(self, route: str | None) -> App | None:
        """Return the host's application if it answers *route*; the root is its own as well."""
        return None if route in ROUTES else self._app

    @staticmethod
    def _wants_body(method: str, route: str) -> bool:
        """Return whether the body of such a request is read."""
        return method == "POST" and route == _RELIEVE

    def _answer(self, request: Request) -> Response | Wait:
        """Return the answer, or how to wait for it. Never raises; cost: microseconds."""
        try:
            return self._routed(request)
        except Exception as error:  # noqa: BLE001 - reason: law 2, no exception of ours reaches the host
            return self._failed(error)

    def _finished(self, wait: Wait) -> Response:
        """Return the answer that was waited for. Never raises."""
        try:
            return wait.finish()
        except Exception as error:  # noqa: BLE001 - reason: law 2, no exception of ours reaches the host
            return self._failed(error)

    def _failed(self, error: BaseException) -> Response:
        self._failures.add("answer", error)
        return refusal(500, "failed", f"memguard failed: {type(error).__name__}")

    # -- routing ----------------------------------------------------------------------------------

    def _routed(self, request: Request) -> Response | Wait:
        route = request.route
        allowed = _METHODS.get(route)
        if allowed is None:
            return refusal(404, "not found", "there is nothing of this name")
        if route == _RELIEVE and self._relief is None:
            return refusal(404, "not found", "memory cannot be freed from here: no token set")
        if request.method not in allowed:
            refused = refusal(405, "method not allowed", f"use {' or '.join(allowed)}")
            return refused.having("Allow", ", ".join(allowed))
        if route == _RELIEVE and self._relief is not None:
            return self._relief.answer(request)
        if route in _OPEN:
            return data(200, {"alive": True}) if route == "/health/live" else self._ready()
        return self._read(request)

    def _ready(self) -> Response:
        """Answer from what the monitor knows. Fails open: our failure is not the host's."""
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

    def _read(self, request: Request) -> Response | Wait:
        """Show numbers to those who may see them."""
        tokens = (self._read_token, self._relieve_token)
        given = (bearer(request.headers), password(request.headers))
        if self._read_token is not None and not is_one_of(given, tokens):
            refused = refusal(401, "no access", "a token is required")
            return refused.having("WWW-Authenticate", 'Basic realm="memguard", charset="UTF-8"')
        if request.route in ("", "/memguard/"):
            return _to_the_page(request)
        if request.route == "/health/memory":
            return self._gathered(
                self._data, self._gather_data, lambda report: data(200, report.to_dict())
            )
        span = _span(request.query)
        return self._gathered(
            self._parts[span],
            lambda: self._gather_parts(span),
            lambda parts: self._page(parts, span, request.route),
        )

    def _page(self, parts: Parts, span: SpanName, route: str) -> Response:
        if route == "/memguard/data":
            return data(200, parts.to_dict())
        with_form = self._relief is not None
        return html(200, render_document(parts, span, every=self._refresh, with_form=with_form))

    def _instance(self) -> str:
        """Return what distinguishes this process from siblings and from those of other machines."""
        return f"{self._made}-{os.getpid()}"

    def _find(self) -> Guarded:
        guard = self._guard
        return guard() if callable(guard) else guard

    # -- what takes a moment ----------------------------------------------------------------------

    def _gather_data(self) -> HealthReport:
        return HealthReport.of(guard_state(self._find()))

    def _gather_parts(self, span: SpanName) -> Parts:
        guard = self._find()
        state = guard_state(guard)
        history = memory_history(guard.history, span, state.reading, state.time)
        last = None if self._relief is None else self._relief.last
        return render_parts(state, history, last, instance=self._instance())

    def _gathered(
        self,
        background: BackgroundWork[T],
        gather: Callable[[], T],
        make: Callable[[T], Response],
    ) -> Response | Wait:
        """Return how to wait for what is gathered, together with earlier waiters."""

        def work() -> T:
            try:
                return gather()
            except Exception as error:
                self._failures.add("gather", error)
                raise

        def late() -> Response:
            self._unavailable += 1
            return refusal(503, "busy", "this cannot be gathered now").having("Retry-After", "2")

        future = background.ask(work, join=True)
        if isinstance(future, str):
            return late()

        def finish() -> Response:
            try:
                return make(future.result())
            except WorkFailedError as error:
                return refusal(503, "unavailable", f"nothing could be gathered: {error}")

        return Wait(future=future, finish=finish, late=late, seconds=_READ_SECONDS)


def _to_the_page(request: Request) -> Response:
    if request.route:
        return moved(308, "../memguard")
    last = request.mounted_at.rpartition("/")[2]
    return moved(308, f"./{quote(last)}/memguard" if last else "/memguard")


def _span(query: str) -> SpanName:
    wanted = parse_qs(query[:1000]).get("span", [""])[-1]
    return next((name for name in SPANS if name == wanted), "latest")
