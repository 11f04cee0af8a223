"""The fixture ``memguard_check``: the peak, the growth and the leftovers of a part of a test."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any, Self

import pytest

from memguard.bounded.options import check_callable
from memguard.errors import LifecycleError
from memguard.integrations.testing import report
from memguard.integrations.testing.leaks import (
    TOTALS,
    Finding,
    TracingStoppedError,
    count_leaks,
    level,
)
from memguard.integrations.testing.leftovers import Leftovers
from memguard.integrations.testing.options import (
    REPEAT,
    WARMUP,
    Settings,
    read_kinds,
    read_repeat,
    read_size,
    read_warmup,
)
from memguard.integrations.testing.peak import Peak, PeakLines
from memguard.integrations.testing.sites import Runner, by_line, heaviest_first, holders_of
from memguard.leaks.evidence import tracing
from memguard.units import parse_bytes

_SHOWN_HOLDERS = 3
_NOTE_BYTES = sys.getsizeof(1 << 40)
"""A line or a branch in coverage's notes."""
_TRACERS = ("coverage.CTracer", "coverage.tracer.CTracer")
_FRAMES = 4
"""Of each allocation: twice as slow as one frame."""


class Check:
    """
    Checks parts of a test: ``with memguard_check(leaks="1KiB"): ...``.

    The test is traced from the beginning, so that what a block frees of it is taken into account.

    Bounded by: nothing is kept.
    Locks: none; for the thread of the test.
    Keeps alive: nothing.
    """

    def __init__(self, runner: Runner, settings: Settings) -> None:
        self._runner = runner
        self._settings = settings
        self._tracer = tracing.Tracer()
        self._start()

    def _start(self) -> None:
        if tracing.unsupported() is None:
            self._tracer.start(_FRAMES, to_photograph=False)

    def close(self) -> None:
        """End the tracing, when the test is over. Idempotent."""
        self._tracer.abandon()

    def __call__(
        self,
        *,
        leaks: int | str | None = None,
        limit: int | str | None = None,
        fail_on: str | Iterable[str] = (),
    ) -> Block:
        """
        Return a block that fails the test if it keeps, needs or leaves behind too much.

        A block runs once: what it fills for good, a cache or an import, counts. If that is not
        meant, run it once before, or use `repeat`. What it frees is deducted if it was
        allocated since the test began.

        Args:
            leaks: Bytes by which memory in use may have grown at the end of the block.
            limit: Bytes that traced memory may rise by within it.
            fail_on: Kinds that it must not leave behind: ``"threads,tasks"``, or ``"all"``.

        Raises:
            TypeError: An option of the wrong kind.
            ConfigError: An option out of range.
        """
        return Block(
            self._runner,
            self._settings,
            read_size(leaks, "leaks"),
            read_size(limit, "limit"),
            read_kinds(fail_on if isinstance(fail_on, str) else list(fail_on), name="fail_on"),
        )

    def repeat(
        self,
        function: Callable[[], object],
        *,
        leaks: int | str = 0,
        warmup: int = WARMUP,
        repeat: int = REPEAT,
    ) -> Finding:
        """
        Call *function* again and again, and fail the test if memory survives each call.

        As the marker does with whole tests, without fixtures; what *function* raises is raised.

        Args:
            function: What to call, without arguments.
            leaks: Bytes that may survive each call.
            warmup: Calls before counting begins, 1 to 1000.
            repeat: Calls that count, 2 to 1000; three times as many if these leave it open.

        Raises:
            TypeError: An option of the wrong kind.
            ConfigError: An option out of range.
        """
        __tracebackhide__ = True
        check_callable(function, "function", optional=False)
        allowed = parse_bytes(leaks, name="leaks")
        first, counted = read_warmup(warmup, "warmup"), read_repeat(repeat, "repeat")
        _skip_where_unsupported()
        self._tracer.abandon()  # a session of its own has as many frames as are needed
        tracer = tracing.Tracer()
        tracer.start(TOTALS, to_photograph=False)
        try:
            finding = count_leaks(
                function, tracer, self._runner, allowed=allowed, warmup=first, repeat=counted
            )
        except TracingStoppedError as stopped:
            pytest.fail(f"memguard: this function cannot be measured for leaks: {stopped}")
        finally:
            tracer.abandon()
            self._start()
        if finding.failure is not None:
            pytest.fail(finding.failure)
        return finding


class Block:
    """
    A part of a test under measurement; see `Check`.

    Bounded by: two snapshots.
    Locks: none; one thread.
    Keeps alive: snapshots while it runs: names and numbers.
    """

    def __init__(
        self,
        runner: Runner,
        settings: Settings,
        leaks: int | None,
        limit: int | None,
        fail_on: frozenset[str],
    ) -> None:
        self._runner = runner
        self._leaks = leaks
        self._limit = limit
        self._fail_on = fail_on
        self._leftovers = Leftovers(settings.ignores_thread, settings.grace)
        self._tracer = tracing.Tracer()
        self._before: tracing.Snapshot | None = None
        self._peak: Peak | None = None
        self._lines: PeakLines | None = None
        self._entered = False
        self._noted = 0
        self.peak_bytes: int | None = None
        """How far memory rose, if there is a limit; None before the end."""
        self.growth_bytes: int | None = None
        """What survived, if leaks are looked for; None before the end."""

    def __enter__(self) -> Self:
        if self._entered:
            raise LifecycleError("a block runs once; call memguard_check() again")
        self._entered = True
        if self._leaks is not None or self._limit is not None:
            _skip_where_unsupported()
        if self._fail_on:
            self._leftovers.begin(self._fail_on)
        if self._leaks is not None or self._limit is not None:
            self._tracer.start(_FRAMES, to_photograph=False)
        if self._leaks is not None:
            level()
            self._noted = _noted_by_coverage()
            self._before = tracing.snapshot()
        if self._limit is not None:
            self._lines = PeakLines(at_least=self._limit)
            self._peak = Peak()
            self._peak.__enter__()
            self._lines.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        __tracebackhide__ = True
        try:
            if self._peak is not None and self._lines is not None:
                self._lines.__exit__()
                self._peak.__exit__()
                self.peak_bytes = self._peak.bytes
            if kind is None:
                failures = [*self._kept(), *self._needed(), *self._left()]
                if failures:
                    pytest.fail("\n\n".join(failures))
        finally:
            self._before = None
            self._tracer.abandon()

    def _kept(self) -> list[str]:
        if self._leaks is None:
            return []
        level()
        after, before = tracing.snapshot(), self._before
        if after is None or before is None:
            return [f"memguard: this block cannot be measured: {TracingStoppedError()}"]
        lines = by_line(tracing.stacks(after, before), self._runner)
        del after, before
        noted = _noted_by_coverage() - self._noted
        self.growth_bytes = sum(line.bytes for line in lines.values()) - noted
        if self.growth_bytes <= self._leaks:
            return []
        sites = heaviest_first(lines.values())
        wanted = [site.location for site in sites[:_SHOWN_HOLDERS]]
        holders = holders_of(wanted, self._tracer)
        details = report.lines_of(sites, holders)
        return [report.keeps(self.growth_bytes, self._leaks, details)]

    def _needed(self) -> list[str]:
        if self._limit is None or self._lines is None or (self.peak_bytes or 0) <= self._limit:
            return []
        lines = self._lines.lines(self._runner)
        return [report.exceeds(self.peak_bytes or 0, self._limit, lines, what="this block")]

    def _left(self) -> list[str]:
        if not self._fail_on:
            return []
        self._leftovers.call_is_over()
        found = self._leftovers.found()
        return [report.left_behind(found, what="this block")] if found else []


def _noted_by_coverage() -> int:
    """
    Return the bytes of what the C tracer of coverage.py has noted so far.

    It allocates in the name of the line that runs: a block that runs for the first time would seem
    to keep them. From Python 3.14 on coverage has no such tracer.
    """
    tracer: Any = sys.gettrace()
    if f"{type(tracer).__module__}.{type(tracer).__name__}" not in _TRACERS:
        return 0
    data = tracer.data
    noted = sum(sys.getsizeof(lines) + _NOTE_BYTES * len(lines) for lines in data.values())
    return sys.getsizeof(data) + noted


def _skip_where_unsupported() -> None:
    refused: Any = tracing.unsupported()
    if refused is not None:
        pytest.skip(f"memguard_check cannot measure here: {refused}")
