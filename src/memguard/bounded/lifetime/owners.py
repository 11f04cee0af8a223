"""
Who owns what: everything registered in the name of an object ends when that object is collected.

Each owner has one estate, a list of the things that end with it, in the order in which they were
added. Nothing here keeps an owner alive. A collected owner's estate is queued by the weak
reference's callback and wound up later: our own registrations at the next call of a registry,
and everything else, which is user code, on the janitor.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import threading
import types
from collections import deque
from collections.abc import Iterator
from typing import Any, Protocol

from memguard import log
from memguard.bounded.lifetime.callables import Lifeline
from memguard.errors import CapacityError, ConfigError, LifecycleError
from memguard.lifecycle import fork, janitor

_NAP = 1.0
_MOST_KINDS = 100
_METHODS = (types.MethodType, types.BuiltinMethodType, types.MethodWrapperType)


class Thing(Protocol):
    """What an estate holds: a handle that can be ended, once, from any thread."""

    is_ours: bool
    """Whether ending it runs no user code."""

    def close(self) -> None:
        """End it. Idempotent."""


class Estate:
    """The things registered in the name of one owner, oldest first."""

    __slots__ = ("closed", "maxsize", "retired", "things")

    def __init__(self, maxsize: int | None = None) -> None:
        self.maxsize = maxsize
        self.closed = False
        self.retired = False
        self.things: dict[int, Thing] = {}

    def release(self, serial: int) -> bool:
        """Take a thing out before its owner ends; False when it is out already. Takes no lock."""
        return self.things.pop(serial, None) is not None

    def take_all(self) -> Iterator[Thing]:
        """Yield the things, also those added meanwhile, the youngest first; each to one taker."""
        while self.things:
            with contextlib.suppress(KeyError):  # another taker was faster
                yield self.things.popitem()[1]


class Owner:
    """An owner that brings its own estate, and can be ended before it is collected."""

    __slots__ = ("__weakref__", "_estate")

    _estate: Estate


class _Registry:
    """The estates of this process."""

    def __init__(self) -> None:
        # Re-entrant, and the sections below stand an interruption by a destructor that comes here.
        self.lock = threading.RLock()
        self.lines: dict[int, _OwnerLine] = {}
        self.orphans: deque[_OwnerLine] = deque()
        self.leftovers: deque[Thing] = deque()
        self.watched = False
        self.errors = 0
        self.logged: set[str] = set()

    def _sweep(self) -> float | None:
        """Wind up what the collector left; the janitor calls this."""
        wind_up()
        while self.leftovers:
            try:
                thing = self.leftovers.popleft()
            except IndexError:  # another thread took it
                break
            try:
                thing.close()
            except Exception as error:  # noqa: BLE001 - reason: the rest must still be ended
                tell(error)
        self.retire_empty()
        self.watched = False
        if not (self.lines or self.orphans or self.leftovers):
            return None
        self.watched = True
        return _NAP

    def retire_empty(self) -> None:
        """Forget owners in whose name nothing is left."""
        with self.lock:
            for ident, line in self.lines.copy().items():  # a destructor may change it
                estate = line.mark
                if not estate.things:
                    # A destructor may come between any two of these steps and adopt something.
                    estate.retired = True
                    if estate.things:
                        estate.retired = False
                    elif self.lines.get(ident) is line:
                        del self.lines[ident]

    def watch(self) -> None:
        """Have the janitor call `_sweep` from now on; where it cannot run, user code must wait."""
        if self.watched and janitor.watches(self):
            return
        self.watched = True
        if not janitor.watch(self):
            self.watched = False


class _OwnerLine(Lifeline):
    """Tells of the death of an owner, and knows where it was filed."""

    __slots__ = ("ident",)

    ident: int
    mark: Estate


_registry = _Registry()
serials = itertools.count(1)
"""Numbers for everything registered in this process: one of them names it wherever it is."""


def adopt(owner: Any, thing: Thing, serial: int) -> Estate:
    """
    Let *thing* end with *owner*, and return the estate that knows it by its *serial*.

    Thread-safe; cost: one or two microseconds.

    Raises:
        TypeError: *owner* cannot be weakly referenced.
        LifecycleError: It is a scope that has ended.
        CapacityError: It is a scope that is full.
    """
    fork.call_in_child(_after_fork_in_child)  # before the lock is first held, which a fork may meet
    registry = _registry
    own = owner._estate if issubclass(type(owner), Owner) else None  # noqa: SLF001 - reason: the protocol between our own rooms
    with registry.lock:
        estate = _line(registry, owner, own).mark
        room = estate.maxsize is None or len(estate.things) < estate.maxsize
        if room:
            estate.things[serial] = thing
    if not room:
        raise CapacityError(
            f"the scope is full: it holds maxsize={estate.maxsize} things; "
            f"end some of them earlier, or give it a larger maxsize"
        )
    if estate.closed and estate.release(serial):
        raise LifecycleError("the scope has ended; open a new one for what comes after it")
    registry.watch()
    return estate


def _line(registry: _Registry, owner: Any, own: Estate | None) -> _OwnerLine:
    ident = id(owner)
    while True:
        line = registry.lines.get(ident)
        if line is None:
            new = _new_line(registry, owner, own)
            line = registry.lines.setdefault(ident, new)
        estate = line.mark
        if line() is owner and not (estate.retired and not estate.things):
            return line
        # Retired, or its owner is dead, its address is used again, and its line waits in orphans.
        if registry.lines.get(ident) is line:
            del registry.lines[ident]


def _new_line(registry: _Registry, owner: Any, own: Estate | None) -> _OwnerLine:
    estate = Estate() if own is None else own
    estate.retired = False
    try:
        line = _OwnerLine(owner, registry.orphans.append)
    except TypeError:
        raise TypeError(
            f"owner cannot be weakly referenced (got {type(owner).__name__}); give a Scope, "
            f"or add '__weakref__' to the __slots__ of its class"
        ) from None
    line.mark = estate
    line.ident = id(owner)
    return line


def orphans() -> deque[_OwnerLine]:
    """Return the queue of collected owners: while there is something in it, call `wind_up`."""
    return _registry.orphans  # the same queue for ever, also in a forked child


def wind_up() -> None:
    """
    End our own registrations of collected owners; leave the rest, user code, to the janitor.

    Thread-safe. Runs no user code but the destructors of what is dropped.
    """
    registry = _registry
    while registry.orphans:
        try:
            line = registry.orphans.popleft()
        except IndexError:  # another thread took it
            return
        with registry.lock:
            if registry.lines.get(line.ident) is line:
                del registry.lines[line.ident]
        estate = line.mark
        estate.closed = True
        left = False
        for thing in estate.take_all():
            if thing.is_ours:
                thing.close()
            else:
                registry.leftovers.append(thing)
                left = True
        if left:
            registry.watch()


def estate_of(owner: Any) -> Estate | None:
    """Return the estate of *owner*, None when nothing is registered in its name."""
    if issubclass(type(owner), Owner):
        own: Estate = owner._estate  # noqa: SLF001 - reason: the protocol between our own rooms
        return own
    line = _registry.lines.get(id(owner))
    if line is None or line() is not owner:
        return None
    return line.mark


def tell(error: BaseException) -> None:
    """Count an error of a disposer, and log the first of each kind. Not under a lock."""
    _registry.errors += 1
    kind = type(error).__name__
    if kind not in _registry.logged and len(_registry.logged) < _MOST_KINDS:
        _registry.logged.add(kind)
        log.event(logging.WARNING, "scope.disposer_failed", error=kind)


def refuse_immortal(owner: Any, fn: Any, what: str = "fn") -> None:
    """
    Refuse a callable that would keep *owner* alive for ever, because both end together.

    Sees closures, defaults, partials and bound methods; what hides deeper is not searched.

    Raises:
        ConfigError: *fn* holds *owner*.
    """
    if issubclass(type(owner), Owner):
        return  # ended by hand, or by its with block
    for held, how in _held_by(fn):
        if held is owner:
            raise ConfigError(
                f"{what} holds its owner through {how}, so the owner could never be collected; "
                f"give a bound method that is held weakly, or a Scope as owner and close it"
            )


def _held_by(fn: Any) -> Iterator[tuple[Any, str]]:
    while issubclass(type(fn), functools.partial):
        for held in (*fn.args, *fn.keywords.values()):
            yield held, "the arguments of a partial"
        fn = fn.func
    yield fn, "being it"
    if issubclass(type(fn), _METHODS):
        yield fn.__self__, "its bound method"
    if issubclass(type(fn), types.FunctionType):
        for cell in fn.__closure__ or ():
            with contextlib.suppress(ValueError):  # not yet assigned
                yield cell.cell_contents, "its closure"
        for held in fn.__defaults__ or ():
            yield held, "its defaults"


def _after_fork_in_child() -> None:
    # The parent runs the disposers that were due; a second run here could delete its files.
    registry = _registry
    registry.lock = threading.RLock()
    registry.leftovers = deque()
    registry.watched = False
