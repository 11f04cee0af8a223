"""
Weak references to callables: functions, methods, partials, callable objects.

``weakref.ref(obj.method)`` is dead at once, because each look at ``obj.method`` makes a new method
object. What is meant is: call it as long as *obj* lives. A kind that cannot be held that way is
refused; it is never held strongly in silence.
"""

from __future__ import annotations

import operator
import sys
import types
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

from memguard.errors import ConfigError

CO_COROUTINE = 0x80
"""``inspect.CO_COROUTINE``; inspect itself is 2 MiB that a host may do without."""

_C_METHODS = (types.BuiltinMethodType, types.MethodWrapperType)
# Called as f(obj, ...): these change obj, so obj is what such a partial belongs to.
_SETTERS = (setattr, operator.setitem)


_Parts: TypeAlias = tuple[
    weakref.ref[Any], Callable[[], Any], Callable[[Any, Any], Any], tuple[Any, ...]
]


class Lifeline(weakref.ref[Any]):
    """A weak reference whose death callback learns, by *mark*, what ended with the object."""

    __slots__ = ("mark",)

    mark: Any


class WeakTarget:
    """
    Something callable that is not kept alive; made by `weak_target`.

    Two targets are equal when they were made from the same function, partial or object, or from
    the same method of the same object, and stay so after its death. Neither equality nor hash
    runs code of the target.

    Thread-safe: yes, it never changes.
    """

    __slots__ = ("__weakref__", "_build", "_func", "_identity", "_ref", "key", "line")

    def __init__(self, parts: _Parts, key: tuple[int, ...], line: Lifeline | None) -> None:
        self._ref, self._func, self._build, self._identity = parts
        self.key = key
        """Numbers that are equal for equal targets, as long as one of them is kept."""
        self.line = line
        """Calls back at its death; part of the target, because a dead reference calls nothing."""

    def resolve(self) -> Callable[..., Any] | None:
        """Return the callable, strong: drop it soon. None when it is dead."""
        obj, func = self._ref(), self._func()
        return None if obj is None or func is None else self._build(obj, func)

    @property
    def is_alive(self) -> bool:
        """Whether `resolve` would return something now."""
        return self.resolve() is not None

    # A weak reference without callback is unique for its object as long as it exists, so that
    # identity of references is identity of objects, even when both objects are gone.
    def __eq__(self, other: object) -> bool:
        if not isinstance(other, WeakTarget):
            return NotImplemented
        mine, others = self._identity, other._identity
        return len(mine) == len(others) and all(map(operator.is_, mine, others))

    def __hash__(self) -> int:
        return hash(self.key)


def _parts(fn: Any) -> _Parts:
    """Return what of *fn* may die, how it is made again from that, and its identity."""
    kind = type(fn)
    if issubclass(kind, types.MethodType):
        ref, func = _reference(fn.__self__, fn), _function_reference(fn.__func__)
        return ref, func, _bind, (ref, func)
    if issubclass(kind, partial):
        own = (weakref.ref(fn),)
        call, args, kwargs = fn.func, fn.args, fn.keywords
        if _sets_its_first_argument(fn):
            ref, args = _reference(args[0], fn), args[1:]
            return ref, _present, lambda obj, _: partial(call, obj, *args, **kwargs), own
        ref, func, build, _ = _parts(call)
        del call  # or the function below would keep it
        return ref, func, lambda *held: partial(build(*held), *args, **kwargs), own
    if issubclass(kind, _C_METHODS) and not _is_of_a_module(fn):
        ref, name = _reference(fn.__self__, fn), sys.intern(fn.__name__)
        return ref, _present, lambda obj, _: getattr(obj, name), (ref, name)
    ref = _reference(fn, fn)
    return ref, _present, _itself, (ref,)


def _bind(obj: Any, func: Any) -> Any:
    return types.MethodType(func, obj)


def _itself(obj: Any, _func: Any) -> Any:
    return obj


def _present() -> bool:
    return True  # nothing else to die


def _function_reference(func: Any) -> Callable[[], Any]:
    try:
        return weakref.ref(func)
    except TypeError:  # the rare function that cannot be weakly referenced
        return lambda: func


def weak_target(
    fn: Any, on_death: Callable[[Any], object] | None = None, mark: Any = None
) -> WeakTarget:
    """
    Return *fn* as a target that is not kept alive by being known.

    Cost: about a microsecond. Thread-safe.

    Args:
        fn: A function, bound method, partial of these, callable object, or a weak reference to
            one. The arguments of a partial are kept alive, except for the object of a setter:
            ``partial(setattr, obj, "name")``.
        on_death: Called with a `Lifeline` when the object is collected. It runs inside the
            collector, in any thread: it may append to a deque and do nothing else.
        mark: What that lifeline carries.

    Raises:
        TypeError: *fn* is not callable, or of a kind that cannot be weakly referenced.
        ConfigError: *fn* is a weak reference whose object is dead.
    """
    if type(fn) is types.MethodType and type(fn.__self__).__weakrefoffset__:
        ref, func = weakref.ref(fn.__self__), _function_reference(fn.__func__)
        parts: _Parts = ref, func, _bind, (ref, func)  # by far the most frequent, made fast
        key: tuple[int, ...] = (id(ref), id(func))
    else:
        parts = ref, _, _, identity = _parts(referent(fn))
        key = tuple(map(id, identity))
    line = None
    if on_death is not None:
        line = Lifeline(ref(), on_death)
        line.mark = mark
    return WeakTarget(parts, key, line)


def referent(fn: Any) -> Any:
    """
    Return what is to be called: *fn*, or what *fn* refers to when it is a weak reference.

    Raises:
        TypeError: It is not callable, or a proxy, which would die unnoticed.
        ConfigError: It is a weak reference whose object is dead.
    """
    kind = type(fn)
    if issubclass(kind, weakref.ref):
        fn = fn()
        if fn is None:
            raise ConfigError(
                "the target is already dead (got a weak reference without its object); "
                "keep the object alive, or give a function"
            )
        kind = type(fn)
    if issubclass(kind, weakref.CallableProxyType | weakref.ProxyType):
        raise TypeError("fn must not be a weakref.proxy; give the object itself, it is held weakly")
    if not callable(fn):
        raise TypeError(f"fn must be callable (got {kind.__name__})")
    return fn


def is_method(fn: Any) -> bool:
    """Return whether *fn* is a bound method, or a partial of one: it has an object to end with."""
    kind = type(fn)
    if kind is types.MethodType:
        return True
    while issubclass(kind, partial):
        if _sets_its_first_argument(fn):
            return _can_be_referenced(fn.args[0])
        fn = fn.func
        kind = type(fn)
    if issubclass(kind, types.MethodType):
        return True
    return issubclass(kind, types.MethodWrapperType) and _can_be_referenced(fn.__self__)


def is_coroutine_function(fn: Any) -> bool:
    """Return whether calling *fn* makes a coroutine, as far as is known without calling it."""
    kind = type(fn)
    if kind is types.FunctionType:
        return bool(fn.__code__.co_flags & CO_COROUTINE)
    while issubclass(kind, partial):
        fn = fn.func
        kind = type(fn)
    if kind is types.MethodType:
        return is_coroutine_function(fn.__func__)
    fn = getattr(fn, "__func__", fn)
    if not issubclass(type(fn), types.FunctionType):
        call = getattr(type(fn), "__call__", None)  # noqa: B004 - reason: its code is wanted, not whether it is there
        if not issubclass(type(call), types.FunctionType):
            return False
        fn = call
    return bool(fn.__code__.co_flags & CO_COROUTINE)


def described(fn: Any) -> str:
    """Return ``module.qualified_name`` of *fn* for a log line; runs no code of its object."""
    while issubclass(type(fn), partial):
        fn = fn.func
    if issubclass(type(fn), types.MethodType):
        fn = fn.__func__
    if not issubclass(type(fn), types.FunctionType | types.BuiltinFunctionType | type):
        fn = type(fn)
    return f"{fn.__module__ or 'builtins'}.{fn.__qualname__}"


class WeakCallback:
    """
    Calls a function or method as long as it lives, and does nothing afterwards.

    Made by `weak_callback`. Two are equal when they were made from the same function or method.

    Bounded by: one target.
    Locks: none.
    Keeps alive: the arguments of a partial, and nothing else.

    Thread-safe.
    """

    __slots__ = ("__weakref__", "_name", "_target")

    def __init__(self, fn: Callable[..., Any]) -> None:
        self._target = weak_target(fn)
        self._name = described(self._target.resolve())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the target returns, or None when it is dead."""
        fn = self._target.resolve()
        return None if fn is None else fn(*args, **kwargs)

    @property
    def is_alive(self) -> bool:
        """Whether a call would reach the target now."""
        return self._target.is_alive

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WeakCallback) and self._target == other._target

    def __hash__(self) -> int:
        return hash(self._target)

    def __repr__(self) -> str:
        return f"WeakCallback({self._name}, {'alive' if self.is_alive else 'dead'})"


def weak_callback(fn: Callable[..., Any]) -> WeakCallback:
    """
    Return a callable that forwards to *fn* without keeping it, or its object, alive.

    Cost: about a microsecond; each call costs about as much as one more function call.

    Args:
        fn: A function, bound method, partial of these, or callable object. A lambda or closure
            that nothing else refers to dies at once: keep it somewhere.

    Raises:
        TypeError: *fn* is not callable, or of a kind that cannot be weakly referenced.
        ConfigError: *fn* is a weak reference whose object is dead.
    """
    return WeakCallback(fn)


def _reference(obj: Any, fn: Any) -> weakref.ref[Any]:
    try:
        return weakref.ref(obj)
    except TypeError:
        owner = f"an object of {type(obj).__name__}"
        what = "it" if obj is fn else f"a method of {owner}"
        raise TypeError(
            f"{what} cannot be held weakly: {owner} cannot be weakly referenced "
            f"(got {described(fn)}); use weak=False, or add '__weakref__' to its __slots__"
        ) from None


def _sets_its_first_argument(fn: Any) -> bool:
    if not fn.args:
        return False
    func = fn.func
    return any(func is setter for setter in _SETTERS) or (
        issubclass(type(func), types.MethodWrapperType) and func.__name__ == "__set__"
    )


def _is_of_a_module(fn: Any) -> bool:
    kind = type(fn.__self__)
    return kind is type(None) or issubclass(kind, types.ModuleType)


def _can_be_referenced(obj: Any) -> bool:
    return bool(type(obj).__weakrefoffset__)  # 0 if instances cannot
