"""Admission control: work that needs memory waits or is rejected while memory is short."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Self, TypeAlias, get_args

from memguard.bounded.options import check_choice
from memguard.errors import AdmissionError
from memguard.lifecycle import locks
from memguard.lifecycle.fork import check, reset_after_fork
from memguard.relief.records import PressureState
from memguard.units import format_bytes, format_seconds, parse_bytes, parse_seconds

_POLL_SECONDS = 0.05

WhenBlind: TypeAlias = Literal["admit", "refuse"]
"""What happens to work while it cannot be read how full memory is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionStatistics:
    """What was admitted and refused. Bytes and seconds."""

    admitted: int
    refused: int
    waited: int
    """Of the admitted, those that had to wait."""
    waited_seconds: float
    """By all, the refused too."""
    running: int
    """Admitted and not yet ended."""
    promised: int
    """Bytes that running work has requested."""
    blind: int = 0
    """Admitted or refused while it was not known how full memory is; see *when_blind*."""


class Admission:
    """
    Admit work by the memory it needs.

    Work is admitted while the level is not critical and what is used, with what was promised to
    work that is running, stays below the critical mark.

    Bounded by: one record for each piece of work that is running.
    Locks: one mutex around the counts; nothing of the host's runs under it.
    Keeps alive: nothing.

    Args:
        state: Returns the pressure, as of the last look.
        critical: The used share of the limit that is never passed on purpose.
        when_blind: What happens while it cannot be read how full memory is: ``"admit"`` or
            ``"refuse"``.
        look: Asks the monitor to look again soon; called while work waits.
        timer: Monotonic seconds.
        sleep: Waits.
    """

    def __init__(
        self,
        state: Callable[[], PressureState],
        *,
        critical: float = 0.90,
        when_blind: WhenBlind = "admit",
        look: Callable[[], object] | None = None,
        timer: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._state = state
        self._critical = critical
        self.when_blind: WhenBlind = check_choice(when_blind, get_args(WhenBlind), "when_blind")
        self._look = look
        self._timer = timer
        self._sleep = sleep
        self._reset()
        reset_after_fork(self)

    def _reset(self) -> None:
        """Start over, with no work running: also in a forked child."""
        self._lock = locks.RLock()
        self._running = 0
        self._promised = 0
        self._base = 0
        self._admitted = self._refused = self._waited = self._blind = 0
        self._waited_seconds = 0.0

    def admit(self, cost_bytes: int | str = 0, *, wait: float | str = 0.0) -> Admitted:
        """
        Admit work of *cost_bytes*; return a context manager that ends it.

        Thread-safe. Blocks for at most *wait*; in a coroutine leave that at 0, and wait with
        ``asyncio.sleep`` between two attempts.

        Args:
            cost_bytes: The most that it will need at once, as far as you know.
            wait: Seconds to wait for room.

        Raises:
            AdmissionError: There is no room; a `MemoryError`, too. Nothing was begun.
            TypeError: An argument is of the wrong kind.
            ConfigError: It is out of range.
        """
        check()
        cost = parse_bytes(cost_bytes, name="cost_bytes")
        patience = parse_seconds(wait, name="wait")
        began = self._timer()
        while True:
            why_not, is_for_ever = self._try(cost)
            waited = self._timer() - began
            if why_not is None:
                self._count_wait(waited)
                return Admitted(self, cost)
            if is_for_ever or waited >= patience:
                break
            if self._look is not None:
                self._look()
            self._sleep(min(_POLL_SECONDS, patience - waited))
        is_blind = self._state().is_blind
        with self._lock:
            self._refused += 1
            self._waited_seconds += waited
            self._blind += is_blind
        after = f" after {format_seconds(waited)}" if waited > 0.001 else ""
        raise AdmissionError(f"not admitted{after}: {why_not}")

    def _try(self, cost: int) -> tuple[str | None, bool]:
        """Admit work; or return why not, and whether waiting is futile."""
        state = self._state()
        used, limit = state.used, state.limit
        with self._lock:
            if used is not None and limit is not None:
                most = int(self._critical * limit)
                if cost > most:
                    all_there_is = f"{format_bytes(most)}, which is all that may be used"
                    why = f"{format_bytes(cost)} are more than {all_there_is}; make it smaller"
                    return why, True
                if not self._running:
                    self._base = used
                # Running work may have allocated what it requested, or not yet.
                expected = max(used, self._base + self._promised)
                if expected + cost > most and (cost or state.level == "critical"):
                    left = format_bytes(max(0, most - expected))
                    bound = f"{format_bytes(limit)} ({state.source})"
                    why = f"{format_bytes(cost)} wanted, {left} left of {bound}"
                    return f"{why}; try again later, or give wait=", False
            if state.level == "critical":
                return "memory is critical; try again later, or give wait=", False
            if used is None or limit is None:
                if self.when_blind == "refuse":
                    why = "it cannot be read how full memory is, and when_blind is 'refuse'"
                    return f"{why}; see status().degraded", False
                self._blind += 1
            self._running += 1
            self._promised += cost
            self._admitted += 1
        return None, False

    def _count_wait(self, waited: float) -> None:
        if waited > 0.001:
            with self._lock:
                self._waited += 1
                self._waited_seconds += waited

    def _end(self, cost: int) -> None:
        check()
        with self._lock:
            # What was admitted before a fork ends in the child as well, where it does not count.
            self._running = max(0, self._running - 1)
            self._promised = max(0, self._promised - cost)

    def statistics(self) -> AdmissionStatistics:
        """Return the counts. Thread-safe."""
        check()
        with self._lock:
            return AdmissionStatistics(
                admitted=self._admitted,
                refused=self._refused,
                waited=self._waited,
                waited_seconds=self._waited_seconds,
                running=self._running,
                promised=self._promised,
                blind=self._blind,
            )


class Admitted:
    """
    Admitted work, until `close` or the end of the ``with``.

    Bounded by: itself.
    Locks: that of its `Admission`, for an instant.
    Keeps alive: its `Admission`.
    """

    __slots__ = ("_admission", "_cost")

    def __init__(self, admission: Admission, cost: int) -> None:
        self._admission: Admission | None = admission
        self._cost = cost

    def close(self) -> None:
        """End the work; idempotent."""
        admission, self._admission = self._admission, None
        if admission is not None:
            admission._end(self._cost)  # noqa: SLF001 - reason: the two are one mechanism

    def __enter__(self) -> Self:
        """Return the admitted work."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the work."""
        self.close()
