"""`Scope`: everything registered in its name ends with it, in reverse order."""

from __future__ import annotations

import functools
from collections.abc import Callable
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
    """Things that will end with the scope."""
    maxsize: int
    ended: int
    """Things that the scope has ended."""
    errors: int
    """Those whose end raised."""


class Disposal:
    """
    One call that a scope owes: run by its end, or earlier by `close`, and never twice.

    Bounded by: one call.
    Locks: none.
    Keeps alive: the function and its arguments until they have been called or forgotten.
    """

    __slots__ = ("_call", "_estate", "_serial")

    is_ours = False

    def __init__(self, call: Callable[[], Any], owner: Any) -> None:
        self._call = [call]  # whoever pops it runs it
        self._serial = next(owners.serials)
        self._estate: owners.Estate | None = None
        self._estate = owners.adopt(owner, self, self._serial)

    def close(self) -> None:
        """
        Run it now instead of later; idempotent. What it raises reaches the caller.

        Raises:
            LifecycleError: It is asynchronous; use `aclose`.
        """
        result = self._run()
        if hasattr(result, "__await__"):
            if hasattr(result, "close"):
                result.close()  # or the interpreter warns that it was never awaited
            raise LifecycleError(
                "a disposer is asynchronous: end it with `async with` or `await aclose()`"
            )

    async def aclose(self) -> None:
        """Run it now and await what it gives; idempotent."""
        result = self._run()
        if hasattr(result, "__await__"):
            await result

    def forget(self) -> None:
        """Drop the call without running it; idempotent."""
        self._take()

    def _run(self) -> Any:
        call = self._take()
        return None if call is None else call()

    def _take(self) -> Callable[[], Any] | None:
        if self._estate is not None:
            self._estate.release(self._serial)
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
    Own listeners, timers, tasks and clean-up calls, and end them all, the youngest first.

    Give it as ``owner=`` to a registry, or hand it calls with `defer` and resources with `add`.
    One failing disposer does not stop the rest. A scope that is collected without having been
    closed ends as well: registrations at the next use of their registry, calls on the janitor's
    thread within about a second. After a fork, the child's copy may be closed like any object;
    what was waiting for the janitor is left to the parent.

    Thread-safe: yes. Where two threads close it, each thing is ended by one of them.

    Bounded by: *maxsize* things.
    Locks: one re-entrant mutex, shared by all owners, around a dict entry; disposers never run
        under it.
    Keeps alive: calls and resources given to it, until it ends.

    Args:
        name: What reports call it; the line that made it by default.
        maxsize: Most things at the same time.
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
        self._on_error = options.check_choice(on_error, options.ON_ERROR, "on_error")
        self._estate = owners.Estate(options.check_positive_int(maxsize, "maxsize"))
        self._site = callsite.caller()
        self._ended = self._errors = 0

    @property
    def name(self) -> str:
        """What reports call it."""
        return self._name or f"{type(self).__name__}@{callsite.shown(self._site)}"

    @property
    def closed(self) -> bool:
        """Whether it has ended and accepts nothing more."""
        return self._estate.closed

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

        Its ``aclose`` is used under `Scope.aclose` where it has one, else its ``close``.

        Raises:
            TypeError: It has neither.
            LifecycleError: The scope has ended.
            CapacityError: It is full.
        """
        sync, awaited = getattr(resource, "close", None), getattr(resource, "aclose", None)
        if not callable(sync) and not callable(awaited):
            raise TypeError(
                f"resource must have a close or aclose method (got {type(resource).__name__}); "
                f"for other clean-up use defer(fn, ...)"
            )
        if resource is self:
            raise ConfigError("a scope cannot hold itself; it could never be collected")
        _Resource(sync if callable(sync) else awaited, awaited, self)  # type: ignore[arg-type]  # reason: one of them is callable, as tested above
        return resource

    def close(self) -> None:
        """
        End everything, the youngest first; idempotent.

        Raises:
            Exception: What the first failing disposer raised, with ``on_error="raise"``.
            BaseException: KeyboardInterrupt and its like, when all have run.
        """
        self._finish(self._close_all())

    async def aclose(self) -> None:
        """
        End everything, the youngest first, and await what is asynchronous; idempotent.

        A cancellation does not stop it: the disposer that was being awaited is cancelled, the
        rest still run, and the cancellation continues afterwards.

        Raises:
            Exception: What the first failing disposer raised, with ``on_error="raise"``.
            BaseException: CancelledError and its like, when all have run.
        """
        self._finish(await self._aclose_all())

    def statistics(self) -> ScopeStatistics:
        """Return what it holds and has done. Thread-safe, O(1)."""
        return ScopeStatistics(
            name=self.name,
            closed=self.closed,
            held=len(self._estate.things),
            maxsize=self._estate.maxsize or 0,
            ended=self._ended,
            errors=self._errors,
        )

    def _close_all(self) -> list[BaseException]:
        self._estate.closed = True
        raised: list[BaseException] = []
        for thing in self._estate.take_all():
            self._ended += 1
            try:
                thing.close()
            except BaseException as error:  # noqa: BLE001 - reason: the rest must still be ended
                raised.append(error)
        return raised

    async def _aclose_all(self) -> list[BaseException]:
        self._estate.closed = True
        raised: list[BaseException] = []
        for thing in self._estate.take_all():
            self._ended += 1
            try:
                aclose = getattr(thing, "aclose", None)
                if aclose is None:
                    thing.close()
                else:
                    await aclose()
            except BaseException as error:  # noqa: BLE001 - reason: the rest must still be ended
                raised.append(error)
        return raised

    def _finish(self, raised: list[BaseException], *, quiet: bool = False) -> None:
        """Count and tell what was *raised*, and raise what must not be kept back."""
        try:
            for error in raised:
                if isinstance(error, Exception):
                    self._errors += 1
                    owners.tell(error)
            for error in raised:
                if not isinstance(error, Exception):
                    raise error
            if raised and self._on_error == "raise" and not quiet:
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
        self._finish(self._close_all(), quiet=error is not None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._finish(await self._aclose_all(), quiet=error is not None)

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"held={len(self._estate.things)}"
        return f"{type(self).__name__}(name={self.name!r}, {state})"


class _Resource(Disposal):
    """A resource to close, by the way that suits how the scope is ended."""

    __slots__ = ("_aclose",)

    def __init__(self, close: Callable[[], Any], aclose: Any, owner: Scope) -> None:
        self._aclose: Callable[[], Any] | None = aclose if callable(aclose) else None
        super().__init__(close, owner)

    async def aclose(self) -> None:
        call = self._take()
        if call is None:
            return
        result = (self._aclose or call)()
        if hasattr(result, "__await__"):
            await result
