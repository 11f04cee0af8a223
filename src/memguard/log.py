"""
The one logger of memguard: structured events through ``logging.getLogger("memguard")``.

Silent until the host configures ``logging``. If the host has configured structlog, its own
processors render our events; if it has not, an event is one plain line of ``key=value`` pairs.
``structlog.configure`` is never called from here.

Neither is ever loaded from here: a host that has not loaded it does not listen to it. logging costs
3 ms; structlog with its friends rich and asyncio 11 MiB and 60 ms (structlog 26.1, rich 15, CPython
3.11). And an import would wait for another thread that is importing ``logging``: forever in a child
that was forked meanwhile, in which that thread is gone.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import logging

INFO, WARNING, ERROR = 20, 30, 40
"""Levels of ``logging``, for modules that would import it for nothing else."""

_failed: set[str] = set()  # event names: constants of ours, so bounded by the source code


@functools.cache
def _logger() -> logging.Logger:
    """Return our logger, which is silent as long as the host adds no handler."""
    loaded: Any = sys.modules["logging"]
    logger: logging.Logger = loaded.getLogger("memguard")
    logger.addHandler(loaded.NullHandler())
    return logger


def event(level: int, name: str, /, **keys: Any) -> None:
    """
    Log the event *name* with *keys* at a ``logging`` level. Never raises.

    Handlers and processors are the host's code: never call this under a lock. If they raise,
    that is reported once for each event name, through ``logging.lastResort``.

    Thread-safe: yes. Cost: one level check when the host does not listen.

    Args:
        level: ``logging.INFO``, ``logging.WARNING``, …
        name: Short and stable, ``room.what_happened``: ``"leak.suspected"``.
        keys: Strings and numbers only; values of user objects do not belong in a log.
            ``exc_info`` as in ``logging``.
    """
    try:
        # The last class of logging is missing, too, while it is being imported.
        if not hasattr(sys.modules.get("logging"), "NullHandler"):
            return
        logger = _logger()
        if not logger.isEnabledFor(level):
            return
        structlog = sys.modules.get("structlog")
        if structlog is not None and structlog.is_configured():
            _log_structured(structlog, logger, level, name, keys)
        else:
            _log_plainly(logger, level, name, keys)
    except Exception as error:  # noqa: BLE001 - reason: a broken handler must not reach our caller
        _say_once(name, error)


def _log_structured(
    structlog: Any, logger: logging.Logger, level: int, name: str, keys: dict[str, Any]
) -> None:
    wrapped = structlog.wrap_logger(
        logger, wrapper_class=structlog.stdlib.BoundLogger, cache_logger_on_first_use=False
    )
    wrapped.log(level, name, **keys)


def _log_plainly(logger: logging.Logger, level: int, name: str, keys: dict[str, Any]) -> None:
    # repr also keeps a hostile name from writing a line of its own into the log.
    exc_info = keys.pop("exc_info", None)
    line = " ".join(f"{key}={value!r}" for key, value in {"event": name, **keys}.items())
    logger.log(level, "%s", line, exc_info=exc_info)


def _say_once(name: str, error: Exception) -> None:
    if name in _failed:
        return
    _failed.add(name)
    message = f"memguard: event {name} could not be logged: {type(error).__name__}"
    with contextlib.suppress(Exception):
        logging: Any = sys.modules["logging"]
        record = logging.LogRecord("memguard", WARNING, __file__, 0, message, (), None)
        if logging.lastResort is not None:
            logging.lastResort.handle(record)
