"""Bounds are lowered for as long as memory is short, and the owner's word counts."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable
from typing import Any

import pytest

from memguard.bounded.cache.bounded_cache import BoundedCache
from memguard.bounded.inventory import Footprint
from memguard.relief.caches import Caps
from tests.relieving import MIB, bytes_in, filled


def measure(cache: Any) -> Footprint:
    footprint: Footprint = cache.footprint()
    return footprint


def hold(caps: Caps, *caches: BoundedCache[Any, Any], room: int = 0) -> int:
    return caps.hold([(cache, cache.footprint()) for cache in caches], room=room)


def test_a_held_cache_stays_as_small_as_it_is() -> None:
    caps = Caps()
    cache = filled("held", entries=50, maxbytes=10 * MIB)
    size = bytes_in(cache)
    assert hold(caps, cache) == 1
    for number in range(100, 300):
        cache[number] = b"y" * 10_000
    assert size * 0.9 < bytes_in(cache) <= size
    caps.restore()
    assert cache.maxbytes == 10 * MIB


def test_room_is_shared_in_proportion() -> None:
    caps = Caps()
    large, small = filled("large", entries=300), filled("small", entries=100)
    large.resize(maxbytes=100 * MIB)
    small.resize(maxbytes=30 * MIB)
    total = bytes_in(large) + bytes_in(small)
    hold(caps, large, small, room=total)
    assert large.maxbytes == pytest.approx(2 * bytes_in(large), rel=0.01)
    assert small.maxbytes == pytest.approx(2 * bytes_in(small), rel=0.01)
    caps.restore()


def test_a_cache_of_entries_is_held_by_entries_and_gets_infinity_back() -> None:
    caps = Caps()
    cache: BoundedCache[int, bytes] = BoundedCache(math.inf)
    for number in range(5000):
        cache[number] = b"x" * 100
    hold(caps, cache)
    cache[9999] = b"x"
    assert len(cache) == 5000
    caps.restore()
    assert cache.maxsize == math.inf


def test_a_cache_that_is_nearly_empty_is_not_starved() -> None:
    caps = Caps()
    cache: BoundedCache[int, bytes] = BoundedCache(6400)
    cache[1] = b"x"
    hold(caps, cache)
    assert cache.maxsize == 100
    caps.restore()


def test_a_bound_far_above_the_limit_is_no_reason_to_grow() -> None:
    caps = Caps()
    cache = filled("boundless", entries=1000, maxbytes=100_000 * MIB)
    size = bytes_in(cache)
    assert hold(caps, cache) == 1
    assert cache.maxbytes == size
    caps.restore()


def test_an_empty_cache_has_its_share_of_the_room() -> None:
    """It may have been made a moment ago, while a model was being loaded."""
    caps = Caps()
    empty: BoundedCache[int, bytes] = BoundedCache(maxbytes=150 * MIB, name="empty")
    hold(caps, empty, room=40 * MIB)
    assert empty.maxbytes == 40 * MIB
    caps.restore()
    full = filled("full", entries=1000, maxbytes=150 * MIB)
    hold(caps, empty, full, room=40 * MIB)
    assert empty.maxbytes is not None
    assert full.maxbytes is not None
    assert empty.maxbytes > 7 * MIB
    assert empty.maxbytes + full.maxbytes == pytest.approx(bytes_in(full) + 40 * MIB, rel=0.01)
    caps.restore()


def test_a_bound_is_never_raised_by_holding() -> None:
    caps = Caps()
    cache = filled("tight", entries=10, maxbytes=1 * MIB)
    assert hold(caps, cache, room=100 * MIB) == 0
    assert cache.maxbytes == 1 * MIB


@pytest.mark.parametrize(
    "make",
    [
        lambda: BoundedCache(1000, getsizeof=len, name="weighs"),
        lambda: BoundedCache(maxbytes="1MiB", oversized="raise", name="raises"),
    ],
    ids=["weighs its values", "raises on large values"],
)
def test_no_cache_is_held_that_would_then_raise_on_what_its_owner_allows(
    make: Callable[[], BoundedCache[int, bytes]],
) -> None:
    cache = make()
    caps = Caps()
    cache[1] = b"x" * 10
    assert cache.lowerable is None
    assert hold(caps, cache) == 0
    cache[2] = b"y" * 900


def test_an_owner_who_resizes_meanwhile_is_not_overruled() -> None:
    caps = Caps()
    cache = filled("resized", entries=50, maxbytes=10 * MIB)
    hold(caps, cache)
    cache.resize(maxbytes=3 * MIB)
    caps.restore()
    assert cache.maxbytes == 3 * MIB
    hold(caps, cache)
    caps.restore()
    assert cache.maxbytes == 3 * MIB, "and that is what goes back from now on"


def test_bounds_grow_back_step_by_step_and_not_past_the_room() -> None:
    caps = Caps()
    cache = filled("growing", entries=100, maxbytes=10 * MIB)
    hold(caps, cache)
    start = bytes_in(cache)
    bounds = []
    for step in range(6):
        raised = caps.regrow(start + 2 * MIB - bytes_in(cache), measure)
        assert raised == (1 if step < 5 else raised)
        for number in range(1000 * step, 1000 * step + 900):
            cache[number] = b"z" * 10_000
        bounds.append(cache.maxbytes or 0)
    assert bounds == sorted(bounds)
    assert bounds[0] < start + 1.1 * MIB
    assert start + 1.7 * MIB < bounds[-1] <= start + 2 * MIB
    caps.restore()


def test_where_all_fits_the_owners_bound_is_back() -> None:
    caps = Caps()
    cache = filled("all", entries=10, maxbytes=1 * MIB)
    hold(caps, cache)
    assert caps.regrow(5 * MIB, measure) == 1
    assert cache.maxbytes == 1 * MIB
    assert len(caps) == 0


def test_a_cache_is_not_kept_alive() -> None:
    caps = Caps()
    cache = filled("dropped", entries=10)
    hold(caps, cache)
    assert len(caps) == 1
    del cache
    gc.collect()
    assert caps.regrow(MIB, measure) == 0
    assert len(caps) == 0
