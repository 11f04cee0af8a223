"""
What a metric is: its kind, its names and unit in Prometheus and OpenTelemetry, and how it is read.

Names and units for Prometheus follow https://prometheus.io/docs/practices/naming/ and OpenMetrics
1.0: base units as suffixes, ``_total`` for counters, shares as ratios from 0 to 1. Units for
OpenTelemetry are UCUM (https://ucum.org).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from memguard.report.state import GuardState

NUMBERS = (int, float)
MOST = 1e300
"""A larger int would make a client fail where it writes a double; NaN is not below it."""

Kind = Literal["gauge", "counter", "histogram"]
Across = Literal["liveall", "livesum", "livemax"]


@dataclass(frozen=True, slots=True)
class Pauses:
    """A histogram: how many were as long as that, not cumulated, and all of them together."""

    buckets: tuple[tuple[float, int], ...]
    """(upper bound in seconds, pauses up to it and above the bound before); the last is inf."""
    total: float
    """Seconds."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Metric:
    """One metric: what its samples have in common."""

    kind: Kind
    help: str
    read: Callable[[GuardState], Any] | None
    """Returns the number, None if it is not known; with a *label* a number for each of its
    values. None for what is gathered elsewhere."""
    label: str = ""
    """The label whose values *read* returns."""
    of_guard: bool = True
    """False for what is the same for all guards of a process."""
    prometheus: str = ""
    """Its name there, with the unit, and for counters with ``_total``; empty for none."""
    across: Across = "liveall"
    """What several processes make of a gauge: one sample for each, their sum, or the highest."""
    otel: str = ""
    """Its name in OpenTelemetry; empty for none."""
    unit: str = ""
    """In OpenTelemetry."""
    adds_up: bool = False
    """A gauge of which the sum over processes has a meaning: an UpDownCounter in OpenTelemetry."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of its labels in Prometheus."""
        if self.label == "container":
            return ("container", "kind")
        return (*(("guard",) if self.of_guard else ()), *((self.label,) if self.label else ()))

    def values(self, state: GuardState) -> list[tuple[str, Any]]:
        """Return (value of the label, number or `Pauses`) for what is known."""
        found = self.read(state) if self.read is not None else None
        if not self.label:
            return [("", found)] if is_number(found) else []
        return [
            (name, value)
            for name, value in (found or {}).items()
            if is_number(value) or isinstance(value, Pauses)
        ]


def is_number(value: object) -> bool:
    """Return whether *value* can be exported: an int or float, finite, that fits a double."""
    return type(value) in NUMBERS and -MOST < value < MOST  # type: ignore[operator]  # reason: the types are known by then


def metric(
    kind: Kind,
    name: str,
    text: str,
    read: str | Callable[[GuardState], Any] | None,
    label: str = "",
    *,
    across: Across = "liveall",
    otel: tuple[str, ...] = ("", ""),
    of_guard: bool = True,
) -> Metric:
    """
    Return a metric.

    Args:
        kind: What it is.
        name: In Prometheus, without ``memguard_`` and ``_total``; empty for none.
        text: What it says.
        read: How; or which field of which part of a `GuardState`: ``"relief.runs"``.
        label: The label whose values *read* returns.
        across: See `Metric`.
        otel: Name and unit in OpenTelemetry, and ``"sum"`` for what adds up over processes.
        of_guard: See `Metric`.
    """
    suffix = "_total" if kind == "counter" else ""
    return Metric(
        kind=kind,
        help=text,
        read=field(*read.split(".")) if isinstance(read, str) else read,
        label=label,
        of_guard=of_guard,
        prometheus=f"memguard_{name}{suffix}" if name else "",
        across=across,
        otel=otel[0],
        unit=otel[1],
        adds_up=otel[2:] == ("sum",),
    )


gauge = partial(metric, "gauge")
counter = partial(metric, "counter")


def field(part: str, name: str) -> Callable[[GuardState], Any]:
    """Return what reads *name* of *part* of a `GuardState`; None where there is no such part."""
    return lambda state: getattr(getattr(state, part), name, None)


def bound_label(seconds: float) -> str:
    """Return the upper bound of a bucket as OpenMetrics writes it (canonical numbers)."""
    return "+Inf" if seconds == math.inf else repr(float(seconds))
