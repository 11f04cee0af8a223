"""Decide what kind of growth it is: live objects, cycles, fragmentation or native. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from memguard.leaks.report import Verdict
from memguard.units import format_bytes

LIVE_SHARE = 0.5
"""Share of the growth that Python's allocators must account for to call it live objects."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signs:
    """The numbers a verdict rests on. Bytes, or bytes per minute; None where not measured."""

    growth_per_minute: float
    """Of the readings."""
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
    collected_bytes: int = 0
    """What a collection gave back."""


def decide(signs: Signs) -> Verdict:
    """
    Return the kind of growth and the advice that fits.

    The order matters: what was seen directly (held entries) outweighs an inferred remainder.
    """
    growth = max(signs.growth_per_minute, 1.0)
    python = max(
        signs.explained_per_minute,
        signs.traced_per_minute or 0.0,
        signs.blocks_bytes_per_minute or 0.0,
    )
    share = python / growth
    held = signs.explained_per_minute / growth
    reasons = [
        f"readings grow by {format_bytes(signs.growth_per_minute)} a minute",
        (
            f"Python's allocators account for about {min(share, 1.0):.0%} of that, "
            f"held entries for {min(held, 1.0):.0%}"
        ),
    ]
    if not signs.collector_enabled and held < LIVE_SHARE:
        reasons.append("the garbage collector is switched off")
        return Verdict(
            kind="cycles",
            advice="Reference cycles are never freed while the collector is off: call gc.enable(), "
            "or gc.collect() at quiet moments, or break the cycles (weakref for parent links).",
            reasons=tuple(reasons),
        )
    if share >= LIVE_SHARE:
        return Verdict(
            kind="live_objects",
            advice="Objects are alive because something holds them: bound the holders named here "
            "(memguard.BoundedCache), or remove entries when their owner is done.",
            reasons=tuple(reasons),
        )
    free, in_use = signs.heap_free_growth, signs.heap_in_use_growth
    if free is not None and in_use is not None and free > 0 and free > 2 * max(in_use, 0):
        reasons.append(f"the C heap keeps {format_bytes(free, signed=True)} that was freed")
        return Verdict(
            kind="fragmentation",
            advice="Memory was freed but the allocator keeps it: set MALLOC_ARENA_MAX=2, try "
            "jemalloc (LD_PRELOAD), or return it with malloc_trim at quiet moments.",
            reasons=tuple(reasons),
        )
    if signs.traced_per_minute is None and signs.blocks_bytes_per_minute is None:
        return Verdict(
            kind="unknown",
            advice="Not enough evidence could be taken; see what this report could not see.",
            reasons=tuple(reasons),
        )
    return Verdict(
        kind="native",
        advice="Most of the growth is outside Python's allocators: suspect C extensions and "
        "libraries called through ctypes or cffi; a native profiler (memray --native, heaptrack) "
        "names them.",
        reasons=tuple(reasons),
    )
