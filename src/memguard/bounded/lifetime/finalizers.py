"""`on_collect`: a call after an object has been collected, outside the collector."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from memguard.bounded import options
from memguard.bounded.lifetime import owners
from memguard.bounded.lifetime.scope import Disposal
from memguard.errors import ConfigError


class CollectHandle:
    """
    One call that waits for an object to be collected; made by `on_collect`.

    Bounded by: one call.
    Locks: the mutex of the owners, for a few instructions.
    Keeps alive: the function and its arguments, until it is called or closed.

    Thread-safe.
    """

    __slots__ = ("__weakref__", "_disposal")

    def __init__(self, disposal: Disposal) -> None:
        self._disposal = disposal

    @property
    def is_pending(self) -> bool:
        """Whether the call is still to come."""
        return self._disposal.is_pending

    def close(self) -> None:
        """Give up the call, and drop the function and its arguments at once; idempotent."""
        self._disposal.forget()


def on_collect(obj: object, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> CollectHandle:
    """
    Call ``fn(*args, **kwargs)`` after *obj* has been collected, on the janitor's thread.

    Unlike a finalizer, it never runs inside the collector or in the middle of other code, so it may
    take locks and log. It runs within about a second; not at the interpreter's exit, and not in a
    forked child, where it could remove the parent's files. An exception is counted and logged.

    Cost: two microseconds. Thread-safe.

    Args:
        obj: Any object that can be weakly referenced, or a `Scope`, for its end.
        fn: What to call. It must not refer to *obj*, or *obj* would live forever.
        args: Its arguments; they live until the call.
        kwargs: Its keyword arguments.

    Returns:
        A handle; `CollectHandle.close` gives up the call. It need not be kept.

    Raises:
        TypeError: *fn* is not callable, or *obj* cannot be weakly referenced.
        ConfigError: *fn* or an argument holds *obj*.
    """
    options.check_callable(fn, "fn", optional=False)
    owners.refuse_cycle(obj, fn)
    if any(arg is obj for arg in (*args, *kwargs.values())):
        raise ConfigError(
            "an argument is the object itself, which would keep it alive forever; "
            "give what is needed from it, such as its name or number"
        )
    process = os.getpid()

    def call() -> None:
        if os.getpid() == process:
            fn(*args, **kwargs)

    return CollectHandle(Disposal(call, obj))
