"""`ObjectPool`: expensive objects, reused, never more than a fixed number of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from sys import _getframe
from threading import get_ident
from typing import Any, Generic, Literal, Self, TypeVar, cast

from memguard.bounded import callsite, inventory, options
from memguard.bounded.lifetime.callables import is_coroutine_function
from memguard.bounded.pool.checkout import Holder
from memguard.bounded.pool.lease import AsyncLease, Lease
from memguard.bounded.pool.lender import Lender, PoolOptions
from memguard.bounded.pool.stats import ObjectPoolStatistics
from memguard.bounded.pool.sweep import Sweep
from memguard.bounded.pool.watch import Watch
from memguard.lifecycle import fork
from memguard.units import parse_seconds

T = TypeVar("T")

COUNTED = (
    "created", "disposed", "lost", "recovered", "replaced", "overdue", "waits", "timeouts",
    "expired", "factory_errors", "reset_errors", "validation_failures", "dispose_errors",
)  # fmt: skip


class ObjectPool(Generic[T]):
    """
    Reuse expensive objects, never more than *maxsize* of them.

    The object released last is lent first; objects that stay idle are disposed of.
    See ``docs/pools.md``.

    Bounded by: *maxsize* objects, idle and lent together; and waiters, each a blocked call.
    Locks: one re-entrant mutex around its lists. *factory*, *reset*, *validate*, *dispose* and
        *timer* run outside of it.
    Keeps alive: idle objects, and those of leases. A checkout dropped without release is found and
        counted, its line named, and the object recovered or replaced. An object of `acquire` that
        cannot be weakly referenced is kept until it is released: it can be reported as overdue,
        never as lost.

    Thread-safe. One pool serves threads and asyncio tasks. In a forked child it is empty: the
    parent's objects are neither used nor finalized there.

    Args:
        factory: Makes an object. Runs in the thread that needs it, and in the janitor's for
            *minsize*.
        reset: Called with each released object, before it is lent again; None when
            there is nothing to reset. When it raises, the object is disposed of.
        maxsize: Most objects at the same time.
        minsize: Objects kept ready; made at once, and made again when some had to go.
        timeout: Seconds to wait for an object when all are lent.
        validate: Called with an object before it is lent again after a longer idle time; when it
            raises or returns something false, the object is disposed of and another one lent.
        validate_after_idle: Seconds of idleness after which *validate* is called.
        max_lifetime: Seconds after which an idle object is disposed of, however much it is used.
        max_idle: Seconds of idleness after which it is disposed of, down to *minsize*.
        leak_after: Seconds after which a checkout is logged with its line, once.
        dispose: Called with each object that leaves the pool.
        on_error: ``"log"`` counts and logs exceptions of *reset*, *validate* and *dispose*;
            ``"raise"`` raises them to the caller, once the pool is in order again.
        name: What reports call this pool; the line that made it by default.
        timer: The clock of ages, seconds.

    Raises:
        TypeError: An option of the wrong kind.
        ConfigError: An option out of range.
    """

    def __init__(
        self,
        factory: Callable[[], T],
        *,
        reset: Callable[[T], object] | None,
        maxsize: int,
        minsize: int = 0,
        timeout: float | str = 30.0,
        validate: Callable[[T], object] | None = None,
        validate_after_idle: float | str = 30.0,
        max_lifetime: float | str | None = None,
        max_idle: float | str | None = None,
        leak_after: float | str | None = None,
        dispose: Callable[[T], object] | None = None,
        on_error: Literal["log", "raise"] = "log",
        name: str | None = None,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        checked = PoolOptions(
            name=callsite.name_for(type(self).__name__, name),
            maxsize=options.check_positive_int(maxsize, "maxsize"),
            minsize=options.check_int(minsize, "minsize", 0, maxsize),
            timeout=parse_seconds(timeout, name="timeout"),
            factory=_check_plain(factory, "factory", optional=False),
            reset=_check_plain(reset, "reset"),
            validate=_check_plain(validate, "validate"),
            validate_after_idle=parse_seconds(validate_after_idle, name="validate_after_idle"),
            max_lifetime=options.check_duration(max_lifetime, timer, "max_lifetime"),
            max_idle=options.check_duration(max_idle, timer, "max_idle"),
            leak_after=options.check_duration(leak_after, timer, "leak_after"),
            dispose=_check_plain(dispose, "dispose"),
            on_error=options.check_choice(on_error, options.ON_ERROR, "on_error"),
            timer=options.check_callable(timer, "timer", optional=False),
        )
        self.name, self.maxsize, self.minsize = checked.name, checked.maxsize, checked.minsize
        self._timer = checked.timer
        watch = Watch(self)
        self._lender = Lender(checked, watch)
        self._slots = self._lender.slots
        self._upkeep = Sweep(self._lender)
        inventory.register(
            self,
            name=self.name,
            kind=type(self).__name__,
            also=(self._slots.idle, self._slots.by_id),
        )
        watch.resume()  # not really closed yet: the janitor must not fill the pool meanwhile
        try:
            self._upkeep.fill()
        except BaseException:
            self.close()
            raise
        watch.suspend()
        if minsize:
            watch.ensure()

    def _after_fork_in_child(self) -> None:
        self._lender.restart_in_child()

    def _sweep(self) -> float | None:
        return self._upkeep.run()

    # -- lending ------------------------------------------------------------------------------

    def acquire(self, timeout: float | str | None = None) -> T:
        """
        Return an object; end with `release`. Prefer ``with pool.lease() as obj``.

        Args:
            timeout: Seconds to wait for one; the pool's own by default, 0 not to wait.

        Raises:
            PoolExhaustedError: None came free in time; the message names the holders.
            LifecycleError: The pool is closed.
        """
        fork.check()
        frame = _getframe(1)
        slots = self._slots
        timer = self._timer
        record = (timer(), get_ident(), frame.f_code, frame.f_lasti)
        if slots.lends_at_once:
            try:
                # As `Slots.take_last` and `Slots.lend`, without a call.
                with slots.lock:
                    slot = slots.idle.pop()
                    obj: T = slot.obj
                    if slot.busy is None and slot.lease is None and obj is not None:
                        slot.record = record
                        slot.obj = None
                        return obj
            except IndexError:
                pass  # and on outside of the handler, or each error below would name this one
        _, found = self._lender.take(timeout, record[2:])
        return cast("T", found)

    def release(self, obj: T) -> None:
        """
        Release *obj*, from any thread. After `close`, it is disposed of.

        Raises:
            LifecycleError: It is not from this pool, was released before, or a lease has it.
        """
        fork.check()
        slots = self._slots
        if slots.takes_back_at_once and not slots.lost:
            with slots.lock:
                slot = slots.by_id.get(id(obj))
                is_plain = not (slots.waiting or slots.closed)
                if is_plain and slot is not None and slot.obj is None:
                    # As `Slots.put_idle`, without a call.
                    slot.obj = obj
                    slots.idle.append(slot)
                    return
        self._lender.release(obj)

    def discard(self, obj: T) -> None:
        """
        Release *obj* as broken: it is disposed of, and a new one made when one is needed.

        Raises:
            LifecycleError: It is not from this pool, was released before, or a lease has it.
        """
        self._lender.release(obj, broken=True)

    def lease(self, timeout: float | str | None = None) -> Lease[T]:
        """
        Take an object; ``with pool.lease() as obj:`` releases it however the block ends.

        A lease that is dropped without release is noticed: the object goes back to the pool when
        nothing else refers to it, and is replaced otherwise.

        Args:
            timeout: As in `acquire`.

        Raises:
            PoolExhaustedError: None came free in time; the message names the holders.
            LifecycleError: The pool is closed.
        """
        frame = _getframe(1)
        return Lease(self._lender, timeout, (frame.f_code, frame.f_lasti))

    def alease(self, timeout: float | str | None = None) -> AsyncLease[T]:
        """
        Return ``async with pool.alease() as obj:``; waiting for an object blocks no event loop.

        *factory*, *reset* and *validate* run in the thread of the loop: if they take long,
        have *minsize* objects made beforehand.

        Args:
            timeout: As in `acquire`.

        Raises:
            PoolExhaustedError: On entering: none came free in time; the message names the holders.
            LifecycleError: On entering: the pool is closed.
        """
        frame = _getframe(1)
        return AsyncLease(self._lender, timeout, (frame.f_code, frame.f_lasti))

    # -- looking ------------------------------------------------------------------------------

    def statistics(self) -> ObjectPoolStatistics:
        """Return counts since the pool was made. Thread-safe; cost: O(maxsize)."""
        lender, slots = self._lender, self._slots
        lender.settle(thoroughly=True)
        if slots.by_id:
            lender.watch.ensure()  # the janitor may have been stopped
        with slots.lock:
            size, idle, waiting = slots.size(), len(slots.idle), len(slots.waiting)
            leased = sum(slot.is_lent() for slot in list(slots.by_id.values()))
        return ObjectPoolStatistics(
            name=self.name,
            implementation="python",
            maxsize=self.maxsize,
            minsize=self.minsize,
            size=size,
            idle=idle,
            leased=leased,
            waiting=waiting,
            lost_sites=lender.counts.sites(),
            **{name: lender.counts[name] for name in COUNTED},
        )

    def holders(self) -> tuple[Holder, ...]:
        """Return who holds objects now, the oldest first, at most a hundred. Cost: O(maxsize)."""
        return self._lender.holders()

    def footprint(self) -> inventory.Footprint:
        """Return how many objects exist, idle and lent; a pool does not weigh them."""
        return inventory.Footprint(items=self._slots.size(), bytes=None)

    def reclaim(
        self, *, fraction: float | None = None, to_bytes: int | None = None
    ) -> inventory.Reclaimed:
        """
        Dispose of idle objects beyond *minsize*, the longest idle first.

        Args:
            fraction: This share of the idle objects; all of them by default.
            to_bytes: All idle objects go, whatever it is: a pool does not weigh its objects.

        Raises:
            ConfigError: *fraction* is not from 0 to 1.
        """
        share = 1.0 if fraction is None else options.check_share(fraction, "fraction")
        if to_bytes is not None:
            share = 1.0
        return inventory.Reclaimed(items=self._upkeep.shrink(share), bytes=None)

    def close(self) -> None:
        """
        Dispose of idle objects, wake who waits, and leave the inventory; idempotent.

        Lent objects stay with their holders and are disposed of when they are released.
        """
        inventory.unregister(self)
        self._lender.raise_by_policy(self._lender.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._slots.closed else f"{len(self._slots.idle)} idle"
        return f"{type(self).__name__}(name={self.name!r}, maxsize={self.maxsize}, {state})"


def _check_plain(value: Any, name: str, *, optional: bool = True) -> Any:
    """Return *value* when it can be called without awaiting what it gives."""
    options.check_callable(value, name, optional=optional)
    if is_coroutine_function(value):
        raise TypeError(
            f"{name} must be a plain function (got a coroutine function); one pool serves threads "
            f"and tasks, so open the object before it is used, or in a plain function"
        )
    return value
