"""Emitting: listeners are called one after another, and none stops the rest."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

from memguard.bounded import callsite
from memguard.bounded.counter import Tally
from memguard.bounded.events.mute import Mutes
from memguard.bounded.events.subscription import USUAL, Entry, label
from memguard.bounded.events.table import Table
from memguard.bounded.lifetime.registrations import Bounds
from memguard.errors import LifecycleError


class Emission(NamedTuple):
    """What came of one emit."""

    results: tuple[Any, ...]
    """What the listeners returned, in the order of the calls."""
    errors: tuple[Exception, ...]
    """What they raised; drop it soon, exceptions hold the frames that they passed."""


_UNHEARD = Emission((), ())


class Emitter:
    """
    Calls the listeners of a table.

    Locks: none around calls.
    """

    def __init__(self, table: Table, bounds: Bounds, *, raises: bool) -> None:
        self.mutes = Mutes()
        self.errors = Tally()
        self._table = table
        self._bounds = bounds
        self._raises = raises

    def emit(self, event: Hashable, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Emission:
        """Call the listeners of *event* at once: see `ListenerRegistry.emit`."""
        row = self._row(event, args, kwargs)
        if not row:
            return _UNHEARD
        results: list[Any] = []
        errors: list[Exception] = []
        for entry in row:
            try:
                fn = entry.fn or self._prepare(entry)
                if fn is not None:
                    results.append(fn(*args, **kwargs))
            except RecursionError:
                raise
            except Exception as error:  # noqa: BLE001 - reason: the loop always finishes
                errors.append(self._failed(entry, error))
        return self._done(event, results, errors)

    async def emit_async(
        self, event: Hashable, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Emission:
        """Call the listeners of *event*, and await: see `ListenerRegistry.emit_async`."""
        row = self._row(event, args, kwargs)
        if not row:
            return _UNHEARD
        results: list[Any] = []
        errors: list[Exception] = []
        for entry in row:
            try:
                fn = entry.fn or self._prepare(entry, may_await=True)
                if fn is not None:
                    result = fn(*args, **kwargs)
                    results.append(await result if hasattr(result, "__await__") else result)
            except RecursionError:
                raise
            except Exception as error:  # noqa: BLE001 - reason: the loop always finishes
                errors.append(self._failed(entry, error))
        return self._done(event, results, errors)

    def _row(
        self, event: Hashable, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Entry, ...]:
        table = self._table
        row = table.row(event)
        if not (row or event in table.endings):
            return row
        if self.mutes.open and self.mutes.stop(event, args, kwargs):
            return ()
        if not row:
            self._end_until(event)
        return row

    def _prepare(self, entry: Entry, *, may_await: bool = False) -> Callable[..., Any] | None:
        """Return what to call for *entry*, None when it is not to be called any more."""
        fn = entry.resolve()
        if fn is None:
            self._table.end(entry.serial, died=True)
            return None
        if entry.is_async and not may_await:
            raise LifecycleError("the listener is a coroutine function: use emit_async")
        terms = entry.terms
        if terms is USUAL:
            return fn
        if callable(terms.until) and self._has_come(entry, terms.until):
            self._table.end(entry.serial)
            return None
        if terms.once and not self._table.end(entry.serial):
            return None  # another emit was faster
        return fn

    def _has_come(self, entry: Entry, until: Callable[[], Any]) -> bool:
        try:
            return bool(until())
        except Exception as error:  # noqa: BLE001 - reason: an unanswered question ends nothing
            self._failed(entry, error)
            return False

    def _failed(self, entry: Entry, error: Exception) -> Exception:
        """Count and log what a listener raised; return it without the frame that called it."""
        self.errors.bump()
        site, kind = callsite.shown(entry.site), type(error).__name__
        self._bounds.warn_once(
            "listeners.listener_failed",
            (site, kind),
            listens_to=label(entry.event),
            registered_at=site,
            error=kind,
        )
        trace = error.__traceback__
        # Our frame holds the list that holds the error: a cycle, for the collector to find.
        return error.with_traceback(None if trace is None else trace.tb_next)

    def _done(self, event: Hashable, results: list[Any], errors: list[Exception]) -> Emission:
        self._end_until(event)
        if not errors:
            return Emission(tuple(results), ())
        try:
            if self._raises:
                raise errors[0]
            return Emission(tuple(results), tuple(errors))
        finally:
            errors.clear()  # the frames that the exceptions passed would else hold them

    def _end_until(self, event: Hashable) -> None:
        ending = self._table.endings.get(event) if self._table.endings else None
        if ending is not None:
            for serial in list(ending.copy()):
                self._table.end(serial)
