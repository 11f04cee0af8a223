"""What an investigation has gathered: rows that are one holder are one."""

from __future__ import annotations

from memguard.leaks.evidence.gathered import joined
from memguard.leaks.evidence.newest import Sample
from tests.detecting import holder


def sample(weight: int) -> Sample:
    return Sample(entries=10, bytes=10 * weight, squares=10 * weight * weight)


def test_containers_of_one_path_and_type_are_one_holder() -> None:
    """As the lists in a dict of lists: none of them grows much, together they are the growth."""
    rows = joined(
        holder("app.GROUPS[int]", type="list", sample=sample(1000 + 500 * (number % 2)))
        for number in range(20)
    )
    (row,) = rows
    assert (row.containers, row.entries, row.entries_added) == (20, 20 * 5000, 20 * 4000)
    assert row.entries_per_minute == 20 * 60.0 * 1024
    assert row.sample.bytes_per_entry == 1250


def test_what_only_seems_to_be_one_holder_stays_apart() -> None:
    rows = [
        holder("app.ROWS"),
        holder("app.ROWS", type="list"),
        holder("app.ROWS", steady=False),
        holder("app.ROWS", unit="instances"),
        holder("app.ROWS", bound=10),
        holder("<list>[…]", anchored=False),
        holder("<list>[…]", anchored=False),
        holder("app.CACHE", inventory_name="a"),
        holder("app.CACHE", inventory_name="b"),
    ]
    assert len(joined(rows)) == len(rows)
