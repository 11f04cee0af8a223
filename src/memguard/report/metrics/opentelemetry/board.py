"""
One set of instruments for each meter provider, and one look at the figures for each collection.

The SDK keeps an instrument and its callbacks for as long as the provider lives, and drops the
callbacks of a second instrument of the same name. So there is one board for each provider; guards
come and go on it, and with none it says nothing.
"""

from __future__ import annotations

import functools
import gc
import math
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from opentelemetry.metrics import CallbackOptions, Observation, get_meter_provider

from memguard._version import __version__
from memguard.bounded.inventory import InventoryRow
from memguard.errors import CapacityError
from memguard.lifecycle import locks
from memguard.lifecycle.fork import reset_after_fork
from memguard.report.metrics.opentelemetry.containers import NamedContainers
from memguard.report.metrics.opentelemetry.instruments import (
    INSTRUMENTS,
    Attributes,
    Cycle,
    Instrument,
)
from memguard.report.state import GuardState

MOST_GUARDS = 16
"""Names of guards that one provider may ever be told of: it keeps what it was told."""
MOST_CONTAINERS = 50
"""Containers that are told by name."""
OTHERS = "opentelemetry.instrumentation.system_metrics"
"""The module that tells the metrics of the semantic conventions as well."""
_OLDEST_SECONDS = 5.0
"""A look older than that belongs to another collection."""

ProcessMetrics = Literal["auto", "on", "off"]


class Source(Protocol):
    """A guard that is told of, as the board sees it."""

    process_metrics: ProcessMetrics

    def fail(self, what: str, error: BaseException) -> None:
        """Count a failure; log nothing, for a lock of the SDK's is held."""

    def look(self) -> GuardState | None:
        """Return its figures; None when it is gone."""


class _Look(threading.local):
    """The collection that this thread is in the midst of."""

    cycle: Cycle | None = None
    told: frozenset[str] = frozenset()
    at: float = 0.0
    pid: int = 0


class Board:
    """
    The instruments of one meter provider.

    Bounded by: the instruments, 16 guards, 50 names of containers, and a counter for each.
    Locks: one mutex around counters and the list of guards; nothing of the host's runs under it.
    Keeps alive: the sources on it, until they are taken off; its provider not at all.
    """

    def __init__(self, timer: Callable[[], float] = time.monotonic) -> None:
        self._timer = timer
        self._sources: tuple[tuple[str, Source], ...] = ()
        self._labels: set[str] = set()
        self._counters: dict[tuple[str | int, ...], _Counted] = {}
        self._look = _Look()
        self.containers = NamedContainers(MOST_CONTAINERS)
        self.cycles = 0
        """Collections so far."""
        self._reset()
        reset_after_fork(self)

    def _reset(self) -> None:
        """In a forked child: sources are told of when they are started there."""
        self._lock = locks.RLock()
        self._sources = ()
        self.containers._reset()  # noqa: SLF001 - reason: the two are one mechanism

    # -- who is told of ---------------------------------------------------------------------------

    def add(self, source: Source, name: str) -> str:
        """
        Tell of *source* from now on, and return its label: *name*, or ``name-2`` if that is taken.

        Raises:
            CapacityError: There were 16 names already.
        """
        with self._lock:
            taken = {label for label, _ in self._sources}
            label = name
            for number in range(2, MOST_GUARDS + 2):
                if label not in taken:
                    break
                label = f"{name}-{number}"
            if label not in self._labels and len(self._labels) >= MOST_GUARDS:
                raise CapacityError(
                    f"{MOST_GUARDS} guards were told of to this meter provider, which keeps what "
                    "it was told for good; give guards that follow one another the same name"
                )
            self._labels.add(label)
            self._sources = (*self._sources, (label, source))
            return label

    def remove(self, source: Source) -> None:
        """Say nothing of *source* any more; no error when it is not there."""
        with self._lock:
            self._sources = tuple(each for each in self._sources if each[1] is not source)

    # -- what is told -----------------------------------------------------------------------------

    def install(self, provider: Any) -> None:
        """Make the instruments. Once for each board; under no lock, for it is the SDK's code."""
        meter = provider.get_meter("memguard", __version__)
        make = {
            "counter": meter.create_observable_counter,
            "updown": meter.create_observable_up_down_counter,
            "gauge": meter.create_observable_gauge,
        }
        for each in INSTRUMENTS:
            callback = functools.partial(self.observe, each)
            make[each.kind](
                each.name, callbacks=[callback], unit=each.unit, description=each.description
            )

    def observe(
        self, instrument: Instrument, _options: CallbackOptions | None = None
    ) -> list[Observation]:
        """Return what *instrument* tells now: the callback of the SDK. Never raises."""
        sources = self._sources
        if not sources:
            self._look.cycle = None
            return []
        try:
            cycle = self._cycle(instrument.name, sources)
            if cycle is None:
                return []
            return [
                Observation(self._monotone(cycle, instrument, value, attributes), dict(attributes))
                for value, attributes in instrument.values(cycle)
                if math.isfinite(value)
            ]
        except Exception as error:  # noqa: BLE001 - reason: counted; a collection goes on without it
            sources[0][1].fail(instrument.name, error)
            return []

    def _cycle(self, name: str, sources: tuple[tuple[str, Source], ...]) -> Cycle | None:
        """
        Return what this collection tells; look anew where it begins.

        The SDK calls one callback after the other and does not say where a collection begins: it
        does where an instrument is asked for the second time, or after a while.
        """
        look, now = self._look, self._timer()
        begins = name in look.told or now - look.at > _OLDEST_SECONDS or look.pid != os.getpid()
        if begins or look.cycle is None:
            look.told, look.at, look.pid = frozenset(), now, os.getpid()
            self.cycles += 1
            look.cycle = self._gather(self.cycles, sources)
        look.told |= {name}
        cycle = look.cycle
        if name == INSTRUMENTS[-1].name:
            look.cycle = None  # the last one: nothing is kept until the next collection
        return cycle

    def _gather(self, number: int, sources: tuple[tuple[str, Source], ...]) -> Cycle | None:
        found: list[tuple[str, GuardState]] = []
        rows: tuple[InventoryRow, ...] | None = None
        process = False
        for label, source in sources:
            try:
                figures = source.look()
            except Exception as error:  # noqa: BLE001 - reason: one broken guard must not hide the others
                source.fail("figures", error)
                continue
            if figures is None:
                self.remove(source)
                continue
            rows = figures.containers
            process = process or tells_process_metrics(source.process_metrics)[0]
            found.append((label, figures))
        if not found:
            return None
        return Cycle(
            number=number,
            guards=tuple(found),
            process=process,
            gc_stats=tuple(gc.get_stats()),
            containers=self.containers.sums(rows or ()),
        )

    def _monotone(
        self, cycle: Cycle, instrument: Instrument, value: float, attributes: Attributes
    ) -> float:
        """Return *value*; of a counter, with what it had reached before it began anew."""
        if instrument.kind != "counter":
            return value
        key = (instrument.name, *attributes.values())
        with self._lock:
            counted = self._counters.setdefault(key, _Counted())
            if cycle.number >= counted.number:  # else another thread looked later
                if value < counted.value:  # a guard of the same name followed, or a fork
                    counted.base += counted.value
                counted.number, counted.value = cycle.number, value
            return counted.value + counted.base


@dataclass(slots=True)
class _Counted:
    """Where a counter stands."""

    number: int = 0
    value: float = 0
    base: float = 0


def tells_process_metrics(chosen: ProcessMetrics) -> tuple[bool, str]:
    """Return whether ``process.*`` and ``cpython.*`` are ours to tell, and why."""
    if chosen != "auto":
        return chosen == "on", f"process_metrics={chosen!r} was given"
    if OTHERS in sys.modules:
        return False, f"{OTHERS} is loaded, which tells them"
    return True, f"{OTHERS} is not loaded; nobody else is known to tell them"


class _Boards:
    """
    Know the board of each meter provider.

    Bounded by: the providers that are alive.
    Locks: one mutex around the list; instruments are made outside it.
    Keeps alive: boards, as long as their providers live; these not at all.
    """

    def __init__(self) -> None:
        self._boards: weakref.WeakKeyDictionary[Any, Board] = weakref.WeakKeyDictionary()
        self._reset()

    def _reset(self) -> None:
        """In a forked child: nobody is looking for one."""
        self._lock = locks.RLock()

    def of(self, provider: Any | None) -> Board:
        """Return the board of *provider*, or of the global one, with its instruments."""
        reset_after_fork(self)
        current = get_meter_provider()
        provider = current if provider is None else provider
        fresh = False
        with self._lock:
            board = self._boards.get(provider)
            if board is None and provider is current:
                # Made before the program set its provider: those instruments are now this one's.
                early = [each for each in self._boards if type(each).__name__ == _PROXY]
                board = self._boards[early[0]] if early else None
            if board is None:
                board, fresh = Board(), True
            self._boards[provider] = board
        if fresh:
            try:
                board.install(provider)
            except BaseException:
                with self._lock:  # the next one tries anew
                    self._boards.pop(provider, None)
                raise
        return board


_PROXY = "_ProxyMeterProvider"
"""What the API hands out until there is a provider; it passes its instruments on to that."""
boards = _Boards()
