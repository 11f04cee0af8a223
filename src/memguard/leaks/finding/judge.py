"""
The judge of growth: is it a leak, of what kind, and how much of it is explained? Pure.

All is decided here, from numbers: `Signs` are what was measured, a `Judgement` is the answer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from memguard.leaks.evidence import garbage
from memguard.leaks.finding.advice import KINDS
from memguard.leaks.finding.resources import LEAST, ResourceSigns
from memguard.leaks.growth.trend import Trend, TrendKind, TrendOptions
from memguard.leaks.report import Holder, ReportKind, TrendSummary, Verdict, VerdictKind
from memguard.units import format_bytes

LIVE_SHARE = 0.5
"""Share of the growth that must be accounted for to call it explained, or live objects."""
GARBAGE_SHARE = 0.1
"""Share of private memory that a full collection must free to speak of garbage."""
KEPT_SHARE = 0.3
"""Share of the growth, or of private memory, that the C allocator keeps: fragmentation."""
GAINED_BYTES = 512 * 1024
"""What containers must gain between two looks for their entries to count though nothing grew."""
NOISE_BYTES = 512 * 1024
"""Growth between two looks on demand that may be anything."""
CERTAIN = 0.95
"""And a trend of their readings that is less certain than that."""
IMPORTS = 3
"""Modules imported between two looks that make a growth of code."""
MODULE_BYTES = 1024 * 1024
"""More than most modules bring, libraries of theirs included: what is far beyond it is no code."""
TELLING_BYTES = 64 * 1024
"""Growth that a burst of tracing cannot overlook."""
RESERVED = 0.25
"""Share of the growth that must have been allocated since, or it is memory reserved before."""
STOPPED = 0.05
"""Share of the growth below which it has stopped."""
EACH_BYTES = (256, 4 * 1024 * 1024)
"""What a thread, a task or a descriptor may make memory grow by."""
SEEN: tuple[VerdictKind, ...] = ("live_objects", "extension", "cycles")
"""Kinds that are seen without tracing."""
SPEAKS = 0.25
"""Share of the growth at which a sign speaks for a leak: without any it is not called one."""
SOON = 60.0
"""Minutes within which the collector must come for garbage to be growth that ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signs:
    """The numbers a judgement rests on. Bytes, or bytes per minute; None where not measured."""

    growth_per_minute: float
    """Of the readings."""
    growth_bytes: int = 0
    """Of the readings, over their baseline."""
    minutes: float | None = None
    """Between the two looks that the changes of the heap are of; None where not known."""
    explained_per_minute: float = 0.0
    """By growing holders: new entries times the weight of an entry."""
    filling_per_minute: float = 0.0
    """The part of *explained_per_minute* that ends by itself; see `ends_by_itself`."""
    unseen_per_minute: float = 0.0
    """The part of *explained_per_minute* that nothing in Python holds."""
    garbage_per_minute: float | None = None
    """Unreachable objects in cycles, found before anything was collected; None if not measured."""
    garbage_bytes: int = 0
    """Of these among the young objects that were looked at."""
    garbage_cycle: str | None = None
    """One of the cycles."""
    emptied_bytes: float = 0.0
    """What containers had gained between the looks and lost since."""
    traced_seconds: float | None = None
    """How long a session of ours was on; None where there was none."""
    traced_per_minute: float | None = None
    """Allocated while tracing was on and alive at its end."""
    blocks_bytes_per_minute: float | None = None
    """Growth of Python's small blocks, at their mean size."""
    private_growth: int | None = None
    """Change of private memory between the looks."""
    data_growth: int | None = None
    """Change of writable address space between the looks."""
    heap_in_use_growth: int | None = None
    """Change of what the C allocator has given out."""
    heap_free_growth: int | None = None
    """Change of what it keeps though it was freed."""
    collector_enabled: bool = True
    collector_threshold: int = 700
    """New objects at which the youngest generation is collected; 0 is never."""
    minutes_to_collection: float | None = None
    """Until that many are there at this pace; None where not known."""
    seconds_to_limit: float | None = None
    """Until memory is full at this pace; None where not known."""
    collected_bytes: int | None = None
    """What collections of ours freed; None where none was made."""
    private_bytes: int | None = None
    """Private memory of the process."""
    heap_free_bytes: int | None = None
    """What the C allocator keeps though it was freed."""
    modules_imported: int = 0
    """Between the looks."""
    resources: tuple[ResourceSigns, ...] = ()
    """Threads, tasks, sockets and files, causes first."""
    memory_grows: bool = True
    """False where only such counts have called for evidence."""
    interpreters: int = 0
    """Other interpreters in the process, whose objects are not seen."""

    @property
    def collector_is_on(self) -> bool:
        """False where it never runs by itself."""
        return self.collector_enabled and self.collector_threshold > 0

    @property
    def known_per_minute(self) -> float:
        """What is known to be what: held, or garbage."""
        return self.explained_per_minute + (self.garbage_per_minute or 0.0)

    @property
    def python_per_minute(self) -> float:
        """What Python's objects account for, with what they hold of C's, by the largest sign."""
        return max(
            self.known_per_minute,
            self.traced_per_minute or 0.0,
            self.blocks_bytes_per_minute or 0.0,
        )

    @property
    def kept_share(self) -> float:
        """Share of the growth that the C allocator keeps though it was freed."""
        if self.minutes is None or self.heap_free_growth is None or self.growth_per_minute <= 0:
            return 1.0
        return self.heap_free_growth / self.minutes / self.growth_per_minute


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What the growth is."""

    kind: ReportKind
    verdict: Verdict
    explained_ratio: float | None
    """Share of the growth that holders account for, at most 1; None without growth."""
    garbage_ratio: float | None
    """Share that is garbage, at most the rest; None without growth, or where not measured."""
    was_reserved: bool
    """True if memory that was reserved before is being filled."""


def leak_among(
    trends: Iterable[Trend],
    options: TrendOptions,
    *,
    whole_window: bool,
    enough_seconds: float = math.inf,
) -> Trend | None:
    """
    Return the first of *trends* that calls for evidence, or None.

    Args:
        trends: Of several views of the same readings.
        options: When growth counts.
        whole_window: A whole window of readings has been seen: then slow growth counts, too.
        enough_seconds: It also does once it has gone on for so long.
    """
    for trend in trends:
        is_steep = trend.current_bytes >= trend.baseline_bytes * options.growth_threshold
        has_lasted = whole_window or trend.rising_seconds >= enough_seconds
        if trend.kind is TrendKind.LEAK and (is_steep or has_lasted):
            return trend
    return None


def growth_per_minute(trend: TrendSummary, *, looks_apart: float | None) -> float:
    """
    Return the rate of *trend*; on demand, over the time between the two looks.

    On demand the readings lie between the looks, which take time themselves, and in which the
    program is slower: what readings gained is spread over all of it, as what the heap gained is.
    A few readings within a second may also prove nothing: then it is 0.

    Args:
        trend: Of readings.
        looks_apart: Seconds between the looks of a report on demand; None for a finding.
    """
    rate = trend.bytes_per_hour / 60
    if looks_apart is None:
        return rate
    if trend.growth_bytes < NOISE_BYTES or trend.confidence < CERTAIN:
        return 0.0
    return rate * min(1.0, trend.span_seconds / looks_apart) if looks_apart > 0 else rate


def is_explained(part: float, growth: float) -> bool:
    """Return True where *part* of *growth* is so much that no more need be looked for."""
    return part >= LIVE_SHARE * growth


def ends_by_itself(holder: Holder, trend: TrendSummary) -> bool:
    """Return True where *holder* will be full before memory is."""
    if holder.bound is None:
        return holder.inventory_name is not None  # ours are never without a bound
    still_to_come = (holder.bound - holder.entries) * (holder.bytes_per_entry or 0)
    if trend.seconds_to_limit is None:
        return True
    return still_to_come < int(trend.seconds_to_limit * trend.bytes_per_hour / 3600)


def judge(
    signs: Signs,
    *,
    on_demand: bool = False,
    had_stopped: bool = False,
    standing: Verdict | None = None,
    about: VerdictKind | None = None,
) -> Judgement:
    """
    Return what the growth is.

    Args:
        signs: What was measured.
        on_demand: The report was requested; there may be no growth.
        had_stopped: The growth before this one had ended when it was looked at. What continues in
            bursts is over each time, so that is believed once.
        standing: The verdict of a finding for whose update nothing was traced: what was seen then
            directly outweighs what is inferred now.
        about: What the finding that is updated is about: a resource that still piles up goes on,
            whatever memory does.
    """
    resource = None if on_demand else _piling_up(signs, about)
    kind: ReportKind = "growth" if _is_no_leak(signs, resource, had_stopped=had_stopped) else "leak"
    if on_demand:
        kind = "snapshot"
    verdict = _verdict(signs) if resource is None else _of_resource(resource, signs)
    if standing is not None and verdict.kind not in SEEN and resource is None:
        verdict = standing
    growth = signs.growth_per_minute if signs.memory_grows else 0.0
    rate = signs.garbage_per_minute
    explained = min(1.0, signs.explained_per_minute / growth) if growth > 0 else None
    waiting = None
    if explained is not None and rate is not None:
        waiting = min(1.0 - explained, rate / growth)
    return Judgement(
        kind=kind,
        verdict=verdict,
        explained_ratio=explained,
        garbage_ratio=waiting,
        was_reserved=_was_reserved(signs),
    )


def _is_no_leak(signs: Signs, resource: ResourceSigns | None, *, had_stopped: bool) -> bool:
    if resource is not None and resource.piles_up:
        return False
    if not signs.memory_grows:
        return True
    return (not had_stopped and _was_over(signs)) or _is_bounded(signs)


def _piling_up(signs: Signs, about: VerdictKind | None) -> ResourceSigns | None:
    """
    Return the resource that piles up and is what the report is about, or None.

    Where memory grows, too, it must be what makes it grow: held by what holds the growth, or heavy
    enough where nothing else explains it.
    """
    growth = signs.growth_per_minute
    for each in signs.resources:
        if not each.outgrows:
            continue
        if each.kind == about and each.piles_up:
            return each
        if not signs.memory_grows or growth <= 0:
            if each.piles_up:
                return each
            continue
        is_held = each.gained >= LEAST and is_explained(each.held_per_minute, growth)
        weight = growth / each.per_minute if each.per_minute > 0 else 0.0
        is_heavy = each.piles_up and EACH_BYTES[0] <= weight <= EACH_BYTES[1]
        if is_held or (is_heavy and not is_explained(signs.explained_per_minute, growth)):
            return each
    return None


def _of_resource(found: ResourceSigns, signs: Signs) -> Verdict:
    reasons = [
        f"{found.gained:+,} {found.kind} between the looks, {found.per_minute:,.0f} a minute",
    ]
    if signs.memory_grows and signs.growth_per_minute > 0:
        reasons.append(
            f"memory grows with them, by {format_bytes(signs.growth_per_minute)} a minute"
        )
    return Verdict(kind=found.kind, advice=KINDS[found.kind], reasons=tuple(reasons))


def _of_bounded_resource(signs: Signs) -> Verdict | None:
    """Return the verdict on a resource that has grown and has a bound, or has stopped."""
    for each in signs.resources:
        if each.piles_up:
            if each.bounded:
                said = f"{each.bounded:,} of them in pools with a maximum, or of clients"
            else:
                said = "no more than there were when it was looked at first"
            reason = f"{each.gained:+,} {each.kind} between the looks; {said}"
            return Verdict(kind=each.kind, advice=KINDS["none"], reasons=(reason,))
    return None


def _is_bounded(signs: Signs) -> bool:
    """Return True for growth that has an end: it is no leak."""
    return (
        _waits_for_the_collector(signs)
        or _was_reserved(signs)
        or _was_emptied(signs)
        or _fills_up(signs)
        or _is_code(signs)
    )


def _was_over(signs: Signs) -> bool:
    """Return True for growth of which nothing was left to see when it was looked at."""
    return _has_stopped(signs) or _is_unaccounted_for(signs)


def _waits_for_the_collector(signs: Signs) -> bool:
    """Return True for garbage that the collector will take before long."""
    if not signs.collector_is_on:
        return False
    if (signs.collected_bytes or 0) > signs.growth_bytes / 2:
        return True
    if not is_explained(signs.garbage_per_minute or 0.0, max(signs.growth_per_minute, 1.0)):
        return False
    until = signs.minutes_to_collection or 0.0
    left = signs.seconds_to_limit
    return until <= SOON and (left is None or until < left / 60)


def _is_unaccounted_for(signs: Signs) -> bool:
    """Return True where all was measured, C's memory too, and next to nothing has grown."""
    grown, data, in_use = signs.growth_per_minute, signs.data_growth, signs.heap_in_use_growth
    if grown <= 0 or signs.minutes is None or data is None or in_use is None:
        return False
    outside = max(data, in_use, signs.heap_free_growth or 0) / signs.minutes
    return max(signs.python_per_minute, outside) < SPEAKS * grown


def _has_stopped(signs: Signs) -> bool:
    """
    Return True where Python's growth was over when it was looked at.

    Nothing holds it, and a burst of tracing that would have seen it, had it gone on, has not.
    """
    growth, traced = signs.growth_per_minute, signs.traced_per_minute
    if signs.traced_seconds is None or traced is None:
        return False
    missed = growth / 60 * signs.traced_seconds
    seen = max(traced, signs.explained_per_minute)
    in_python = is_explained(signs.blocks_bytes_per_minute or 0.0, growth)
    return in_python and missed >= TELLING_BYTES and seen < STOPPED * growth


def _was_reserved(signs: Signs) -> bool:
    """
    Return True if the growth is memory being filled that was reserved before the first look.

    An array made of zeros is resident only where it was written to. Such growth has its bound: the
    reservation. A leak asks for more, of Python, of the C heap or of the system.
    """
    grown, data, in_use = signs.private_growth, signs.data_growth, signs.heap_in_use_growth
    if grown is None or data is None or in_use is None or grown < TELLING_BYTES:
        return False
    if signs.python_per_minute >= RESERVED * signs.growth_per_minute:
        return False
    return max(data, in_use) < RESERVED * grown


def _was_emptied(signs: Signs) -> bool:
    """Return True where what grew, a batch or a buffer, was emptied, and nothing else did."""
    growth, explained = signs.growth_per_minute, signs.explained_per_minute
    between_looks = growth * (signs.minutes or 0.0)
    return signs.emptied_bytes > between_looks / 2 > 0 and not is_explained(explained, growth)


def _fills_up(signs: Signs) -> bool:
    """Return True for a cache that fills up to its bound: it is doing its work."""
    explained = signs.explained_per_minute
    return explained > 0 and signs.filling_per_minute > explained / 2


def _is_code(signs: Signs) -> bool:
    """Return True for an import, which is seen in full: nothing holds entries."""
    modules, growth = signs.modules_imported, signs.growth_per_minute
    return (
        modules >= IMPORTS
        and modules * MODULE_BYTES > signs.growth_bytes / 2
        and signs.known_per_minute < LIVE_SHARE * growth
    )


def _verdict(signs: Signs) -> Verdict:
    """
    Return the kind of growth and the advice for it.

    The order matters: what was seen directly (held entries) outweighs an inferred remainder.
    """
    if not signs.memory_grows:
        bounded = _of_bounded_resource(signs)
        if bounded is not None:
            return bounded
    kind, reasons = _without_growth(signs) if signs.growth_per_minute <= 0 else _of_growth(signs)
    return Verdict(kind=kind, advice=KINDS[kind], reasons=tuple(reasons))


def _of_growth(signs: Signs) -> tuple[VerdictKind, list[str]]:
    growth = signs.growth_per_minute
    share, held = signs.python_per_minute / growth, signs.explained_per_minute / growth
    reasons = [
        f"readings grow by {format_bytes(growth)} a minute",
        (
            f"Python's objects account for about {min(share, 1.0):.0%} of that, "
            f"held entries for {min(held, 1.0):.0%}"
        ),
        *_about_garbage(signs),
    ]
    return _in_python(signs, reasons) or _outside(signs, reasons), reasons


def _in_python(signs: Signs, reasons: list[str]) -> VerdictKind | None:
    """Return the kind of objects that account for the growth; None where none do."""
    growth, held = signs.growth_per_minute, signs.explained_per_minute
    waiting = signs.garbage_per_minute or 0.0
    if waiting > held and is_explained(waiting, growth):
        return "cycles"
    if not is_explained(held, growth) and _was_garbage(signs, reasons):
        return "cycles"
    if is_explained(held, growth) and signs.unseen_per_minute > held / 2:
        reasons.append("nothing that Python can see holds these objects")
        return "extension"
    if signs.interpreters and not is_explained(signs.known_per_minute, growth):
        reasons.append(f"other interpreters in this process: {signs.interpreters}")
        return "interpreter"
    return "live_objects" if is_explained(signs.python_per_minute, growth) else None


def _outside(signs: Signs, reasons: list[str]) -> VerdictKind:
    """Return the kind of a growth that is no objects of Python."""
    free, in_use = signs.heap_free_growth or 0, signs.heap_in_use_growth
    if in_use is not None and free > 2 * max(in_use, 0) and signs.kept_share >= KEPT_SHARE:
        reasons.append(f"the C heap keeps {format_bytes(free, signed=True)} more that was freed")
        return "fragmentation"
    if signs.traced_per_minute is None and signs.blocks_bytes_per_minute is None:
        return "unknown"
    return "native"


def _about_garbage(signs: Signs) -> list[str]:
    """Return what is to be said of garbage, and of a collector that is not as Python set it up."""
    reasons = []
    rate, growth = signs.garbage_per_minute or 0.0, signs.growth_per_minute
    if growth > 0 and rate >= GARBAGE_SHARE * growth:
        cycle = f", such as {signs.garbage_cycle}" if signs.garbage_cycle else ""
        share = min(rate / growth, 1.0)
        reasons.append(f"garbage in reference cycles accounts for {share:.0%} of it{cycle}")
    if not signs.collector_enabled:
        reasons.append("the garbage collector is switched off: gc.disable()")
    elif not signs.collector_is_on:
        reasons.append("the garbage collector is switched off: gc.set_threshold(0)")
    elif signs.collector_threshold >= garbage.RAISED:
        reasons.append(
            "the garbage collector waits for "
            f"{signs.collector_threshold:,} new objects: gc.set_threshold()"
        )
    return reasons


def _was_garbage(signs: Signs, reasons: list[str]) -> bool:
    """Return True where a collection freed much, or where it is not known and none is made."""
    if not signs.collector_is_on and signs.garbage_per_minute is None:
        return True
    if not signs.collected_bytes or signs.private_bytes is None:
        return False
    reasons.append(f"collections of ours freed {format_bytes(signs.collected_bytes)}")
    return signs.collected_bytes > GARBAGE_SHARE * signs.private_bytes


def _without_growth(signs: Signs) -> tuple[VerdictKind, list[str]]:
    """Return what could be won though nothing grew while it was watched."""
    reasons = [
        "memory did not grow beyond its noise while it was watched",
        *_about_garbage(signs),
    ]
    gained = signs.explained_per_minute * (signs.minutes or 0.0)
    if gained >= GAINED_BYTES:
        # They fill what was freed before: readings will grow when that is used up.
        reasons.append(f"but the containers named gained {format_bytes(gained)} meanwhile")
        return "live_objects", reasons
    if signs.explained_per_minute > 0:
        reasons.append("the containers named gained entries meanwhile")
    private = signs.private_bytes
    if private is None:
        return "none", reasons
    waits = signs.garbage_bytes > GARBAGE_SHARE * private and not signs.collector_is_on
    if waits:
        reasons.append(f"at least {format_bytes(signs.garbage_bytes)} of garbage waits")
    if waits or (signs.collected_bytes and _was_garbage(signs, reasons)):
        return "cycles", reasons
    kept = signs.heap_free_bytes
    if kept is not None and kept > KEPT_SHARE * private:
        reasons.append(f"the C heap keeps {format_bytes(kept)} that was freed")
        return "fragmentation", reasons
    return "none", reasons
