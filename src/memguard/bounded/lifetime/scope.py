"""`Scope`: everything registered with it ends with it, in reverse order."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from memguard.bounded import callsite, options
from memguard.bounded.lifetime import owners
from memguard.errors import ConfigError, LifecycleError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ScopeStatistics:
    """What a scope holds and has done."""

    name: str
    closed: bool
    held: int
    """Registrations and calls that end with the scope."""
    maxsize: int
    ended: int
    """Registrations and calls that the scope has ended."""
    errors: int
    """Those whose end raised."""


class Disposal:
    """
    One call at the end of an owner, or earlier by `close`; never twice.

    Bounded by: one call.
    Locks: none.
    Keeps alive: the function and its arguments until they have been called or forgotten.
    """

    __slots__ = ("_acall", "_call", "_owned", "_serial")

    is_ours = False

    def __init__(
        self, call: Callable[[], Any], owner: Any, *, acall: Callable[[], Any] | None = None
    ) -> None:
        self._call = [call]  # the thread that pops it runs it
        self._acall = acall  # what to run instead under `aclose`
        self._serial = next(owners.serials)
        self._owned: owners.Owned | None = None
        self._owned = owners.adopt(owner, self, self._serial)

    def close(self) -> None:
        """
        Run it now instead of later; idempotent. What it raises reaches the caller.

        Raises:
            LifecycleError: It is asynchronous; use `aclose`.
        """
        call = self._take()
        result: Any = None if call is None else call()
        if hasattr(result, "__await__"):
            if hasattr(result, "close"):
                result.close()  # or the interpreter warns that it was never awaited
            raise LifecycleError(
                "a disposer is asynchronous: end it with `async with` or `await aclose()`"
            )

    async def aclose(self) -> None:
        """Run it now and await what it returns; idempotent."""
        call = self._take()
        if call is not None:
            result = (self._acall or call)()
            if hasattr(result, "__await__"):
                await result

    def forget(self) -> None:
        """Drop the call without running it; idempotent."""
        self._take()

    @property
    def is_pending(self) -> bool:
        """Whether the call is still to come."""
        return bool(self._call)

    def _take(self) -> Callable[[], Any] | None:
        if self._owned is not None:
            self._owned.release(self._serial)
        try:
            return self._call.pop()
        except IndexError:
            return None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


class Scope(owners.Owner):
    """
    Own listeners, timers, tasks and clean-up calls, and end them all, the newest first.

    Pass it as ``owner=`` to a registry, or add calls with `defer` and resources with `add`.
    One failing disposer does not stop the rest. A scope that is collected without having been
    closed ends as well: registrations at the next use of their registry, calls on the janitor's
    thread within about a second. After a fork, the child's copy may be closed like any object;
    what was waiting for the janitor is left to the parent.

    Thread-safe: yes. If two threads close it, each registration is ended by one of them.

    Bounded by: *maxsize* registrations and calls.
    Locks: one re-entrant mutex, shared by all owners, around a dict entry; disposers never run
        under it.
    Keeps alive: calls and resources given to it, until it ends.

    Args:
        name: What reports call it; the line that made it by default.
        maxsize: Most registrations and calls at the same time.
        on_error: ``"log"`` counts and logs what disposers raise; ``"raise"`` raises the first such
            exception when all have run, unless the ``with`` block raises one itself.

    Raises:
        TypeError: An option of the wrong kind.
        ConfigError: An option out of range.
    """

    __slots__ = ("_ended", "_errors", "_name", "_on_error", "_site")

    def __init__(
        self,
        *,
        name: str | None = None,
        maxsize: int = 10_000,
        on_error: Literal["log", "raise"] = "log",
    ) -> None:
        self._name = options.check_name(name)
        self._site = callsite.caller()
        self._on_error = options.check_choice(on_error, options.ON_ERROR, "on_error")
        self._owned = owners.Owned(options.check_positive_int(maxsize, "maxsize"))
        self._ended = self._errors = 0

    @property
    def name(self) -> str:
        """What reports call it."""
        return self._name or f"{type(self).__name__}@{callsite.shown(self._site)}"

    @property
    def closed(self) -> bool:
        """Whether it has ended and accepts nothing more."""
        return self._owned.closed

    def defer(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Disposal:
        """
        Call ``fn(*args, **kwargs)`` at the end of the scope; awaited there under `aclose`.

        Returns:
            A handle: ``.close()`` calls it now, ``.forget()`` never.

        Raises:
            TypeError: *fn* is not callable.
            LifecycleError: The scope has ended.
            CapacityError: It is full.
        """
        options.check_callable(fn, "fn", optional=False)
        call = functools.partial(fn, *args, **kwargs) if args or kwargs else fn
        return Disposal(call, self)

    def add(self, resource: T) -> T:
        """
        Close *resource* at the end of the scope, and return it.

        Its ``aclose`` is used under `Scope.aclose` if it has one, else its ``close``.

        Raises:
            TypeError: It has neither.
            LifecycleError: The scope has ended.
            CapacityError: It is full.
        """
        close: Any = getattr(resource, "close", None)
        aclose: Any = getattr(resource, "aclose", None)
        if not callable(close) and not callable(aclose):
            raise TypeError(
                f"resource must have a close or aclose method (got {type(resource).__name__}); "
                f"for other clean-up use defer(fn, ...)"
            )
        if resource is self:
            raise ConfigError("a scope cannot hold itself; it could never be collected")
        Disposal(
            close if callable(close) else aclose, self, acall=aclose if callable(aclose) else None
        )
        return resource

    def close(self) -> None:
        """
        End everything, the youngest first; idempotent.

        Raises:
            Exception: What the first failing disposer raised, with ``on_error="raise"``.
            BaseException: KeyboardInterrupt and its like, when all have run.
        """
        self._finish(self._end())

    async def aclose(self) -> None:
        """
        End everything, the youngest first, and await what is asynchronous; idempotent.

        A cancellation does not stop it: the disposer that was being awaited is cancelled, the
        rest still run, and the cancellation continues afterwards.

        Raises:
            Exception: What the first failing disposer raised, with ``on_error="raise"``.
            BaseException: CancelledError and its like, when all have run.
        """
        self._finish(await self._aend())

    def statistics(self) -> ScopeStatistics:
        """Return what it holds and has done. Thread-safe, O(1)."""
        return ScopeStatistics(
            name=self.name,
            closed=self.closed,
            held=len(self._owned.registrations),
            maxsize=self._owned.maxsize or 0,
            ended=self._ended,
            errors=self._errors,
        )

    def _end(self) -> list[BaseException]:
        raised: list[BaseException] = []
        for registration in self._take_all():
            try:
                registration.close()
            except BaseException as error:  # noqa: BLE001 - reason: the rest must still be ended
                raised.append(error)
        return raised

    async def _aend(self) -> list[BaseException]:
        raised: list[BaseException] = []
        for registration in self._take_all():
            try:
                if hasattr(registration, "aclose"):
                    await registration.aclose()
                else:
                    registration.close()
            except BaseException as error:  # noqa: BLE001 - reason: the rest must still be ended
                raised.append(error)
        return raised

    def _take_all(self) -> Iterator[owners.Registration]:
        self._owned.closed = True
        for registration in self._owned.take_all():
            self._ended += 1
            yield registration

    def _finish(self, raised: list[BaseException], *, may_raise: bool = True) -> None:
        """Count and log what was *raised*, and raise what must not be kept back."""
        try:
            for error in raised:
                if isinstance(error, Exception):
                    self._errors += 1
                    owners.failures.add("disposer", error)
            for error in raised:
                if not isinstance(error, Exception):
                    raise error
            if raised and self._on_error == "raise" and may_raise:
                raise raised[0]
        finally:
            raised.clear()  # their tracebacks hold this frame, which would hold them

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._finish(self._end(), may_raise=error is None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._finish(await self._aend(), may_raise=error is None)

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"held={len(self._owned.registrations)}"
        return f"{type(self).__name__}(name={self.name!r}, {state})"
