"""What type checkers know of the options of a guard and of a detector."""

from __future__ import annotations

from typing import assert_type

import memguard
from memguard import (
    GuardStatus,
    LeakDetector,
    LeakDetectorStatistics,
    LeakReport,
    MemoryGuard,
    ReliefReport,
    install,
)


def print_leak(report: LeakReport) -> None:
    """Print where it is."""
    print(report.verdict)  # noqa: T201 - reason: what a program would do


assert_type(install(), MemoryGuard)
assert_type(memguard.install(limit="8GiB", leaks=False, on_leak=print_leak), MemoryGuard)
assert_type(memguard.status(), GuardStatus)
assert_type(memguard.relieve("100MiB"), ReliefReport)
install(limt="8GiB")  # type: ignore[call-arg]  # reason: no such option
install("8GiB")  # type: ignore[call-arg]  # reason: options are keywords
install(limit=0.5)  # type: ignore[arg-type]  # reason: bytes or a string
install(on_leak=len)  # type: ignore[arg-type]  # reason: a report has no length
with install(interval="5s") as guard:
    assert_type(guard, MemoryGuard)

assert_type(LeakDetector(interval=10, report_dir="reports").statistics(), LeakDetectorStatistics)
LeakDetector(interval=10, min_growth="1MiB")  # type: ignore[call-arg]  # reason: no such option
LeakDetector(on_error="ignore")  # type: ignore[arg-type]  # reason: no such choice
memguard.LRUCache  # type: ignore[attr-defined]  # noqa: B018 - reason: no such name
