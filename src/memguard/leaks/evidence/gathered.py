"""What an investigation has gathered: plain data between the walk of the heap and the report."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from memguard.leaks.evidence.calls import CallSite
from memguard.leaks.evidence.garbage import Collector, Garbage
from memguard.leaks.evidence.newest import Sample
from memguard.leaks.evidence.resources import ResourceChange
from memguard.leaks.evidence.tracing import Location, Trace
from memguard.leaks.growth.counts import CountTrend
from memguard.leaks.report import HolderUnit


@dataclass(slots=True)
class HolderEvidence:
    """One growing container, without the container."""

    type: str
    path: str
    anchored: bool
    inventory_name: str | None
    bound: int | None
    entries: int
    entries_added: int
    entries_per_minute: float
    sample: Sample
    steady: bool
    """False when it was seen to lose half of what it had gained."""
    bytes_added: float = 0.0
    """Of the entries gained between the looks, estimated at the second one."""
    unit: HolderUnit = "entries"
    """What *entries* counts."""
    in_user_code: bool = False
    through: tuple[str, ...] = ()
    owner: tuple[str, ...] = ()
    """As in `Retention`."""
    unseen: bool = False
    """True where nothing in Python holds it, as far up as its holders go."""
    containers: int = 1
    """How many of one type and path are counted together here."""

    def join(self, other: HolderEvidence) -> None:
        """Count *other* in: another container that is reached the same way."""
        self.containers += other.containers
        self.entries += other.entries
        self.entries_added += other.entries_added
        self.entries_per_minute += other.entries_per_minute
        self.bytes_added += other.bytes_added
        self.sample.add(other.sample)


def joined(holders: Iterable[HolderEvidence]) -> list[HolderEvidence]:
    """
    Return *holders*, those in one that have a type and a named path in common.

    Of the lists in one dict each has the path of all, and what grows is the dict of lists.
    """
    kept: dict[tuple[object, ...], HolderEvidence] = {}
    for number, holder in enumerate(holders):
        key: tuple[object, ...] = (number,)
        if holder.anchored and holder.inventory_name is None and holder.bound is None:
            key = (holder.path, holder.type, holder.unit, holder.steady)
        if key in kept:
            kept[key].join(holder)
        else:
            kept[key] = holder
    return list(kept.values())


@dataclass(slots=True)
class Evidence:
    """Everything seen between the first look and the end of the last burst."""

    gap_seconds: float = 0.0
    """Between the two looks."""
    holders: list[HolderEvidence] = field(default_factory=list)
    types: list[tuple[str, int, int]] = field(default_factory=list)
    """(name, count now, gained), most gained first."""
    all_types: list[tuple[str, int, int]] = field(default_factory=list)
    """Likewise, unfiltered."""
    trace: Trace | None = None
    functions: dict[Location, str] = field(default_factory=dict)
    qualified: dict[Location, str] = field(default_factory=dict)
    """Their qualified names: ``Shop.remember``."""
    sources: dict[Location, str] = field(default_factory=dict)
    """Text of the suspected lines, where it is what runs."""
    notes: list[str] = field(default_factory=list)
    """What was not looked at, and why."""
    traced_seconds: float = 0.0
    """How long tracing of ours was on."""
    census_seconds: float = 0.0
    retention_seconds: float = 0.0
    traced_growth_per_minute: float | None = None
    """Growth of what was alive while tracing was on, bytes; what is in flight cancels out."""
    collected_bytes: int | None = None
    private_bytes: int | None = None
    heap_free_bytes: int | None = None
    heap_in_use_growth: int | None = None
    heap_free_growth: int | None = None
    private_growth: int | None = None
    """Of private memory between the two looks, bytes."""
    data_growth: int | None = None
    """Of writable address space between the two looks, bytes."""
    blocks_growth: int | None = None
    modules_imported: int = 0
    """Between the two looks."""
    resources: tuple[ResourceChange, ...] = ()
    """Threads, tasks, sockets and files between the two looks."""
    counts: tuple[CountTrend, ...] = ()
    """What piles up according to the readings."""
    memory_grows: bool = True
    """False where only counts have called for evidence."""
    interpreters: int = 0
    """Others than this one in the process."""
    collector: Collector = field(default_factory=Collector)
    garbage: Garbage | None = None
    """Among the youngest objects at the second look, before anything was collected."""
    garbage_growth: float = 0.0
    """Bytes of garbage gained between the looks, by the types that it is of."""
    calls: list[CallSite] = field(default_factory=list)
    """Who called C code meanwhile, where Python accounts for too little; the busiest first."""
    objects_growth: int = 0
    """Of objects that the collector knows, between the looks."""

    def note(self, note: str | None) -> None:
        """Add *note*, once; None is no note."""
        if note is not None and note not in self.notes:
            self.notes.append(note)
