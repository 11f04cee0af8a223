"""
One set of instruments for each meter provider, and one look at the guards for each collection.

The SDK keeps an instrument and its callbacks for as long as the provider lives, and drops the
callbacks of a second instrument of the same name. So there is one set for each provider; guards
come and go, and without any it reports nothing.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from opentelemetry.metrics import CallbackOptions, Observation, get_meter_provider

from memguard._version import __version__
from memguard.bounded.inventory import InventoryRow
from memguard.errors import CapacityError
from memguard.lifecycle import locks
from memguard.lifecycle.fork import reset_after_fork
from memguard.report.metrics.catalog import CONVENTIONAL, INSTRUMENTS
from memguard.report.metrics.containers import ContainerMetrics, Found
from memguard.report.metrics.metric import Metric
from memguard.report.state import GuardState

MOST_GUARDS = 16
"""Names of guards that one provider may ever see: it keeps what it saw."""
MOST_CONTAINERS = 50
"""Containers with a name of their own."""
OTHERS = "opentelemetry.instrumentation.system_metrics"
"""The module that exports the metrics of the semantic conventions as well."""
_OLDEST_SECONDS = 5.0
"""A look older than that belongs to another collection."""

ProcessMetrics = Literal["auto", "on", "off"]
Attributes = Mapping[str, str | int]
_ATTRIBUTES = {
    "generation": "cpython.gc.generation",
    "kind": "memguard.alert.kind",
    "level": "memguard.level",
    "outcome": "memguard.outcome",
    "part": "memguard.part",
    "state": "memguard.leak.state",
}
"""What the labels of the catalog are called here."""


@dataclass(frozen=True, slots=True)
class Cycle:
    """One collection: the state of each guard, and what is the process's own."""

    number: int
    """Later ones have higher numbers."""
    guards: tuple[tuple[str, GuardState], ...]
    """(label, state)."""
    process: bool
    """True if the metrics of the semantic conventions are ours to export."""
    containers: Found

    def values(self, metric: Metric) -> Iterator[tuple[float, Attributes]]:
        """Yield (value, attributes) for what is known of *metric*."""
        if metric.label == "container":
            for (name, kind), value in self.containers[metric].items():
                yield (
                    value,
                    {"memguard.container.name": name, "memguard.container.kind": kind},
                )
            return
        if metric in CONVENTIONAL and not self.process:
            return
        for guard, state in self.guards if metric.of_guard else self.guards[:1]:
            attributes: dict[str, str | int] = {"memguard.guard": guard} if metric.of_guard else {}
            for key, value in metric.values(state):
                if metric.label:
                    name = _ATTRIBUTES[metric.label]
                    attributes[name] = int(key) if metric.label == "generation" else key
                yield value, dict(attributes)


class Source(Protocol):
    """A guard, as its instruments see it."""

    process_metrics: ProcessMetrics

    def fail(self, what: str, error: BaseException) -> None:
        """Count a failure; log nothing, because a lock of the SDK is held."""

    def look(self) -> GuardState | None:
        """Return its state; None when it is gone."""


class _Look(threading.local):
    """The collection that this thread is in the midst of."""

    cycle: Cycle | None = None
    seen: frozenset[str] = frozenset()
    at: float = 0.0
    pid: int = 0


class Instruments:
    """
    The instruments of one meter provider.

    Bounded by: the instruments, 16 guards, 50 names of containers, and a counter for each.
    Locks: one mutex around counters and the list of guards; nothing of the host's runs under it.
    Keeps alive: its sources, until they are removed; its provider not at all.
    """

    def __init__(self, timer: Callable[[], float] = time.monotonic) -> None:
        self._timer = timer
        self._sources: tuple[tuple[str, Source], ...] = ()
        self._labels: set[str] = set()
        self._counters: dict[tuple[str | int, ...], _Counted] = {}
        self._look = _Look()
        self.containers = ContainerMetrics(MOST_CONTAINERS)
        self.cycles = 0
        """Collections so far."""
        self._reset()
        reset_after_fork(self)

    def _reset(self) -> None:
        """In a forked child: sources are added when they are started there."""
        self._lock = locks.RLock()
        self._sources = ()

    # -- guards -----------------------------------------------------------------------------------

    def add(self, source: Source, name: str) -> str:
        """
        Export *source* from now on, and return its label: *name*, or ``name-2`` if that is taken.

        Raises:
            CapacityError: There were 16 names already.
        """
        with self._lock:
            label = self._free_label(name)
            if label not in self._labels and len(self._labels) >= MOST_GUARDS:
                raise CapacityError(
                    f"this meter provider has seen {MOST_GUARDS} guards, and keeps what it saw "
                    "for good; give guards that follow one another the same name"
                )
            self._labels.add(label)
            self._sources = (*self._sources, (label, source))
            return label

    def _free_label(self, name: str) -> str:
        taken = {label for label, _ in self._sources}
        label = name
        for number in range(2, MOST_GUARDS + 2):
            if label not in taken:
                break
            label = f"{name}-{number}"
        return label

    def remove(self, source: Source) -> None:
        """Stop exporting *source*; no error when it is not there."""
        with self._lock:
            self._sources = tuple(each for each in self._sources if each[1] is not source)

    # -- what is exported -------------------------------------------------------------------------

    def install(self, provider: Any) -> None:
        """Make the instruments, once. Under no lock, because it is the SDK's code."""
        meter = provider.get_meter("memguard", __version__)
        make = {
            "counter": meter.create_observable_counter,
            "updown": meter.create_observable_up_down_counter,
            "gauge": meter.create_observable_gauge,
        }
        for metric in INSTRUMENTS:
            kind = "updown" if metric.adds_up else metric.kind
            callback = functools.partial(self.observe, metric)
            make[kind](metric.otel, callbacks=[callback], unit=metric.unit, description=metric.help)

    def observe(self, metric: Metric, _options: CallbackOptions | None = None) -> list[Observation]:
        """Return the values of *metric* now: the callback of the SDK. Never raises."""
        sources = self._sources
        if not sources:
            self._look.cycle = None
            return []
        try:
            cycle = self._cycle(metric, sources)
            if cycle is None:
                return []
            return [
                Observation(self._monotone(cycle, metric, value, attributes), dict(attributes))
                for value, attributes in cycle.values(metric)
            ]
        except Exception as error:  # noqa: BLE001 - reason: counted; a collection goes on without it
            sources[0][1].fail(metric.otel, error)
            return []

    def _cycle(self, metric: Metric, sources: tuple[tuple[str, Source], ...]) -> Cycle | None:
        """
        Return this collection; look again where it begins.

        The SDK calls one callback after the other and does not say where a collection begins: it
        does when an instrument is read a second time, or after a while.
        """
        look, now = self._look, self._timer()
        is_old = now - look.at > _OLDEST_SECONDS or look.pid != os.getpid()
        begins = is_old or metric.otel in look.seen
        if begins or look.cycle is None:
            look.seen, look.at, look.pid = frozenset(), now, os.getpid()
            self.cycles += 1
            look.cycle = self._gather(self.cycles, sources)
        look.seen |= {metric.otel}
        cycle = look.cycle
        if metric is INSTRUMENTS[-1]:
            look.cycle = None  # the last one: nothing is kept until the next collection
        return cycle

    def _gather(self, number: int, sources: tuple[tuple[str, Source], ...]) -> Cycle | None:
        found: list[tuple[str, GuardState]] = []
        rows: tuple[InventoryRow, ...] = ()
        process = False
        for label, source in sources:
            try:
                state = source.look()
            except Exception as error:  # noqa: BLE001 - reason: one broken guard must not hide the others
                source.fail("state", error)
                continue
            if state is None:
                self.remove(source)
                continue
            rows = state.containers
            process = process or exports_process_metrics(source.process_metrics)[0]
            found.append((label, state))
        if not found:
            return None
        return Cycle(
            number=number,
            guards=tuple(found),
            process=process,
            containers=self.containers.read(rows),
        )

    def _monotone(
        self, cycle: Cycle, metric: Metric, value: float, attributes: Attributes
    ) -> float:
        """Return *value*; of a counter, with what it had reached before it started over."""
        if metric.kind != "counter":
            return value
        key = (metric.otel, *attributes.values())
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


def exports_process_metrics(chosen: ProcessMetrics) -> tuple[bool, str]:
    """Return whether ``process.*`` and ``cpython.*`` are ours to export, and why."""
    if chosen != "auto":
        return chosen == "on", f"process_metrics={chosen!r} was given"
    if OTHERS in sys.modules:
        return False, f"{OTHERS} is loaded, which exports them"
    return True, f"{OTHERS} is not loaded; no other exporter of them is known"


class _Providers:
    """
    Find the instruments of each meter provider.

    Bounded by: the providers that are alive.
    Locks: one mutex around the list; instruments are made outside it.
    Keeps alive: instruments, as long as their providers live; these not at all.
    """

    def __init__(self) -> None:
        self._found: weakref.WeakKeyDictionary[Any, Instruments] = weakref.WeakKeyDictionary()
        self._reset()

    def _reset(self) -> None:
        """In a forked child: no collection is in progress."""
        self._lock = locks.RLock()

    def _early(self) -> Instruments | None:
        found = [own for each, own in self._found.items() if type(each).__name__ == _PROXY]
        return found[0] if found else None

    def of(self, provider: Any | None) -> Instruments:
        """Return the instruments of *provider*, or of the global one."""
        reset_after_fork(self)
        current = get_meter_provider()
        provider = current if provider is None else provider
        fresh = False
        with self._lock:
            instruments = self._found.get(provider)
            if instruments is None and provider is current:
                # Made before the program set its provider: those instruments are now this one's.
                instruments = self._early()
            if instruments is None:
                instruments, fresh = Instruments(), True
            self._found[provider] = instruments
        if fresh:
            try:
                instruments.install(provider)
            except BaseException:
                with self._lock:  # the next one tries again
                    self._found.pop(provider, None)
                raise
        return instruments


_PROXY = "_ProxyMeterProvider"
"""What the API hands out until there is a provider; it passes its instruments on to that."""
providers = _Providers()
