"""
Requests of a web application: a `Scope` for each, memory growth, and admission control.

The ASGI, WSGI and Django middleware share all of it; it knows none of them.
"""

from __future__ import annotations

import math
import random
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from memguard.bounded.lifetime.scope import Scope
from memguard.bounded.options import (
    check_callable,
    check_flag,
    check_instance,
    check_int,
    check_seconds,
    check_share,
)
from memguard.errors import AdmissionError, ConfigError, LifecycleError
from memguard.guard.memory_guard import MemoryGuard
from memguard.integrations.web.metering import Meter
from memguard.integrations.web.routes import UNMATCHED, RequestStatistics, RouteTable, Row
from memguard.lifecycle import locks
from memguard.lifecycle.failures import Failures
from memguard.lifecycle.fork import check, reset_after_fork

KEY = "memguard.scope"
"""Where an application finds the request's `memguard.Scope`, in the ASGI scope or the environ."""
ROUTE = "memguard.route"
"""Where an application may leave the template of its route."""
EXEMPT = (
    "/health",
    "/healthz",
    "/livez",
    "/readyz",
    "/ping",
    "/metrics",
    "/memguard",
)
"""Paths, and all below them, that are served however little memory is left."""

_LATEST_SECONDS = 60.0
"""Between a request and the next: whatever else the process does meanwhile is not its growth."""


class RequestWatch:
    """
    Watch what the requests of one application do to memory.

    A *sample* of requests is measured: the allocated bytes when one begins, and when the next one
    begins, so that the memory every request needs while it is served counts on neither side. Only a
    request that had the process to itself counts: with two at the same time the growth belongs to
    neither; those are counted as *overlapped*. An idle WebSocket does not overlap; an open HTTP
    stream does. Other threads are invisible: what they allocate is counted to the request, as is
    garbage that the collector has not found yet. Growth below some KB a request drowns in the state
    of the requests themselves. So a row is a hint, not a proof; the proof is a leak report.

    On glibc, growth is exact for blocks above 512 bytes, and 80 bytes for each smaller one. If
    the allocator has no figures (musl, jemalloc, macOS, Windows, free-threaded builds) growth is
    that of private memory, in whole pages. ``source`` in the statistics names which.

    Thread-safe. A forked child starts over.

    Bounded by: *max_routes* rows of statistics; one record for each request in flight.
    Locks: one re-entrant mutex around counts; no code of the host's runs under it.
    Keeps alive: the guard; strings and numbers.

    Cost: 5 to 12 µs for each request (``benchmarks/middleware.py``). A measured one takes two
    readings of 10 to 30 µs each, 20 µs more for every million objects in the process, and longer in
    a fragmented heap, whose free blocks glibc counts one by one. Readings take at most 1 % of the
    time, unless *sample* is 1.

    Args:
        sample: Share of the requests to measure, chosen at random; 0 measures none, 1 every one,
            whatever it costs.
        warmup: First requests of each route, not measured: what they import or cache is not a leak.
        max_routes: Rows of statistics, one for each method and route; the rest is ``"other"``.
        guard: Started before the first request in each process if it is not running, and with
            an ASGI lifespan, which also stops it.
        admit: Answer 503 while memory is critical by the guard's reading.
        exempt: Paths that are always served, with all below them.
        retry_after: Seconds in the ``Retry-After`` header of a refusal.
        read: Returns the allocated bytes, or None; for tests.

    Raises:
        TypeError: An option is of the wrong kind.
        ConfigError: An option is out of its range.
    """

    def __init__(
        self,
        *,
        sample: float = 0.05,
        warmup: int = 10,
        max_routes: int = 200,
        guard: MemoryGuard | None = None,
        admit: bool = False,
        exempt: Iterable[str] = EXEMPT,
        retry_after: float | str = 5.0,
        read: Callable[[], int | None] | None = None,
    ) -> None:
        self._sample = check_share(sample, "sample")
        self._warmup = check_int(warmup, "warmup", 0, 1_000_000)
        self._max_routes = check_int(max_routes, "max_routes", 1, 10_000)
        self.guard: MemoryGuard | None = check_instance(guard, MemoryGuard, "guard", optional=True)
        self._admits = check_flag(admit, "admit")
        if admit and guard is None:
            raise ConfigError("admit=True needs guard=, which knows when memory is critical")
        self._exempt = _checked_paths(exempt)
        self._exempt_below = tuple(f"{path}/" for path in self._exempt)
        self.retry_after = math.ceil(check_seconds(retry_after, "retry_after", 0.001, 86400))
        self._read = check_callable(read, "read")
        self._failures = Failures("requests.failed")
        self._reset()
        reset_after_fork(self)

    def _reset(self) -> None:
        """Start over, with none in flight: also in a forked child."""
        self._lock = locks.RLock()
        # Our own: the host's sequence must not change, nor may each worker draw the same one.
        self._chance = random.Random()  # noqa: S311 - reason: chooses what to measure, no secret
        self._table = RouteTable(self._max_routes, warmup=self._warmup, chance=self._chance)
        self._life = object()  # what began before a fork does not end here
        self._is_ready = False
        self._guard_is_ours = False
        self._meter = Meter(
            self._read, guard=self.guard, failures=self._failures, rests=self._sample < 1
        )
        self._begun = self._in_flight = self._active = self._events = 0
        self._refused = self._abandoned = 0
        self._sampled = self._overlapped = self._warming = self._discarded = self._failed = 0
        self._pending: _Pending | None = None
        self._lost: deque[bool] = deque()

    # -- the guard --------------------------------------------------------------------------------

    def start_guard(self) -> None:
        """Start the guard if it is not running; a failure is counted and logged."""
        self._is_ready = True
        if self._sample:
            self._meter.prepare()
        guard = self.guard
        if guard is None or guard.status().running:
            return
        try:
            guard.start()
            self._guard_is_ours = True
        except LifecycleError:
            pass  # another thread started it
        except Exception as error:  # noqa: BLE001 - reason: an application without a guard still serves
            self._failures.add("guard", error)

    def stop_guard(self, *, again: bool = False) -> None:
        """
        Stop the guard if it was started here. Blocks until its threads have ended, or 5 s each.

        Args:
            again: Let the next request start it.
        """
        with self._lock:
            ours, self._guard_is_ours = self._guard_is_ours, False
        if ours and self.guard is not None:
            try:
                self.guard.stop()
            except Exception as error:  # noqa: BLE001 - reason: the application must still come to its end
                self._failures.add("guard", error)
        if again:
            self._is_ready = False

    # -- requests ---------------------------------------------------------------------------------

    def begin(self, path: str, *, measure: bool = True) -> WatchedRequest:
        """
        Return a request that has begun; end it with `WatchedRequest.end`.

        Args:
            path: Within the application; only to see whether it is exempt from admission.
            measure: Whether it may be chosen for measuring.

        Raises:
            AdmissionError: Memory is critical. Nothing was begun; answer 503.
        """
        check()
        if not self._is_ready:
            self.start_guard()
        if self._lost:
            self._count_abandoned()
        if self._pending is not None:
            self._settle()
        request = WatchedRequest(self)
        if self._admits and not self._is_exempt(path):
            self._admit()
        chosen = measure and self._chance.random() < self._sample
        with self._lock:
            self._begun += 1
            self._in_flight += 1
            self._active += 1
            self._events += 1
            request.events = self._events
            request.life = self._life
            if chosen and self._active != 1:
                self._overlapped += 1
                chosen = False
        if chosen and self._meter.is_rested:
            request.chosen = True
            request.before = self._meter.look()
        return request

    def _is_exempt(self, path: str) -> bool:
        return path in self._exempt or path.startswith(self._exempt_below)

    def _admit(self) -> None:
        guard = self.guard
        if guard is None or (guard.level == "critical" and not guard.monitor.statistics().running):
            return  # the level is that of a monitor that has stopped
        try:
            # Released at once: it reserves nothing, and other admissions are measured from the
            # moment when none is held, which would never come in a busy service.
            guard.admit().close()
        except AdmissionError:
            with self._lock:
                self._refused += 1
            raise

    def _end(self, request: WatchedRequest, method: str, route: str, *, failed: bool) -> None:
        with self._lock:
            if request.life is not self._life:
                return
            alone = self._events == request.events
            self._in_flight -= 1
            if not request.waiting:
                self._active -= 1
            self._events += 1
            row = self._table.add(method, route, failed=failed)
            if not request.chosen:
                return
            if failed:
                self._failed += 1
            elif not alone:
                self._overlapped += 1
            elif row is None:
                self._warming += 1
            elif request.before is None:
                self._discarded += 1
            else:
                self._pending = _Pending(row, request.before, self._events, time.monotonic())

    def _settle(self) -> None:
        """Measure the request that has ended before this one begins."""
        with self._lock:
            pending, self._pending = self._pending, None
        if pending is None:
            return
        after = self._meter.look()
        is_late = time.monotonic() - pending.at > _LATEST_SECONDS
        with self._lock:
            if self._events != pending.events:
                self._overlapped += 1
            elif after is None or is_late:
                self._discarded += 1
            else:
                self._sampled += 1
                self._table.measure(pending.row, after - pending.before)

    def _wait(self, request: WatchedRequest, change: int) -> None:
        with self._lock:
            if request.ended or request.life is not self._life:
                return
            was, request.waiting = request.waiting, request.waiting + change
            if was == 0:
                self._active -= 1
            elif request.waiting == 0:
                self._active += 1
                self._events += 1

    def _touch(self) -> None:
        with self._lock:
            self._events += 1

    def _count_abandoned(self) -> None:
        """Count the requests that were collected without an end."""
        while self._lost:
            try:
                was_waiting = self._lost.popleft()
            except IndexError:  # another thread was faster
                return
            with self._lock:
                self._abandoned += 1
                self._in_flight -= 1
                self._events += 1
                if not was_waiting:
                    self._active -= 1

    def refusal(self) -> tuple[list[tuple[str, str]], bytes]:
        """Return the headers and the body of a 503 (RFC 9110, 15.6.4 and 10.2.3)."""
        body = b"Not enough memory at the moment; try again later.\n"
        headers = [
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Content-Length", str(len(body))),
            ("Retry-After", str(self.retry_after)),
            ("Cache-Control", "no-store"),
        ]
        return headers, body

    def statistics(self) -> RequestStatistics:
        """Return the counts and the routes. Thread-safe; cost: some µs for each route."""
        check()
        self._count_abandoned()
        with self._lock:
            return RequestStatistics(
                source=self._meter.source,
                requests=self._begun,
                in_flight=self._in_flight,
                refused=self._refused,
                sampled=self._sampled,
                overlapped=self._overlapped,
                warming=self._warming,
                discarded=self._discarded,
                failed=self._failed,
                abandoned=self._abandoned,
                routes=self._table.statistics(),
                errors=self._failures.count,
                errors_by_kind=self._failures.kinds,
            )

    def route(self, find: Callable[..., str | None], *arguments: Any) -> str:
        """Return the route that *find* finds; ``"unmatched"`` if it raises, which is counted."""
        try:
            found = find(*arguments)
        except Exception as error:  # noqa: BLE001 - reason: the host's routes and resolvers
            self._failures.add("route", error)
            return UNMATCHED
        # A subclass of str could bring its own __hash__ and __eq__ under the mutex.
        return found if type(found) is str and found else UNMATCHED


def _checked_paths(paths: Iterable[str]) -> tuple[str, ...]:
    if isinstance(paths, str):
        raise TypeError(f"exempt must be a list of paths (got one string); write [{paths!r}]")
    found = tuple(paths)
    for path in found:
        if not isinstance(path, str):
            raise TypeError(f"exempt must be a list of paths (one is {type(path).__name__})")
        if not path.startswith("/") or path.rstrip("/") != path:
            raise ConfigError(
                f"a path in exempt must begin with / and not end with it (got {path[:60]!r}); "
                "what lies below it is exempt, too"
            )
    return found


@dataclass(frozen=True, slots=True)
class _Pending:
    """A request that has ended, and is measured when the next one begins."""

    row: Row
    before: int
    events: int
    at: float


class WatchedRequest:
    """
    One request, from `RequestWatch.begin` to `end`.

    Bounded by: itself; its scope has a bound of its own.
    Locks: that of its watch, for an instant.
    Keeps alive: its watch and its scope.
    """

    __slots__ = ("_watch", "before", "chosen", "ended", "events", "life", "scope", "waiting")

    def __init__(self, watch: RequestWatch) -> None:
        self._watch = watch
        self.life: object = None
        self.events = 0
        self.chosen = False
        self.before: int | None = None
        self.waiting = 0
        self.ended = False
        self.scope = Scope(name="request")
        """What ends with the request."""

    def close(self, method: str, route: str, *, failed: bool = False) -> None:
        """Close the scope, and count the request as `end` does."""
        try:
            self.scope.close()
        finally:
            self.end(method, route, failed=failed)

    def end(self, method: str, route: str, *, failed: bool = False) -> None:
        """
        Count the request, its scope closed by now; idempotent, and raises nothing.

        Args:
            method: ``"GET"``, …
            route: Its template, never the path.
            failed: It raised.
        """
        if self.ended:
            return
        self.ended = True
        try:
            self._watch._end(  # noqa: SLF001 - reason: the two are one mechanism
                self, method if type(method) is str else "", route, failed=failed
            )
        except Exception as error:  # noqa: BLE001 - reason: law 2, the guard never hurts the host
            self._watch._failures.add("end", error)  # noqa: SLF001 - reason: as above

    def pause(self) -> None:
        """Wait for the client: until `resume` the request allocates nothing."""
        self._watch._wait(self, 1)  # noqa: SLF001 - reason: the two are one mechanism

    def resume(self) -> None:
        """Work again."""
        self._watch._wait(self, -1)  # noqa: SLF001 - reason: the two are one mechanism

    def touch(self) -> None:
        """Note an event, such as a message: no other request is measured across it."""
        self._watch._touch()  # noqa: SLF001 - reason: the two are one mechanism

    def __del__(self) -> None:
        # A finalizer only appends: the next ordinary call does the work.
        watch = self._watch
        if not self.ended and self.life is watch._life:  # noqa: SLF001 - reason: the two are one mechanism
            watch._lost.append(self.waiting > 0)  # noqa: SLF001 - reason: as above


App = TypeVar("App")
Context = TypeVar("Context")
"""The ASGI scope or the WSGI environ."""


class RequestMiddleware(Generic[App, Context]):
    """What the ASGI and the WSGI middleware share: the application, its watch and its routes."""

    def __init__(
        self,
        app: App,
        *,
        watch: RequestWatch | None = None,
        route: Callable[[Context], str | None] | None = None,
    ) -> None:
        self.app = app
        self.watch = watch_of(watch, {})
        self._route: Callable[[Context], str | None] | None = check_callable(route, "route")

    def statistics(self) -> RequestStatistics:
        """Return what the requests did. Thread-safe."""
        return self.watch.statistics()


def watch_of(watch: RequestWatch | None, options: dict[str, Any]) -> RequestWatch:
    """
    Return *watch*, or one made of *options*.

    Raises:
        TypeError: Both are given, or *watch* is none.
    """
    if watch is None:
        return RequestWatch(**options)
    check_instance(watch, RequestWatch, "watch", optional=True)
    if options:
        raise TypeError(f"{', '.join(sorted(options))}: give these to the RequestWatch itself")
    return watch


def is_open(owned: object) -> bool:
    """Return whether *owned* is the scope of a request that another of our middlewares serves."""
    return isinstance(owned, Scope) and not owned.closed


def scope_in(owned: object, advice: str) -> Scope:
    """
    Return *owned* if it is the scope of a request.

    Raises:
        LifecycleError: It is none; *advice* says what to do.
    """
    if not isinstance(owned, Scope):
        raise LifecycleError(f"this request has no memguard scope; {advice}")
    return owned
