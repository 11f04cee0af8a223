"""
This process's memory by component: its containers, and what the application registers.

A component is measured (it reports its bytes), estimated (a count times the bytes of one) or opaque
(only a library knows most of its bytes); the rest is unexplained.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from memguard.bounded import inventory
from memguard.bounded.options import check_callable, check_instance
from memguard.errors import ConfigError
from memguard.lifecycle.registry import Registration, Registry
from memguard.observe.allocator import read_allocator
from memguard.observe.children import Family, read_family
from memguard.observe.modules import module_bytes
from memguard.observe.readings import Reading, read_memory
from memguard.relief.resource import MEMORY
from memguard.units import format_bytes, parse_bytes

MOST_COMPONENTS = 1000
How = Literal["measured", "estimated", "opaque", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """One part of the process's memory."""

    name: str
    kind: str
    """The class of a container, or ``"application"``."""
    count: int | None
    """Entries, connections, whatever it counts; None if it does not."""
    bytes: int | None
    """None if neither its bytes nor those of one of its entries are known."""
    how: How
    """Where *bytes* come from; where they are opaque, they are what is known, and too few."""
    error: str | None = None
    """The kind of error that its functions raised; None when they did not."""
    resource: str = MEMORY
    """What its bytes are of: ``"memory"``, or the name of a device or a quota."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Breakdown:
    """The process's memory by component. Bytes."""

    total: int | None
    """Private memory of the process; None if it cannot be read."""
    components: tuple[Component, ...]
    """Those of memory, the largest first."""
    others: tuple[Component, ...] = ()
    """Those of other resources, which explain nothing of *total*."""
    modules: int | None = None
    """About what the interpreter and loaded modules take of *total*."""
    allocator_free: int | None = None
    """What the C allocator keeps free, at most; None if it does not say."""
    shared: int | None = None
    """Resident shared memory, which is not in *total*."""
    files: int | None = None
    """Resident pages of files, which the kernel can drop; they are not in *total*."""
    children: int | None = None
    """What child processes hold, beside *total*."""

    @property
    def measured(self) -> int:
        """Bytes of the components that were measured."""
        return sum(row.bytes or 0 for row in self.components if row.how == "measured")

    @property
    def estimated(self) -> int:
        """Bytes of the components that were estimated."""
        return sum(row.bytes or 0 for row in self.components if row.how == "estimated")

    @property
    def opaque(self) -> int:
        """Known bytes of the components with values whose memory only their library knows."""
        return sum(row.bytes or 0 for row in self.components if row.how == "opaque")

    @property
    def known(self) -> int:
        """Bytes that components explain."""
        return self.measured + self.estimated + self.opaque

    @property
    def overclaimed(self) -> int:
        """Bytes by which components claim more than there is: shared ones, or wrong weights."""
        return 0 if self.total is None else max(0, self.known - self.total)

    @property
    def unexplained(self) -> int | None:
        """
        Bytes of no component, beyond modules and free memory of the allocator.

        Objects that no container holds, leaks, what opaque values have. Never negative; None if the
        total is unknown.
        """
        if self.total is None:
            return None
        rest = self.known + (self.modules or 0) + (self.allocator_free or 0)
        return max(0, self.total - rest)

    def to_dict(self) -> dict[str, Any]:
        """Return it as strings, numbers, lists and dicts."""
        sums = {
            "measured": self.measured,
            "estimated": self.estimated,
            "opaque": self.opaque,
            "overclaimed": self.overclaimed,
            "unexplained": self.unexplained,
        }
        return {**asdict(self), **sums}

    def __str__(self) -> str:
        """Return a table, the largest component first."""
        rest = self.unexplained
        rows = [_cells(row) for row in self.components]
        named = (
            ("interpreter and modules", self.modules, "estimated"),
            ("free in the allocator", self.allocator_free, "at most"),
        )
        rows += [(name, "", "", format_bytes(size), how) for name, size, how in named if size]
        rows.append(
            ("unexplained", "", "", "unknown" if rest is None else format_bytes(rest), "the rest")
        )
        beside = (("shared", self.shared), ("files", self.files), ("children", self.children))
        rows += [(name, "", "", format_bytes(size), "beside") for name, size in beside if size]
        rows += [(*_cells(row)[:4], row.resource) for row in self.others]
        widths = [max(len(row[column]) for row in rows) for column in range(5)]
        sides = ("<", "<", ">", ">", "<")
        return "\n".join("  ".join(map(_padded, row, sides, widths)).rstrip() for row in rows)


def _cells(row: Component) -> tuple[str, ...]:
    count = "" if row.count is None else f"{row.count:,}"
    return (row.name, row.kind, count, _size(row), row.how)


def _padded(cell: str, side: str, width: int) -> str:
    return f"{cell:{side}{width}}"


def _size(row: Component) -> str:
    if row.bytes is None:
        return "unknown"
    least = "at least " if row.how == "opaque" else ""
    return least + format_bytes(row.bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedComponent:
    """A component of the application, and the functions that measure it."""

    name: str
    count: Callable[[], int] | None
    measure: Callable[[], int] | None
    unit_bytes: int | None
    resource: str


_registered: Registry[NamedComponent] = Registry(MOST_COMPONENTS, "components")


def register(
    name: str,
    *,
    count: Callable[[], int] | None = None,
    unit_bytes: int | str | None = None,
    measure: Callable[[], int] | None = None,
    resource: str = MEMORY,
) -> Registration[NamedComponent]:
    """
    Name a part of this process's memory; return a registration, to be closed when it is gone.

    Thread-safe. The functions are called by `breakdown`, in its thread, under no lock.

    Args:
        name: What reports call it.
        count: How many there are: of connections, sessions, rows.
        unit_bytes: What one of them weighs, bytes or ``"2MiB"``; makes an estimate of the count.
        measure: Gives the bytes, instead.
        resource: What the bytes are of: another than ``"memory"``, such as ``"cuda:0"``, is shown
            apart and explains nothing of the memory.

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
    check_instance(name, str, "name")
    check_instance(resource, str, "resource")
    check_callable(count, "count")
    check_callable(measure, "measure")
    if count is None and measure is None:
        raise ConfigError(f"component {name!r} needs count= or measure=, else nothing is known")
    if unit_bytes is not None and (measure is not None or count is None):
        raise ConfigError(f"component {name!r}: unit_bytes goes with count= and without measure=")
    weight = None if unit_bytes is None else parse_bytes(unit_bytes, name="unit_bytes")
    return _registered.add(
        NamedComponent(
            name=name, count=count, measure=measure, unit_bytes=weight, resource=resource
        )
    )


def breakdown(
    *,
    read: Callable[[], Reading] = read_memory,
    family: Callable[[], Family] = read_family,
) -> Breakdown:
    """
    Return the process's memory by component. Never raises for a component.

    Thread-safe. Cost: O(containers), and what the registered functions cost; some ms if there are
    child processes, and 10 ms for each GiB that these hold.

    Args:
        read: Takes the reading that gives the total.
        family: Gives what child processes hold.
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
    rows += [_ask(entry) for entry in _registered]
    rows.sort(key=lambda row: row.bytes or 0, reverse=True)
    components = tuple(row for row in rows if row.resource == MEMORY)
    reading = read()
    total = reading.private
    modules = free = None
    if total is not None:  # of what components leave: both are more often too high than too low
        left = max(0, total - sum(row.bytes or 0 for row in components))
        modules = min(left, module_bytes())
        kept = read_allocator().free
        free = None if kept is None else min(left - modules, kept)
    return Breakdown(
        total=total,
        components=components,
        others=tuple(row for row in rows if row.resource != MEMORY),
        modules=modules,
        allocator_free=free,
        shared=reading.shmem,
        files=reading.file,
        children=family().bytes,
    )


def _how_of(size: int | None, statistics: Any) -> How:
    if size is None:
        return "unknown"
    if getattr(statistics, "opaque", None):
        return "opaque"
    return "estimated" if getattr(statistics, "bytes_estimated", False) else "measured"


def _ask(entry: NamedComponent) -> Component:
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
        name=entry.name,
        kind="application",
        count=count,
        bytes=size,
        how=how,
        error=error,
        resource=entry.resource,
    )
