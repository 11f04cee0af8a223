"""What to do about a holder, by what it is and holds: more than a verdict's advice. Pure."""

from __future__ import annotations

from memguard.leaks.report import Holder, LeakReport
from memguard.report.render.words import bound_of

_LRU_CACHE = "<functools._lru_cache_wrapper>"
"""In the path of what a function decorated with functools' cache or lru_cache keeps."""
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
    "asyncio.events.TimerHandle": "scheduled calls pile up; cancel those that nobody needs",
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
    if holder.inventory_name is not None:
        return "it is memguard's own: lower its bound, or end its entries sooner"
    bound = bound_of(holder)
    if bound is not None:
        return f"it is bounded, at {bound:,} entries; a smaller bound ends its growth sooner"
    if _LRU_CACHE in holder.path:
        return "give the functools cache a maxsize, or use memguard.cached(maxsize=...)"
    telling = next((name for name in holder.entry_types if name not in _PLAIN), "")
    if (
        telling == "weakref.ReferenceType"
    ):  # they hold nothing: what they refer to is held elsewhere
        return None
    return _BY_ENTRIES.get(telling) or _BY_TYPE.get(holder.type)
