"""All the ways out: one lane for each sink."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from memguard.errors import ConfigError
from memguard.lifecycle.failures import Failures
from memguard.report.alerting.lane import Lane, Patience, SinkStatistics
from memguard.report.alerting.notice import Notice
from memguard.report.alerting.sink import CallSink, Sink

MOST_SINKS = 20
_LAST_CUT_SECONDS = 0.5
"""Of the time that `Delivery.stop` has, what is left for ending attempts that hang."""
_LEAST_JOIN_SECONDS = 0.05


class Delivery:
    """
    Deliver messages to every sink that wants them; none waits for another.

    Bounded by: 20 sinks, a queue and a thread for each.
    Locks: those of the queues.
    Keeps alive: the sinks; messages that wait.
    """

    def __init__(
        self,
        sinks: Sequence[Sink | Callable[[Notice], object]],
        *,
        name: str,
        patience: Patience,
        failures: Failures,
    ) -> None:
        self._lanes = tuple(
            Lane(sink, f"memguard-alerts-{name}-{sink.name}", patience, failures)
            for sink in _checked_sinks(sinks)
        )

    def reset(self) -> None:
        """Be empty and stopped, as in a forked child."""
        for lane in self._lanes:
            lane.reset()

    def open(self) -> None:
        """Take messages, also after `stop`."""
        for lane in self._lanes:
            lane.open()

    def send(self, notice: Notice) -> None:
        """Have *notice* delivered. Returns at once."""
        for lane in self._lanes:
            if lane.sink.wants(notice):
                lane.put(notice)

    def nudge(self) -> None:
        """Start threads that could not be started before."""
        for lane in self._lanes:
            lane.nudge()

    def wait_empty(self, timeout: float) -> bool:
        """Wait until nothing waits any more, *timeout* seconds at most; True when so."""
        ends_at = time.monotonic() + timeout
        return all(lane.wait_empty(max(0.0, ends_at - time.monotonic())) for lane in self._lanes)

    def stop(self, timeout: float) -> tuple[bool, int]:
        """
        Take no more messages, deliver what waits, cut what hangs and end the threads.

        Returns:
            Whether all threads have ended, and how many messages were dropped for it.
        """
        ends_at = time.monotonic() + timeout
        deliver_until = ends_at - min(_LAST_CUT_SECONDS, timeout / 4)
        before = sum(lane.statistics().dropped for lane in self._lanes)
        for lane in self._lanes:
            lane.finish(deliver_until)
            lane.nudge()
        self.wait_empty(max(0.0, deliver_until - time.monotonic()))
        for lane in self._lanes:
            lane.cut()
        joins = [
            lane.join(max(_LEAST_JOIN_SECONDS, ends_at - time.monotonic())) for lane in self._lanes
        ]
        return all(joins), sum(lane.statistics().dropped for lane in self._lanes) - before

    def statistics(self) -> tuple[SinkStatistics, ...]:
        """Return the counts of each sink. Thread-safe."""
        return tuple(lane.statistics() for lane in self._lanes)


def _checked_sinks(sinks: Sequence[Sink | Callable[[Notice], object]]) -> tuple[Sink, ...]:
    given = []
    for sink in tuple(sinks):
        if not isinstance(sink, Sink) and not callable(sink):
            raise TypeError(f"sinks must be sinks or callables (got {type(sink).__name__})")
        given.append(sink if isinstance(sink, Sink) else CallSink(sink))
    if not 1 <= len(given) <= MOST_SINKS:
        raise ConfigError(f"sinks must be from 1 to {MOST_SINKS} (got {len(given)})")
    return tuple(given)
