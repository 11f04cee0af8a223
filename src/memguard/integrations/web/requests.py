"""
Requests of a web application: a `Scope` for each, what they do to memory, and who may begin.

What the ASGI, WSGI and Django middleware share; it knows nothing of any of them.
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from memguard.bounded.lifetime.scope import Scope
from memguard.errors import AdmissionError, ConfigError, LifecycleError
from memguard.guard.memory_guard import MemoryGuard
from memguard.integrations.web.metering import Meter
from memguard.integrations.web.refusal import EXEMPT, checked_paths
from memguard.integrations.web.routes import UNMATCHED, RequestStatistics, RouteTable
from memguard.integrations.web.watched import Pending, WatchedRequest
from memguard.lifecycle.failures import Failures
from memguard.lifecycle.fork import reset_after_fork
from memguard.units import parse_seconds

KEY = "memguard.scope"
"""Where an application finds the request's `memguard.Scope`, in the ASGI scope or the environ."""
ROUTE = "memguard.route"
"""Where an application may leave the template of its route."""


_LATEST_SECONDS = 60.0
"""Between a request and the next: whatever else the process does meanwhile is not its growth."""


class RequestWatch:
    """
    Watch what the requests of one application do to memory.

    A *sample* of requests is measured: what is allocated when one begins, and when the next one
    does, so that what every request has while it is served, and what its client has not yet taken,
    is on neither side. Only a request that had the process to itself counts, for of two at the same
    time nobody can say whose growth it was; the others are counted as *crowded*. An idle WebSocket
    does not crowd; an open HTTP stream does. Threads that are no requests are not seen: what they
    allocate is counted to the request, as is garbage that the collector has not found yet. Below
    some KB a request, the state of the requests themselves is all there is to see. So a row is a
    lead, not a proof; the proof is a leak report.

    On glibc, growth is exact for blocks above 512 bytes, and 80 bytes for each smaller one. Where
    the allocator tells nothing (musl, jemalloc, macOS, Windows, free-threaded builds) it is that of
    private memory, by whole pages: whoever touches a page first pays for it. The statistics say
    which it is.

    Thread-safe. A forked child begins anew.

    Bounded by: *max_routes* rows of statistics; one record for each request in flight.
    Locks: one re-entrant mutex around counts; no code of the host's runs under it.
    Keeps alive: the guard; strings and numbers.

    Cost: 5 to 12 µs for each request (``benchmarks/middleware.py``). One that is measured takes two
    looks of 10 to 30 µs each: 20 µs more for every million objects in the process, and longer in a
    shredded heap, whose free blocks glibc counts one by one. Looking takes at most 1 % of the time,
    unless *sample* is 1.

    Args:
        sample: Share of the requests to measure, chosen at random; 0 measures none, 1 every one,
            whatever it costs.
        warmup: Requests of each route that are not measured: what they import and fill is no leak.
        max_routes: Routes told apart, each with each method; the rest is counted as ``"other"``.
        guard: Started before the first request in each process where it is not running, and with
            an ASGI lifespan, which also stops it.
        admit: Answer 503 while the guard says that memory is critical.
        exempt: Paths that are always served, with all below them.
        retry_after: Seconds that a refused client is told to wait.
        read: Returns the bytes that are allocated, or None; for tests.

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
        self._sample = _share(sample, "sample")
        self._warmup = _whole(warmup, "warmup", 0, 1_000_000)
        self._max_routes = _whole(max_routes, "max_routes", 1, 10_000)
        if guard is not None and not isinstance(guard, MemoryGuard):
            raise TypeError(f"guard must be a MemoryGuard or None (got {type(guard).__name__})")
        if not isinstance(admit, bool):
            raise TypeError(f"admit must be True or False (got {type(admit).__name__})")
        if admit and guard is None:
            raise ConfigError("admit=True needs guard=, which knows when memory is critical")
        self.guard = guard
        self._admits = admit
        self._exempt = checked_paths(exempt)
        self._exempt_below = tuple(f"{path}/" for path in self._exempt)
        seconds = parse_seconds(retry_after, name="retry_after")
        if not 0 < seconds <= 86400:
            raise ConfigError(f"retry_after must be > 0 and <= 86400 s (got {retry_after!r})")
        self.retry_after = math.ceil(seconds)
        if read is not None and not callable(read):
            raise TypeError(f"read must be callable or None (got {type(read).__name__})")
        self._read = read
        self._failures = Failures("requests.failed")
        self._reset()
        reset_after_fork(self)

    def _reset(self) -> None:
        """Begin anew, with nobody in flight: also in a forked child."""
        self._lock = threading.RLock()
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
        self._sampled = self._crowded = self._warming = self._disturbed = self._failed = 0
        self._pending: Pending | None = None
        self._lost: deque[bool] = deque()

    # -- the guard --------------------------------------------------------------------------------

    def start_guard(self) -> None:
        """Start the guard where it is not running; what fails is counted and logged."""
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
            pass  # somebody else was faster
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
        if not self._is_ready:
            self.start_guard()
        if self._lost:
            self._bury()
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
                self._crowded += 1
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
            return  # nobody looks any more, and what was critical then may be over for long
        try:
            # The place is not kept. It promises nothing; and what others ask for is reckoned from
            # the moment when nobody held one, which in a busy service would never come again.
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
            if not request.resting:
                self._active -= 1
            self._events += 1
            row = self._table.add(method, route, failed=failed)
            if not request.chosen:
                return
            if failed:
                self._failed += 1
            elif not alone:
                self._crowded += 1
            elif row is None:
                self._warming += 1
            elif request.before is None:
                self._disturbed += 1
            else:
                self._pending = Pending(row, request.before, self._events, time.monotonic())

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
                self._crowded += 1
            elif after is None or is_late:
                self._disturbed += 1
            else:
                self._sampled += 1
                self._table.measure(pending.row, after - pending.before)

    def _rest(self, request: WatchedRequest, change: int) -> None:
        with self._lock:
            if request.ended or request.life is not self._life:
                return
            was, request.resting = request.resting, request.resting + change
            if was == 0:
                self._active -= 1
            elif request.resting == 0:
                self._active += 1
                self._events += 1

    def _stir(self) -> None:
        with self._lock:
            self._events += 1

    def _bury(self) -> None:
        """Count what was collected without having been ended."""
        while self._lost:
            try:
                was_resting = self._lost.popleft()
            except IndexError:  # another thread was faster
                return
            with self._lock:
                self._abandoned += 1
                self._in_flight -= 1
                self._events += 1
                if not was_resting:
                    self._active -= 1

    def statistics(self) -> RequestStatistics:
        """Return the counts and the routes. Thread-safe; cost: some µs for each route."""
        self._bury()
        with self._lock:
            return RequestStatistics(
                source=self._meter.source,
                requests=self._begun,
                in_flight=self._in_flight,
                refused=self._refused,
                sampled=self._sampled,
                crowded=self._crowded,
                warming=self._warming,
                disturbed=self._disturbed,
                failed=self._failed,
                abandoned=self._abandoned,
                routes=self._table.statistics(),
                errors=self._failures.count,
                errors_by_kind=self._failures.kinds,
            )

    def template(self, find: Callable[..., str | None], *arguments: Any) -> str:
        """Return the route that *find* finds; what it raises is counted, and no route was found."""
        try:
            found = find(*arguments)
        except Exception as error:  # noqa: BLE001 - reason: the host's routes and resolvers
            self._failures.add("route", error)
            return UNMATCHED
        # A subclass of str could bring its own __hash__ and __eq__ under the mutex.
        return found if type(found) is str and found else UNMATCHED


def _share(value: float, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number from 0 to 1 (got {type(value).__name__})")
    if not 0 <= value <= 1:
        raise ConfigError(f"{name} must be from 0 to 1 (got {value}); 0 measures nothing")
    return float(value)


def _whole(value: int, name: str, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int (got {type(value).__name__})")
    if not least <= value <= most:
        raise ConfigError(f"{name} must be from {least} to {most} (got {value})")
    return value


def watch_of(watch: RequestWatch | None, options: dict[str, Any]) -> RequestWatch:
    """
    Return *watch*, or one made of *options*.

    Raises:
        TypeError: Both are given, or *watch* is none.
    """
    if watch is None:
        return RequestWatch(**options)
    if not isinstance(watch, RequestWatch):
        raise TypeError(f"watch must be a RequestWatch or None (got {type(watch).__name__})")
    if options:
        raise TypeError(f"{', '.join(sorted(options))}: give these to the RequestWatch itself")
    return watch


def is_open(owned: object) -> bool:
    """Return whether *owned* is the scope of a request that another middleware of ours serves."""
    return isinstance(owned, Scope) and not owned.closed
