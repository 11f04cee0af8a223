"""A status as a real guard would publish it, to show, store and read in tests."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any

from memguard.report.health.health_report import (
    AdmissionHealth,
    AlertHealth,
    ContainerHealth,
    ContainersHealth,
    GcHealth,
    HealthReport,
    LeakHealth,
    LimitHealth,
    MemoryHealth,
    ReliefHealth,
)
from memguard.report.publish.process_status import STATUS_VERSION, ProcessStatus
from memguard.units import MiB

_HEALTH = HealthReport(
    time_seconds=1_795_000_000.0,
    process_id=4242,
    guard="memguard",
    watching=True,
    level="elevated",
    reasons=("78 % of the limit is used",),
    degraded=(),
    memory=MemoryHealth(
        private_bytes=150 * MiB,
        resident_bytes=180 * MiB,
        highest_resident_bytes=180 * MiB,
        swapped_bytes=1 * MiB,
        shared_bytes=0,
        virtual_bytes=900 * MiB,
        allocated_blocks=400_000,
        threads=7,
        open_descriptors=40,
        allowed_descriptors=1024,
        asyncio_tasks=12,
    ),
    limit=LimitHealth(
        used_bytes=400 * MiB,
        limit_bytes=512 * MiB,
        limit_source="memory.max",
        used_ratio=0.78,
        headroom_bytes=112 * MiB,
        growth_bytes_per_minute=10.0 * MiB,
        stalled_percent=0.0,
    ),
    gc=GcHealth(
        watched_seconds=100.0,
        pauses=42,
        pauses_total_seconds=1.25,
        longest_pause_seconds=0.03,
        pause_ratio=0.0125,
        collected_objects=1000,
        uncollectable_objects=0,
    ),
    relief=ReliefHealth(
        runs=3,
        refused_runs=0,
        freed_bytes=20 * MiB,
        memory_fell_bytes=18 * MiB,
        total_seconds=0.3,
        longest_seconds=0.2,
        lowered_caches=0,
        errors=0,
    ),
    leaks_state="watching",
    findings=1,
    admission=AdmissionHealth(
        running=0, promised_bytes=0, admitted=0, refused=0, waited=0, waited_seconds=0.0
    ),
    containers=ContainersHealth(
        count=2,
        items=1634,
        bytes=12 * MiB,
        largest=(
            ContainerHealth(name="sessions", kind="BoundedCache", items=400, bytes=12 * MiB),
            ContainerHealth(name="handlers", kind="ListenerRegistry", items=1234, bytes=None),
        ),
    ),
    alerts=(
        AlertHealth(
            kind="level",
            level="elevated",
            previous_level="ok",
            time_seconds=1_795_000_000.0,
            reasons=("78 % of the limit is used",),
            used_bytes=400 * MiB,
            limit_bytes=512 * MiB,
        ),
    ),
    leaks=(
        LeakHealth(
            id="a1",
            kind="leak",
            updated_at="2026-11-20T05:09:14Z",
            growth_bytes=61 * MiB,
            growth_bytes_per_hour=120.0 * MiB,
            verdict="live_objects",
            holder="shop.SESSIONS",
            holder_type="dict",
            allocated_at="shop.py:57  remember",
        ),
    ),
    errors=0,
)
_STATUS = ProcessStatus(
    version=STATUS_VERSION,
    memguard="0.1.0",
    python="3.11.7",
    program="shop.py",
    within=3.0,
    curve_seconds=tuple(float(300 - 6 * n) for n in range(51)),
    curve_bytes=tuple((100 + n) * MiB for n in range(51)),
    health=_HEALTH,
)


def a_status(**changes: Any) -> ProcessStatus:
    """
    Return a plausible status of a shop that leaks, with *changes*.

    A field of the status, of its health, or of a part of that is given by its name alone:
    ``a_status(private_bytes=None)``.
    """
    return _changed(_STATUS, changes)  # type: ignore[no-any-return]  # reason: of any dataclass


def _changed(found: Any, changes: dict[str, Any]) -> Any:
    new: dict[str, Any] = {}
    for field in fields(found):
        before = getattr(found, field.name)
        if field.name in changes:
            new[field.name] = changes[field.name]
        elif is_dataclass(before):
            new[field.name] = _changed(before, changes)
    return replace(found, **new)
