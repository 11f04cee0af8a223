"""ObjectPool, one thread at a time, on a clock that tests move."""

from __future__ import annotations

import gc
import inspect
import logging
import pickle
import weakref
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from memguard.bounded import inventory
from memguard.bounded.pool.object_pool import ObjectPool
from memguard.bounded.waiting import Waiter
from memguard.errors import ConfigError, LifecycleError, PoolExhaustedError
from memguard.lifecycle import janitor
from tests.clock import FakeClock


class Thing:
    """What the pools of these tests lend."""

    def __init__(self) -> None:
        self.disposed = 0
        self.state = "clean"

    def dispose(self) -> None:
        self.disposed += 1


class Slotted:
    """Cannot be weakly referenced."""

    __slots__ = ("state",)


@pytest.fixture
def pools() -> Iterator[Callable[..., ObjectPool[Any]]]:
    """Return a maker of pools, which are closed after the test."""
    made: list[ObjectPool[Any]] = []

    def make(factory: Callable[[], Any] = Thing, **options: Any) -> ObjectPool[Any]:
        pool = ObjectPool(
            factory, **{"reset": None, "maxsize": 2, "timeout": 0, "name": "things", **options}
        )
        made.append(pool)
        return pool

    yield make
    for pool in made:
        pool.close()


Make = Callable[..., "ObjectPool[Any]"]


def test_the_object_given_back_last_is_lent_first(pools: Make) -> None:
    pool = pools(maxsize=3)
    first, second, third = pool.acquire(), pool.acquire(), pool.acquire()
    for thing in (first, third, second):
        pool.release(thing)
    assert [pool.acquire(), pool.acquire(), pool.acquire()] == [second, third, first]


def test_no_more_objects_are_made_than_maxsize(pools: Make) -> None:
    pool = pools(maxsize=2)
    held = [pool.acquire(), pool.acquire()]
    with pytest.raises(PoolExhaustedError):
        pool.acquire()
    pool.release(held.pop())
    pool.acquire()
    assert pool.statistics().created == 2


def test_minsize_objects_are_made_at_once(pools: Make) -> None:
    statistics = pools(maxsize=5, minsize=3).statistics()
    assert (statistics.created, statistics.idle, statistics.size) == (3, 3, 3)


def test_a_lease_gives_back_whatever_happens_in_its_block(pools: Make) -> None:
    pool = pools()
    with pytest.raises(ZeroDivisionError), pool.lease() as thing:
        raise ZeroDivisionError
    assert pool.statistics().idle == 1
    with pool.lease() as again:
        assert again is thing


def test_a_lease_released_in_its_block_is_not_released_again(pools: Make) -> None:
    pool = pools()
    lease = pool.lease()
    with lease:
        lease.release()
    assert pool.statistics().idle == 1
    with pytest.raises(LifecycleError, match="this lease is already over"):
        lease.release()
    with pytest.raises(LifecycleError, match="take a new one"):
        _ = lease.obj


def test_the_object_of_a_lease_is_given_back_by_its_lease_only(pools: Make) -> None:
    pool = pools()
    lease = pool.lease()
    with pytest.raises(LifecycleError, match="lent by a lease"):
        pool.release(lease.obj)
    with pytest.raises(LifecycleError, match="lent by a lease"):
        pool.discard(lease.obj)
    lease.release()
    assert pool.statistics().idle == 1


def test_a_late_second_release_does_not_take_the_object_from_a_lease(pools: Make) -> None:
    """Whoever released it before and does so again learns of it; the lease goes on."""
    pool = pools(maxsize=1)
    thing = pool.acquire()
    pool.release(thing)
    with pool.lease() as leased:
        assert leased is thing
        with pytest.raises(LifecycleError, match="you released it before"):
            pool.release(thing)
        with pytest.raises(PoolExhaustedError):
            pool.acquire()
    assert pool.statistics().idle == 1


def test_a_lease_that_is_over_does_not_take_the_object_from_its_next_holder(pools: Make) -> None:
    pool = pools()
    lease = pool.lease()
    lease.release()
    holder = pool.acquire()
    with pytest.raises(LifecycleError, match="already over"):
        lease.release()
    del lease
    statistics = pool.statistics()
    assert (statistics.leased, statistics.lost) == (1, 0)
    pool.release(holder)


def test_a_second_release_is_an_error(pools: Make) -> None:
    pool = pools()
    thing = pool.acquire()
    pool.release(thing)
    with pytest.raises(LifecycleError, match=r"released to pool 'things' before \(got Thing\)"):
        pool.release(thing)
    assert pool.statistics().idle == 1


def test_a_foreign_object_is_an_error(pools: Make) -> None:
    pool, other = pools(), pools()
    with pytest.raises(LifecycleError, match="pool 'things' did not lend this object"):
        pool.release(Thing())
    with pytest.raises(LifecycleError, match="did not lend"):
        pool.release(other.acquire())


def test_an_object_whose_address_is_used_again_is_foreign(pools: Make) -> None:
    """The pool knows objects by id; a new object at the address of a dead one is not taken in."""

    def meets_the_address() -> bool:
        pool = pools(maxsize=1)
        ident = id(pool.acquire())
        strangers = [Thing() for _ in range(100)]
        for stranger in strangers:
            with pytest.raises(LifecycleError, match="did not lend"):
                pool.release(stranger)
        return any(id(stranger) == ident for stranger in strangers)

    # What the pool itself allocates meanwhile may take it: then once more.
    assert any(meets_the_address() for _ in range(50)), "the address was not used again"


@pytest.mark.parametrize("hook", ["validate", "reset"])
def test_a_logged_error_keeps_no_dropped_object_alive(pools: Make, hook: str) -> None:
    """Its traceback refers to frames of ours, and those to what they have lent."""

    def fail(_thing: Thing) -> bool:
        raise ValueError

    pool = pools(**{"maxsize": 1, hook: fail, "validate_after_idle": 0.0})
    gc.disable()
    try:
        pool.release(pool.acquire())
        thing = pool.acquire()
        reference = weakref.ref(thing)
        del thing
        assert reference() is None, "missed at once, not at the next collection"
    finally:
        gc.enable()


def test_what_comes_back_is_reset_before_it_is_lent_again(pools: Make) -> None:
    def reset(thing: Thing) -> None:
        thing.state = "clean"

    pool = pools(reset=reset)
    with pool.lease() as thing:
        thing.state = "dirty"
    assert pool.acquire().state == "clean"


def test_an_object_that_cannot_be_reset_is_disposed_of_and_replaced(pools: Make) -> None:
    def reset(thing: Thing) -> None:
        if thing.state == "broken":
            raise OSError

    pool = pools(reset=reset, dispose=Thing.dispose, maxsize=1)
    with pool.lease() as thing:
        thing.state = "broken"
    assert thing.disposed == 1
    assert pool.acquire() is not thing
    statistics = pool.statistics()
    assert (statistics.reset_errors, statistics.disposed, statistics.created) == (1, 1, 2)


def test_with_on_error_raise_a_failed_reset_reaches_the_caller_and_costs_no_place(
    pools: Make,
) -> None:
    def reset(_: Thing) -> None:
        raise OSError("no reset")

    pool = pools(reset=reset, maxsize=1, on_error="raise")
    with pytest.raises(OSError, match="no reset"):
        pool.release(pool.acquire())
    assert pool.statistics().size == 0
    pool.acquire()


@pytest.mark.parametrize("take", ["acquire", "lease"])
def test_what_a_destructor_releases_during_a_search_is_lent_to_one_holder(
    pools: Make, take: str
) -> None:
    pool = pools(reset=None, maxsize=2)
    held = [pool.acquire()]

    class Collecting(dict[Any, Any]):
        """The collector runs a destructor when the slots are looked at."""

        def values(self) -> Any:
            if held:
                pool.release(held.pop())
            return super().values()

    pool._slots.by_id = Collecting(pool._slots.by_id)
    pool.statistics()
    lent = [getattr(pool, take)(timeout=0) for _ in range(2)]
    objects = lent if take == "acquire" else [lease.obj for lease in lent]
    assert objects[0] is not objects[1]
    assert pool.statistics().size == 2
    for each in lent:
        if take == "acquire":
            pool.release(each)
        else:
            each.release()
    statistics = pool.statistics()
    assert (statistics.size, statistics.idle, statistics.leased) == (2, 2, 0)


def test_an_interruption_of_reset_reaches_the_caller_and_costs_no_place(pools: Make) -> None:
    def reset(_: Thing) -> None:
        raise KeyboardInterrupt

    pool = pools(reset=reset, maxsize=1)
    with pytest.raises(KeyboardInterrupt):
        pool.release(pool.acquire())
    assert pool.statistics().size == 0


def test_an_object_is_validated_only_after_a_longer_idle_time(
    pools: Make, fake_clock: FakeClock
) -> None:
    asked: list[Thing] = []

    def validate(thing: Thing) -> bool:
        asked.append(thing)
        return True

    pool = pools(validate=validate, validate_after_idle=10, timer=fake_clock)
    pool.release(pool.acquire())
    fake_clock.advance(9)
    pool.release(pool.acquire())
    assert not asked
    fake_clock.advance(10)
    assert pool.acquire() is asked[0]


@pytest.mark.parametrize("failure", [None, OSError("gone")])
def test_an_invalid_object_is_disposed_of_and_another_one_lent(
    pools: Make, failure: OSError | None
) -> None:
    def validate(_: Thing) -> bool:
        if failure is not None:
            raise failure
        return False

    pool = pools(validate=validate, validate_after_idle=0, dispose=Thing.dispose, maxsize=1)
    with pool.lease() as first:
        pass
    with pool.lease() as second:
        assert second is not first
    assert first.disposed == 1
    assert pool.statistics().validation_failures == 1


def test_an_object_older_than_max_lifetime_is_not_lent(pools: Make, fake_clock: FakeClock) -> None:
    pool = pools(max_lifetime=60, timer=fake_clock, dispose=Thing.dispose)
    with pool.lease() as first:
        fake_clock.advance(60)
    with pool.lease() as second:
        assert second is not first
    assert first.disposed == 1
    assert pool.statistics().expired == 1


def test_idle_objects_go_after_max_idle_down_to_minsize(pools: Make, fake_clock: FakeClock) -> None:
    pool = pools(maxsize=4, minsize=1, max_idle=60, timer=fake_clock)
    held = [pool.acquire() for _ in range(4)]
    for thing in held:
        pool.release(thing)
    fake_clock.advance(30)
    pool.release(pool.acquire())
    fake_clock.advance(30)
    pool._sweep()
    assert pool.statistics().idle == 1, "the one lately used"
    fake_clock.advance(60)
    pool._sweep()
    assert pool.statistics().idle == 1, "minsize"


def test_a_sweep_leaves_the_order_of_the_idle_as_it_was(pools: Make, fake_clock: FakeClock) -> None:
    pool = pools(maxsize=3, max_lifetime=60, timer=fake_clock)
    held = [pool.acquire() for _ in range(3)]
    for thing in held:
        pool.release(thing)
    pool._sweep()
    assert [pool.acquire() for _ in range(3)] == held[::-1]


def test_what_is_missing_to_minsize_is_made_by_the_janitor(
    pools: Make, fake_clock: FakeClock
) -> None:
    pool = pools(minsize=2, timer=fake_clock)
    pool.discard(pool.acquire())
    assert pool.statistics().size == 1
    pool._sweep()
    assert pool.statistics().idle == 2


def test_a_pool_is_swept_again_after_the_janitor_was_stopped(pools: Make) -> None:
    pool = pools(minsize=1)
    assert janitor.watches(pool)
    janitor.stop()
    assert not janitor.watches(pool)
    pool.statistics()
    assert janitor.watches(pool)


def test_a_failing_factory_is_asked_ever_less_often_for_minsize(
    pools: Make, fake_clock: FakeClock
) -> None:
    works = True

    def factory() -> Thing:
        if not works:
            raise ConnectionError
        return Thing()

    pool = pools(factory, minsize=1, maxsize=1, timer=fake_clock)
    pool.discard(pool.acquire())
    works = False
    for _ in range(600):
        pool._sweep()
        fake_clock.advance(1)
    assert 10 <= pool.statistics().factory_errors <= 20
    works = True
    fake_clock.advance(60)
    pool._sweep()
    assert pool.statistics().idle == 1


def test_a_failing_factory_costs_no_place(pools: Make) -> None:
    def factory() -> Thing:
        raise ConnectionError("down")

    pool = pools(factory, maxsize=1)
    for _ in range(3):
        with pytest.raises(ConnectionError, match="down") as caught:
            pool.acquire()
        assert caught.value.__context__ is None
    assert pool.statistics().size == 0


def test_a_factory_that_fails_for_minsize_leaves_nothing_behind() -> None:
    made: list[Thing] = []

    def factory() -> Thing:
        if len(made) == 2:
            raise ConnectionError
        made.append(Thing())
        return made[-1]

    with pytest.raises(ConnectionError):
        ObjectPool(factory, reset=None, maxsize=3, minsize=3, dispose=Thing.dispose)
    assert [thing.disposed for thing in made] == [1, 1]


def test_a_factory_must_make_a_new_object_each_time(pools: Make) -> None:
    only = Thing()
    pool = pools(lambda: only)
    pool.acquire()
    with pytest.raises(LifecycleError, match="it must make a new one at each call"):
        pool.acquire()
    assert pool.statistics().size == 1


def test_a_factory_must_return_something(pools: Make) -> None:
    with pytest.raises(TypeError, match=r"must return an object \(got None\)"):
        pools(lambda: None).acquire()


def test_a_broken_object_can_be_discarded(pools: Make) -> None:
    pool = pools(dispose=Thing.dispose, maxsize=1)
    thing = pool.acquire()
    pool.discard(thing)
    lease = pool.lease()
    other = lease.obj
    lease.discard()
    assert (thing.disposed, other.disposed) == (1, 1)
    assert pool.statistics().size == 0


def test_an_object_dropped_without_release_is_counted_and_its_place_named(
    pools: Make, caplog: pytest.LogCaptureFixture
) -> None:
    pool = pools(maxsize=1)
    line = inspect.currentframe().f_lineno + 2  # type: ignore[union-attr]  # reason: CPython has frames
    for _ in range(3):
        pool.acquire()
    statistics = pool.statistics()
    assert (statistics.lost, statistics.replaced, statistics.size) == (3, 3, 0)
    [(site, losses)] = statistics.lost_sites
    assert losses == 3
    assert site.startswith(f"unit/test_pool.py:{line} ")
    told = [record for record in caplog.records if "pool.lease_lost" in record.message]
    assert len(told) == 1, "each place once"


def test_a_dropped_lease_gives_its_object_back_to_the_pool_after_a_reset(pools: Make) -> None:
    def reset(thing: Thing) -> None:
        thing.state = "clean"

    pool = pools(reset=reset, maxsize=1)
    lease = pool.lease()
    lease.obj.state = "dirty"
    ident = id(lease.obj)
    del lease
    with pool.lease() as thing:
        assert (id(thing), thing.state) == (ident, "clean")
    statistics = pool.statistics()
    assert (statistics.lost, statistics.recovered, statistics.created) == (1, 1, 1)


def test_the_object_of_a_dropped_lease_is_not_lent_again_while_somebody_uses_it(
    pools: Make,
) -> None:
    """Two holders of one connection would be worse than any leak."""
    pool = pools(maxsize=1, dispose=Thing.dispose)
    used = pool.lease().obj
    with pool.lease() as other:
        assert other is not used
    assert used.disposed == 0
    statistics = pool.statistics()
    assert (statistics.lost, statistics.replaced, statistics.size) == (1, 1, 1)


def test_a_lost_object_that_dies_later_is_not_counted_twice(pools: Make) -> None:
    pool = pools(maxsize=1)
    used = pool.lease().obj
    pool.statistics()
    del used
    statistics = pool.statistics()
    assert (statistics.lost, statistics.size) == (1, 0)


def test_an_object_disposed_of_that_dies_later_is_not_counted_as_lost(pools: Make) -> None:
    pool = pools(maxsize=1)
    thing = pool.acquire()
    pool.discard(thing)
    del thing
    assert pool.statistics().lost == 0
    assert pool.statistics().size == 0


def test_what_an_exception_left_half_given_to_a_waiter_is_lent_to_others(pools: Make) -> None:
    """As when a signal handler raises between the steps of a hand-over."""
    pool = pools(maxsize=2)
    pool.release(pool.acquire())
    waiter = Waiter()
    with pool._slots.lock:
        assert pool._slots.take_last(waiter) is not None
        assert pool._slots.reserve(waiter)
    assert pool.statistics().size == pool.statistics().idle == 1
    held = [pool.acquire(), pool.acquire()]
    assert waiter.given is None
    for thing in held:
        pool.release(thing)


def test_objects_that_cannot_be_weakly_referenced_are_lent_as_well(pools: Make) -> None:
    pool = pools(Slotted, maxsize=1)
    thing = pool.acquire()
    pool.release(thing)
    assert pool.acquire() is thing
    del thing
    with pytest.raises(PoolExhaustedError):
        pool.acquire()


def test_such_objects_are_reset_and_discarded_like_all_others(pools: Make) -> None:
    reset: list[Slotted] = []
    pool = pools(Slotted, maxsize=1, reset=reset.append)
    thing = pool.acquire()
    pool.release(thing)
    assert reset == [thing]
    with pytest.raises(LifecycleError, match="released to pool 'things' before"):
        pool.release(thing)
    assert pool.acquire() is thing
    pool.discard(thing)
    assert pool.statistics().size == 0


def test_a_dropped_lease_of_such_an_object_is_recovered(pools: Make) -> None:
    pool = pools(Slotted, maxsize=1)
    lease = pool.lease()
    ident = id(lease.obj)
    del lease
    assert id(pool.acquire()) == ident
    assert pool.statistics().recovered == 1


def test_idle_objects_are_kept_alive_and_lent_ones_are_not(pools: Make) -> None:
    pool = pools()
    reference = weakref.ref(pool.acquire())
    assert reference() is None
    thing = pool.acquire()
    reference = weakref.ref(thing)
    pool.release(thing)
    del thing
    assert reference() is not None


def test_a_checkout_is_reported_as_overdue_once_with_its_place(
    pools: Make, fake_clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    pool = pools(leak_after=60, timer=fake_clock)
    thing = pool.acquire()
    fake_clock.advance(59)
    pool._sweep()
    assert not caplog.records
    fake_clock.advance(1)
    pool._sweep()
    pool._sweep()
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    for part in ("pool.lease_overdue", "test_pool.py", "age_seconds=60.0", "MainThread"):
        assert part in record.message
    assert pool.statistics().overdue == 1
    pool.release(thing)
    thing = pool.acquire()
    fake_clock.advance(60)
    pool._sweep()
    assert pool.statistics().overdue == 2, "another checkout of the same object"


def test_many_overdue_checkouts_are_a_few_lines_of_log(
    pools: Make, fake_clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    pool = pools(maxsize=50, leak_after=1, timer=fake_clock)
    held = [pool.acquire() for _ in range(50)]
    fake_clock.advance(1)
    pool._sweep()
    assert len(caplog.records) == 11
    assert "not_shown=40" in caplog.records[-1].message
    assert pool.statistics().overdue == len(held)


def test_exhaustion_names_who_holds_what_and_how_long(pools: Make, fake_clock: FakeClock) -> None:
    pool = pools(maxsize=2, timer=fake_clock)
    held = [pool.acquire()]
    fake_clock.advance(90)
    held.append(pool.acquire())
    with pytest.raises(PoolExhaustedError) as caught:
        pool.acquire()
    message = str(caught.value)
    assert "all 2 objects are lent" in message
    assert "test_pool.py" in message
    assert "thread MainThread, 1 min 30 s" in message
    assert "raise maxsize" in message
    assert len(caught.value.holders) == len(held)
    assert caught.value.__context__ is None
    again = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - reason: dumped here
    assert (str(again), again.holders) == (message, caught.value.holders)


def test_the_error_of_exhaustion_is_a_timeout(pools: Make) -> None:
    pool = pools(maxsize=1)
    thing = pool.acquire()
    with pytest.raises(TimeoutError):
        pool.acquire(timeout="10ms")
    pool.release(thing)


def test_reclaim_lets_idle_objects_go_the_longest_idle_first_down_to_minsize(pools: Make) -> None:
    pool = pools(maxsize=4, minsize=1, dispose=Thing.dispose)
    held = [pool.acquire() for _ in range(4)]
    for thing in held:
        pool.release(thing)
    assert pool.footprint() == inventory.Footprint(items=4, bytes=None)
    assert pool.reclaim(fraction=0.5).items == 2
    assert [thing.disposed for thing in held] == [1, 1, 0, 0]
    assert pool.reclaim(to_bytes=0).items == 1
    assert pool.reclaim().items == 0
    assert pool.footprint().items == 1


def test_reclaim_leaves_lent_objects_alone(pools: Make) -> None:
    pool = pools(dispose=Thing.dispose)
    thing = pool.acquire()
    assert pool.reclaim().items == 0
    assert thing.disposed == 0


def test_closing_disposes_of_the_idle_and_later_of_the_lent(pools: Make) -> None:
    pool = pools(dispose=Thing.dispose, maxsize=3)
    held, idle, leased = pool.acquire(), pool.acquire(), pool.lease()
    lent = leased.obj
    pool.release(idle)
    pool.close()
    pool.close()
    assert (held.disposed, idle.disposed) == (0, 1)
    pool.release(held)
    leased.release()
    assert (held.disposed, lent.disposed) == (1, 1)
    assert pool.statistics().size == 0
    with pytest.raises(LifecycleError, match="pool 'things' is closed"):
        pool.acquire()


def test_a_with_block_closes_the_pool() -> None:
    with ObjectPool(Thing, reset=None, maxsize=1, dispose=Thing.dispose) as pool:
        with pool.lease() as thing:
            pass
        assert pool in inventory.containers()
    assert thing.disposed == 1
    assert pool not in inventory.containers()


def test_one_failing_disposal_does_not_stop_the_others(pools: Make) -> None:
    disposed: list[Thing] = []

    def dispose(thing: Thing) -> None:
        disposed.append(thing)
        raise OSError("cannot close")

    pool = pools(dispose=dispose, maxsize=3, on_error="raise")
    held = [pool.acquire() for _ in range(3)]
    for thing in held:
        pool.release(thing)
    with pytest.raises(OSError, match="cannot close"):
        pool.close()
    assert len(disposed) == 3
    assert pool.statistics().dispose_errors == 3


def test_many_idle_objects_are_closed_without_recursion(pools: Make) -> None:
    pool = pools(maxsize=5000, minsize=5000)
    pool.close()
    assert pool.statistics().disposed == 5000


def test_user_code_may_use_the_pool_that_calls_it(pools: Make) -> None:
    def dispose(_: Thing) -> None:
        pool.statistics()
        with pool.lease():
            pass

    pool: ObjectPool[Thing] = pools(reset=None, dispose=dispose, maxsize=3)
    pool.discard(pool.acquire())

    def factory() -> Thing:
        with pool.lease():
            return Thing()

    nested = pools(factory, maxsize=3)
    nested.release(nested.acquire())
    assert pool.statistics().size == 1


def test_a_pool_is_found_by_its_place_of_creation() -> None:
    with ObjectPool(Thing, reset=None, maxsize=1) as pool:
        assert pool.name.startswith("ObjectPool@unit/test_pool.py:")
        assert repr(pool) == f"ObjectPool(name={pool.name!r}, maxsize=1, 0 idle)"
    assert "closed" in repr(pool)


GOOD: dict[str, Any] = {"factory": Thing, "reset": None, "maxsize": 1}


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"factory": 3}, TypeError, "factory must be callable"),
        ({"reset": 3}, TypeError, "reset must be callable"),
        ({"maxsize": 0}, ConfigError, r"maxsize must be >= 1 \(got 0\)"),
        ({"maxsize": "5"}, TypeError, r"maxsize must be an int \(got str\)"),
        ({"maxsize": True}, TypeError, r"maxsize must be an int \(got bool\)"),
        ({"minsize": 2}, ConfigError, r"minsize must be from 0 to 1 \(got 2\)"),
        ({"minsize": 1.0}, TypeError, r"minsize must be an int \(got float\)"),
        ({"timeout": -1}, ConfigError, "timeout must be a finite number of seconds"),
        ({"timeout": None}, TypeError, "timeout must be a number of seconds"),
        ({"validate": 3}, TypeError, "validate must be callable"),
        ({"validate_after_idle": -1}, ConfigError, "validate_after_idle must be"),
        ({"max_lifetime": 0}, ConfigError, "max_lifetime must be > 0 seconds"),
        ({"max_idle": "soon"}, ConfigError, "max_idle"),
        ({"leak_after": -3}, ConfigError, "leak_after must be > 0 seconds"),
        ({"dispose": 3}, TypeError, "dispose must be callable"),
        ({"on_error": "ignore"}, ConfigError, "on_error must be 'log' or 'raise'"),
        ({"name": ""}, ConfigError, "name must not be empty"),
        ({"timer": 3}, TypeError, "timer must be callable"),
    ],
)
def test_a_bad_option_is_refused_at_construction(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        ObjectPool(**{**GOOD, **options})


@pytest.mark.parametrize("option", ["factory", "reset", "validate", "dispose"])
def test_coroutine_functions_are_refused(option: str) -> None:
    async def coroutine_function(*_: Any) -> None: ...

    with pytest.raises(TypeError, match=f"{option} must be a plain function"):
        ObjectPool(**{**GOOD, option: coroutine_function})


def test_reset_must_be_said(pools: Make) -> None:
    del pools
    with pytest.raises(TypeError, match="reset"):
        ObjectPool(Thing, maxsize=1)  # type: ignore[call-arg]  # reason: the point of the test


def test_a_hundred_thousand_checkouts_leave_nothing(pools: Make) -> None:
    pool = pools(maxsize=2)

    def settled() -> int:
        gc.collect()
        return len(gc.get_objects())

    for _ in range(1000):
        pool.release(pool.acquire())
    before = settled()
    for _ in range(100_000):
        pool.release(pool.acquire())
    for _ in range(10_000):
        with pool.lease():
            pass
        pool.acquire()
        pool.lease()
        pool.statistics()
    assert settled() - before < 500
    assert pool.statistics().lost == 20_000


class PoolMachine(RuleBasedStateMachine):
    """Any order of calls leaves the pool with the objects that a simple model has."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        # What is made or disposed of in another thread just now is neither idle nor lent.
        self.alone = mock.patch.object(janitor, "watch", return_value=True)
        self.alone.start()
        self.pool: ObjectPool[Thing] = ObjectPool(
            Thing,
            reset=self.reset,
            maxsize=4,
            minsize=1,
            timeout=0,
            validate=self.validate,
            validate_after_idle=5,
            max_lifetime=100,
            max_idle=30,
            dispose=Thing.dispose,
            timer=self.clock,
        )
        self.held: list[Thing] = []
        self.leases: list[Any] = []

    def reset(self, thing: Thing) -> None:
        if thing.state == "broken":
            raise OSError

    def validate(self, thing: Thing) -> bool:
        return thing.state != "stale"

    @property
    def lent(self) -> int:
        return len(self.held) + len(self.leases)

    @rule()
    def acquire(self) -> None:
        if self.lent == 4:
            with pytest.raises(PoolExhaustedError):
                self.pool.acquire()
        else:
            thing = self.pool.acquire()
            assert thing.disposed == 0
            assert not any(thing is other for other in self.held)
            self.held.append(thing)

    @rule()
    def lease(self) -> None:
        if self.lent < 4:
            self.leases.append(self.pool.lease())

    @precondition(lambda self: self.held)
    @rule(state=st.sampled_from(["clean", "broken", "stale"]), last=st.booleans())
    def release(self, state: str, last: bool) -> None:  # noqa: FBT001 - reason: hypothesis draws it
        thing = self.held.pop(-1 if last else 0)
        thing.state = state
        self.pool.release(thing)
        assert thing.disposed == (state == "broken")

    @precondition(lambda self: self.held)
    @rule()
    def drop(self) -> None:
        self.held.pop()

    @precondition(lambda self: self.leases)
    @rule(how=st.sampled_from(["release", "discard", "drop"]))
    def end_lease(self, how: str) -> None:
        lease = self.leases.pop()
        if how != "drop":
            getattr(lease, how)()

    @rule(seconds=st.integers(1, 60))
    def wait(self, seconds: int) -> None:
        self.clock.advance(seconds)

    @rule()
    def sweep(self) -> None:
        self.pool._sweep()
        assert self.pool.statistics().size >= 1

    @rule(share=st.floats(0, 1))
    def reclaim(self, share: float) -> None:
        self.pool.reclaim(fraction=share)

    @invariant()
    def adds_up(self) -> None:
        statistics = self.pool.statistics()
        assert statistics.leased == self.lent
        assert statistics.size == statistics.idle + statistics.leased <= 4
        gone = statistics.disposed + statistics.replaced
        assert statistics.created == statistics.size + gone

    def teardown(self) -> None:
        self.pool.close()
        self.alone.stop()


PoolMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestPoolAgainstAModel = PoolMachine.TestCase
