"""The garbage collector: a collection as a relief step, its thresholds, and forked servers."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from memguard.bounded.options import check_int, check_number
from memguard.errors import ConfigError, LifecycleError
from memguard.lifecycle import locks
from memguard.lifecycle.fork import check, reset_after_fork
from memguard.lifecycle.service import Service
from memguard.observe.gcwatch import GcWatch

NANOSECONDS_PER_BLOCK = 250
"""
What a full collection takes at most for each block of Python's allocator, until one was measured.

It depends on how the heap is linked: 35 to 207 were measured, in heaps of 0.07 to 3 million blocks
(CPython 3.11 to 3.14, Linux 6, 2 cores, 2026-11-29).
"""
_GROWN = 1.3
"""How much longer the next full collection may take: the heap has grown since the last one."""


class Collecting:
    """
    Collect garbage when it is worth its pause.

    A full collection holds the interpreter for as long as it takes: seconds in heaps of some ten
    million objects, and often for nothing. So it must fit into a pause that is allowed and may take
    only a share of the time. If a full one does not fit, the young generations are collected.
    How long one takes is known from the last one of this process.

    Bounded by: a few numbers.
    Locks: none. Finalizers run, in the calling thread, outside our locks.
    Keeps alive: nothing.
    """

    def __init__(
        self,
        *,
        share: float,
        timer: Callable[[], float],
        watch: GcWatch | None = None,
        collect: Callable[[int], int] = gc.collect,
        blocks: Callable[[], int] = sys.getallocatedblocks,
        cost: Callable[[], float] = time.thread_time,
    ) -> None:
        """
        Prepare to collect.

        Args:
            share: Part of the time that collections may take.
            timer: Seconds.
            watch: Has seen the collections of the interpreter, if there is one.
            collect: Collects a generation.
            blocks: How large the heap is.
            cost: Processor seconds of this thread: what a collection takes, however busy the
                machine is.
        """
        self._share = share
        self._timer = timer
        self._collect = collect
        self._blocks = blocks
        self._cost = cost
        self._watch = watch
        self._not_before = float("-inf")
        self._per_block: float | None = None

    def run(self, most_seconds: float, *, force: bool = False) -> tuple[int, str | None]:
        """
        Collect; return objects found, and why nothing was done, or None.

        Args:
            most_seconds: The longest pause allowed.
            force: The share of time does not count.
        """
        if self._timer() < self._not_before and not force:
            return 0, "its share of the time is used up"
        blocks = self._blocks()
        generation = 2 if self._expected(blocks) <= most_seconds else 1
        began = self._cost()
        found = self._collect(generation)
        pause = self._cost() - began
        if generation == 2:
            self._per_block = pause / max(blocks, 1)
        self._not_before = self._timer() + pause / self._share
        return found, None

    def _expected(self, blocks: int) -> float:
        """Return the seconds that a full collection will take."""
        seen = None if self._watch is None else self._watch.last_full_pause
        own = None if self._per_block is None else self._per_block * blocks
        if seen is None and own is None:
            return NANOSECONDS_PER_BLOCK / 1e9 * blocks
        return max((seen or 0.0) * _GROWN, own or 0.0)


_HIGHEST_THRESHOLD = 100_000
_LEAST_COLLECTIONS = 5
"""In one look; fewer do not measure a share of the time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GcPolicyStatistics:
    """What a `GcPolicy` does."""

    active: bool
    threshold: tuple[int, int, int]
    """The collector's thresholds now."""
    original: tuple[int, int, int] | None
    """What they were before; None while it is not active."""
    raised: int
    """Times that the youngest threshold was doubled because collecting took too much time."""
    lowered: int
    """Times that it was halved again."""
    share: float | None
    """Part of the time that pauses took between the last two looks; None before."""


class GcPolicy(Service):
    """
    Set the collector's thresholds, and keep its pauses within a share of the time.

    A pause cannot be made shorter from outside, only rarer: while collecting takes more than
    *time_share*, the youngest threshold is doubled at each `tick`, up to 100,000; when it takes
    less than a quarter of it, it is halved again, down to where it was. `stop` puts back what was
    there before, unless other code has changed it meanwhile.

    Bounded by: a few numbers, and the ring of its `GcWatch`.
    Locks: one mutex around its own fields.
    Keeps alive: nothing of the host's.

    Args:
        threshold: Thresholds as for ``gc.set_threshold``; None leaves them as they are.
        time_share: Part of the time that pauses may take, above 0 to 1; None leaves that alone.

    Raises:
        TypeError: An option is of the wrong kind.
        ConfigError: It is out of range, or there is nothing to do.
    """

    def __init__(
        self,
        *,
        threshold: tuple[int, int, int] | None = None,
        time_share: float | None = None,
        watch: GcWatch | None = None,
    ) -> None:
        if threshold is None and time_share is None:
            raise ConfigError("threshold or time_share is required; without them it does nothing")
        if threshold is not None:
            _check_threshold(threshold)
        if time_share is not None:
            check_number(time_share, "time_share", 0.0001, 1)
        self._threshold = threshold
        self._time_share = time_share
        self._watch = watch or GcWatch()
        self._owns_watch = watch is None
        self._lock = locks.RLock()
        self._original: tuple[int, int, int] | None = None
        self._set: tuple[int, int, int] = (0, 0, 0)
        self._seen = (0.0, 0.0, 0)
        self._raised = self._lowered = 0
        self._share: float | None = None
        reset_after_fork(self)

    def _reset(self) -> None:
        """In a forked child: be stopped, with the thresholds of before."""
        self._lock = locks.RLock()
        self._put_back()

    def start(self) -> Self:
        """
        Apply the thresholds, and begin to watch.

        Raises:
            LifecycleError: It is started already.
        """
        check()
        with self._lock:
            if self._original is not None:
                raise LifecycleError("this GcPolicy is already started; stop() it first")
            self._original = gc.get_threshold()
            self._apply(self._threshold or self._original)
        if self._owns_watch and self._time_share is not None:
            self._watch.start()
        statistics = self._watch.statistics()
        self._seen = (
            statistics.watched_seconds,
            statistics.pause_total,
            statistics.collections,
        )
        return self

    def stop(self, timeout: float = 5.0) -> bool:  # noqa: ARG002 - reason: of `Service`; there is nothing to wait for
        """Put the thresholds back. Idempotent."""
        check()
        with self._lock:
            self._put_back()
        if self._owns_watch:
            self._watch.stop()
        return True

    def tick(self) -> None:
        """Look at the share of the time, and make collections rarer or more frequent."""
        if self._time_share is None or self._original is None:
            return
        found = self._watch.statistics()
        seconds, pauses, collections = self._seen
        elapsed = found.watched_seconds - seconds
        if elapsed <= 0 or found.collections - collections < _LEAST_COLLECTIONS:
            return  # so few of them cannot take much of the time
        self._seen = (found.watched_seconds, found.pause_total, found.collections)
        share = (found.pause_total - pauses) / elapsed
        with self._lock:
            self._share = share
            self._adjust(share)

    def _adjust(self, share: float) -> None:
        if self._original is None or self._time_share is None or gc.get_threshold() != self._set:
            return  # other code has set the thresholds
        youngest, *older = self._set
        base = (self._threshold or self._original)[0]
        if youngest == 0:
            return  # collecting is switched off
        if share > self._time_share and youngest < _HIGHEST_THRESHOLD:
            self._apply((min(_HIGHEST_THRESHOLD, youngest * 2), older[0], older[1]))
            self._raised += 1
        elif share < self._time_share / 4 and youngest > base:
            self._apply((max(base, youngest // 2), older[0], older[1]))
            self._lowered += 1

    def statistics(self) -> GcPolicyStatistics:
        """Return what is set and what was done. Thread-safe."""
        return GcPolicyStatistics(
            active=self._original is not None,
            threshold=gc.get_threshold(),
            original=self._original,
            raised=self._raised,
            lowered=self._lowered,
            share=self._share,
        )

    def _apply(self, threshold: tuple[int, int, int]) -> None:
        gc.set_threshold(*threshold)
        # As it was understood: a build may ignore one of them.
        self._set = gc.get_threshold()

    def _put_back(self) -> None:
        original, self._original = self._original, None
        if original is not None and gc.get_threshold() == self._set:
            gc.set_threshold(*original)


def _check_threshold(threshold: tuple[int, int, int]) -> None:
    if not isinstance(threshold, tuple) or len(threshold) != 3:
        raise TypeError("threshold must be a tuple of three ints, as gc.get_threshold() gives")
    for number in threshold:
        check_int(number, "threshold", 0, 10_000_000)


class Prefork:
    """
    What `prefork` did, and the way back.

    Bounded by: two numbers.
    Locks: none.
    Keeps alive: every object that was frozen and has become garbage in a cycle, until `close`.
    """

    def __init__(self, *, frozen: int, was_enabled: bool) -> None:
        self.frozen = frozen
        """Objects that the collector ignores from now on."""
        self._was_enabled = was_enabled
        self._closed = False

    def in_child(self) -> None:
        """Collect again, in a worker; what was frozen stays so. Idempotent."""
        if self._was_enabled:
            gc.enable()

    def close(self) -> None:
        """Undo it all in this process: unfreeze, and collect again. Idempotent."""
        if not self._closed:
            self._closed = True
            gc.unfreeze()
            self.in_child()

    def __enter__(self) -> Self:
        """Return what was done."""
        return self

    def __exit__(self, *_: object) -> None:
        """Undo it."""
        self.close()


def prefork(*, disable: bool = False) -> Prefork:
    """
    Freeze all loaded objects in the parent of a forking server, right before it forks.

    Workers then share those pages with their parent for longer: the collector of a worker does not
    write into the headers of objects that it never looks at. Call it when the application is loaded
    (gunicorn: in ``when_ready``); workers that load the application themselves have no use for it.

    Nothing is collected first: that would leave holes in the pages, which the parent and each
    worker fill with different things.

    Args:
        disable: Also stop collecting in this process until it is closed; workers call
            ``in_child()``.

    Cost: O(1).

    Source: the note on fork in the documentation of ``gc.freeze``.
    """
    was_enabled = gc.isenabled()
    if disable:
        gc.disable()
    gc.freeze()
    return Prefork(frozen=gc.get_freeze_count(), was_enabled=was_enabled)
