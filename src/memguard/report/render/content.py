"""What all formats of a report share: facts about its entries, hints, notes. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from memguard.leaks.report import Cost, Holder, LeakReport, Suspect
from memguard.report.render.words import number, rate
from memguard.units import format_bytes, format_seconds

KINDS = {
    "leak": "Leak",
    "growth": "Growth, not classified as a leak",
    "snapshot": "One look on demand",
}
HOLDERS_NOTE = "sizes estimated from a sample of new entries"
_NO_LIMIT = 2**31 - 1
"""More entries than a list of 16 GiB has; ``sys.maxsize`` and its like stand for no limit."""

_LRU_CACHE = "<functools._lru_cache_wrapper>"
"""In the path of what a function decorated with functools' cache or lru_cache keeps."""
_PLAIN = {"str", "int", "float", "bytes", "bool", "NoneType", "tuple"}
"""Types of keys and small change: they do not show what a container is for."""
_CALLBACKS = (
    "callbacks pile up; disconnect them, or register them with an owner in a "
    "memguard.ListenerRegistry"
)
_TASKS = "tasks pile up; await or cancel them, or spawn them in a memguard.TaskRegistry"
_TIMERS = "timers pile up; cancel them, or start them in a memguard.TimerRegistry"
_MAPPING = "if it is a cache, replace it with memguard.BoundedCache(maxsize, ttl=...)"
_SEQUENCE = "remove entries that are done; collections.deque(maxlen=...) keeps only the newest"

_BY_ENTRIES = {
    "function": _CALLBACKS,
    "method": _CALLBACKS,
    "builtin_function_or_method": _CALLBACKS,
    "functools.partial": _CALLBACKS,
    "weakref.WeakMethod": _CALLBACKS,
    "_asyncio.Task": _TASKS,
    "asyncio.tasks.Task": _TASKS,
    "threading.Timer": _TIMERS,
    "asyncio.events.TimerHandle": "scheduled calls pile up; cancel those that are not needed",
    "threading.Thread": "threads pile up; drop those that have ended, or use a pool of fixed size",
}
_BY_TYPE = {
    "dict": _MAPPING,
    "collections.OrderedDict": _MAPPING,
    "collections.defaultdict": _MAPPING,
    "list": _SEQUENCE,
    "collections.deque": _SEQUENCE,
    "set": "remove entries that are done",
}


def holder_size(holder: Holder) -> str:
    """Return by how much *holder* grew."""
    if holder.bytes_added is None:
        return "size unknown"
    return format_bytes(holder.bytes_added, signed=True)


def holder_pace(holder: Holder) -> str:
    """Return how fast *holder* grows, after a comma; empty where that is not known."""
    return "" if holder.bytes_per_minute is None else f", {rate(holder.bytes_per_minute)}"


def holder_facts(holder: Holder, *, most_types: int) -> list[str]:
    """Return what else is known of *holder*, not yet made printable; its entries come first."""
    entries = f"{holder.entries:,} entries now"
    if holder.bytes_per_entry is not None:
        all_of_them = format_bytes(holder.entries * holder.bytes_per_entry)
        entries += f", about {all_of_them}, {format_bytes(holder.bytes_per_entry)} each"
    facts = [entries]
    if holder.entry_types:
        facts.append("new ones are " + ", ".join(holder.entry_types[:most_types]))
    if holder.inventory_name:
        facts.append(f"registered as {holder.inventory_name}")
    bound = bound_of(holder)
    if bound is not None:
        facts.append(f"its owner allows {bound:,}")
    if not holder.anchored:
        facts.append("no named object was found above it")
    return facts


def bound_of(holder: Holder) -> int | None:
    """Return the entries that its owner allows; None also where it is a number for "no limit"."""
    return None if holder.bound is None or holder.bound >= _NO_LIMIT else holder.bound


def allocated_for(holder: Holder, suspects: Sequence[Suspect]) -> Suspect | None:
    """Return the line that allocates the most of what *holder* holds."""
    own = [suspect for suspect in suspects if suspect.held_by == holder.path]
    return max(own, key=lambda suspect: suspect.bytes, default=None)


def blocks(suspect: Suspect) -> str:
    """Return how many blocks a line allocated that stay."""
    return "1 block" if suspect.count == 1 else f"{suspect.count:,} blocks"


def explained(report: LeakReport) -> str | None:
    """Return the part of the growth that the holders account for, in percent; None for unknown."""
    ratio = report.explained_ratio
    return None if ratio is None else f"{number(ratio * 100, '.0f')} %"


def costs(cost: Cost) -> list[tuple[str, str]]:
    """Return what a report cost the process, as names and amounts."""
    return [
        ("Traced for", format_seconds(cost.traced_seconds)),
        ("Census", format_seconds(cost.census_seconds)),
        ("Holders", format_seconds(cost.retention_seconds)),
        ("Processor time", format_seconds(cost.cpu_seconds)),
        ("Tracer at most", format_bytes(cost.tracer_peak_bytes)),
    ]


def hints(report: LeakReport, *, most: int) -> tuple[str, ...]:
    """
    Return what to do about the first *most* holders about which there is something to say.

    By what a holder is and holds: more than a verdict's advice.
    """
    if report.verdict.kind != "live_objects":
        return ()
    found = ((holder.path, _hint(holder)) for holder in report.holders)
    return tuple(f"{path}: {hint}" for path, hint in found if hint)[:most]


def _hint(holder: Holder) -> str | None:
    if holder.inventory_name is not None:
        return "a container of memguard: lower its bound, or remove its entries sooner"
    bound = bound_of(holder)
    if bound is not None:
        return f"it is bounded, at {bound:,} entries; a smaller bound ends its growth sooner"
    if _LRU_CACHE in holder.path:
        return "give the functools cache a maxsize, or use memguard.cached(maxsize=...)"
    typical = next((name for name in holder.entry_types if name not in _PLAIN), "")
    if typical == "weakref.ReferenceType":  # they hold nothing: others hold what they refer to
        return None
    return _BY_ENTRIES.get(typical) or _BY_TYPE.get(holder.type)
