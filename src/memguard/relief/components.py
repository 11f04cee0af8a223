"""
What is this process's memory for? Its containers, and whatever else the application names.

A component is measured (it says its bytes) or estimated (a count times the bytes of one); the rest
is what nobody explains.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from memguard.bounded import inventory
from memguard.errors import CapacityError, ConfigError
from memguard.observe.readings import Reading, read_memory
from memguard.units import format_bytes, parse_bytes

if TYPE_CHECKING:
    from typing_extensions import Self

MOST_COMPONENTS = 1000
How = Literal["measured", "estimated", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """One part of the process's memory."""

    name: str
    kind: str
    """The class of a container, or ``"application"``."""
    count: int | None
    """Entries, connections, whatever it counts; None where it does not."""
    bytes: int | None
    """None where it neither tells bytes nor what one of its things weighs."""
    how: How
    """How *bytes* came to be."""
    error: str | None = None
    """The kind of error that its functions raised; None when they did not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Breakdown:
    """The process's memory by component. Bytes."""

    total: int | None
    """Private memory of the process; None where it cannot be read."""
    components: tuple[Component, ...]
    """The largest first."""

    @property
    def measured(self) -> int:
        """What components measured."""
        return sum(row.bytes or 0 for row in self.components if row.how == "measured")

    @property
    def estimated(self) -> int:
        """What was estimated."""
        return sum(row.bytes or 0 for row in self.components if row.how == "estimated")

    @property
    def unexplained(self) -> int | None:
        """
        What no component explains: the interpreter, modules, free memory of the allocator, leaks.

        Negative where components claim more than there is; None where the total is unknown.
        """
        return None if self.total is None else self.total - self.measured - self.estimated

    def to_dict(self) -> dict[str, Any]:
        """Return it as strings, numbers, lists and dicts."""
        sums = {
            "measured": self.measured,
            "estimated": self.estimated,
            "unexplained": self.unexplained,
        }
        return {**asdict(self), **sums}

    def __str__(self) -> str:
        """Return a table, the largest component first."""
        rest = self.unexplained
        rows: list[tuple[str, ...]] = [
            (row.name, row.kind, "" if row.count is None else f"{row.count:,}", _size(row), row.how)
            for row in self.components
        ]
        rows.append(
            ("unexplained", "", "", "unknown" if rest is None else format_bytes(rest), "the rest")
        )
        widths = [max(len(row[column]) for row in rows) for column in range(5)]
        sides = ("<", "<", ">", ">", "<")
        return "\n".join("  ".join(map(_padded, row, sides, widths)).rstrip() for row in rows)


def _padded(cell: str, side: str, width: int) -> str:
    return f"{cell:{side}{width}}"


def _size(row: Component) -> str:
    return "unknown" if row.bytes is None else format_bytes(row.bytes)


class Registration:
    """
    A component that is registered, until `close`.

    Bounded by: one component.
    Locks: none.
    Keeps alive: its functions.
    """

    __slots__ = ("count", "measure", "name", "unit_bytes")

    def __init__(
        self,
        name: str,
        count: Callable[[], int] | None,
        measure: Callable[[], int] | None,
        unit_bytes: int | None,
    ) -> None:
        self.name = name
        self.count = count
        self.measure = measure
        self.unit_bytes = unit_bytes

    def close(self) -> None:
        """Forget the component; idempotent."""
        for ident, entry in list(_registered.items()):
            if entry is self:
                _registered.pop(ident, None)

    def __enter__(self) -> Self:
        """Return the registration."""
        return self

    def __exit__(self, *_: object) -> None:
        """Forget the component."""
        self.close()


_registered: dict[int, Registration] = {}
_numbers = itertools.count()


def register(
    name: str,
    *,
    count: Callable[[], int] | None = None,
    unit_bytes: int | str | None = None,
    measure: Callable[[], int] | None = None,
) -> Registration:
    """
    Name a part of this process's memory; return a registration, to be closed when it is gone.

    Thread-safe. The functions are called by `breakdown`, in its thread, under no lock.

    Args:
        name: What reports call it.
        count: How many there are: of connections, sessions, rows.
        unit_bytes: What one of them weighs, bytes or ``"2MiB"``; makes an estimate of the count.
        measure: Gives the bytes, instead.

    Raises:
        TypeError: An argument is of the wrong kind.
        ConfigError: Neither *count* nor *measure* is given, or both *unit_bytes* and *measure*.
        CapacityError: There are 1000 already.

    Example:
        >>> websockets = [object(), object()]
        >>> entry = register("websockets", count=lambda: len(websockets), unit_bytes="2MiB")
        >>> [row.bytes for row in breakdown().components if row.name == "websockets"]
        [4194304]
        >>> entry.close()
    """
    if not isinstance(name, str):
        raise TypeError(f"name must be a string (got {type(name).__name__})")
    for option, value in (("count", count), ("measure", measure)):
        if value is not None and not callable(value):
            raise TypeError(f"{option} must be callable (got {type(value).__name__})")
    if count is None and measure is None:
        raise ConfigError(f"component {name!r} needs count= or measure=, else nothing is known")
    if unit_bytes is not None and (measure is not None or count is None):
        raise ConfigError(f"component {name!r}: unit_bytes goes with count= and without measure=")
    if len(_registered) >= MOST_COMPONENTS:
        raise CapacityError(
            f"{MOST_COMPONENTS} components are registered; close those that are gone, or register "
            "one for all of a kind"
        )
    weight = None if unit_bytes is None else parse_bytes(unit_bytes, name="unit_bytes")
    entry = Registration(name, count, measure, weight)
    _registered[next(_numbers)] = entry
    return entry


def breakdown(*, read: Callable[[], Reading] = read_memory) -> Breakdown:
    """
    Return what the process's memory is for. Never raises for a component.

    Thread-safe. Cost: O(containers), and what the registered functions cost.

    Args:
        read: Takes the reading that gives the total.
    """
    rows = [
        Component(
            name=row.name,
            kind=row.kind,
            count=row.items,
            bytes=row.bytes,
            how=_how_of(row.bytes, row.statistics),
        )
        for row in inventory.inventory()
    ]
    rows += [_ask(entry) for entry in list(_registered.copy().values())]
    rows.sort(key=lambda row: row.bytes or 0, reverse=True)
    return Breakdown(total=read().private, components=tuple(rows))


def _how_of(size: int | None, statistics: Any) -> How:
    if size is None:
        return "unknown"
    return "estimated" if getattr(statistics, "bytes_estimated", False) else "measured"


def _ask(entry: Registration) -> Component:
    count = size = None
    error = None
    how: How = "unknown"
    try:
        if entry.count is not None:
            count = int(entry.count())
        if entry.measure is not None:
            size, how = int(entry.measure()), "measured"
        elif count is not None and entry.unit_bytes is not None:
            size, how = count * entry.unit_bytes, "estimated"
    except Exception as caught:  # noqa: BLE001 - reason: the host's code; its row says that it failed
        error = type(caught).__name__
    return Component(
        name=entry.name, kind="application", count=count, bytes=size, how=how, error=error
    )
