"""Weak references to things that are called."""

from __future__ import annotations

import functools
import gc
import operator
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest

from memguard.bounded.lifetime.callables import (
    Lifeline,
    described,
    is_coroutine_function,
    is_method,
    referent,
    weak_callback,
    weak_target,
)
from memguard.errors import ConfigError


class Plant:
    """Something with a method of each kind."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.height = 0

    def grow(self, by: int = 1) -> int:
        self.height += by
        return self.height

    @classmethod
    def family(cls) -> str:
        return cls.__name__

    def __call__(self, by: int = 1) -> int:
        return self.grow(by)

    def __setitem__(self, key: str, value: int) -> None:
        self.heard.append((key, value))

    @property
    def level(self) -> int:
        return self.height

    @level.setter
    def level(self, value: int) -> None:
        self.height = value


class Slotted:
    """Cannot be weakly referenced."""

    __slots__ = ()

    def method(self) -> None:
        """Do nothing."""


class Quarrelsome(Plant):
    """Neither hashable nor comparable."""

    __hash__ = None  # type: ignore[assignment]  # reason: the point of this class

    def __eq__(self, other: object) -> bool:
        raise AssertionError("equality of a stranger was asked")


def plain(by: int = 1) -> int:
    """Return *by*."""
    return by


MAKERS: dict[str, Callable[[Plant], Any]] = {
    "method": lambda plant: plant.grow,
    "callable object": lambda plant: plant,
    "partial of a method": lambda plant: functools.partial(plant.grow, 2),
    "partial of a partial": lambda plant: functools.partial(functools.partial(plant.grow), 2),
    "keyword partial": lambda plant: functools.partial(plant.grow, by=2),
    "slot method": lambda plant: functools.partial(plant.__setitem__, "a", 1),
    "setattr": lambda plant: functools.partial(setattr, plant, "height", 5),
    "setitem": lambda plant: functools.partial(operator.setitem, plant, "a", 1),
    "property setter": lambda plant: functools.partial(vars(Plant)["level"].__set__, plant, 9),
}
each_kind = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())


@each_kind
def test_a_target_is_called_while_its_object_lives_and_does_not_keep_it(
    make: Callable[[Plant], Any],
) -> None:
    plant = Plant()
    dead: deque[Any] = deque()
    target = weak_target(make(plant), dead.append, mark=7)
    fn = target.resolve()
    assert fn is not None
    fn()
    assert plant.height or plant.heard
    assert target.is_alive
    seen = weakref.ref(plant)
    del fn, plant
    assert seen() is None
    assert target.resolve() is None
    assert not target.is_alive
    assert [type(line) for line in dead] == [Lifeline]
    assert dead[0].mark == 7


def test_a_function_is_called_while_something_else_holds_it() -> None:
    def inner() -> str:
        return "here"

    target, also = weak_target(inner), weak_target(functools.partial(inner))
    assert target.resolve() is inner
    assert (also.resolve() or plain)() == "here"
    del inner
    assert target.resolve() is None
    assert also.resolve() is None


def test_a_class_method_lives_as_long_as_its_class() -> None:
    target = weak_target(Plant.family)
    assert (target.resolve() or plain)() == "Plant"


def test_a_method_written_in_c_ends_with_its_object() -> None:
    bag: deque[int] = deque()
    target = weak_target(bag.append)
    (target.resolve() or plain)(3)
    assert list(bag) == [3]
    del bag
    assert target.resolve() is None


def test_a_method_ends_with_the_function_that_was_patched_in() -> None:
    """The function is held weakly too: its closure may hold the object."""
    plant = Plant()
    seen = weakref.ref(plant)

    def patched(self: Plant) -> Plant:
        return plant if plant is not None else self

    plant.grow = patched.__get__(plant)  # type: ignore[method-assign]  # reason: a patch, as tests do
    target = weak_target(plant.grow)
    assert (target.resolve() or plain)() is plant
    del patched
    plant = None  # type: ignore[assignment]  # reason: lets the closure go
    gc.collect()
    assert seen() is None
    assert target.resolve() is None


def test_targets_are_equal_when_they_mean_the_same_even_after_death() -> None:
    plant, other = Quarrelsome(), Quarrelsome()
    one, two, third = weak_target(plant.grow), weak_target(plant.grow), weak_target(other.grow)
    family = weak_target(plant.family)
    assert one == two
    assert hash(one) == hash(two)
    assert one not in {third, family}
    del plant, other
    assert one == two
    assert one != third
    assert one != "something else"


def test_an_object_at_the_address_of_a_dead_one_is_another_target() -> None:
    for _ in range(100):
        plant = Plant()
        old = weak_target(plant.grow)
        del plant
        assert weak_target(Plant().grow) != old


def test_a_live_weak_reference_stands_for_its_object() -> None:
    plant = Plant()
    assert referent(weakref.WeakMethod(plant.grow)) == plant.grow
    assert weak_target(weakref.ref(plain)).resolve() is plain


def test_a_target_that_is_dead_already_is_refused() -> None:
    reference = weakref.WeakMethod(Plant().grow)
    with pytest.raises(ConfigError, match=r"already dead .*; keep the object alive"):
        weak_target(reference)


@pytest.mark.parametrize(
    ("fn", "message"),
    [
        (3, r"fn must be callable \(got int\)"),
        (None, r"fn must be callable \(got NoneType\)"),
        (
            Slotted().method,
            r"a method of an object of Slotted cannot be held weakly: .* weak=False",
        ),
        ([].append, r"an object of list cannot be weakly referenced \(got builtins.list.append\)"),
        (operator.methodcaller("x"), r"it cannot be held weakly: an object of methodcaller"),
        (functools.partial(Slotted().method), "Slotted"),
    ],
)
def test_what_cannot_be_held_weakly_is_refused(fn: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        weak_target(fn)


def test_a_proxy_is_refused() -> None:
    plant = Plant()
    with pytest.raises(TypeError, match=r"weakref\.proxy; give the object itself"):
        weak_target(weakref.proxy(plant))


@each_kind
def test_a_method_is_told_from_a_function(make: Callable[[Plant], Any]) -> None:
    plant = Plant()
    assert is_method(make(plant)) is (make is not MAKERS["callable object"])
    assert not is_method(plain)
    assert not is_method(lambda: 1)
    assert not is_method(print)
    assert not is_method([].append)


def test_a_coroutine_function_is_told_in_every_wrapping() -> None:
    class Waiter:
        async def wait(self) -> None: ...

        async def __call__(self) -> None: ...

    async def wait() -> None: ...

    for fn in (wait, Waiter().wait, Waiter(), functools.partial(Waiter().wait)):
        assert is_coroutine_function(fn)
    for other in (plain, Plant().grow, Plant(), print, functools.partial(plain, 1)):
        assert not is_coroutine_function(other)


def test_a_description_runs_no_code_of_the_object() -> None:
    class Loud:
        def __repr__(self) -> str:
            raise AssertionError("repr of a stranger was asked")

        def __call__(self) -> None: ...

    assert described(Loud()).endswith("Loud")
    assert described(functools.partial(Plant().grow)).endswith("Plant.grow")
    assert described(print) == "builtins.print"


# -- weak_callback ------------------------------------------------------------------------------


class Counter:
    """Counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def hit(self, by: int = 1) -> int:
        self.calls += by
        return self.calls

    def __call__(self, by: int = 1) -> int:
        return self.hit(by)


def test_a_weak_callback_calls_a_method_until_its_object_dies() -> None:
    counter = Counter()
    call = weak_callback(counter.hit)
    assert call.is_alive
    assert (call(), call(by=2)) == (1, 3)
    assert repr(call).endswith("Counter.hit, alive)")
    reference = weakref.ref(counter)
    del counter
    assert reference() is None
    assert not call.is_alive
    assert call() is None


def test_functions_partials_and_callable_objects_are_held_weakly_as_well() -> None:
    counter = Counter()
    partial = functools.partial(counter.hit, 5)

    def function() -> int:
        return 7

    calls = [weak_callback(counter), weak_callback(partial), weak_callback(function)]
    assert [call() for call in calls] == [1, 6, 7]
    del counter, partial, function
    assert [call() for call in calls] == [None, None, None]


def test_weak_callbacks_of_one_method_are_equal() -> None:
    counter = Counter()
    assert weak_callback(counter.hit) == weak_callback(counter.hit)
    assert len({weak_callback(counter.hit), weak_callback(counter.hit)}) == 1
    assert weak_callback(counter.hit) != weak_callback(Counter().hit)
    assert weak_callback(counter.hit) != counter.hit


@pytest.mark.parametrize(
    ("target", "message"), [(3, "fn must be callable"), ([].append, "cannot be held weakly")]
)
def test_kinds_that_cannot_be_held_weakly_are_an_error(target: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        weak_callback(target)
