"""Hypothesis strategies that several rooms share."""

from __future__ import annotations

from hypothesis import strategies as st

from memguard.leaks.report import (
    VERDICTS,
    Cost,
    CurvePoint,
    Frame,
    Holder,
    LeakReport,
    Suspect,
    TrendSummary,
    TypeGrowth,
    Verdict,
)

# Any code point, also those that no terminal should get and lone surrogates of odd file names.
names = st.text(st.characters(codec=None, exclude_categories=()), max_size=40)
sizes = st.integers(-(2**63), 2**63)
numbers = st.floats(allow_nan=False, allow_infinity=False)

frames = st.builds(
    Frame,
    file=names,
    line=sizes,
    function=st.none() | names,
    in_user_code=st.booleans(),
)
suspects = st.builds(
    Suspect,
    file=names,
    line=sizes,
    function=st.none() | names,
    bytes=sizes,
    count=sizes,
    bytes_per_minute=numbers,
    frames=st.lists(frames, max_size=3).map(tuple),
    source=st.none() | names,
    held_by=st.none() | names,
    callee=st.none() | names,
)
holders = st.builds(
    Holder,
    path=names,
    type=names,
    entries=sizes,
    entries_added=sizes,
    entries_per_minute=numbers,
    bytes_per_entry=st.none() | sizes,
    bytes_added=st.none() | sizes,
    bytes_per_minute=st.none() | numbers,
    site=st.none() | frames,
    entry_types=st.lists(names, max_size=3).map(tuple),
    inventory_name=st.none() | names,
    bound=st.none() | sizes,
    anchored=st.booleans(),
)
trends = st.builds(
    TrendSummary,
    kind=names,
    bytes_per_hour=numbers,
    confidence=numbers,
    baseline_bytes=sizes,
    current_bytes=sizes,
    samples=sizes,
    span_seconds=numbers,
    limit_bytes=st.none() | sizes,
    limit_source=st.none() | names,
    seconds_to_limit=st.none() | numbers,
    curve=st.lists(st.builds(CurvePoint, seconds=numbers, bytes=sizes), max_size=3).map(tuple),
)
verdicts = st.builds(
    Verdict,
    kind=st.sampled_from(sorted(VERDICTS)),
    advice=st.text(max_size=60),
    reasons=st.lists(names, max_size=9).map(tuple),
)
costs = st.builds(
    Cost,
    traced_seconds=numbers,
    census_seconds=numbers,
    retention_seconds=numbers,
    tracer_peak_bytes=sizes,
    cpu_seconds=numbers,
)
leak_reports = st.builds(
    LeakReport,
    id=names,
    kind=st.sampled_from(["leak", "growth", "snapshot"]),
    detector=names,
    pid=sizes,
    started_at=names,
    updated_at=names,
    revision=sizes,
    uptime_seconds=numbers,
    trend=trends,
    verdict=verdicts,
    suspects=st.lists(suspects, max_size=6).map(tuple),
    holders=st.lists(holders, max_size=6).map(tuple),
    types=st.lists(
        st.builds(TypeGrowth, name=names, count=sizes, added=sizes, per_minute=numbers),
        max_size=6,
    ).map(tuple),
    explained_ratio=st.none() | numbers,
    limits=st.lists(names, max_size=12).map(tuple),
    cost=costs,
    python=names,
)
