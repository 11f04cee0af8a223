"""
Deliver notices: for each sink a bounded queue, and a thread while the queue is not empty.

Each sink has a queue of its own, so that one that hangs delays no other.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from memguard import log
from memguard.errors import ConfigError
from memguard.lifecycle import locks, threads
from memguard.lifecycle.failures import Failures
from memguard.report.alerting.connection import Connection
from memguard.report.alerting.notice import Notice
from memguard.report.alerting.sink import CallSink, DeliveryError, Sink

LINGER_SECONDS = 2.0
"""A thread that has nothing to deliver waits so long before it ends."""
MOST_SINKS = 20
_LAST_CUT_SECONDS = 0.5
"""Of the time that `Delivery.stop` has, what is left for ending attempts that hang."""
_LEAST_JOIN_SECONDS = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkStatistics:
    """What became of the notices to one sink."""

    name: str
    sent: int
    """Delivered, as far as the receiver said so."""
    retried: int
    """Attempts after the first one of a notice."""
    failed: int
    """Notices given up: refused for good, or undeliverable for too long."""
    dropped: int
    """Notices that found no room in the queue, or were left in it when it was stopped."""
    queued: int
    """Notices that wait, the one under way included."""
    last_error: str | None
    """Why the last attempt failed; None after a success."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How long and how often a notice is tried. Seconds."""

    queue: int = 100
    """Notices that may wait."""
    give_up: float = 3600.0
    """After so long a notice is lost."""
    first_pause: float = 1.0
    """After the first failure; doubled after each further one."""
    longest_pause: float = 300.0


@dataclass(slots=True)
class _Item:
    notice: Notice
    queued_at: float
    due: float = 0.0
    attempts: int = 0
    asked: bool = False
    """The pause is the receiver's wish."""


class DeliveryQueue:
    """
    Deliver notices to one sink, in their order, each until it is delivered or given up.

    Between two attempts it waits twice as long each time, by a random half less (so that many
    processes do not come back at the same moment), or as long as the receiver says.

    Bounded by: a queue, whose oldest notice is dropped for a newer one; one thread.
    Locks: one condition around the queue; the sink is called outside it.
    Keeps alive: notices that wait, which are strings and numbers; the sink.
    """

    def __init__(self, sink: Sink, name: str, policy: RetryPolicy, failures: Failures) -> None:
        self.sink = sink
        self._name = name
        self._policy = policy
        self._failures = failures
        self.reset()

    def reset(self) -> None:
        """Be empty and stopped, as in a forked child. Only sets fields."""
        self._changed = locks.Condition()
        self._queue: deque[_Item] = deque()
        self._current: _Item | None = None
        self._connection: Connection | None = None
        self._thread: threading.Thread | None = None
        self._latest: threading.Thread | None = None
        self._ends_at: float | None = None
        self._failing = 0
        self._sent = self._retried = self._failed = self._dropped = 0
        self._drops_logged = False
        self._last_error: str | None = None

    def open(self) -> None:
        """Take notices, also after `finish`."""
        with self._changed:
            self._ends_at = None

    def put(self, notice: Notice) -> None:
        """Have *notice* delivered. Returns at once."""
        now = time.monotonic()
        with self._changed:
            if self._ends_at is not None:
                self._dropped += 1
                return
            log_drop = False
            if len(self._queue) >= self._policy.queue:
                self._queue.popleft()
                self._dropped += 1
                log_drop, self._drops_logged = not self._drops_logged, True
            self._queue.append(_Item(notice, now))
            self._changed.notify_all()
        if log_drop:
            log.event(
                logging.WARNING,
                "alerts.queue_full",
                sink=self.sink.name,
                queue=self._policy.queue,
                why=self._last_error,
            )
        self.start_thread()

    def start_thread(self) -> None:
        """Start the thread where there is work for it; what fails is counted and tried later."""
        with self._changed:
            if self._thread is not None or not (self._queue or self._current):
                return
            thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread = self._latest = thread
        try:
            thread.start()
        except Exception as error:  # noqa: BLE001 - reason: no thread or no memory to be had: the next tick tries again
            with self._changed:
                if self._thread is thread:
                    self._thread = None
            self._failures.add("thread", error)

    def wait_empty(self, timeout: float) -> bool:
        """Wait until nothing waits, *timeout* seconds at most; True when so."""
        with self._changed:
            self._changed.wait_for(self._is_done, timeout)
            return not self._queue and self._current is None

    def _is_done(self) -> bool:
        # At the end of the program there may be no thread to be had, and nothing to wait for.
        abandoned = self._ends_at is not None and self._thread is None
        return abandoned or (not self._queue and self._current is None)

    def finish(self, ends_at: float) -> None:
        """Take no more notices, and have those that wait tried until *ends_at*, monotonic."""
        with self._changed:
            self._ends_at = ends_at
            self._changed.notify_all()

    def cut(self) -> None:
        """End the attempt under way and drop what waits."""
        with self._changed:
            self._ends_at = float("-inf")
            self._drop_waiting()
            connection = self._connection
        if connection is not None:
            connection.cut()

    def join(self, timeout: float) -> bool:
        """Wait for the thread; True when there is none any more."""
        thread = self._latest  # it has let go of its work a moment before it ends
        if thread is None or thread is threading.current_thread():
            return True
        return threads.join(thread, timeout)

    def statistics(self) -> SinkStatistics:
        """Return the counts. Thread-safe."""
        with self._changed:
            return SinkStatistics(
                name=self.sink.name,
                sent=self._sent,
                retried=self._retried,
                failed=self._failed,
                dropped=self._dropped,
                queued=len(self._queue) + (self._current is not None),
                last_error=self._last_error,
            )

    # -- in its thread ----------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while (item := self._next()) is not None:
                self._attempt(item)
        finally:
            with self._changed:
                if self._thread is threading.current_thread():  # it dies of something fatal
                    self._thread = None
                self._changed.notify_all()

    def _next(self) -> _Item | None:
        """Wait for the next notice that is due; None when the thread shall end."""
        until = time.monotonic() + LINGER_SECONDS
        with self._changed:
            return self._wait_for_next(until)

    def _wait_for_next(self, until: float) -> _Item | None:
        while True:
            now = time.monotonic()
            if self._current is None and self._queue:
                self._current = self._queue.popleft()
                self._changed.notify_all()
            if self._current is None:
                if self._ends_at is not None or now >= until:
                    self._thread = None
                    self._changed.notify_all()
                    return None
                self._changed.wait(until - now)
            elif self._may_try(self._current, now):
                return self._current
            elif self._ends_at is not None and now > self._ends_at:
                self._drop_waiting()
            elif self._ends_at is not None and self._current.due > self._ends_at:
                self._drop_current()
            else:
                self._changed.wait(max(0.001, self._current.due - now))

    def _may_try(self, item: _Item, now: float) -> bool:
        if self._ends_at is None:
            return item.due <= now
        if now > self._ends_at:
            return False
        # The last chance: a pause of our own is cut short once; what a receiver asked for is not.
        if item.due <= now:
            return True
        if item.asked:
            return False
        item.asked = True
        return True

    def _drop_waiting(self) -> None:
        """Drop what waits, the current one too where no attempt is under way."""
        self._dropped += len(self._queue)
        self._queue.clear()
        if self._current is not None and self._connection is None:
            self._drop_current()
        self._changed.notify_all()

    def _drop_current(self) -> None:
        self._current = None
        self._dropped += 1

    def _attempt(self, item: _Item) -> None:
        connection = Connection(self.sink.timeout)
        with self._changed:
            if self._current is not item:
                return  # dropped meanwhile
            self._connection = connection
            item.attempts += 1
            self._retried += item.attempts > 1
        error: BaseException | None = None
        try:
            self.sink.deliver(item.notice, connection)
        except (Exception, SystemExit) as failed:  # noqa: BLE001 - reason: a sink may be the host's; counted, and the thread lives on
            error = failed
        except BaseException:
            self._settle(item, lost="the thread was ended")
            raise
        finally:
            connection.release()
        if error is None:
            self._settle(item, lost=None)
        else:
            self._fail(item, error)

    def _settle(self, item: _Item, *, lost: str | None) -> None:
        with self._changed:
            self._connection = self._current = None
            self._last_error = lost
            if lost is None:
                self._sent += 1
                self._failing = 0
                self._drops_logged = False
            else:
                self._failed += 1
            self._changed.notify_all()
        if lost is not None:
            self._log_lost(item, lost)

    def _fail(self, item: _Item, error: BaseException) -> None:
        # Only the type of a user's error is shown: its text may be a secret, or run code.
        known = error if isinstance(error, DeliveryError) else None
        why = type(error).__name__ if known is None else known.why
        lost = None
        with self._changed:
            self._connection = None
            self._last_error = why
            now = time.monotonic()
            ends = self._ends_at is not None and now > self._ends_at
            if known is None or not known.retry:
                lost = why
            else:
                self._failing += 1
                pause = self._pause() if known.after is None else known.after
                item.asked = known.after is not None or self._ends_at is not None
                item.due = now + pause
                if item.due - item.queued_at > self._policy.give_up:
                    lost = f"{why}, for too long"
            if lost is not None:
                self._current = None
                self._failed += 1
            elif ends:
                self._drop_current()
            self._changed.notify_all()
        self._failures.add(f"{self.sink.name} ({why})", error)
        if lost is not None:
            self._log_lost(item, lost)

    def _pause(self) -> float:
        policy = self._policy
        full = min(policy.longest_pause, policy.first_pause * 2 ** min(self._failing - 1, 30))
        # From the system: the host's random numbers stay as its seed has them.
        chance = int.from_bytes(os.urandom(4), "big") / 2**32
        return float(full * (0.5 + chance / 2))

    def _log_lost(self, item: _Item, why: str) -> None:
        notice = item.notice
        log.event(
            logging.WARNING,
            "alert.undelivered",
            sink=self.sink.name,
            rule=notice.rule,
            status=notice.status,
            severity=notice.severity,
            fingerprint=notice.fingerprint,
            attempts=item.attempts,
            why=why,
        )


class Delivery:
    """
    Deliver notices to every sink that wants them; none waits for another.

    Bounded by: 20 sinks, a queue and a thread for each.
    Locks: those of the queues.
    Keeps alive: the sinks; notices that wait.
    """

    def __init__(
        self,
        sinks: Sequence[Sink | Callable[[Notice], object]],
        *,
        name: str,
        policy: RetryPolicy,
        failures: Failures,
    ) -> None:
        self._queues = tuple(
            DeliveryQueue(sink, f"memguard-alerts-{name}-{sink.name}", policy, failures)
            for sink in _checked_sinks(sinks)
        )

    def reset(self) -> None:
        """Be empty and stopped, as in a forked child."""
        for queue in self._queues:
            queue.reset()

    def open(self) -> None:
        """Take notices, also after `stop`."""
        for queue in self._queues:
            queue.open()

    def send(self, notice: Notice) -> None:
        """Have *notice* delivered. Returns at once."""
        for queue in self._queues:
            if queue.sink.wants(notice):
                queue.put(notice)

    def start_threads(self) -> None:
        """Start threads that could not be started before."""
        for queue in self._queues:
            queue.start_thread()

    def wait_empty(self, timeout: float) -> bool:
        """Wait until nothing waits any more, *timeout* seconds at most; True when so."""
        ends_at = time.monotonic() + timeout
        return all(queue.wait_empty(max(0.0, ends_at - time.monotonic())) for queue in self._queues)

    def stop(self, timeout: float) -> tuple[bool, int]:
        """
        Take no more notices, deliver what waits, cut what hangs and end the threads.

        Returns:
            Whether all threads have ended, and how many notices were dropped for it.
        """
        ends_at = time.monotonic() + timeout
        deliver_until = ends_at - min(_LAST_CUT_SECONDS, timeout / 4)
        before = self._dropped()
        for queue in self._queues:
            queue.finish(deliver_until)
            queue.start_thread()
        self.wait_empty(max(0.0, deliver_until - time.monotonic()))
        for queue in self._queues:
            queue.cut()
        joins = [
            queue.join(max(_LEAST_JOIN_SECONDS, ends_at - time.monotonic()))
            for queue in self._queues
        ]
        return all(joins), self._dropped() - before

    def statistics(self) -> tuple[SinkStatistics, ...]:
        """Return the counts of each sink. Thread-safe."""
        return tuple(queue.statistics() for queue in self._queues)

    def _dropped(self) -> int:
        return sum(sink.dropped for sink in self.statistics())


def _checked_sinks(sinks: Sequence[Sink | Callable[[Notice], object]]) -> tuple[Sink, ...]:
    given = []
    for sink in tuple(sinks):
        if not isinstance(sink, Sink) and not callable(sink):
            raise TypeError(f"sinks must be sinks or callables (got {type(sink).__name__})")
        given.append(sink if isinstance(sink, Sink) else CallSink(sink))
    if not 1 <= len(given) <= MOST_SINKS:
        raise ConfigError(f"sinks must be from 1 to {MOST_SINKS} (got {len(given)})")
    return tuple(given)
