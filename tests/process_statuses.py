"""A status as a real guard would publish it, to show, store and read in tests."""

from __future__ import annotations

from typing import Any

from memguard.report.publish.process_status import (
    STATUS_VERSION,
    AlertRow,
    ContainerRow,
    ProcessStatus,
    ReportRow,
)
from memguard.units import MiB


def a_status(**changes: Any) -> ProcessStatus:
    """Return a plausible status of a shop that leaks, with *changes* to its fields."""
    fields: dict[str, Any] = {
        "version": STATUS_VERSION,
        "memguard": "0.1.0",
        "python": "3.11.7",
        "pid": 4242,
        "program": "shop.py",
        "guard": "memguard",
        "running": True,
        "written": 1_795_000_000.0,
        "within": 3.0,
        "rss": 180 * MiB,
        "private": 150 * MiB,
        "swap": 1 * MiB,
        "threads": 7,
        "descriptors": 40,
        "descriptors_limit": 1024,
        "tasks": 12,
        "level": "elevated",
        "reasons": ("78 % of the limit is used",),
        "used": 400 * MiB,
        "limit": 512 * MiB,
        "source": "memory.max",
        "bytes_per_minute": 10.0 * MiB,
        "stall_some": 0.0,
        "curve_seconds": tuple(float(300 - 6 * n) for n in range(51)),
        "curve_bytes": tuple((100 + n) * MiB for n in range(51)),
        "gc_share": 0.0125,
        "gc_longest": 0.03,
        "gc_collections": 42,
        "relief_runs": 3,
        "relief_freed": 20 * MiB,
        "detector": "watching",
        "findings": 1,
        "containers": (
            ContainerRow(name="sessions", kind="BoundedCache", items=400, bytes=12 * MiB),
            ContainerRow(name="handlers", kind="ListenerRegistry", items=1234, bytes=None),
        ),
        "containers_count": 2,
        "containers_bytes": 12 * MiB,
        "alerts": (
            AlertRow(
                kind="level",
                level="elevated",
                previous="ok",
                time=1_795_000_000.0,
                reasons=("78 % of the limit is used",),
            ),
        ),
        "reports": (
            ReportRow(
                id="a1",
                kind="leak",
                updated_at="2026-11-20T05:09:14Z",
                growth_bytes=61 * MiB,
                bytes_per_minute=2.0 * MiB,
                verdict="live Python objects",
                holder="shop.SESSIONS",
                holder_type="dict",
                place="shop.py:57  remember",
            ),
        ),
        "errors": 0,
    }
    return ProcessStatus(**{**fields, **changes})
