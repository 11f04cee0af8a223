"""Which instances of a growing type are taken for new ones."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from memguard.leaks.evidence import census, tracing
from memguard.leaks.finding import followed
from memguard.leaks.finding.followed import Followed

LINKS = 30


class Link:
    """A link of a chain that grows at its head."""

    __slots__ = ("before", "rows")

    def __init__(self, before: Link | None) -> None:
        self.before = before
        self.rows = [before]


@pytest.fixture
def tracer() -> Iterator[tracing.Tracer]:
    made = tracing.Tracer()
    try:
        yield made
    finally:
        made.abandon()


def test_new_instances_are_found_where_a_collection_has_mixed_them_with_older_ones(
    tracer: tracing.Tracer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A collection puts what it has met last first: a chain is turned round."""
    monkeypatch.setattr(followed, "YOUNGEST", 20)
    gc.collect()
    first = census.take_look(1.0)
    head: Link | None = None
    for _ in range(2_000):
        head = Link(head)
    tracer.start(1)
    for _ in range(LINKS):
        head = Link(head)
    gc.collect()
    young = census.newest_instances([f"{__name__}.Link"], per_type=20, scan=10**7)
    assert not any(tracer.origin(link) for link in young[f"{__name__}.Link"])
    young.clear()
    found = Followed()
    found.sample_types(first, census.take_look(2.0), tracer)
    assert found.has_instances()
    found.clear()
