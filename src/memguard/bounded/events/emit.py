"""The calls of a `ListenerRegistry`: emitting at once, awaited, muted and held."""

from __future__ import annotations

import contextlib
from collections.abc import Hashable, Iterator
from typing import Any, NamedTuple

from memguard.bounded.events.mute import Merge, Rule
from memguard.bounded.events.subscription import Entry
from memguard.bounded.events.table import Roster


class Emission(NamedTuple):
    """What came of one emit."""

    results: tuple[Any, ...]
    """What the listeners returned, in the order of the calls."""
    errors: tuple[Exception, ...]
    """What they raised; drop it soon, exceptions hold the frames that they passed."""


_UNHEARD = Emission((), ())


class Emitting(Roster):
    """Calls entries in their row; what one raises never keeps the next from being called."""

    _on_error: str

    def emit(self, event: Hashable, /, *args: Any, **kwargs: Any) -> Emission:
        """
        Call the listeners of *event* with the arguments, and collect what comes back.

        An emit within a listener runs at once, before the rest of the outer one. Cost: a fraction
        of a microsecond, and a fraction more for each listener.

        Raises:
            Exception: With ``on_error="raise"``, what the first failing listener raised, when all
                have been called.
            RecursionError: Listeners that emit to one another without end; never collected.
        """
        row = self._row_of(event, args, kwargs)
        if not row:
            return _UNHEARD
        results: list[Any] = []
        errors: list[Exception] = []
        for entry in row:
            try:
                fn = entry.fn or self._ready(entry)
                if fn is not None:
                    results.append(fn(*args, **kwargs))
            except RecursionError:
                raise
            except Exception as error:  # noqa: BLE001 - reason: the loop always finishes
                errors.append(self._failed(entry, error))
        return self._done(event, results, errors)

    async def emit_async(self, event: Hashable, /, *args: Any, **kwargs: Any) -> Emission:
        """
        Call the listeners of *event* one after another, and await what is awaitable.

        As `emit`, for coroutine functions and functions alike. A cancellation stops it.
        """
        row = self._row_of(event, args, kwargs)
        if not row:
            return _UNHEARD
        results: list[Any] = []
        errors: list[Exception] = []
        for entry in row:
            try:
                fn = self._ready(entry, sync=False)
                if fn is not None:
                    result = fn(*args, **kwargs)
                    results.append(await result if hasattr(result, "__await__") else result)
            except RecursionError:
                raise
            except Exception as error:  # noqa: BLE001 - reason: the loop always finishes
                errors.append(self._failed(entry, error))
        return self._done(event, results, errors)

    def _row_of(
        self, event: Hashable, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Entry, ...]:
        if self._dead or self._changes or self._orphans:
            self._settle()
        if (
            self._quiet.rules
            and (event in self._events or event in self._ends)
            and not self._quiet.lets_through(event, args, kwargs)
        ):
            return ()
        bucket = self._events.get(event)
        if bucket is not None:
            return bucket.row or self._line_up(bucket)
        if self._ends:
            self._end_until(event)
        return ()

    def _done(self, event: Hashable, results: list[Any], errors: list[Exception]) -> Emission:
        if self._ends:
            self._end_until(event)
        if not errors:
            return Emission(tuple(results), ())
        try:
            if self._on_error == "raise":
                raise errors[0]
            return Emission(tuple(results), tuple(errors))
        finally:
            errors.clear()  # the frames that the exceptions passed would else hold them

    def _end_until(self, event: Hashable) -> None:
        ending = self._ends.get(event)
        if ending is not None:
            for serial in list(ending.copy()):
                self._end(serial)

    @contextlib.contextmanager
    def muted(self, *events: Hashable) -> Iterator[None]:
        """Drop emits of *events*, or of all events without any, until the block ends; nests."""
        rules = [Rule(event, every=False, holds=False) for event in events]
        with self._quiet.during(rules or [Rule(None, every=True, holds=False)]):
            yield

    @contextlib.contextmanager
    def held(self, *events: Hashable, merge: Merge | None = None) -> Iterator[None]:
        """
        Deliver emits of *events*, or of all events, at the end of the block, merged into one each.

        Args:
            events: Which; all without any.
            merge: Called as ``merge(earlier_args, later_args)``; gives the arguments to deliver.
                Without it, the last emit stands for all. Keyword arguments are the last ones.
        """
        rules = [Rule(event, every=False, holds=True, merge=merge) for event in events]
        rules = rules or [Rule(None, every=True, holds=True, merge=merge)]
        with self._quiet.during(rules):
            yield
        for rule in rules:
            for event, (args, kwargs) in rule.waiting.items():
                self.emit(event, *args, **kwargs)
