"""What a test may leave behind in the process: nothing. Taken before and after, and compared."""

from __future__ import annotations

import contextlib
import gc
import logging
import signal
import sys
import threading
import tracemalloc
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

# Work that was asked for is told in these before they end, and whoever asked does not join them;
# Starlette's have been told to end by the loop that they served.
_END_BY_THEMSELVES = (
    *("memguard-refresh", "memguard-health-", "memguard-callbacks"),
    "AnyIO worker thread",
)
# Hypothesis times the collector by a callback of its own, installed at its first use, for good;
# pytest's own log capture comes and goes with the phases of a test, and pytest-timeout takes its
# alarm away as soon as the test has failed.
_TOOLS = ("hypothesis.", "_pytest.", "pytest_timeout")


@dataclass(frozen=True)
class Residue:
    """The process-wide state that memguard could leave changed."""

    threads: frozenset[threading.Thread]
    tracing: bool
    traceback_limit: int
    gc_callbacks: tuple[Any, ...]
    gc_thresholds: tuple[int, int, int]
    gc_enabled: bool
    signal_handlers: dict[int, Any]
    profile_function: Any
    root_handlers: tuple[logging.Handler, ...]
    memguard_handlers: tuple[logging.Handler, ...]

    @classmethod
    def take(cls) -> Residue:
        """Return the state now."""
        return cls(
            threads=frozenset(threading.enumerate()),
            tracing=tracemalloc.is_tracing(),
            traceback_limit=tracemalloc.get_traceback_limit() if tracemalloc.is_tracing() else 0,
            gc_callbacks=_ours(gc.callbacks),
            gc_thresholds=gc.get_threshold(),
            gc_enabled=gc.isenabled(),
            signal_handlers=_signal_handlers(),
            profile_function=sys.getprofile(),
            root_handlers=_ours(logging.getLogger().handlers),
            memguard_handlers=_ours(logging.getLogger("memguard").handlers),
        )

    def changes_since(self, before: Residue) -> list[str]:
        """Return one line for each thing that differs from *before*; dead threads do not count."""
        changes = [
            f"thread left running: {thread.name}{' (daemon)' if thread.daemon else ''}"
            for thread in self.threads - before.threads
            if thread.is_alive() and (thread.name.startswith("memguard-") or not thread.daemon)
        ]
        for number in sorted(self.signal_handlers.keys() | before.signal_handlers.keys()):
            then, now = before.signal_handlers.get(number), self.signal_handlers.get(number)
            if now != then:
                changes.append(f"handler of signal {number} was {then!r}, is {now!r}")
        for field in fields(self):
            then, now = getattr(before, field.name), getattr(self, field.name)
            if field.name not in ("threads", "signal_handlers") and now != then:
                changes.append(f"{field.name} was {then!r}, is {now!r}")
        return changes


def stop_janitor() -> None:
    """
    Stop memguard's one housekeeping thread, where its module was loaded.

    It is started by the first cache that needs it and ends by itself when the last one is gone; it
    is the only thread that a test may leave to this.
    """
    janitor = sys.modules.get("memguard.lifecycle.janitor")
    if janitor is not None:
        janitor.stop(timeout=5.0)


def join_what_ends_by_itself(seconds: float = 20.0) -> None:
    """
    Wait for threads that are on their way out, and that nobody joins.

    Args:
        seconds: For each; one that hangs is alive after it, and was left behind.
    """
    for thread in threading.enumerate():
        if thread.name.startswith(_END_BY_THEMSELVES):
            thread.join(seconds)


def _ours(things: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(thing for thing in things if not _is_of_a_tool(thing))


def _is_of_a_tool(thing: Any) -> bool:
    named = getattr(thing, "__module__", None)
    module = named if isinstance(named, str) else type(thing).__module__
    return module.startswith(_TOOLS)


def _signal_handlers() -> dict[int, Any]:
    handlers: dict[int, Any] = {}
    for number in signal.valid_signals():
        with contextlib.suppress(ValueError):  # Windows names signals it cannot handle
            handler = signal.getsignal(number)
            handlers[int(number)] = signal.SIG_DFL if _is_of_a_tool(handler) else handler
    return handlers
