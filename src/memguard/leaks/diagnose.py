"""One verdict with evidence, now."""

from __future__ import annotations

from memguard.leaks.detector import LeakDetector
from memguard.leaks.report import LeakReport


def diagnose(*, seconds: float = 1.0) -> LeakReport:
    """
    Look at this process for *seconds* and return what its memory is doing.

    Two looks at the heap, a short burst of tracing, the holders of what grew, and a verdict: live
    objects, garbage cycles, fragmentation, native memory, or nothing. Where nothing grew and the
    heap is not large, garbage is collected to see what that gives.

    Blocks the caller for *seconds* and some more; in a coroutine use ``asyncio.to_thread``.
    Thread-safe: yes. Cost: see ``LeakDetector``; the report states its own.

    Args:
        seconds: Between the two looks, 0 to 3600: long enough for the program to do its work.

    Raises:
        ConfigError: *seconds* is out of its range.
    """
    # Tracing no longer than half of the watching, for somebody waits.
    burst = min(5.0, max(0.25, seconds / 2))
    return LeakDetector(name="diagnose", trace_seconds=burst).check(seconds=seconds)
