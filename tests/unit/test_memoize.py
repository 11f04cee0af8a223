"""@cached on functions and coroutine functions: results, keys, single flight, options."""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
import pickle
import threading
import time
from collections.abc import Iterator
from typing import Any

import cachetools
import pytest

from memguard.bounded import inventory
from memguard.bounded.cache.bounded_cache import BoundedCache
from memguard.bounded.cache.loading.decorator import CachedFunction, cached
from memguard.errors import ConfigError
from memguard.lifecycle import locks
from tests.clock import FakeClock


@cached
def doubled(number: int) -> int:
    """Twice as much."""
    return 2 * number


def counted(**options: Any) -> tuple[Any, list[Any]]:
    """Return a cached function and the list of the arguments it was really called with."""
    calls: list[Any] = []

    @cached(**options)
    def function(*args: Any, **kwargs: Any) -> int:
        calls.append((args, kwargs))
        return len(calls)

    return function, calls


def test_a_function_is_called_once_for_the_same_arguments() -> None:
    function, calls = counted()
    assert [function(1), function(1), function(2), function(a=1), function(a=1)] == [1, 1, 2, 3, 3]
    assert len(calls) == 3
    assert function.cache_info() == (2, 3, 128, 3)
    assert function.cache_parameters() == {"maxsize": 128, "typed": False}


def test_keys_tell_apart_what_calls_tell_apart() -> None:
    """Positional from keyword, one tuple from two arguments, nothing from None."""
    function, calls = counted()
    different: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        ((), {}),
        ((None,), {}),
        ((1, 2), {}),
        (((1, 2),), {}),
        ((1,), {"b": 2}),
        ((), {"a": 1, "b": 2}),
        (("a", 1, "b", 2), {}),
        (("1",), {}),
        ((b"1",), {}),
    ]
    for args, kwargs in different * 2:
        function(*args, **kwargs)
    assert len(calls) == len(different)


def test_equal_numbers_share_a_result_unless_typed() -> None:
    function, calls = counted()
    assert function(1) == function(1.0) == function(True)
    assert function(1, 2) == function(1.0, 2.0)
    assert len(calls) == 2
    typed, calls = counted(typed=True)
    assert len({typed(1), typed(1.0), typed(True), typed(a=1), typed(a=1.0)}) == 5
    assert len(calls) == 5


def test_arguments_are_hashed_once_a_call() -> None:
    class Hashed:
        """Counts how often it is hashed."""

        hashes = 0

        def __hash__(self) -> int:
            type(self).hashes += 1
            return 3

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Hashed)

    function, calls = counted()
    function(Hashed())
    assert Hashed.hashes == 1
    function(Hashed())
    assert Hashed.hashes == 2
    assert len(calls) == 1


def test_an_unhashable_argument_is_a_type_error() -> None:
    function, calls = counted()
    with pytest.raises(TypeError, match="unhashable"):
        function([])
    assert calls == []


def test_the_least_recently_used_result_is_forgotten_first() -> None:
    function, calls = counted(maxsize=2)
    for number in (1, 2, 1, 3, 1, 2):
        function(number)
    assert [args for args, _ in calls] == [(1,), (2,), (3,), (2,)]


def test_nothing_is_remembered_with_maxsize_zero() -> None:
    function, _ = counted(maxsize=0)
    assert [function(1), function(1)] == [1, 2]
    assert function.cache_info() == (0, 2, 0, 0)
    assert function.cache is None
    assert not function.cache_invalidate(1)
    function.cache_clear()
    assert function.cache_info() == (0, 0, 0, 0)


def test_results_expire(fake_clock: FakeClock) -> None:
    function, calls = counted(ttl=10, timer=fake_clock)
    function(1)
    fake_clock.advance(9)
    function(1)
    assert len(calls) == 1
    fake_clock.advance(2)
    assert function.cache_info().currsize == 0
    function(1)
    assert len(calls) == 2


def test_a_function_may_be_bounded_by_bytes_alone() -> None:
    @cached(maxbytes="103KiB" if locks.FREE_THREADED else "100KiB")
    def block(number: int) -> bytes:  # noqa: ARG001 - reason: it is the key
        return bytes(10_000)

    for number in range(50):
        block(number)
    assert block.cache_info().currsize == 10
    assert block.cache_info().maxsize is None


def test_clearing_forgets_results_and_counts() -> None:
    function, calls = counted()
    function(1)
    function(1)
    function.cache_clear()
    assert function.cache_info() == (0, 0, 128, 0)
    function(1)
    assert len(calls) == 2
    assert function.cache_info() == (0, 1, 128, 1)


def test_one_result_can_be_invalidated() -> None:
    function, calls = counted()
    function(1, b=2)
    function(3)
    assert function.cache_invalidate(1, b=2)
    assert not function.cache_invalidate(1, b=2)
    function(3)
    assert len(calls) == 2


def test_exceptions_are_not_remembered() -> None:
    calls: list[int] = []

    @cached
    def fails_once() -> int:
        calls.append(1)
        if len(calls) == 1:
            raise LookupError
        return 7

    with pytest.raises(LookupError):
        fails_once()
    assert fails_once() == 7


def test_none_is_a_result_like_any_other() -> None:
    calls: list[int] = []

    @cached
    def nothing(number: int) -> None:
        calls.append(number)

    for _ in range(2):
        assert nothing(1) is None
    assert calls == [1]


def test_threads_that_miss_together_make_one_call() -> None:
    calls: list[int] = []

    @cached
    def slow(number: int) -> int:
        calls.append(number)
        time.sleep(0.05)
        return number

    threads = [threading.Thread(target=slow, args=(1,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert calls == [1]


def test_without_single_flight_each_thread_may_call() -> None:
    barrier = threading.Barrier(3, timeout=10)

    @cached(single_flight=False)
    def meets(number: int) -> int:
        barrier.wait()
        return number

    threads = [threading.Thread(target=meets, args=(1,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert meets.cache_info().currsize == 1


def test_a_recursive_function_may_go_deep() -> None:
    @cached(maxsize=None)
    def down(number: int) -> int:
        return 0 if number == 0 else down(number - 1) + 1

    assert down(250) == 250
    assert down.cache_info().currsize == 251


def test_a_stale_result_is_renewed_in_the_background(fake_clock: FakeClock) -> None:
    function, calls = counted(refresh_after=10, timer=fake_clock)
    assert function(1) == 1
    fake_clock.advance(11)
    assert function(1) == 1
    end = time.monotonic() + 10
    while function.cache.statistics().refreshes < 1:
        assert time.monotonic() < end
        time.sleep(0.002)
    assert function(1) == 2
    assert len(calls) == 2


def test_a_cache_may_be_shared_by_functions_without_mixing_their_results() -> None:
    shared: BoundedCache[Any, Any] = BoundedCache(10)

    @cached(cache=shared)
    def one(number: int) -> str:
        return f"one {number}"

    @cached(cache=shared)
    def two(number: int) -> str:
        return f"two {number}"

    assert [one(1), two(1), one(1), two(1)] == ["one 1", "two 1", "one 1", "two 1"]
    assert len(shared) == 2
    assert one.cache is shared
    assert one.cache_info().maxsize == 10


def test_a_cachetools_cache_or_a_dict_may_hold_the_results() -> None:
    existing: cachetools.LFUCache[Any, Any] = cachetools.LFUCache(2)
    function, _ = counted(cache=existing)
    assert [function(1), function(1)] == [1, 1]
    assert len(existing) == 1
    held: dict[Any, Any] = {}
    function, _ = counted(maxsize=2, cache=held)
    for number in (1, 2, 3):
        function(number)
    assert len(held) == 2
    with pytest.raises(ConfigError, match="maxsize or maxbytes is required: wrap"):
        cached(cache={})


def test_a_key_function_decides_what_is_the_same() -> None:
    function, calls = counted(key=lambda text, **_: text.lower())
    assert function("A", x=1) == function("a", x=2)
    assert len(calls) == 1


def test_the_function_is_still_itself() -> None:
    assert doubled.__name__ == "doubled"  # type: ignore[attr-defined]
    assert doubled.__doc__ == "Twice as much."
    assert doubled.__wrapped__(3) == 6
    assert inspect.signature(doubled).parameters.keys() == {"number"}
    assert pickle.loads(pickle.dumps(doubled)) is doubled  # noqa: S301
    assert copy.copy(doubled) is copy.deepcopy(doubled) is doubled
    assert repr(doubled).startswith("<cached <function doubled")
    partial = cached(functools.partial(int, base=2))
    assert partial("101") == 5
    assert copy.deepcopy(partial) is partial


def test_a_cached_function_is_listed_under_its_name() -> None:
    function, _ = counted()
    function(1)
    names = {row.name for row in inventory.inventory() if row.items}
    assert any(name.endswith("counted.<locals>.function") for name in names)


def test_decorating_twice_keeps_two_caches() -> None:
    inner = cached(maxsize=2)(lambda number: number)
    outer = cached(maxsize=3)(inner)
    assert outer(1) == 1
    assert outer(1) == 1
    assert outer.cache_info() == (1, 1, 3, 1)
    assert inner.cache_info() == (0, 1, 2, 1)


# -- coroutine functions ------------------------------------------------------------------------


def test_a_coroutine_function_is_awaited_once_by_all_tasks() -> None:
    calls: list[int] = []

    @cached(maxsize=10)
    async def load(number: int) -> int:
        calls.append(number)
        await asyncio.sleep(0.01)
        return number * 2

    async def main() -> list[int]:
        return list(await asyncio.gather(*(load(4) for _ in range(5))))

    assert asyncio.run(main()) == [8] * 5
    assert asyncio.run(main()) == [8] * 5
    assert calls == [4]
    assert load.cache_info().currsize == 1
    assert load.cache_invalidate(4)


def test_a_cached_coroutine_function_is_one_to_those_who_ask() -> None:
    async def plain(number: int) -> int:
        return number

    class Callable:
        """Its call is a coroutine."""

        async def __call__(self, number: int) -> int:
            return number

    for function in (plain, functools.partial(plain), functools.partial(plain, 3), Callable()):
        wrapped = cached(function)
        assert inspect.iscoroutinefunction(wrapped) or asyncio.iscoroutinefunction(wrapped)
        arguments = () if function is not plain and getattr(function, "args", ()) else (3,)  # type: ignore[arg-type]  # reason: a test reaches past the types
        assert asyncio.run(wrapped(*arguments)) == 3
        assert asyncio.run(wrapped(*arguments)) == 3
        assert wrapped.cache_info()[:2] == (1, 1)


def test_async_results_can_be_left_uncached_or_uncoordinated() -> None:
    calls: list[int] = []

    async def load(number: int) -> int:
        calls.append(number)
        await asyncio.sleep(0)
        return number

    async def twice(function: Any) -> None:
        await asyncio.gather(function(1), function(1))

    asyncio.run(twice(cached(maxsize=0)(load)))
    assert len(calls) == 2
    asyncio.run(twice(cached(single_flight=False)(load)))
    assert len(calls) == 4


def test_a_stale_async_result_is_renewed_by_a_task(fake_clock: FakeClock) -> None:
    calls: list[int] = []

    @cached(refresh_after=10, timer=fake_clock)
    async def load() -> int:
        calls.append(1)
        await asyncio.sleep(0)
        return len(calls)

    async def main() -> list[int]:
        results = [await load()]
        fake_clock.advance(11)
        results.append(await load())
        await asyncio.sleep(0.01)
        return [*results, await load()]

    assert asyncio.run(main()) == [1, 1, 2]


# -- options ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"maxsize": "many"}, TypeError, "maxsize must be a number of entries"),
        ({"typed": 1}, TypeError, r"typed must be True or False \(got int\)"),
        ({"single_flight": None}, TypeError, "single_flight must be True or False"),
        ({"key": 3}, TypeError, r"key must be callable \(got int\)"),
        ({"refresh_after": 0}, ConfigError, "refresh_after must be > 0 seconds"),
        ({"cache": BoundedCache(1), "ttl": 3}, ConfigError, r"brings its own options.*ttl"),
        ({"cache": BoundedCache(1), "maxsize": 3}, ConfigError, "brings its own bound"),
        ({"cache": 3}, TypeError, "wrap needs a dict or a cachetools cache"),
    ],
)
def test_a_bad_option_is_refused_with_what_is_allowed(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        cached(**options)


def test_what_cannot_be_cached_is_refused() -> None:
    def numbers() -> Iterator[int]:
        yield 1

    with pytest.raises(TypeError, match="a generator function cannot be cached"):
        cached(numbers)
    with pytest.raises(TypeError, match="the decorated object must be callable"):
        cached(maxsize=3)(3)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="ttl must be > 0"):
        cached(ttl=0)(len)


def test_the_decorator_gives_back_its_own_type() -> None:
    assert type(doubled) is CachedFunction
