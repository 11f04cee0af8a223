"""Events and their listeners: the behaviours that users of signal libraries rely on, and ours."""

from __future__ import annotations

import asyncio
import copy
import enum
import functools
import gc
import itertools
import logging
import operator
import pickle
import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memguard.bounded import inventory
from memguard.bounded.events.mute import Mute
from memguard.bounded.events.registry import Emission, ListenerRegistry, Subscription
from memguard.bounded.events.table import Bucket
from memguard.bounded.lifetime.scope import Scope
from memguard.errors import CapacityError, ConfigError, LifecycleError
from memguard.lifecycle import locks


class Ear:
    """Hears, and can be weakly referenced."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.volume = 0

    def hear(self, value: Any = None) -> None:
        self.heard.append(value)

    def __setitem__(self, key: str, value: Any) -> None:
        self.heard.append((key, value))

    @property
    def loudness(self) -> int:
        return self.volume

    @loudness.setter
    def loudness(self, value: int) -> None:
        self.volume = value


class Slotted:
    __slots__ = ("heard",)

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def hear(self, value: Any = None) -> None:
        self.heard.append(value)


class Color(enum.Enum):
    RED = 1
    GREEN = 2


@pytest.fixture
def registry() -> ListenerRegistry:
    return ListenerRegistry(name="events")


# -- the 23 behaviours ------------------------------------------------------------------------


def test_01_a_decorator_gives_the_listener_back(registry: ListenerRegistry) -> None:
    @registry.on("saved")
    def listener(value: int) -> int:
        return value + 1

    assert listener(1) == 2
    assert registry.emit("saved", 2) == Emission((3,), ())


def test_02_registering_again_does_not_call_twice(registry: ListenerRegistry) -> None:
    ear = Ear()
    first = registry.on("saved", ear.hear)
    assert registry.on("saved", ear.hear) == first
    registry.emit("saved")
    assert len(ear.heard) == 1
    registry.on("saved", ear.hear, unique=False)
    registry.emit("saved")
    assert len(ear.heard) == 3


def test_03_an_equal_bound_method_and_a_partial_disconnect_and_a_stranger_is_no_error(
    registry: ListenerRegistry,
) -> None:
    ear, partial = Ear(), functools.partial(print)
    assert ear.hear is not ear.hear
    registry.on("saved", ear.hear)
    registry.on("saved", partial)
    assert registry.off("saved", ear.hear)
    assert registry.off("saved", partial)
    assert not registry.off("saved", ear.hear)
    assert not registry.off("never", print)
    assert registry.events() == []


def test_04_a_weak_function_ends_with_its_last_reference(registry: ListenerRegistry) -> None:
    heard: list[int] = []

    def closure(value: int) -> None:
        heard.append(value)

    handle = registry.on("saved", closure, weak=True)
    registry.emit("saved", 1)
    del closure
    assert registry.emit("saved", 2) == Emission((), ())
    assert heard == [1]
    assert registry.count("saved") == 0
    assert handle.closed


def test_05_a_method_outlives_its_temporary_object_and_ends_with_its_owner(
    registry: ListenerRegistry,
) -> None:
    ear = Ear()
    heard = ear.heard
    method = ear.hear
    registry.on("saved", method)
    del method
    gc.collect()
    registry.emit("saved", 1)
    assert heard == [1]
    del ear
    assert registry.count("saved") == 0
    registry.emit("saved", 2)
    assert heard == [1]


@pytest.mark.parametrize(
    "make",
    [
        lambda ear: functools.partial(ear.hear, 1),
        lambda ear: functools.partial(setattr, ear, "volume"),
        lambda ear: functools.partial(operator.setitem, ear, "a"),
        lambda ear: functools.partial(ear.__setitem__, "a"),
        lambda ear: functools.partial(vars(Ear)["loudness"].__set__, ear),
    ],
    ids=["partial", "setattr", "setitem", "__setitem__", "property"],
)
def test_06_partials_and_setters_hold_their_object_weakly(
    registry: ListenerRegistry, make: Callable[[Ear], Any]
) -> None:
    ear = Ear()
    heard = ear.heard
    takes_no_more = make(ear).args == (1,)
    registry.on("saved", make(ear))
    result = registry.emit("saved", *(() if takes_no_more else (7,)))
    assert not result.errors
    assert heard or ear.volume == 7
    seen = weakref.ref(ear)
    del ear, result
    assert seen() is None
    assert registry.count("saved") == 0


def test_07_weak_false_keeps_the_object_alive(registry: ListenerRegistry) -> None:
    ear = Ear()
    heard = ear.heard
    registry.on("saved", ear.hear, weak=False)
    del ear
    gc.collect()
    registry.emit("saved", 1)
    assert heard == [1]


def test_08_an_object_that_cannot_be_weakly_referenced_is_refused_unless_told(
    registry: ListenerRegistry,
) -> None:
    ear = Slotted()
    with pytest.raises(TypeError, match=r"a method of an object of Slotted .* use weak=False"):
        registry.on("saved", ear.hear)
    registry.on("saved", ear.hear, weak=False)
    registry.emit("saved", 1)
    assert ear.heard == [1]
    with pytest.raises(TypeError, match=r"owner cannot be weakly referenced \(got Slotted\)"):
        registry.on("saved", print, owner=ear)
    assert registry.count("saved") == 1


def test_09_two_handles_of_one_registration_are_equal_also_after_death(
    registry: ListenerRegistry,
) -> None:
    ear, other = Ear(), Ear()
    one, two = registry.on("saved", ear.hear), registry.on("saved", ear.hear)
    third = registry.on("saved", other.hear)
    del ear
    assert one == two
    assert hash(one) == hash(two)
    assert one != third
    assert one.closed
    assert not third.closed
    assert one != "saved"


def test_10_listeners_are_called_in_the_order_of_registration_or_by_priority(
    registry: ListenerRegistry,
) -> None:
    heard: list[int] = []
    for number in range(5):
        registry.on("saved", functools.partial(heard.append, number))
    registry.on("saved", functools.partial(heard.append, 99), priority=1)
    registry.on("saved", functools.partial(heard.append, -1), priority=-1)
    registry.emit("saved")
    assert heard == [99, 0, 1, 2, 3, 4, -1]


def test_11_who_disconnects_during_an_emit_is_still_called_in_this_one(
    registry: ListenerRegistry,
) -> None:
    heard: list[str] = []
    handles: dict[str, Subscription] = {}

    def cut() -> None:
        heard.append("cut")
        for handle in handles.values():
            handle.close()

    handles["earlier"] = registry.on("saved", lambda: heard.append("earlier"))
    handles["self"] = registry.on("saved", cut)
    handles["later"] = registry.on("saved", lambda: heard.append("later"))
    registry.emit("saved")
    assert heard == ["earlier", "cut", "later"]
    registry.emit("saved")
    assert heard == ["earlier", "cut", "later"]


def test_12_who_connects_during_an_emit_is_called_from_the_next(
    registry: ListenerRegistry,
) -> None:
    heard: list[int] = []
    registry.on("saved", lambda: registry.on("saved", functools.partial(heard.append, 1)) and None)
    registry.emit("saved")
    assert heard == []
    registry.emit("saved")
    assert heard == [1]


def test_13_a_listener_that_dies_during_an_emit_is_not_called(registry: ListenerRegistry) -> None:
    ears = [Ear(), Ear()]
    heard = ears[1].heard
    registry.on("saved", ears.clear)
    registry.on("saved", ears[1].hear)
    registry.emit("saved")
    assert heard == []
    assert registry.count("saved") == 1


def test_14_an_emit_within_a_listener_runs_at_once(registry: ListenerRegistry) -> None:
    heard: list[int] = []

    def nested(depth: int) -> None:
        if depth:
            registry.emit("saved", depth - 1)
        heard.append(depth)

    registry.on("saved", nested)
    registry.on("saved", lambda depth: heard.append(10 + depth))
    registry.emit("saved", 2)
    assert heard == [0, 10, 1, 11, 2, 12]


def test_14_an_endless_recursion_is_an_error_and_no_explosion(registry: ListenerRegistry) -> None:
    for _ in range(2):  # were it collected like other errors, two would call 2 ** 1000 times
        registry.on("saved", lambda: registry.emit("saved"))
    with pytest.raises(RecursionError):
        registry.emit("saved")


def test_15_exceptions_are_collected_and_the_rest_are_called(
    registry: ListenerRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    ear = Ear()
    registry.on("saved", lambda: 1 / 0)
    registry.on("saved", ear.hear)
    with caplog.at_level(logging.WARNING, "memguard"):
        done = registry.emit("saved")
        registry.emit("saved")
    assert [type(error) for error in done.errors] == [ZeroDivisionError]
    assert done.results == (None,)
    assert ear.heard == [None, None]
    assert registry.statistics().errors == 2
    assert len(caplog.records) == 1
    assert "ZeroDivisionError" in caplog.text
    assert "test_listeners.py" in caplog.text


def test_15_raise_raises_the_first_exception_when_all_were_called() -> None:
    registry, ear = ListenerRegistry(on_error="raise"), Ear()
    registry.on("saved", lambda: 1 / 0)
    registry.on("saved", lambda: int("no number"))
    registry.on("saved", ear.hear)
    with pytest.raises(ZeroDivisionError):
        registry.emit("saved")
    assert ear.heard == [None]


def test_15_a_failing_listener_leaves_no_circle_for_the_collector() -> None:
    registry, seen = ListenerRegistry(), []

    class PlannedError(Exception):
        """Can be weakly referenced."""

    def fail() -> None:
        error = PlannedError()
        seen.append(weakref.ref(error))
        try:
            raise error
        finally:
            del error

    registry.on("saved", fail)
    gc.collect()
    gc.disable()
    try:
        done = registry.emit("saved")
        assert seen[0]() is done.errors[0]
        del done
        assert seen[0]() is None
    finally:
        gc.enable()


def test_16_events_do_not_hear_one_another_and_numbers_go_by_value(
    registry: ListenerRegistry,
) -> None:
    ear, sender = Ear(), Ear()
    events = ["saved", 1000, Color.RED, Ear, sender, ("saved", 1000), b"x"]
    for event in events:
        registry.on(event, functools.partial(ear.hear, event))
    assert registry.events() == events
    registry.emit(int("1000"))
    registry.emit(("saved", int("1000")))
    registry.emit(Color.GREEN)
    registry.emit(Ear())
    assert ear.heard == [1000, ("saved", 1000)]


def test_16_a_listener_can_end_with_the_sender(registry: ListenerRegistry) -> None:
    sender = Ear()
    registry.on("saved", print, owner=sender)
    del sender
    assert registry.events() == []


@pytest.mark.stress
def test_17_cycles_of_connecting_and_dying_leave_nothing(registry: ListenerRegistry) -> None:
    def sizes() -> tuple[int, ...]:
        registry.emit("anything")
        return tuple(
            len(part)
            for part in (
                registry._table.entries,
                registry._table.buckets,
                registry._table.endings,
                registry._table._dead,
            )
        )

    for number in range(100_000):
        ear = Ear()
        event = ("event", number)
        if number % 4 == 0:
            registry.on(event, ear.hear)
        elif number % 4 == 1:
            registry.on(event, print, owner=ear)
        elif number % 4 == 2:
            registry.on(event, ear.hear).close()
        else:
            registry.on(event, print, once=True, until="never")
            registry.emit(event, end="", file=_Nowhere())
    del ear
    assert sizes() == (0, 0, 0, 0)


class _Nowhere:
    def write(self, _text: str) -> None: ...


def test_18_a_block_ends_its_registration_also_by_an_exception(registry: ListenerRegistry) -> None:
    ear = Ear()

    def block() -> None:
        with registry.on("saved", ear.hear) as handle:
            assert not handle.closed
            registry.emit("saved", 1)
            raise LookupError

    with pytest.raises(LookupError):
        block()
    registry.emit("saved", 2)
    assert ear.heard == [1]


def test_19_muted_events_are_dropped_and_blocks_nest(registry: ListenerRegistry) -> None:
    ear = Ear()
    registry.on("saved", ear.hear)
    registry.on("opened", ear.hear)
    with registry.muted("saved"):
        registry.emit("saved", 1)
        registry.emit("opened", 2)
        with registry.muted():
            registry.emit("opened", 3)
        registry.emit("saved", 4)
        registry.emit("opened", 5)
    registry.emit("saved", 6)
    assert ear.heard == [2, 5, 6]


def test_a_block_that_could_not_be_closed_mutes_nothing_for_ever(
    registry: ListenerRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    ear = Ear()
    registry.on("saved", ear.hear)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt  # as a signal handler could before the first line

    with monkeypatch.context() as patched:
        patched.setattr(Mute, "__exit__", interrupted)
        for block in (registry.muted, registry.held):
            with pytest.raises(KeyboardInterrupt), block():
                registry.emit("saved", 1)
    registry.emit("saved", 2)
    assert ear.heard == [2]
    assert registry._emitter.mutes.open == ()


def test_a_change_after_an_interrupted_one_does_not_hide_it(
    registry: ListenerRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = Ear(), Ear(), Ear()
    interrupted = registry.on("saved", first.hear)
    after = registry.on("saved", second.hear)
    registry.on("saved", third.hear)
    with monkeypatch.context() as patched:

        class Buckets(dict[Any, Any]):
            """A signal handler raises when they are looked at."""

            def get(self, *_: Any) -> Any:
                raise KeyboardInterrupt

        patched.setattr(registry._table, "buckets", Buckets(registry._table.buckets))
        with pytest.raises(KeyboardInterrupt):
            interrupted.close()
    after.close()
    registry.emit("saved", 1)
    assert (first.heard, second.heard, third.heard) == ([], [], [1])
    assert registry.count("saved") == 1


def test_what_a_destructor_ends_while_listeners_are_lined_up_has_ended(
    registry: ListenerRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended, ear, late = Ear(), Ear(), Ear()
    subscriptions = [registry.on("saved", ended.hear)]
    registry.on("saved", ear.hear)
    line_up = Bucket.line_up

    def collecting(bucket: Bucket) -> Any:
        row = line_up(bucket)
        while subscriptions:
            subscriptions.pop().close()
            registry.on("saved", late.hear)
        return row

    monkeypatch.setattr(Bucket, "line_up", collecting)
    registry.emit("saved", 1)
    registry.emit("saved", 2)
    assert (ended.heard, ear.heard, late.heard) == ([1], [1, 2], [2])


def test_a_destructor_may_end_the_listeners_of_an_event_while_one_is_added(
    registry: ListenerRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    ear = Ear()
    before = registry.on("saved", ear.hear, priority=1)
    equal_to = Bucket.equal_to

    def collecting(bucket: Bucket, entry: Any) -> Any:
        found = equal_to(bucket, entry)
        before.close()
        return found

    monkeypatch.setattr(Bucket, "equal_to", collecting)
    registry.on("saved", ear.hear, once=True)
    registry.emit("saved", 1)
    assert ear.heard == [1]


def test_a_destructor_may_end_a_registration_that_is_being_ended(
    registry: ListenerRegistry,
) -> None:
    ear = Ear()
    registration = registry.on("saved", ear.hear)

    class Collecting(dict[Any, Any]):
        """The collector runs a destructor whenever it is looked at."""

        def get(self, *args: Any) -> Any:
            found = super().get(*args)
            if found is not None:
                self.pop(args[0])
            return found

    registry._table.entries = Collecting(registry._table.entries)
    registration.close()
    registry.emit("saved", 1)
    assert ear.heard == []
    assert registry.count() == 0


def test_19_held_events_are_delivered_merged_at_the_end(registry: ListenerRegistry) -> None:
    ear = Ear()
    registry.on("saved", ear.hear)
    with registry.held("saved", merge=lambda before, after: (before[0] + after[0],)):
        for number in range(5):
            registry.emit("saved", number)
        registry.emit("nobody listens", 1)
        assert ear.heard == []
    with registry.held():
        registry.emit("saved", 1)
        registry.emit("saved", 2)
    assert ear.heard == [10, 2]


def test_19_a_held_block_that_fails_delivers_nothing(registry: ListenerRegistry) -> None:
    ear = Ear()
    registry.on("saved", ear.hear)

    def block() -> None:
        with registry.held():
            registry.emit("saved", 1)
            raise LookupError

    with pytest.raises(LookupError):
        block()
    registry.emit("saved", 2)
    assert ear.heard == [2]


def test_20_has_listeners_never_says_a_false_no(registry: ListenerRegistry) -> None:
    assert not registry.has_listeners("saved")
    handle = registry.on("saved", print)
    assert registry.has_listeners("saved")
    handle.close()
    assert not registry.has_listeners("saved")


def test_21_an_emit_keeps_nothing_that_it_was_given(registry: ListenerRegistry) -> None:
    value = Ear()
    seen = weakref.ref(value)
    registry.on("saved", lambda _value: None)
    registry.emit("saved", value)
    del value
    assert seen() is None


def test_22_owners_may_be_unhashable_loud_copied_and_pickled() -> None:
    owner = Model()
    owner.events.on("saved", owner.hear)
    owner.events.on("saved", print, owner=owner)
    for twin in (copy.copy(owner.events), copy.deepcopy(owner).events):
        assert twin.count() == 0
        assert twin.statistics().maxsize == 7
    back = pickle.loads(pickle.dumps(owner))  # noqa: S301 - reason: ours
    assert back.events.count() == 0
    assert back.events.name == "model"
    assert owner.events.count("saved") == 2
    assert owner.events.end(owner) == 1


class Model:
    """Can do nothing that is not needed."""

    __hash__ = None  # type: ignore[assignment]  # reason: the point of this class

    def __init__(self) -> None:
        self.events = ListenerRegistry(maxsize=7, name="model")

    def __eq__(self, other: object) -> bool:
        raise AssertionError("equality was asked")

    def __repr__(self) -> str:
        raise AssertionError("repr was asked")

    def hear(self, value: object) -> None: ...


def test_23_threads_connect_while_another_emits(registry: ListenerRegistry) -> None:
    steady, errors = Ear(), []
    registry.on("saved", steady.hear)
    stop = threading.Event()

    def churn() -> None:
        try:
            while not stop.is_set():
                ear = Ear()
                with registry.on("saved", ear.hear):
                    registry.on("saved", print, owner=ear, weak="auto").close()
        except BaseException as error:  # noqa: BLE001 - reason: told to the test
            errors.append(error)

    threads = [threading.Thread(target=churn) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(3000):
        done = registry.emit("saved", number)
        assert not done.errors
    stop.set()
    for thread in threads:
        thread.join(30)
    assert errors == []
    assert steady.heard == list(range(3000))
    assert registry.count("saved") == 1


# -- once and until ---------------------------------------------------------------------------


def test_once_is_called_once(registry: ListenerRegistry) -> None:
    ear = Ear()
    handle = registry.once("saved", ear.hear)
    registry.emit("saved", 1)
    registry.emit("saved", 2)
    assert ear.heard == [1]
    assert handle.closed


def test_once_is_called_once_when_it_emits_itself(registry: ListenerRegistry) -> None:
    heard: list[int] = []

    def again() -> None:
        heard.append(1)
        registry.emit("saved")

    registry.on("saved", again, once=True)
    registry.emit("saved")
    assert heard == [1]


def test_once_is_called_exactly_once_by_eight_threads() -> None:
    registry = ListenerRegistry()
    for _ in range(50):
        heard: list[int] = []
        registry.on("saved", functools.partial(heard.append, 1), once=True)
        barrier = threading.Barrier(8)

        def emit(barrier: threading.Barrier = barrier) -> None:
            barrier.wait(10)
            registry.emit("saved")

        threads = [threading.Thread(target=emit) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert heard == [1]


def test_until_an_event(registry: ListenerRegistry) -> None:
    ear = Ear()
    registry.on("progress", ear.hear, until="done")
    registry.on("done", ear.hear, until="done")
    registry.emit("progress", 1)
    registry.emit("done", 2)
    registry.emit("progress", 3)
    registry.emit("done", 4)
    assert ear.heard == [1, 2]
    assert len(registry) == 0
    registry.on("progress", ear.hear, until="nobody listens to this")
    registry.emit("nobody listens to this")
    assert len(registry) == 0


def test_until_something_is_true(registry: ListenerRegistry) -> None:
    ear, stop = Ear(), threading.Event()
    registry.on("progress", ear.hear, until=stop.is_set)
    registry.emit("progress", 1)
    stop.set()
    registry.emit("progress", 2)
    stop.clear()
    registry.emit("progress", 3)
    assert ear.heard == [1]


def test_an_until_that_fails_is_counted_and_ends_nothing(registry: ListenerRegistry) -> None:
    ear = Ear()
    registry.on("progress", ear.hear, until=lambda: 1 / 0)
    registry.emit("progress", 1)
    assert ear.heard == [1]
    assert registry.statistics().errors == 1


# -- owners -----------------------------------------------------------------------------------


def test_a_function_ends_with_its_owner(registry: ListenerRegistry) -> None:
    owner, heard = Ear(), deque[int]()
    for number in range(3):
        registry.on("saved", functools.partial(heard.append, number), owner=owner)
    registry.emit("saved")
    assert list(heard) == [0, 1, 2]
    del owner
    assert registry.count("saved") == 0
    registry.emit("saved")
    assert len(heard) == 3


def test_what_ended_with_its_owner_is_not_kept(registry: ListenerRegistry) -> None:
    owner, held = Ear(), Ear()
    seen = weakref.ref(held)
    registry.on("saved", held.hear, owner=owner, weak=False)
    del held, owner
    registry.emit("saved")
    assert seen() is None


def test_a_scope_ends_registrations_of_all_its_registries_in_reverse() -> None:
    one, two, order = ListenerRegistry(), ListenerRegistry(), []
    with Scope() as scope:
        one.on("saved", print, owner=scope)
        scope.defer(lambda: order.append((one.count(), two.count())))
        two.on("saved", print, owner=scope)
        scope.defer(lambda: order.append((one.count(), two.count())))
        assert scope.statistics().held == 4
    assert order == [(1, 1), (1, 0)]
    assert (one.count(), two.count()) == (0, 0)


def test_a_closed_subscription_leaves_its_scope(registry: ListenerRegistry) -> None:
    with Scope() as scope:
        registry.on("saved", print, owner=scope).close()
        assert scope.statistics().held == 0


def test_an_ended_scope_leaves_no_registration_behind(registry: ListenerRegistry) -> None:
    scope = Scope()
    scope.close()
    with pytest.raises(LifecycleError):
        registry.on("saved", print, owner=scope)
    assert registry.count() == 0


def test_end_ends_what_an_owner_has_here_and_nothing_else(registry: ListenerRegistry) -> None:
    owner, elsewhere = Ear(), ListenerRegistry()
    registry.on("saved", print, owner=owner)
    registry.on("opened", print, owner=owner)
    registry.on("saved", repr)
    elsewhere.on("saved", print, owner=owner)
    assert registry.end(owner) == 2
    assert registry.end(owner) == 0
    assert registry.end(Ear()) == 0
    assert (registry.count(), elsewhere.count()) == (1, 1)


def test_a_closure_over_its_owner_is_refused_with_the_way_out(registry: ListenerRegistry) -> None:
    owner = Ear()
    with pytest.raises(ConfigError, match=r"holds its owner through its closure, .* a Scope"):
        registry.on("saved", lambda: owner.hear(1), owner=owner)
    with pytest.raises(ConfigError, match="through its bound method"):
        registry.on("saved", owner.hear, owner=owner, weak=False)
    registry.on("saved", owner.hear, owner=owner)
    assert registry.count() == 1


def test_the_same_function_for_two_owners_is_two_registrations(registry: ListenerRegistry) -> None:
    heard: list[int] = []
    one, two = Ear(), Ear()
    for owner in (one, two, one):
        registry.on("saved", heard.append, owner=owner)
    registry.emit("saved", 1)
    assert heard == [1, 1]
    del one, owner
    registry.emit("saved", 2)
    del two
    registry.emit("saved", 3)
    assert heard == [1, 1, 2]
    assert registry.count() == 0


def test_a_registration_that_stays_when_its_twin_goes_is_still_unique(
    registry: ListenerRegistry,
) -> None:
    ear = Ear()
    first = registry.on("saved", ear.hear)
    registry.on("saved", ear.hear, unique=False)
    first.close()
    registry.on("saved", ear.hear)
    registry.emit("saved", 1)
    assert ear.heard == [1]
    assert registry.off("saved", ear.hear)
    assert registry.count() == 0


def test_neither_handle_nor_listener_keeps_the_registry_alive() -> None:
    registry, ear = ListenerRegistry(), Ear()
    seen = weakref.ref(registry)
    handle = registry.on("saved", ear.hear)
    registry.on("saved", print, owner=ear)
    del registry
    assert seen() is None
    assert handle.closed
    handle.close()


def test_a_temporary_object_is_told_with_the_place_that_registered_it(
    registry: ListenerRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "memguard"):
        for _ in range(3):
            registry.on("saved", Ear().hear)
        registry.emit("saved")
    assert registry.statistics().died_at_once == 3
    assert len(caplog.records) == 1
    assert "keep the object, or weak=False" in caplog.text
    assert "test_listeners.py" in caplog.text


def test_an_object_that_lives_a_while_and_hears_nothing_is_no_mistake(
    registry: ListenerRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    ear = Ear()
    registry.on("saved", ear.hear)
    del ear
    assert registry.statistics().died == 1
    assert registry.statistics().died_at_once == 0
    assert caplog.records == []


def test_a_target_that_is_dead_already_is_refused(registry: ListenerRegistry) -> None:
    with pytest.raises(ConfigError, match="already dead"):
        registry.on("saved", weakref.WeakMethod(Ear().hear))


# -- async ------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_emit_async_awaits_coroutine_functions_and_calls_the_rest(
    registry: ListenerRegistry,
) -> None:
    class AsyncEar(Ear):
        async def listen(self, value: int) -> int:
            await asyncio.sleep(0)
            self.heard.append(value)
            return value

        async def fail(self, value: int) -> int:
            raise LookupError(value)

    ear = AsyncEar()
    registry.on("saved", ear.listen)
    registry.on("saved", ear.fail)
    registry.on("saved", ear.listen, once=True)
    registry.on("saved", lambda value: value + 1)
    done = await registry.emit_async("saved", 1)
    assert done.results == (1, 1, 2)
    assert [type(error) for error in done.errors] == [LookupError]
    assert (await registry.emit_async("saved", 5)).results == (5, 6)
    assert (await registry.emit_async("nobody", 5)) == Emission((), ())


@pytest.mark.asyncio
async def test_a_cancelled_emit_stops(registry: ListenerRegistry) -> None:
    ear, waiting = Ear(), asyncio.Event()

    async def wait() -> None:
        waiting.set()
        await asyncio.Event().wait()

    registry.on("saved", wait)
    registry.on("saved", ear.hear)
    task = asyncio.ensure_future(registry.emit_async("saved"))
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ear.heard == []


def test_a_coroutine_function_in_a_plain_emit_is_an_error_not_a_silence(
    registry: ListenerRegistry,
) -> None:
    async def listener() -> None: ...

    registry.on("saved", listener, once=True)
    done = registry.emit("saved")
    assert isinstance(done.errors[0], LifecycleError)
    assert "use emit_async" in str(done.errors[0])
    assert registry.count("saved") == 1


# -- bounds and options -----------------------------------------------------------------------


def test_many_listeners_of_one_event_are_warned_of_once_with_their_places(
    caplog: pytest.LogCaptureFixture,
) -> None:
    registry = ListenerRegistry(max_listeners=3, name="events")
    with caplog.at_level(logging.WARNING, "memguard"):
        for _ in range(4):
            registry.on("saved", lambda: None)
        registry.on("saved", lambda: None)
        registry.on("opened", lambda: None)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    for part in ("listens_to='saved'", "listeners=4", "max_listeners=3", "'4x unit/test_listeners"):
        assert part in caplog.text
    assert registry.statistics().warnings == 1
    assert sorted(registry.sites("saved").values()) == [1, 4]


def test_a_full_registry_refuses(registry: ListenerRegistry) -> None:
    registry = ListenerRegistry(maxsize=2, name="events")
    registry.on("saved", print)
    ear = Ear()
    registry.on("saved", ear.hear)
    with pytest.raises(CapacityError, match=r"events is full: it holds maxsize=2 listeners; give"):
        registry.on("saved", repr)
    registry.on("saved", print)  # no new registration
    del ear
    registry.on("saved", repr)
    assert registry.count() == 2


def test_a_closed_registry_is_heard_by_nobody_and_takes_nobody(registry: ListenerRegistry) -> None:
    ear = Ear()
    with registry:
        registry.on("saved", ear.hear)
    registry.close()
    assert registry.emit("saved") == Emission((), ())
    with pytest.raises(LifecycleError, match="events is closed"):
        registry.on("saved", ear.hear)
    assert registry.statistics().closed


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"max_listeners": 0}, ConfigError, r"max_listeners must be >= 1 \(got 0\)"),
        ({"maxsize": 0}, ConfigError, r"maxsize must be >= 1 \(got 0\)"),
        ({"maxsize": None}, TypeError, r"maxsize must be an int \(got NoneType\)"),
        ({"maxsize": 1.5}, TypeError, r"maxsize must be an int \(got float\)"),
        ({"on_error": "stop"}, ConfigError, r"on_error must be 'log' or 'raise' \(got 'stop'\)"),
        ({"name": ""}, ConfigError, "name must not be empty"),
    ],
)
def test_bad_options_are_refused(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        ListenerRegistry(**options)


@pytest.mark.parametrize(
    ("event", "fn", "options", "error", "message"),
    [
        ("x", 3, {}, TypeError, r"fn must be callable \(got int\)"),
        ("x", print, {"weak": "yes"}, ConfigError, "weak must be True, False or 'auto'"),
        ("x", print, {"until": 3}, TypeError, r"until must be the name of an event, or a callable"),
        ("x", print, {"priority": "high"}, TypeError, r"priority must be an int \(got str\)"),
        ([], print, {}, TypeError, r"event must be compared by identity"),
        (None, print, {}, TypeError, r"event must be compared by identity.* \(got NoneType\)"),
        (1.5, print, {}, TypeError, r"event must be compared by identity.* \(got float\)"),
    ],
)
def test_bad_registrations_are_refused(
    event: Any, fn: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    registry = ListenerRegistry()
    with pytest.raises(error, match=message):
        registry.on(event, fn, **options)
    assert registry.count() == 0


def test_an_event_with_an_equality_of_its_own_is_refused(registry: ListenerRegistry) -> None:
    """It would run inside the registry's sections."""

    class Loud:
        def __eq__(self, other: object) -> bool:
            return True

        def __hash__(self) -> int:
            return 1

    for event in (Loud(), ("saved", Loud())):
        with pytest.raises(TypeError, match="would run inside the registry"):
            registry.on(event, print)


def test_it_tells_reports_what_it_holds() -> None:
    registry = ListenerRegistry(name="told")
    registry.on("saved", print)
    assert registry.footprint().items == 1
    assert registry.reclaim(fraction=1.0).items == 0
    assert registry.count() == 1
    assert isinstance(registry, inventory.Reclaimable)
    rows = [row for row in inventory.inventory() if row.name == "told"]
    assert [(row.kind, row.items) for row in rows] == [("ListenerRegistry", 1)]
    assert bool(ListenerRegistry())
    assert repr(registry) == "ListenerRegistry(name='told', events=1, listeners=1)"
    assert repr(registry.on("saved", print)) == "Subscription('saved', open)"
    assert ListenerRegistry().name.startswith("ListenerRegistry@unit/test_listeners.py:")


def test_reclaim_forgets_the_dead_only(registry: ListenerRegistry) -> None:
    ear = Ear()
    registry.on("saved", ear.hear)
    registry.on("saved", print)
    del ear
    assert registry.reclaim(fraction=0.5).items == 1
    assert registry.count() == 1


# -- from the middle of a change --------------------------------------------------------------


@pytest.mark.skipif(
    locks.FREE_THREADED, reason="without a GIL nothing makes the collector run between two lines"
)
def test_a_destructor_may_use_the_registry_in_the_middle_of_a_change() -> None:
    """Whatever the collector does between two steps, nothing dead-locks and nothing is lost."""
    registry, kept, collections = ListenerRegistry(), [], itertools.count()

    def noise(phase: str, _info: dict[str, int]) -> None:
        # Not each time: working off what it adds allocates, and CPython collects after each line.
        if phase == "start" and next(collections) % 20 == 0:
            kept.append(registry.on("noise", functools.partial(len, ())))
            if len(kept) > 20:
                kept.pop(0).close()
            registry.on("steady", len)

    thresholds = gc.get_threshold()
    gc.callbacks.append(noise)
    gc.set_threshold(1, 1, 1)
    try:
        for number in range(300):
            ear = Ear()
            handle = registry.on("steady", ear.hear, once=number % 2 == 0)
            registry.on("steady", print, owner=ear, until="over")
            if number % 3:
                handle.close()
    finally:
        gc.set_threshold(*thresholds)
        gc.callbacks.remove(noise)
    del ear, handle
    assert next(collections) > 100
    assert registry.count("noise") == len(kept)
    assert registry.count("steady") == 1
    assert len(registry) == 1 + len(kept)


def test_a_change_inside_a_section_is_applied_by_the_next(registry: ListenerRegistry) -> None:
    ear = Ear()
    first = registry.on("saved", ear.hear)
    with registry._table.lock:
        registry._table._changing = True
        second = registry.on("saved", print)
        first.close()
        registry.emit("saved", end="", file=_Nowhere())  # what stands, stands
        registry._table._changing = False
    assert not second.closed
    assert first.closed
    assert registry.count("saved") == 1
    assert ear.heard == []


def test_an_interrupt_in_the_middle_of_a_change_undoes_it(registry: ListenerRegistry) -> None:
    class Interrupting(dict[Any, Any]):
        def __setitem__(self, key: Any, value: Any) -> None:
            super().__setitem__(key, value)
            raise KeyboardInterrupt

    registry.on("saved", repr)
    bucket = registry._table.buckets["saved"]
    bucket.entries = Interrupting(bucket.entries)
    with pytest.raises(KeyboardInterrupt):
        registry.on("saved", print)
    assert registry.count("saved") == 1
    assert registry.count() == 1
    assert not registry._table._changing


def test_an_index_that_is_made_anew_is_never_seen_half_made(
    registry: ListenerRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other threads emit without the lock."""
    heard: list[int] = []
    for number in range(3):
        registry.on("saved", functools.partial(heard.append, number))
    seen: list[bool] = []
    table = registry._table
    put_in = table._put_in

    def watched(*args: Any) -> None:
        seen.append(bool(table.row("saved")))
        put_in(*args)

    monkeypatch.setattr(table, "_put_in", watched)
    table._put_off = True
    registry.emit("saved")
    assert seen == [True] * 3
    assert heard == [0, 1, 2]


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["on", "on owner", "once", "close", "off", "kill", "emit", "clear"]),
        st.integers(0, 3),
        st.integers(0, 2),
    ),
    max_size=40,
)


@given(OPERATIONS)
def test_it_agrees_with_a_list_of_who_listens(  # noqa: C901, PLR0912 - reason: one branch for each operation
    operations: list[tuple[str, int, int]],
) -> None:
    """The model: pairs of event and listener, in order, each at most once for each owner."""
    registry = ListenerRegistry()
    ears: dict[int, Ear] = {number: Ear() for number in range(4)}
    owners: dict[int, Ear] = {number: Ear() for number in range(4)}
    heard: list[tuple[int, str]] = []
    functions = {
        number: functools.partial(lambda number: heard.append((number, "function")), number)
        for number in range(4)
    }
    for ear_number, ear in ears.items():
        ear.heard = _Log(heard, ear_number)
    del ear
    model: list[tuple[int, tuple[int, str], str]] = []
    handles: list[tuple[tuple[int, tuple[int, str], str], Subscription]] = []
    for operation, number, event in operations:
        name = f"event {event}"
        if operation in ("on", "once"):
            row = (event, (number, "method"), operation)
            handle = registry.on(name, ears[number].hear, once=operation == "once")
            if row not in model:
                model.append(row)
            handles.append((row, handle))
        elif operation == "on owner":
            row = (event, (number, "function"), "owned")
            handles.append((row, registry.on(name, functions[number], owner=owners[number])))
            if row not in model:
                model.append(row)
        elif operation == "close" and handles:
            row, handle = handles.pop(number % len(handles))
            if not handle.closed:
                model.remove(row)
            handle.close()
        elif operation == "off":
            registry.off(name, ears[number].hear)
            model = [row for row in model if (row[0], row[1]) != (event, (number, "method"))]
        elif operation == "kill":
            owners[number] = Ear()
            model = [row for row in model if row[1] != (number, "function")]
            fresh = Ear()
            fresh.heard = ears[number].heard
            ears[number] = fresh
            model = [row for row in model if row[1] != (number, "method")]
        elif operation == "clear":
            registry.clear(name)
            model = [row for row in model if row[0] != event]
        elif operation == "emit":
            heard.clear()
            registry.emit(name)
            assert heard == [row[1] for row in model if row[0] == event]
            model = [row for row in model if row[0] != event or row[2] != "once"]
        for event_number in range(3):
            expected = sum(row[0] == event_number for row in model)
            assert registry.count(f"event {event_number}") == expected
        assert len(registry) == len(model)


class _Log(list[Any]):
    """Stands in for what an ear heard."""

    def __init__(self, heard: list[tuple[int, str]], number: int) -> None:
        super().__init__()
        self._heard = heard
        self._number = number

    def append(self, _value: Any) -> None:
        self._heard.append((self._number, "method"))
