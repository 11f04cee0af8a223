"""Threads, tasks, sockets and files as a report has them, from two looks and readings. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, replace

from memguard.leaks.evidence.gathered import Evidence, HolderEvidence
from memguard.leaks.evidence.resources import ResourceChange
from memguard.leaks.growth.counts import Counted, CountTrend
from memguard.leaks.report import (
    Holder,
    LeakReport,
    ResourceGroup,
    ResourceGrowth,
    ResourceKind,
)

ORDER: tuple[ResourceKind, ...] = ("threads", "tasks", "sockets", "files")
"""Causes before what they bring along: a thread or a task that hangs keeps its sockets open."""
LEAST = 16
"""Gained between two looks, to be named as what makes memory grow."""
ALIKE = 4.0
"""Times as fast, or as slow, as a resource that a container may grow and still hold it."""
EXACTLY = 0.1
"""By which share the number for each may differ from a whole one."""
_CAUSES = ("threading.Thread", "_asyncio.Task", "asyncio.tasks.Task", "coroutine")
_TYPES: dict[ResourceKind, tuple[str, ...]] = {
    "threads": ("threading.Thread",),
    "tasks": ("_asyncio.Task", "asyncio.tasks.Task"),
    "sockets": ("_socket.socket",),
    "files": ("_io._IOBase",),
}
"""What there is of each in Python, by the names of base types."""
PER_CLIENT = 4
"""Threads, or tasks, that one connected client may have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceSigns:
    """The numbers by which a resource is judged."""

    kind: ResourceKind
    gained: int
    """Between the two looks."""
    per_minute: float
    bounded: int = 0
    """Of *gained*: in pools that have a maximum, or of clients that have connected."""
    piles_up: bool = False
    """Its readings have passed the thresholds for such counts, and keep rising."""
    held_per_minute: float = 0.0
    """Bytes a minute of the holders whose entries grow at a like rate."""

    @property
    def outgrows(self) -> bool:
        """True where most of what was gained has no bound."""
        return self.gained > 0 and self.bounded <= self.gained / 2


def resource_signs(evidence: Evidence, holders: tuple[Holder, ...]) -> tuple[ResourceSigns, ...]:
    """Return what is known of each resource, in the order in which they are judged."""
    changes = {change.kind: change for change in evidence.resources}
    clients = max((change.clients for change in evidence.resources), default=0)
    piling = {kind_of(count, changes) for count in evidence.counts}
    return tuple(
        _signs(
            changes[kind],
            piles_up=kind in piling,
            clients=clients,
            gap=evidence.gap_seconds,
            holders=holders,
        )
        for kind in ORDER
        if kind in changes
    )


def kind_of(count: CountTrend, changes: dict[ResourceKind, ResourceChange]) -> ResourceKind:
    """Return what of descriptors grows: sockets, or others."""
    if count.counted != "descriptors":
        return count.counted
    sockets, files = changes.get("sockets"), changes.get("files")
    if sockets is None or files is None:
        return "files" if sockets is None else "sockets"
    gained = max(0, sockets.added), max(0, files.added)
    more = gained if any(gained) else (sockets.count, files.count)
    return "sockets" if more[0] >= more[1] else "files"


def _signs(
    change: ResourceChange,
    *,
    piles_up: bool,
    clients: int,
    gap: float,
    holders: tuple[Holder, ...],
) -> ResourceSigns:
    pace = change.added / gap * 60 if gap > 0 else 0.0
    connected = {"sockets": clients, "files": 0}.get(change.kind, PER_CLIENT * clients)
    return ResourceSigns(
        kind=change.kind,
        gained=change.added,
        per_minute=pace,
        bounded=min(max(0, change.added), max(change.filling, connected)),
        piles_up=piles_up,
        held_per_minute=sum(
            holder.bytes_per_minute or 0.0
            for holder in holders
            if pace > 0 and 1 / ALIKE <= holder.entries_per_minute / pace <= ALIKE
        ),
    )


def is_brought_along(evidence: Evidence, causes: Collection[Counted]) -> bool:
    """
    Return True for a count that others bring along: as a socket for each thread that hangs.

    There are as many for each of theirs, and nothing with a name holds them but what holds those.

    Args:
        evidence: Of one count that piles up.
        causes: The others that rise.
    """
    changes = {change.kind: change for change in evidence.resources}
    mine = next((changes.get(kind_of(count, changes)) for count in evidence.counts), None)
    if mine is None or _are_held_by_name(mine.kind, evidence):
        return False
    for cause in causes:
        theirs = changes.get(cause) if cause != "descriptors" else None
        if theirs is None or theirs.added < LEAST:
            continue
        each = mine.added / theirs.added
        if 1 <= round(each) <= ALIKE and abs(each - round(each)) <= EXACTLY * each:
            return True
    return False


def _are_held_by_name(kind: ResourceKind, evidence: Evidence) -> bool:
    """Return True where a growing container of the program keeps such objects."""
    return any(
        holder.anchored
        and holder.in_user_code
        and holder.steady
        and any(kept[each] for kept in _kept(holder) for each in _TYPES[kind])
        and not any(kept[each] for kept in _kept(holder) for each in _CAUSES)
        for holder in evidence.holders
    )


def _kept(holder: HolderEvidence) -> tuple[Counter[str], Counter[str]]:
    return holder.sample.kinds, holder.sample.keeps


def resource_growth(
    evidence: Evidence, signs: tuple[ResourceSigns, ...], previous: LeakReport | None = None
) -> tuple[ResourceGrowth, ...]:
    """
    Return the resources that a report shows: those that pile up, and what is worth a look.

    Args:
        evidence: What two looks saw.
        signs: How each is judged.
        previous: The report that is updated: what was gained since counts from its first look.
    """
    before = {} if previous is None else {each.kind: each for each in previous.resources}
    changes = {change.kind: change for change in evidence.resources}
    trends = {kind_of(count, changes): count for count in evidence.counts}
    shown = [each for each in signs if each.piles_up or (each.outgrows and each.gained >= LEAST)]
    shown.sort(key=lambda each: not each.piles_up)
    return tuple(
        _row(changes[each.kind], each, trends.get(each.kind), before.get(each.kind))
        for each in shown
    )


def _row(
    change: ResourceChange,
    signs: ResourceSigns,
    count: CountTrend | None,
    before: ResourceGrowth | None,
) -> ResourceGrowth:
    return ResourceGrowth(
        kind=change.kind,
        count=change.count,
        added=change.added + (before.added if before else 0),
        per_minute=signs.per_minute if count is None else count.per_minute,
        limit=None if count is None else count.limit,
        seconds_to_limit=None if count is None else count.seconds_to_limit,
        groups=_added_up(change.groups, before.groups if before else ()),
        sampled=change.sampled or (before is not None and before.sampled),
    )


def _added_up(
    groups: tuple[ResourceGroup, ...], before: tuple[ResourceGroup, ...]
) -> tuple[ResourceGroup, ...]:
    """Return *groups* with what they had gained *before*, the largest growth first."""
    known = {(group.name, group.begins_at): group.added for group in before}
    found = (
        replace(group, added=group.added + known.get((group.name, group.begins_at), 0))
        for group in groups
    )
    return tuple(sorted(found, key=lambda group: -group.added))
