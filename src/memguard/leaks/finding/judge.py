"""Decide what kind of growth it is: live objects, cycles, fragmentation or native. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from memguard.leaks.report import Verdict, VerdictKind
from memguard.units import format_bytes

LIVE_SHARE = 0.5
"""Share of the growth that Python's allocators must account for to call it live objects."""
GARBAGE_SHARE = 0.1
"""Share of private memory that a full collection must give back to speak of garbage."""
KEPT_SHARE = 0.3
"""Share of the growth, or of private memory, that the C allocator keeps: fragmentation."""
GAINED_BYTES = 512 * 1024
"""What containers must gain between two looks for their entries to be told though nothing grew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signs:
    """The numbers a verdict rests on. Bytes, or bytes per minute; None where not measured."""

    growth_per_minute: float
    """Of the readings."""
    minutes: float | None = None
    """Between the two looks that the changes of the C heap are of; None where not known."""
    explained_per_minute: float = 0.0
    """By growing holders: new entries times the weight of an entry."""
    traced_per_minute: float | None = None
    """Allocated in the burst and alive at its end."""
    blocks_bytes_per_minute: float | None = None
    """Growth of Python's small blocks, at their mean size."""
    heap_in_use_growth: int | None = None
    """Change of what the C allocator has given out."""
    heap_free_growth: int | None = None
    """Change of what it keeps though it was freed."""
    collector_enabled: bool = True
    collected_bytes: int | None = None
    """What a full collection gave back; None where none was made."""
    private_bytes: int | None = None
    """Private memory of the process."""
    heap_free_bytes: int | None = None
    """What the C allocator keeps though it was freed."""

    @property
    def python_per_minute(self) -> float:
        """What Python's allocators account for, by the sign that shows most."""
        return max(
            self.explained_per_minute,
            self.traced_per_minute or 0.0,
            self.blocks_bytes_per_minute or 0.0,
        )

    @property
    def kept_share(self) -> float:
        """Share of the growth that the C allocator keeps though it was freed."""
        if self.minutes is None or self.heap_free_growth is None or self.growth_per_minute <= 0:
            return 1.0
        return self.heap_free_growth / self.minutes / self.growth_per_minute


def decide(signs: Signs) -> Verdict:
    """
    Return the kind of growth and the advice that fits.

    The order matters: what was seen directly (held entries) outweighs an inferred remainder.
    """
    kind, reasons = _without_growth(signs) if signs.growth_per_minute <= 0 else _of_growth(signs)
    return Verdict(kind=kind, advice=ADVICE[kind], reasons=tuple(reasons))


ADVICE: dict[VerdictKind, str] = {
    "live_objects": "Objects are alive because something holds them: bound the holders named here "
    "(memguard.BoundedCache), or remove entries when their owner is done.",
    "cycles": "Garbage in reference cycles waits for the collector: call gc.enable() where it is "
    "off, gc.collect() at quiet moments, or break the cycles (weakref for parent links).",
    "fragmentation": "Memory was freed but the allocator keeps it: set MALLOC_ARENA_MAX=2, try "
    "jemalloc (LD_PRELOAD), or return it with malloc_trim at quiet moments.",
    "native": "Most of the growth is outside Python's allocators: suspect C extensions and "
    "libraries called through ctypes or cffi; a native profiler (memray --native, heaptrack) "
    "names them.",
    "unknown": "Not enough evidence could be taken; see what this report could not see.",
    "none": "Nothing to do yet: watch longer, or leave a LeakDetector switched on.",
}


def _of_growth(signs: Signs) -> tuple[VerdictKind, list[str]]:
    growth = signs.growth_per_minute
    share, held = signs.python_per_minute / growth, signs.explained_per_minute / growth
    reasons = [
        f"readings grow by {format_bytes(growth)} a minute",
        (
            f"Python's allocators account for about {min(share, 1.0):.0%} of that, "
            f"held entries for {min(held, 1.0):.0%}"
        ),
    ]
    if held < LIVE_SHARE and _is_garbage(signs, reasons):
        return "cycles", reasons
    if share >= LIVE_SHARE:
        return "live_objects", reasons
    free, in_use = signs.heap_free_growth or 0, signs.heap_in_use_growth
    if in_use is not None and free > 2 * max(in_use, 0) and signs.kept_share >= KEPT_SHARE:
        reasons.append(f"the C heap keeps {format_bytes(free, signed=True)} more that was freed")
        return "fragmentation", reasons
    if signs.traced_per_minute is None and signs.blocks_bytes_per_minute is None:
        return "unknown", reasons
    return "native", reasons


def _is_garbage(signs: Signs, reasons: list[str]) -> bool:
    if not signs.collector_enabled:
        reasons.append("the garbage collector is switched off")
        return True
    if signs.collected_bytes is not None and signs.private_bytes is not None:
        reasons.append(f"a full collection gave back {format_bytes(signs.collected_bytes)}")
        return signs.collected_bytes > GARBAGE_SHARE * signs.private_bytes
    return False


def _without_growth(signs: Signs) -> tuple[VerdictKind, list[str]]:
    """Say what could be won though nothing grew while it was watched."""
    reasons = ["memory did not grow beyond its noise while it was watched"]
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
    if _is_garbage(signs, reasons) and signs.collected_bytes:
        return "cycles", reasons
    kept = signs.heap_free_bytes
    if kept is not None and kept > KEPT_SHARE * private:
        reasons.append(f"the C heap keeps {format_bytes(kept)} that was freed")
        return "fragmentation", reasons
    return "none", reasons
