"""What the newest entries of a container are, what they weigh, and who made them."""

from __future__ import annotations

import asyncio
import collections
import sys
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from memguard.bounded.sizing import retained
from memguard.bounded.sizing.contents import size_of
from memguard.leaks.evidence.newest import (
    Sample,
    newest_entries,
    sample_container,
    sample_objects,
    weigh_together,
)
from memguard.leaks.evidence.tracing import Location
from tests import strangers

HERE: Location = ("app.py", 7)


def from_here(*objects: Any) -> Callable[[Any], tuple[Location, ...]]:
    """Return an origin that knows *objects* only."""
    known = set(map(id, objects))
    return lambda obj: (HERE, ("main.py", 1)) if id(obj) in known else ()


@pytest.mark.parametrize(
    ("container", "expected"),
    [
        ({"a": 1, "b": 2, "c": 3}, [("c", 3), ("b", 2)]),
        (collections.OrderedDict(a=1, b=2, c=3), [("c", 3), ("b", 2)]),
        (collections.defaultdict(int, a=1, b=2), [("b", 2), ("a", 1)]),
        ([1, 2, 3], [(2,), (3,)]),
        (collections.deque([1, 2, 3, 4, 5]), [(1,), (2,), (4,), (5,)]),
        ({5}, [(5,)]),
        ([], []),
    ],
)
def test_the_newest_entries_come_from_the_end_where_there_is_one(
    container: Any, expected: list[tuple[Any, ...]]
) -> None:
    assert newest_entries(container, 2) == expected


def test_a_sample_counts_types_bytes_and_lines() -> None:
    first, second = bytearray(1000), bytearray(3000)
    sample = sample_container({"a": first, "b": second}, 2, origin=from_here(first, second))
    assert sample.entries == 2
    assert sample.types == {"bytearray": 2}
    assert sample.lines[HERE] == sys.getsizeof(first) + sys.getsizeof(second)
    assert sample.stacks[HERE] == (HERE, ("main.py", 1))
    assert sample.bytes_per_entry is not None
    assert 2000 < sample.bytes_per_entry < 2500


def test_what_two_containers_hold_counts_for_the_nearer_one() -> None:
    rows = [[bytearray(10_000)] for _ in range(20)]
    index = dict(enumerate(rows))
    first, second = Sample(), Sample()
    claimed = weigh_together([(rows, 20, first), (index, 20, second)])
    assert first.bytes > 200_000
    assert second.bytes < 20_000
    assert claimed == [0.0, 1.0]


def test_with_tracing_only_what_was_made_meanwhile_is_weighed() -> None:
    old, new = bytearray(10_000), bytearray(10)
    sample = sample_container([[old, new]], 1, origin=from_here(new))
    assert sample.bytes < 1000
    assert sum(sample.lines.values()) == sys.getsizeof(new)


def test_no_more_entries_are_sampled_than_came_in() -> None:
    assert sample_container(list(range(100)), 3, origin=None).entries == 3
    assert sample_container(list(range(100)), 99, origin=None).entries == 64


@pytest.mark.parametrize("make", [set, collections.deque])
def test_in_a_set_and_a_deque_the_new_ones_are_asked_for(make: Callable[[Any], Any]) -> None:
    """Neither has an end that is sure to be the newest."""
    old = [f"old {n}" for n in range(20)]
    new = "new one"
    sample = sample_container(make([*old, new]), 5, origin=from_here(new))
    assert sample.entries == 1
    assert sample.lines[HERE] == sys.getsizeof(new)


def test_in_a_set_a_tuple_from_the_free_list_is_known_by_what_is_in_it() -> None:
    """CPython hands out the memory of dead tuples again, which the tracer does not see."""
    new = "new one"
    sample = sample_container({(1, "old"), (2, new)}, 5, origin=from_here(new))
    assert sample.entries == 1
    assert sample.lines[HERE] == sys.getsizeof(new)


def test_a_list_from_the_free_list_below_a_new_object_leads_to_what_is_in_it() -> None:
    """CPython uses the blocks of lists, tuples and dicts again: the tracer may not know them."""
    text = "x" * 3000

    def closing_over(rows: list[str]) -> Callable[[], list[str]]:
        return lambda: rows

    later = closing_over([text])
    assert later.__closure__ is not None
    sample = sample_container([later], 1, origin=from_here(later, later.__closure__[0], text))
    assert sample.lines[HERE] > 3000


def test_a_list_from_before_the_burst_below_an_old_object_is_not_looked_into() -> None:
    text = "x" * 3000
    entry = [[[[text]]]]
    assert sample_container([entry], 1, origin=from_here(entry, text)).lines[HERE] < 3000


def test_the_program_itself_is_not_weighed() -> None:
    """A request that knows its application does not weigh as much as the application."""

    def handler() -> object:
        return sys

    sample = sample_container([[sys, list, handler]], 1, origin=None)
    assert sample.bytes < 2000


def test_an_entry_of_more_objects_than_are_looked_at_is_estimated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retained, "ENTRY_NODES", 50)
    wide = [[[bytearray(1000)] for _ in range(1000)] for _ in range(4)]
    sample = sample_container(wide, 4, origin=None)
    assert sample.bytes_per_entry is not None
    assert 1_000_000 < sample.bytes_per_entry < 1_300_000


@pytest.mark.parametrize("make", [list, collections.deque, tuple, frozenset, dict.fromkeys])
def test_a_huge_entry_is_estimated_from_some_of_what_is_in_it(
    make: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retained, "HUGE", 50)
    huge = [make(f"text {n:05}" for n in range(500))]
    exact = size_of(huge[0])
    sample = sample_container(huge, 1, origin=None)
    assert exact * 0.95 < sample.bytes < exact * 1.05 + 100


def test_objects_that_no_container_holds_are_weighed_like_entries() -> None:
    blocks = [bytearray(500), bytearray(1500)]
    sample = sample_objects(blocks, origin=from_here(blocks[0]))
    assert (sample.entries, sample.types) == (2, {"bytearray": 2})
    assert sample.lines == {HERE: sys.getsizeof(blocks[0])}
    weigh_together([(blocks, 2, sample)])
    assert sample.bytes_per_entry is not None
    assert 1000 < sample.bytes_per_entry < 1200


def test_of_a_chain_of_nodes_each_is_weighed_alone() -> None:
    """The newest one keeps the whole chain alive; what it adds is itself."""
    chain: list[Any] = []
    for number in range(200):
        chain.append({"data": bytes(2000 + number % 2), "before": chain[-1] if chain else None})
    newest = chain[-10:]
    del chain[1:]
    sample = sample_objects(newest, origin=lambda _: ())
    weigh_together([(newest, 10, sample)])
    assert 2000 < (sample.bytes_per_entry or 0) < 2500


def test_an_empty_sample_has_no_weight() -> None:
    assert sample_container([], 5, origin=None).bytes_per_entry is None


def test_no_stranger_is_touched_by_a_sample() -> None:
    made = strangers.make([1])
    dict.update(made[3], dict.fromkeys(range(20), 1))
    for stranger in made:
        sample_objects([stranger], origin=lambda _: (HERE,))
        sample_container([stranger], 1, origin=lambda _: (HERE,))
    sample_container(made[3], 10, origin=None)
    sample_container(made[4], 10, origin=None)
    assert strangers.touched == []


def test_no_value_is_in_a_sample() -> None:
    secret = "correct horse battery staple"  # noqa: S105 - reason: it looks like one, on purpose
    assert secret not in repr(sample_container({secret: [secret]}, 1, origin=None))


def test_classes_made_by_calls_are_data_of_the_entry_that_holds_them() -> None:
    """A model per tenant weighs what its class weighs; the classes of the program weigh nothing."""
    made = type("Row", (), {"__module__": __name__, "columns": ["x" * 5000]})
    for origin in (None, from_here(made, vars(made)["columns"], made.columns[0])):  # type: ignore[attr-defined] # reason: made above
        assert sample_container({"t": made}, 1, origin=origin).bytes > 5000
    assert sample_container({"t": Program}, 1, origin=None).bytes < 500
    instance = made()
    assert sample_container([[instance]], 1, origin=None).bytes < 1000


def test_a_method_of_a_buffer_weighs_what_the_buffer_weighs() -> None:
    """A callback may be all that keeps it."""
    assert sample_container([bytearray(5000).clear], 1, origin=None).bytes > 5000
    assert sample_container([len], 1, origin=None).bytes < 100


def test_an_object_of_an_extension_is_noted_wherever_it_hangs_below_an_entry() -> None:
    streams = [{"peer": [zlib.compressobj()]}]
    assert sample_container(streams, 1, origin=None).extends
    assert not sample_container([{"peer": ["text"]}], 1, origin=None).extends


class Program:
    columns: tuple[str, ...] = ("x" * 5000,)


class Ringed:
    def __init__(self, before: Ringed | None) -> None:
        self.payload = bytearray(1000)
        self.before = before
        self.after: Ringed | None = None
        if before is not None:
            before.after = self


def test_entries_that_lead_to_one_another_are_weighed_one_by_one() -> None:
    """As those of a cache in the order of their last use."""
    ring: dict[int, Ringed] = {}
    last = None
    for number in range(500):
        last = ring[number] = Ringed(last)
    origin = from_here(*ring.values(), *(each.payload for each in ring.values()))
    sample = sample_container(ring, 500, origin=origin)
    assert 1000 < (sample.bytes_per_entry or 0) < 1500


class Registry:
    """Knows all of its members; each of them knows it."""

    def __init__(self) -> None:
        self.members: dict[str, Member] = {}
        self.ready: list[str] = []


class Member:
    """What a registry keeps."""

    def __init__(self, registry: Registry, number: int) -> None:
        self.registry = registry
        self.rows = [f"{number}-{k}" for k in range(10)]


def test_an_entry_does_not_weigh_the_container_that_it_leads_back_to() -> None:
    registry = Registry()
    for number in range(12_000):
        registry.members[str(number)] = Member(registry, number)
    one = sample_container(registry.members, 1000, origin=None, held={id(registry.members)})
    assert one.bytes_per_entry is not None
    assert one.bytes_per_entry < 2_000

    together = Sample()
    weigh_together([(registry.members, 1000, together)], held={id(registry.members)})
    assert together.bytes_per_entry == one.bytes_per_entry


def test_an_entry_does_not_weigh_another_container_of_what_all_entries_share() -> None:
    registry = Registry()
    members = [Member(registry, number) for number in range(40)]
    registry.ready += [str(number) for number in range(50_000)]
    sample, other = Sample(), Sample()
    held = {id(members), id(registry.ready)}
    weigh_together([(members, 30, sample), (registry.ready, 1000, other)], held=held)
    assert sample.bytes_per_entry is not None
    assert sample.bytes_per_entry < 2_000


def test_tasks_that_wait_for_one_event_do_not_weigh_one_another() -> None:
    """Each leads to the event, and from there to all who wait; they are all new."""
    pending: list[asyncio.Task[list[str]]] = []

    async def job(event: asyncio.Event, number: int) -> list[str]:
        rows = [f"{number}-{k}" for k in range(40)]
        await event.wait()
        return rows

    async def weigh() -> Sample:
        event = asyncio.Event()
        older = {id(event), id(asyncio.get_running_loop())}
        pending.extend(asyncio.create_task(job(event, number)) for number in range(3000))
        await asyncio.sleep(0)
        sample = sample_container(
            pending,
            300,
            origin=lambda obj: () if id(obj) in older else (HERE,),
            held={id(pending)},
        )
        event.set()
        await asyncio.gather(*pending)
        return sample

    sample = asyncio.run(weigh())
    assert sample.bytes_per_entry is not None
    assert 2_500 < sample.bytes_per_entry < 6_000
    assert sample.error_per_entry is not None
    assert sample.error_per_entry < 500
