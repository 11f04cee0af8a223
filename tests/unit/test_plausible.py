"""The law of weights: no object outweighs the process, and no holder the growth."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from memguard.leaks.evidence.newest import Sample
from memguard.leaks.finding.plausible import Bounds, bounds_of, hold_to
from memguard.leaks.finding.rank import rank_holders
from memguard.leaks.report import Holder, TrendSummary
from tests.detecting import MiB, evidence, holder


def trend(mib_per_minute: float) -> TrendSummary:
    return TrendSummary(
        kind="leak",
        bytes_per_hour=mib_per_minute * 60 * MiB,
        confidence=0.99,
        baseline_bytes=100 * MiB,
        current_bytes=130 * MiB,
        samples=60,
        span_seconds=60.0,
    )


def sample(weight: int, spread: int = 0) -> Sample:
    """Return a hundred entries of *weight* bytes, each off by *spread*, up or down."""
    squares = 50 * (weight + spread) ** 2 + 50 * (weight - spread) ** 2
    return Sample(entries=100, bytes=100 * weight, squares=squares)


def test_an_entry_heavier_than_the_process_has_no_weight() -> None:
    """A generator weighed 1.1e15 bytes on CPython 3.11."""
    impossible = holder("shop.app.PENDING", sample=sample(10**15))
    real = holder("shop.app.SESSIONS")
    found = evidence(impossible, real, private_bytes=100 * MiB)
    (heavy, _, notes) = rank_holders(found, trend(60), None)
    assert [row.path for row in heavy] == ["shop.app.SESSIONS"]
    assert notes == [
        "shop.app.PENDING: its entries seem heavier than the process; their weight is unknown"
    ]


def test_a_holder_counts_no_more_than_memory_grew() -> None:
    found = evidence(holder(sample=sample(100 * 1024)), private_growth=5 * MiB)
    ((row,), _, (note,)) = rank_holders(found, trend(30), None)
    assert row.bytes_per_minute == 30 * MiB
    assert row.bytes_added is not None
    assert row.bytes_added < row.entries_added * 100 * 1024
    assert note.endswith("no more than that is counted")


def test_the_growth_is_the_largest_that_was_measured() -> None:
    found = evidence(
        gap_seconds=30.0,
        private_growth=-MiB,
        heap_in_use_growth=10 * MiB,
        blocks_growth=2048,
        traced_growth_per_minute=3.0 * MiB,
    )
    assert bounds_of(found, trend(4)).growth_per_minute == 22 * MiB
    assert bounds_of(evidence(gap_seconds=0.0), trend(-1)).growth_per_minute is None


holders = st.builds(
    Holder,
    path=st.just("shop.app.ROWS"),
    type=st.just("list"),
    entries=st.integers(0, 10**9),
    entries_added=st.integers(0, 10**9),
    entries_per_minute=st.floats(0, 10**9),
    bytes_per_entry=st.none() | st.integers(0, 10**12),
    bytes_added=st.none() | st.integers(0, 10**12),
    bytes_per_minute=st.none() | st.floats(0, 10**15),
    bytes_per_entry_error=st.none() | st.integers(0, 10**9),
)


@given(st.lists(holders, max_size=5), st.integers(1, 10**10), st.floats(1, 10**10))
def test_whatever_was_measured_the_law_holds(
    rows: list[Holder], process: int, growth: float
) -> None:
    kept, notes = hold_to(Bounds(process_bytes=process, growth_per_minute=growth), rows)
    assert len(kept) == len(rows)
    for row in kept:
        assert (
            row.bytes_per_entry is None
            or row.bytes_per_minute is None
            or (row.bytes_per_entry <= process)
        )
        error = (row.bytes_per_entry_error or 0) * row.entries_per_minute
        if row.bytes_per_entry is not None and row.bytes_per_minute is not None:
            assert row.bytes_per_minute <= growth + error
    changed = sum(before != after for before, after in zip(rows, kept, strict=True))
    assert len(notes) == changed


def test_what_no_process_can_address_is_unknown_even_if_nothing_was_measured() -> None:
    for weight, added in ((2**58, 100), (2**40, 2**20)):
        impossible = holder("shop.app.PENDING", entries_added=added, sample=sample(weight))
        found = evidence(impossible, private_bytes=None)
        (heavy, _, notes) = rank_holders(found, trend(0), None)
        assert all(row.bytes_added is None for row in heavy)
        assert len(notes) == 1
        assert "heavier than the process" in notes[0]
