"""What the entries of a container share counts once, whatever comes, leaves and is replaced."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memguard import BoundedCache, in_batches
from memguard.bounded.sizing.contents import LARGE, size_of
from memguard.bounded.sizing.entries import Parts, SharedBytes, average_bytes, weigh
from memguard.errors import ValueTooLargeError

BLOCKS = [bytes(LARGE * (2 + number)) for number in range(4)]

steps = st.lists(
    st.tuples(
        st.sampled_from(["set", "delete", "shrink", "rebuild"]),
        st.integers(0, 6),
        st.lists(st.sampled_from(range(len(BLOCKS))), max_size=3),
    ),
    max_size=40,
)


def entries_of(cache: BoundedCache[Any, Any]) -> list[Any]:
    return list(cache._contents.map.values())


def by_hand(cache: BoundedCache[Any, Any]) -> int:
    """Add up what belongs to one entry, and each part once."""
    total = 0
    parts: set[tuple[int, int]] = set()
    for entry in entries_of(cache):
        own = entry.size
        for part in getattr(entry.size, "parts", ()):
            own -= part[1]
            parts.add(part)
        total += own
    return total + sum(size for _, size in parts)


@given(steps, st.sampled_from(["lru", "s3fifo"]), st.sampled_from([150_000, 10**7]))
def test_the_bytes_of_a_cache_are_those_of_its_entries_and_each_part_once(
    changes: list[tuple[str, int, list[int]]], policy: Any, most: int
) -> None:
    cache: BoundedCache[int, Any] = BoundedCache(maxbytes=most, policy=policy)
    for what, key, blocks in changes:
        if what == "set":
            value = [BLOCKS[number] for number in blocks]
            cache[key] = value[0] if len(value) == 1 else {"blocks": value}
        elif what == "delete":
            cache.pop(key, None)
        elif what == "shrink":
            before = cache.footprint().bytes or 0
            freed = cache.shrink(fraction=key / 6).bytes
            assert freed == before - (cache.footprint().bytes or 0)
        else:
            cache._contents.rebuild()
        assert cache.footprint().bytes == by_hand(cache) <= most
    cache.clear()
    assert cache.footprint().bytes == 0
    assert len(cache._contents.parts) == 0


parts = st.lists(
    st.tuples(st.integers(1, 5), st.just(LARGE)), unique=True, min_size=1, max_size=4
).map(tuple)


def shared(found: tuple[tuple[int, int], ...]) -> SharedBytes:
    size = SharedBytes(100 + sum(part[1] for part in found))
    size.parts = found
    return size


@given(st.lists(parts, max_size=12), st.randoms())
def test_taking_and_dropping_in_any_order_ends_where_it_began(sets: Any, random: Any) -> None:
    counted, total, held = Parts(), 0, []
    for found in sets:
        held.append(shared(found))
        total += counted.take(held[-1])
        distinct = {part for size in held for part in size.parts}
        assert total == 100 * len(held) + LARGE * len(distinct)
    random.shuffle(held)
    while held:
        size = held.pop()
        expected = counted.freed_by(size)
        assert counted.drop(size) == expected
        total -= expected
    assert total == 0
    assert len(counted) == 0


def test_a_thousand_entries_that_share_one_block_are_the_block_once() -> None:
    block = bytearray(4_000_000)
    cache: BoundedCache[int, Any] = BoundedCache(maxbytes="16MiB")
    for number in range(1000):
        cache[number] = {"id": number, "block": block}
    assert len(cache) == 1000
    size = cache.footprint().bytes
    assert size is not None
    assert 4_000_000 < size < 5_000_000
    assert cache.info(1).bytes > 4_000_000, "an entry alone keeps all of it"
    for number in range(999):
        del cache[number]
    assert 4_000_000 < (cache.footprint().bytes or 0) < 4_002_000
    del cache[999]
    assert cache.footprint().bytes == 0


def test_an_estimate_counts_what_all_entries_share_once() -> None:
    block = bytes(1_000_000)
    cache: BoundedCache[int, Any] = BoundedCache(1000)
    cache.update((number, {"id": number, "block": block}) for number in range(1000))
    assert 1_000_000 < cache.statistics().bytes < 2_000_000
    apart: BoundedCache[int, Any] = BoundedCache(1000)
    apart.update((number, {"block": bytes(20_000)}) for number in range(1000))
    assert 20_000_000 < apart.statistics().bytes < 22_000_000


class Node:
    """An element of a tree that knows its parent."""

    def __init__(self, parent: Node | None) -> None:
        self.parent = parent
        self.children: list[Node] = []
        if parent is not None:
            parent.children.append(self)


def test_elements_of_a_tree_that_know_their_parent_count_the_tree_once() -> None:
    root = Node(None)
    for _ in range(200):
        Node(Node(root))
    tree = size_of(root)
    cache: BoundedCache[int, Any] = BoundedCache(maxbytes="64MiB")
    cache.update(enumerate(root.children))
    assert tree < (cache.footprint().bytes or 0) < tree + 200 * 1_000
    other = Node(None)
    for _ in range(200):
        Node(Node(other))
    cache["other"] = other  # type: ignore[index] # reason: keys are of no interest
    assert (cache.footprint().bytes or 0) > 2 * tree, "another tree is another part"


def test_small_values_are_plain_numbers() -> None:
    for value in (1, "text", [1, 2], {"a": [1.5]}, b"x" * 1000):
        assert type(weigh(value)) is int
        assert weigh(value) == size_of(value)


def test_a_large_value_alone_weighs_what_it_is() -> None:
    block = bytes(100_000)
    assert sys.getsizeof(block) <= weigh(block) <= sys.getsizeof(block) + 300
    assert weigh([block, block]) < 101_000
    assert average_bytes([(1, block)], 100, 1, 100) == pytest.approx(100_400, rel=0.01)
    assert average_bytes([], 100, 0, 100) == 0


def test_a_batch_counts_what_its_items_share_once() -> None:
    block = bytes(100_000)
    items = [{"id": number, "block": block} for number in range(20)]
    assert [len(batch) for batch in in_batches(items, max_bytes=150_000)] == [20]
    apart = [{"id": number, "block": bytes(100_000)} for number in range(4)]
    assert [len(batch) for batch in in_batches(apart, max_bytes=250_000)] == [2, 2]
    with pytest.raises(ValueTooLargeError, match="a single item has 1"):
        list(in_batches(items, max_bytes=50_000))
