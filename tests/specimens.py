"""A leak report as a real detector would give it, to render, store and read in tests."""

from __future__ import annotations

from memguard.leaks.report import (
    Cost,
    Frame,
    Holder,
    LeakReport,
    Suspect,
    TrendSummary,
    TypeGrowth,
    Verdict,
)

MiB = 1024**2


def leak_report(**changes: object) -> LeakReport:
    """Return a plausible report of the shop's session leak, with *changes* to its fields."""
    fields: dict[str, object] = {
        "id": "20261120T050714-4242-1",
        "kind": "leak",
        "detector": "memguard",
        "pid": 4242,
        "started_at": "2026-11-20T05:07:14Z",
        "updated_at": "2026-11-20T05:09:14Z",
        "revision": 3,
        "uptime_seconds": 95.5,
        "trend": TrendSummary(
            kind="leak",
            bytes_per_hour=122.0 * MiB,
            confidence=0.994,
            baseline_bytes=96 * MiB,
            current_bytes=157 * MiB,
            samples=60,
            span_seconds=1800.0,
            limit_bytes=512 * MiB,
            limit_source="cgroup v2 memory.max",
            seconds_to_limit=10_500.0,
        ),
        "verdict": Verdict(
            kind="live_objects",
            advice="Bound leaky_shop.app.SESSIONS: give it a maxsize and a ttl (BoundedCache).",
            reasons=("11,240 entries added to one dict and none removed",),
        ),
        "suspects": (
            Suspect(
                file="/srv/shop/leaky_shop/app.py",
                line=57,
                function="remember_session",
                bytes=48 * MiB,
                count=22_480,
                bytes_per_minute=1.9 * MiB,
                frames=(
                    Frame(
                        file="/srv/shop/leaky_shop/app.py",
                        line=57,
                        function="remember_session",
                        in_user_code=True,
                    ),
                    Frame(
                        file="/venv/lib/python3.11/site-packages/starlette/routing.py",
                        line=72,
                        function="app",
                    ),
                    Frame(
                        file="/srv/shop/leaky_shop/app.py",
                        line=31,
                        function="checkout",
                        in_user_code=True,
                    ),
                ),
                held_by="leaky_shop.app.SESSIONS",
            ),
            Suspect(
                file="/venv/lib/python3.11/site-packages/jinja2/environment.py",
                line=1010,
                function="compile",
                bytes=3 * MiB,
                count=120,
                bytes_per_minute=0.1 * MiB,
            ),
        ),
        "holders": (
            Holder(
                path="leaky_shop.app.SESSIONS",
                type="dict",
                entries=13_002,
                entries_added=11_240,
                entries_per_minute=374.7,
                bytes_per_entry=4_497,
                bytes_added=50_541_363,
                bytes_per_minute=1.9 * MiB,
                entry_types=("str", "Session"),
                advice="if it is a cache, replace it with memguard.BoundedCache(maxsize, ttl=...)",
            ),
        ),
        "types": (TypeGrowth(name="Session", count=13_002, added=11_240, per_minute=374.7),),
        "window_seconds": 1500.0,
        "gap_seconds": 300.0,
        "explained_ratio": 0.79,
        "limits": ("48.2 of 61.0 MiB explained; 12.8 MiB outside Python's allocators",),
        "cost": Cost(
            traced_seconds=2.0,
            census_seconds=0.31,
            retention_seconds=0.12,
            tracer_peak_bytes=3 * MiB,
            cpu_seconds=0.44,
        ),
        "python": "CPython 3.11.7",
    }
    return LeakReport(**{**fields, **changes})  # type: ignore[arg-type] # reason: tests change any
