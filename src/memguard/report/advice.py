"""What to do about a holder, by what it is and holds: more than a verdict's advice. Pure."""

from __future__ import annotations

from memguard.leaks.report import Holder, LeakReport

_PLAIN = {"str", "int", "float", "bytes", "bool", "NoneType", "tuple"}
"""Types of keys and small change: they do not tell what a container is for."""
_CALLBACKS = (
    "callbacks pile up; disconnect them, or register them with an owner in a "
    "memguard.ListenerRegistry"
)
_TASKS = "tasks pile up; await or cancel them, or spawn them in a memguard.TaskRegistry"
_TIMERS = "timers pile up; cancel them, or start them in a memguard.TimerRegistry"
_MAPPING = "used as a cache, memguard.BoundedCache(maxsize, ttl=...) can take its place"
_SEQUENCE = "remove what is done with; collections.deque(maxlen=...) keeps the newest alone"

_BY_ENTRIES = {
    "function": _CALLBACKS,
    "method": _CALLBACKS,
    "builtin_function_or_method": _CALLBACKS,
    "functools.partial": _CALLBACKS,
    "weakref.WeakMethod": _CALLBACKS,
    "_asyncio.Task": _TASKS,
    "asyncio.tasks.Task": _TASKS,
    "threading.Timer": _TIMERS,
    "asyncio.events.TimerHandle": _TIMERS,
    "threading.Thread": "threads pile up; drop those that have ended, or use a pool of fixed size",
}
_BY_TYPE = {
    "dict": _MAPPING,
    "collections.OrderedDict": _MAPPING,
    "collections.defaultdict": _MAPPING,
    "list": _SEQUENCE,
    "collections.deque": _SEQUENCE,
    "set": "remove what is done with",
}


def hints(report: LeakReport, *, most: int) -> tuple[str, ...]:
    """Return a sentence for each of the first *most* holders about whom there is one to say."""
    if report.verdict.kind != "live_objects":
        return ()
    found = ((holder.path, _hint(holder)) for holder in report.holders)
    return tuple(f"{path}: {hint}" for path, hint in found if hint)[:most]


def _hint(holder: Holder) -> str | None:
    if holder.bound is not None:
        return f"it is bounded, at {holder.bound:,} entries; a smaller bound ends its growth sooner"
    telling = next((name for name in holder.entry_types if name not in _PLAIN), "")
    return _BY_ENTRIES.get(telling) or _BY_TYPE.get(holder.type)
