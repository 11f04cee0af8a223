"""The thread of a worker process that decides when to replace it, and ends it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, Self

from memguard import log
from memguard.integrations.workers.recycle_policy import (
    RecycleOptions,
    Seen,
    Verdict,
    WorkerState,
    judge,
)
from memguard.integrations.workers.turns import Turns
from memguard.lifecycle.failures import Failures
from memguard.lifecycle.fork import check, reset_after_fork
from memguard.lifecycle.ticker import Ticker
from memguard.observe.readings import Reading, read_memory
from memguard.units import format_bytes

LOOK_SECONDS = 5.0
_SHARE_OF_CORE = 0.01
"""That looking may take, at most."""
_LONGEST_REST = 60.0
_AIM = 0.9
"""Share of the limit: relief frees what is above it."""


class Relieving(Protocol):
    """What frees memory: a ``Relief``."""

    def relieve(self, target: int | str | None = None, *, reason: str = ...) -> object:
        """Free *target* bytes, for *reason*."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecyclerStatistics:
    """What a `Recycler` knows of its worker. Bytes and seconds."""

    running: bool
    limit: int
    """The limit of this worker: the option, less the spread between workers."""
    private: int | None
    """At the last look; None before, and if it cannot be read."""
    verdict: Verdict
    """Of the last look."""
    looks: int
    reliefs: int
    """Times that relief ran first."""
    refused: int
    """Turns that it requested and did not get."""
    waiting_for: str
    """Why it did not get the last one; empty if it never requested one."""
    is_ending: bool
    """It was given its turn."""
    errors: int
    """Failures caught; each kind was logged once."""


class Recycler:
    """
    End this worker in an orderly way when it has outgrown its limit, and its turn has come.

    Looks every five seconds. What counts is the memory that only this process holds: pages that a
    forked worker still shares with its parent are none of its own.

    Bounded by: a few numbers, one thread.
    Locks: none; those of its `Turns` for an instant. *end* and *server_log* run without any.
    Keeps alive: what its callbacks do.

    In a forked child it is stopped.

    Args:
        options: When a worker is replaced; the limit is lowered by up to *spread*, so that workers
            that grow alike do not all reach it at once.
        turns: Who may end now; made by the parent before it forked.
        end: Ends the worker after its current requests, with the reason; called once, in the
            thread of the recycler or in the one that calls `take_turn`. None if that is
            impossible: the log only says that it should be replaced.
        relief: Frees memory first; None if nothing does.
        requests: How many the worker has served; None if that is not counted.
        waits_for_boundary: Leave it to the host to call `take_turn` between two tasks.
        is_leaving: Whether something else ends the worker already.
        insist: Called when the worker is still there *grace* seconds after *end*.
        grace: Seconds.
        server_log: Called with a level of ``logging`` and a sentence for the server's own log.
        spread: Part of the limit, from 0 to 0.5.
        look_seconds: Between two looks.
        timer: The system's monotonic clock, the same in all workers.
        read: Takes a reading, for tests.
    """

    def __init__(
        self,
        options: RecycleOptions,
        turns: Turns,
        *,
        end: Callable[[str], object] | None,
        relief: Relieving | None = None,
        requests: Callable[[], int | None] = lambda: None,
        waits_for_boundary: bool = False,
        is_leaving: Callable[[], bool] = lambda: False,
        insist: Callable[[], object] | None = None,
        grace: float = 60.0,
        server_log: Callable[[int, str], object] = lambda _level, _sentence: None,
        spread: float = 0.0,
        look_seconds: float = LOOK_SECONDS,
        timer: Callable[[], float] = time.monotonic,
        read: Callable[..., Reading] = read_memory,
    ) -> None:
        # Of the system: what a fork copied would be the same in every worker.
        self._chance = random.SystemRandom()
        lowered = int(options.limit * (1 - spread * self._chance.random()))
        self.options = replace(options, limit=max(1, lowered))
        self._turns = turns
        self._end, self._insist, self._server_log = end, insist, server_log
        self._relief, self._requests = relief, requests
        self._waits, self._is_leaving = waits_for_boundary, is_leaving
        self._grace, self._look_seconds = grace, look_seconds
        self._timer, self._read = timer, read
        self._reset()
        reset_after_fork(self)

    def _reset(self) -> None:
        """Be stopped and know nothing, in a forked child."""
        self._ticker: Ticker | None = None
        self._began = self._timer()
        self._state = WorkerState()
        self._verdict = Verdict(kind="ok", reason="not looked yet")
        self._private: int | None = None
        self._cost = 0.0
        self._looks = self._reliefs = self._refused = 0
        self._waiting_for, self._wait = "", 1.0
        self._ending_since: float | None = None
        self._insisted = False
        self._logged: set[str] = set()  # kinds of sentences: as many as the source has
        self._failures = Failures("worker.recycler_failed")
        self.is_due = False
        """The worker is to end between two tasks: call `take_turn` there."""

    def start(self) -> Self:
        """Begin to look, and note for the others that this worker is ready. Idempotent."""
        check()
        if self._ticker is None:
            self._began = self._timer()
            self._turns.ready()
            self._ticker = Ticker(self, "memguard-recycler").start()
        return self

    def stop(self, timeout: float = 2.0) -> bool:
        """End the thread. Idempotent; True when it has ended."""
        check()
        ticker, self._ticker = self._ticker, None
        return ticker is None or ticker.stop(timeout)

    def statistics(self) -> RecyclerStatistics:
        """Return the state of this worker. Thread-safe."""
        return RecyclerStatistics(
            running=self._ticker is not None,
            limit=self.options.limit,
            private=self._private,
            verdict=self._verdict,
            looks=self._looks,
            reliefs=self._reliefs,
            refused=self._refused,
            waiting_for=self._waiting_for,
            is_ending=self._ending_since is not None,
            errors=self._failures.count,
        )

    def look_on_request(self) -> None:
        """Look now."""
        self.tick()

    def tick(self) -> float:
        """
        Look, and do what follows from it. Raises nothing.

        Returns:
            Seconds until the next look.

        Cost: 20 µs; above the limit also 10 ms for each GiB, to measure what is shared.
        """
        self._cost = 0.0
        try:
            pause = self._tick()
        except Exception as error:  # noqa: BLE001 - reason: law 2, the guard never hurts the host
            self._failures.add("look", error)
            pause = self._look_seconds
        # The exact figure of a large process takes long: over its limit it is read less often.
        return max(pause, min(_LONGEST_REST, self._cost / _SHARE_OF_CORE))

    def _tick(self) -> float:
        pause = self._look_seconds * (0.8 + 0.4 * self._chance.random())
        now = self._timer()
        if self._ending_since is not None:
            if now - self._ending_since > self._grace and not self._insisted:
                self._insisted = True
                self._log_once("insist", log.WARNING, "this worker has not ended; trying again")
                if self._insist is not None:
                    self._insist()
            return min(pause, 1.0)
        if self._is_leaving():
            return pause
        self._looks += 1
        began = time.thread_time()
        self._private = self._measure()
        self._cost = time.thread_time() - began
        seen = Seen(at=now, age=now - self._began, private=self._private, requests=self._requests())
        self._verdict, self._state = judge(seen, self._state, self.options)
        verdict = self._verdict
        self.is_due = verdict.kind == "due"
        if verdict.kind == "relieve":
            self._relieve()
            return min(pause, 0.5)
        if verdict.kind == "futile":
            self._log_once(
                "futile",
                log.WARNING,
                f"this worker is over its limit and stays: replacing it would not help "
                f"({verdict.reason}); raise the limit, or load less",
            )
        elif verdict.kind == "due" and not self._waits:
            self.take_turn()
            return min(pause, max(self._wait, 0.05))
        return pause

    def take_turn(self) -> bool:
        """
        End this worker, if it is due and its turn has come; True when *end* was called.

        Call it when the worker can be ended without harm. What fails in here is counted, and this
        does not count as a turn. Cost: 50 µs if it is due, else none.
        """
        if not self.is_due or self._ending_since is not None:
            return False
        try:
            return self._take_turn()
        except Exception as error:  # noqa: BLE001 - reason: law 2; the host stands between two tasks
            self._failures.add("turn", error)
            return False

    def _take_turn(self) -> bool:
        verdict = self._verdict
        if self._end is None or not self._turns.is_shared:
            why = (
                "a worker of this kind cannot be ended from inside"
                if self._end is None
                else "it was not forked from the process that made the turns"
            )
            self._log_once(
                "advice",
                log.WARNING,
                f"this worker should be replaced ({verdict.reason}) and is not: {why}",
            )
            return False
        turn = self._turns.take(self.options, at_once=verdict.at_once)
        if not turn.granted:
            self._refused += 1
            self._waiting_for, self._wait = turn.reason, turn.wait
            if turn.backing_off:
                self._log_once(
                    "backing off",
                    log.WARNING,
                    f"this worker should be replaced ({verdict.reason}) and waits: new workers are "
                    "over the limit in no time, so they are replaced less often; raise the limit",
                )
            return False
        self._ending_since, self._wait = self._timer(), 1.0
        self._log_once("ending", log.WARNING, f"this worker ends and is replaced: {verdict.reason}")
        self._end(verdict.reason)
        return True

    def _measure(self) -> int | None:
        reading = self._read()
        private = reading.private
        # The exact figure is expensive: only if it decides, and for what a fresh worker needs.
        if private is None or (private <= self.options.limit and self._state.base is not None):
            return private
        exact = self._read(include=("uss",))
        if exact.uss is None:
            return private
        return min(private, exact.uss + (exact.swap or 0))

    def _relieve(self) -> None:
        if self._relief is None or self._private is None:
            return
        self._reliefs += 1
        target = max(1, self._private - int(_AIM * self.options.limit))
        log.event(log.INFO, "worker.relieves", wanted=format_bytes(target))
        self._relief.relieve(target, reason="worker over its limit")

    def _log_once(self, kind: str, level: int, sentence: str) -> None:
        if kind in self._logged:
            return
        self._logged.add(kind)
        log.event(level, "worker.recycling", what=kind, text=sentence)
        try:
            self._server_log(level, f"memguard: {sentence}")
        except Exception as error:  # noqa: BLE001 - reason: the server's log is not ours
            self._failures.add("log", error)
