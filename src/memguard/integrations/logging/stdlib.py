"""
Log records cut to size before anything makes text of them: a filter and a formatter for `logging`.

Both do the same: the filter for handlers of any kind, the formatter for one that has its own.
"""

from __future__ import annotations

import logging
import sys
from typing import Any, Unpack

from memguard.bounded.options import check_instance
from memguard.integrations.logging.traceback import bounded_traceback
from memguard.integrations.logging.values import Bounds, BoundsKeywords, Walk, formatted, shared

__all__ = ["BoundedFilter", "BoundedFormatter"]

_OWN = frozenset(vars(logging.LogRecord("", 0, "", 0, "", None, None)))
_OWN |= {"message", "asctime", "taskName"}
"""What `logging` itself sets on a record; all else came from ``extra=`` or from filters."""


class BoundedFilter(logging.Filter):
    """
    Cut every record of a handler to size: message, arguments, ``extra`` and exception.

    Add it to handlers: a filter of a logger does not see what the loggers below it log. From
    Python 3.12 on, the handler gets a copy of the record and others are not concerned; before, it
    is the record itself that is cut, for this handler and those after it.

    Bounded by: its options; it allocates no more than some times *max_bytes* for a record.
    Locks: none of its own; `logging` holds the handler's, for it as for all that formats.
    Keeps alive: nothing; an exception is made text, and the frames it holds are let go.

    Args:
        **options: Those of `Bounds`: *max_bytes* (``"16KiB"``) of the text of a message with its
            arguments, and as much again each for ``extra`` and the exception; *max_items* (100) of
            one container, and values of ``extra``; *max_depth* (6) of containers within containers;
            *allow*, types whose own ``str`` is called, which runs before its text can be cut. Other
            objects are named by type and address.

    Raises:
        TypeError: An option is of the wrong kind.
        ConfigError: It is out of its range.
    """

    def __init__(self, **options: Unpack[BoundsKeywords]) -> None:
        super().__init__()
        self._bounds = Bounds(**options)

    def filter(self, record: logging.LogRecord) -> Any:
        """Let every record pass, cut to size. Never raises."""
        changed = changes(record, self._bounds)
        if sys.version_info >= (3, 12):
            return _copy(record, changed)
        record.__dict__.update(changed)
        return True


class BoundedFormatter(logging.Formatter):
    """
    Cut a record to size and have another formatter write it; the record stays as it is.

    Bounded by: its options, as `BoundedFilter`.
    Locks: none. Thread-safe, if *formatter* is.
    Keeps alive: *formatter*.

    Args:
        formatter: What writes; None is `logging`'s default.
        **options: As for `BoundedFilter`.

    Raises:
        TypeError: An option is of the wrong kind.
        ConfigError: It is out of its range.
    """

    def __init__(
        self, formatter: logging.Formatter | None = None, **options: Unpack[BoundsKeywords]
    ) -> None:
        super().__init__()
        check_instance(formatter, logging.Formatter, "formatter", optional=True)
        self._formatter = formatter or logging.Formatter()
        self._bounds = Bounds(**options)

    def format(self, record: logging.LogRecord) -> str:
        """Return *record* as text. Raises what the other formatter raises."""
        return self._formatter.format(_copy(record, changes(record, self._bounds)))


def changes(record: logging.LogRecord, bounds: Bounds) -> dict[str, Any]:
    """
    Return the attributes of *record* that must be replaced to keep it within *bounds*.

    Never raises; *record* is not changed. Cost: some µs for a small record.
    """
    try:
        return {
            **_message(record, bounds),
            **_extra(record, bounds),
            **_exception(record, bounds),
        }
    except Exception as error:  # noqa: BLE001 - reason: a log line is never worth an exception in the host
        words = f"<record could not be read: {type(error).__name__}>"
        return {"msg": words, "args": None, "exc_info": None, "exc_text": None, "stack_info": None}


def _message(record: logging.LogRecord, bounds: Bounds) -> dict[str, Any]:
    walk = Walk(bounds, render=str)
    arguments: Any = None if type(record.args) is tuple and not record.args else record.args
    if arguments is not None:
        walk.left //= 2
    template = walk.copy(record.msg)
    if type(template) is not str:
        template = str(template)
    if arguments is None:
        return {"msg": template, "args": None}
    walk.left += bounds.max_bytes // 2
    copies = walk.copy(arguments)
    whole = type(record.msg) is str and len(template) == len(record.msg)
    if whole and formatted(template, copies, longest=4 * bounds.max_bytes) is not None:
        # The template stays: those who group by it (Sentry, metrics of log lines) still can.
        return {"msg": template, "args": copies}
    return {"msg": f"{template} {copies!r}", "args": None}


def _extra(record: logging.LogRecord, bounds: Bounds) -> dict[str, Any]:
    extra = [(name, value) for name, value in vars(record).items() if name not in _OWN]
    if not extra:
        return {}
    found = shared(extra, bounds, Walk(bounds, render=str))
    left_out = {name: None for name, _ in extra if name not in found}
    return {**left_out, **found}


def _exception(record: logging.LogRecord, bounds: Bounds) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if record.exc_text or record.stack_info:
        walk = Walk(bounds)
        for name in ("exc_text", "stack_info"):
            text = getattr(record, name)
            if text:
                walk.left = bounds.max_bytes
                found[name] = walk.copy(text)
    if record.exc_info and record.exc_info[1] is not None:
        # As QueueHandler does it: every formatter prefers this text to rendering its own.
        error, traceback = record.exc_info[1:]
        text = record.exc_text and found["exc_text"]
        text = text or bounded_traceback(error, bounds, traceback=traceback)
        found |= {"exc_text": text, "exc_info": None}
    return found


def _copy(record: logging.LogRecord, changed: dict[str, Any]) -> logging.LogRecord:
    try:  # of the same class: it may have a getMessage of its own
        copy = object.__new__(type(record))
    except TypeError:
        copy = object.__new__(logging.LogRecord)
    copy.__dict__.update(vars(record))
    copy.__dict__.update(changed)
    return copy
