"""
`bounded_event`: a structlog processor that keeps a log from costing more memory than the program.

structlog itself is not imported: a processor is a callable, and the host has structlog.
"""

from __future__ import annotations

import sys
from collections.abc import MutableMapping
from types import TracebackType
from typing import Any, Unpack

from memguard.integrations.logging.traceback import bounded_traceback
from memguard.integrations.logging.values import Bounds, BoundsKeywords, Walk, formatted, shared

__all__ = ["BoundedEvent", "bounded_event"]

CUT = "cut_by_memguard"
"""Key whose value is the number of cuts in an event; absent if there were none."""
_FIRST = ("event", "level", "logger", "timestamp", "positional_args")
_INTERNAL = ("_record", "_from_structlog")
"""What structlog's ``ProcessorFormatter`` hands from one processor to the next."""


def bounded_event(**options: Unpack[BoundsKeywords]) -> BoundedEvent:
    """
    Return a processor that cuts the values of an event to size before anything renders them.

    Put it behind what adds values (``merge_contextvars``, ``set_exc_info``) and before what makes
    text of them: ``format_exc_info``, ``dict_tracebacks``, ``PositionalArgumentsFormatter`` and the
    renderer.

    Args:
        **options: Those of `Bounds`: *max_bytes* (``"16KiB"``) of the text of all values together,
            and as much again for an exception; *max_items* (100) of one container, and values of
            one event; *max_depth* (6) of containers within containers; *allow*, types whose own
            ``repr`` is called, which runs before its text can be cut. Other objects are named by
            type and address: ``<shop.orders.Order at 0x7f00c2a0>``.

    Raises:
        TypeError: An option is of the wrong kind.
        ConfigError: It is out of its range.
    """
    return BoundedEvent(Bounds(**options))


class BoundedEvent:
    """
    Cut events to size; see `bounded_event`, which makes one.

    Bounded by: its options; it allocates no more than some times *max_bytes* for an event.
    Locks: none. Thread-safe.
    Keeps alive: nothing; an exception is made text, and the frames it holds are let go.
    """

    __slots__ = ("_bounds",)

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds

    def __call__(self, _logger: object, _method: str, event: Any) -> Any:
        """
        Return a new event, cut to size; what the caller logged is not changed. Never raises.

        ``exc_info`` becomes the text ``exception``. If something was cut, the key
        ``cut_by_memguard`` is the number of cuts. Cost: some µs for a small event.
        """
        if isinstance(event, MutableMapping):
            try:
                return self._bounded(event)
            except Exception as error:  # noqa: BLE001 - reason: a log line is never worth an exception in the host
                return {"event": f"<event could not be read: {type(error).__name__}>", CUT: 1}
        if isinstance(event, str | bytes):  # rendered already: what it cost was spent
            return Walk(self._bounds).copy(event)
        return event

    def _bounded(self, event: MutableMapping[str, Any]) -> dict[str, Any]:
        values = dict(event)
        internal = {name: values.pop(name) for name in _INTERNAL if name in values}
        exc_info = values.pop("exc_info", None)
        walk = Walk(self._bounds)
        named = ((key if type(key) is str else str(walk.key(key)), values[key]) for key in values)
        found = shared(named, self._bounds, walk, first=_FIRST)
        self._keep_formattable(found)
        error, traceback = _exception(exc_info)
        if error is not None:
            found["exception"] = bounded_traceback(error, self._bounds, traceback=traceback)
        if walk.cut:
            found[CUT] = walk.cut
        return {**found, **internal}

    def _keep_formattable(self, found: dict[str, Any]) -> None:
        """Put arguments that no longer fit the event's conversions (``%d``) beside it."""
        arguments = found.get("positional_args")
        if type(arguments) is not tuple or not arguments:
            return
        of_names = len(arguments) == 1 and type(arguments[0]) is dict and arguments[0]
        event = str(found.get("event"))
        if formatted(event, of_names or arguments, longest=4 * self._bounds.max_bytes) is None:
            del found["positional_args"]
            found["event"] = f"{event} {arguments!r}"


def _exception(exc_info: Any) -> tuple[BaseException | None, TracebackType | None]:
    """Return what ``exc_info=`` means, as structlog understands it, and the traceback to show."""
    if exc_info is None or exc_info is False:
        return None, None
    kind = type(exc_info)
    if issubclass(kind, BaseException):
        return exc_info, None
    if kind is tuple and len(exc_info) == 3:
        error, traceback = exc_info[1:]
        known = error if issubclass(type(error), BaseException) else None
        return known, traceback if type(traceback) is TracebackType else None
    return sys.exc_info()[1], None
