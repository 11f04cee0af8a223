"""
Owners: what is registered for an object ends when that object is collected.

Nothing here keeps an owner alive. The callback of its weak reference only appends to a queue. Our
own registrations end at the next call of a registry; everything else is user code, and ends on the
janitor's thread.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import types
import weakref
from collections import deque
from collections.abc import Iterator
from typing import Any, Protocol

from memguard.errors import CapacityError, ConfigError, LifecycleError
from memguard.lifecycle import fork, janitor, locks
from memguard.lifecycle.failures import Failures
from memguard.lifecycle.queues import drain

_SWEEP_SECONDS = 1.0
_METHODS = (types.MethodType, types.BuiltinMethodType, types.MethodWrapperType)

serials = itertools.count(1)
"""Numbers for everything registered in this process: one of them names it wherever it is."""
failures = Failures("scope.disposer_failed")
"""What calls at the end of an owner raised. Not to be added to under a lock."""


class Registration(Protocol):
    """What belongs to an owner: a handle that can be ended, once, from any thread."""

    is_ours: bool
    """Whether ending it runs no user code."""

    def close(self) -> None:
        """End it. Idempotent."""


class Owned:
    """The registrations of one owner by serial, oldest first."""

    __slots__ = ("closed", "maxsize", "registrations")

    def __init__(self, maxsize: int | None = None) -> None:
        self.maxsize = maxsize
        self.closed = False
        self.registrations: dict[int, Registration] = {}

    def release(self, serial: int) -> bool:
        """Take one out before its owner ends; False when it is out already. Takes no lock."""
        return self.registrations.pop(serial, None) is not None

    def take_all(self) -> Iterator[Registration]:
        """Yield each to one taker, the youngest first, also what is added meanwhile."""
        while self.registrations:
            with contextlib.suppress(KeyError):  # another taker was faster
                yield self.registrations.popitem()[1]


class Owner:
    """An owner that can be ended before it is collected, such as a `Scope`."""

    __slots__ = ("__weakref__", "_owned")

    _owned: Owned


class _OwnerRef(weakref.ref[Any]):
    """A weak reference to an owner; keeps what it owns."""

    __slots__ = ("ident", "owned")

    ident: int
    owned: Owned


class _Owners:
    """
    The owners of this process.

    Locks: one re-entrant mutex around `refs`. A destructor that the collector runs within a section
        may come back here: each section is right after any change between two of its steps.
    """

    def __init__(self) -> None:
        self.lock = locks.RLock()
        self.refs: dict[int, _OwnerRef] = {}
        self.collected: deque[_OwnerRef] = deque()
        self.disposers: deque[Registration] = deque()
        """User code that is due on the janitor's thread."""
        self.epoch = -1
        """That of the janitor which watches; -1 when none does."""

    def ref_to(self, owner: Any) -> _OwnerRef:
        """Return the reference to *owner*, made when it is new. Under the lock."""
        ident = id(owner)
        while True:
            ref = self.refs.get(ident)
            if ref is None:
                self.refs.setdefault(ident, self._new_ref(owner))
            elif ref() is owner:
                return ref
            elif self.refs.get(ident) is ref:  # of a collected owner, whose address is used again
                del self.refs[ident]

    def _new_ref(self, owner: Any) -> _OwnerRef:
        try:
            ref = _OwnerRef(owner, self.collected.append)
        except TypeError:
            raise TypeError(
                f"owner cannot be weakly referenced (got {type(owner).__name__}); give a Scope, "
                f"or add '__weakref__' to the __slots__ of its class"
            ) from None
        ref.ident = id(owner)
        ref.owned = owned_by(owner) or Owned()
        return ref

    def end_collected(self) -> None:
        fork.check()
        for ref in drain(self.collected):
            with self.lock:
                if self.refs.get(ref.ident) is ref:
                    del self.refs[ref.ident]
            ref.owned.closed = True
            for registration in ref.owned.take_all():
                if registration.is_ours:
                    registration.close()
                else:
                    self.disposers.append(registration)
                    self.watch()

    def forget_idle(self) -> None:
        """Forget owners that own nothing."""
        with self.lock:
            self._forget_idle()

    def _forget_idle(self) -> None:
        for ident, ref in self.refs.copy().items():
            if not ref.owned.registrations and self.refs.get(ident) is ref:
                del self.refs[ident]
                if ref.owned.registrations:  # a destructor registered something just now
                    self.refs.setdefault(ident, ref)

    def watch(self) -> None:
        """Have the janitor call `_sweep` from now on; if it cannot run, user code must wait."""
        if self.epoch != janitor.epoch:
            self.epoch = janitor.epoch
            if not janitor.watch(self):
                self.epoch = -1

    def _sweep(self) -> float | None:
        """End what the collector left; the janitor calls this."""
        self.end_collected()
        for disposer in drain(self.disposers):
            try:
                disposer.close()
            except Exception as error:  # noqa: BLE001 - reason: the rest must still be ended
                failures.add("disposer", error)
        self.forget_idle()
        epoch, self.epoch = self.epoch, -1  # first: who registers from here on asks again
        if not (self.refs or self.collected or self.disposers):
            return None
        self.epoch = epoch
        return _SWEEP_SECONDS

    def after_fork_in_child(self) -> None:
        # The parent runs the disposers that were due; a second run here could delete its files.
        self.lock = locks.RLock()
        self.disposers = deque()
        self.epoch = -1


_owners = _Owners()
_forked = _owners.after_fork_in_child
collected = _owners.collected
"""Owners that have been collected: while there are any, call `end_collected`."""
end_collected = _owners.end_collected
"""
End our own registrations of collected owners; leave the rest, user code, to the janitor.

Thread-safe. Runs no user code but the destructors of what is dropped.
"""


def adopt(owner: Any, registration: Registration, serial: int) -> Owned:
    """
    End *registration* with *owner*; return what that owner owns, by serial.

    Thread-safe; cost: one or two microseconds.

    Raises:
        TypeError: *owner* cannot be weakly referenced.
        LifecycleError: It is a scope that has ended.
        CapacityError: It is a scope that is full.
    """
    fork.call_in_child(_forked)  # before the lock is first held: another thread may fork
    fork.check()
    with _owners.lock:
        owned = _owners.ref_to(owner).owned
        is_full = owned.maxsize is not None and len(owned.registrations) >= owned.maxsize
        if not is_full:
            owned.registrations[serial] = registration
    if is_full:
        raise CapacityError(
            f"the scope is full: it holds maxsize={owned.maxsize} registrations; "
            f"end some of them earlier, or give it a larger maxsize"
        )
    if owned.closed and owned.release(serial):
        raise LifecycleError("the scope has ended; open a new one for what comes after it")
    _owners.watch()
    return owned


def owned_by(owner: Any) -> Owned | None:
    """Return what *owner* owns, None when nothing is registered in its name."""
    if issubclass(type(owner), Owner):
        own: Owned = owner._owned  # noqa: SLF001 - reason: the protocol between our own rooms
        return own
    ref = _owners.refs.get(id(owner))
    return ref.owned if ref is not None and ref() is owner else None


def refuse_cycle(owner: Any, fn: Any, what: str = "fn") -> None:
    """
    Refuse a callable that would keep *owner* alive forever, because both end together.

    Looks at closures, defaults, partials and bound methods, not deeper.

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
