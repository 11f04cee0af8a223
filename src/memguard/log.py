"""
The one logger of memguard: structured events through ``logging.getLogger("memguard")``.

Silent until the host configures ``logging``. Where the host has configured structlog, its own
processors render our events; where it has not, an event is one plain line of ``key=value`` pairs.
``structlog.configure`` is never called from here.
"""

from __future__ import annotations

import contextlib
import logging
from typing import Any

import structlog

_stdlib_logger = logging.getLogger("memguard")
_stdlib_logger.addHandler(logging.NullHandler())

# Typed as Any: structlog's own processors are typed more narrowly than its parameter asks for.
_PLAIN: list[Any] = [
    structlog.stdlib.filter_by_level,
    structlog.processors.format_exc_info,
    structlog.processors.KeyValueRenderer(key_order=["event"]),
]

_failed: set[str] = set()  # event names, which are constants of ours: bounded by the source code


def event(level: int, name: str, /, **keys: Any) -> None:
    """
    Log the event *name* with *keys* at a ``logging`` level. Never raises.

    Handlers and processors are the host's code: never call this under a lock. Where they raise,
    that is said once for each event name, through ``logging.lastResort``.

    Thread-safe: yes. Cost: one level check when the host does not listen.

    Args:
        level: ``logging.INFO``, ``logging.WARNING``, …
        name: Short and stable, ``room.what_happened``: ``"leak.suspected"``.
        keys: Strings and numbers only; values of user objects do not belong in a log.
    """
    try:
        if not _stdlib_logger.isEnabledFor(level):
            return
        processors = None if structlog.is_configured() else _PLAIN
        bound = structlog.wrap_logger(
            _stdlib_logger,
            processors=processors,
            wrapper_class=structlog.stdlib.BoundLogger,
            cache_logger_on_first_use=False,
        )
        bound.log(level, name, **keys)
    except Exception as error:  # noqa: BLE001 - reason: a broken handler must not reach our caller
        _say_once(name, error)


def _say_once(name: str, error: Exception) -> None:
    if name in _failed:
        return
    _failed.add(name)
    message = f"memguard: event {name} could not be logged: {type(error).__name__}"
    record = logging.LogRecord("memguard", logging.WARNING, __file__, 0, message, (), None)
    with contextlib.suppress(Exception):
        if logging.lastResort is not None:
            logging.lastResort.handle(record)
