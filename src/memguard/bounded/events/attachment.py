"""`attach`: subscriptions to emitters of other libraries end with an owner, too."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from memguard.bounded import options
from memguard.bounded.lifetime import callables, owners
from memguard.bounded.lifetime.scope import Disposal
from memguard.errors import ConfigError


def attach(add: Callable[..., Any], remove: Callable[..., Any], *args: Any, owner: Any) -> Disposal:
    """
    Call ``add(*args)`` now, and ``remove(*args)`` when *owner* ends.

    For registrations at another library's emitter, signal, set or selector:
    ``attach(signal.connect, signal.disconnect, self.on_saved, owner=self)``. Instead of the bound
    methods in *args*, the emitter gets callables that hold them weakly, and the same ones when they
    are to be removed: so the emitter keeps no object alive.

    Thread-safe. ``remove`` runs where the scope is closed; for an owner that was collected, on the
    janitor's thread, within about a second.

    Bounded by: one call. Keeps alive: *add*'s and *remove*'s objects, and *args* except for the
    objects of bound methods, until the end. Locks: as `Scope`.

    Args:
        add: Registers. What it returns is not used.
        remove: Undoes it, with the same arguments.
        args: What to register.
        owner: An object, or a `Scope`, whose end ends the registration. It is not kept alive.

    Returns:
        A handle: ``.close()`` removes it now, ``.forget()`` never.

    Raises:
        TypeError: *add* or *remove* is not callable, or *owner* cannot be weakly referenced.
        ConfigError: *args*, *add* or *remove* would keep *owner* alive forever.
        LifecycleError: The scope has ended.
        Exception: What *add* raises; nothing is registered then.
    """
    options.check_callable(add, "add", optional=False)
    options.check_callable(remove, "remove", optional=False)
    if owner is None:
        raise TypeError("owner is required: an object, or a Scope, whose end ends the registration")
    given = tuple(_weakly(value) if callables.is_method(value) else value for value in args)
    owners.refuse_cycle(owner, remove, "remove")
    for value in given:
        if value is owner and not issubclass(type(owner), owners.Owner):
            raise ConfigError(
                "the arguments hold the owner, so the owner could never be collected; "
                "give a Scope as owner and close it"
            )
        owners.refuse_cycle(owner, value, "an argument")
    # First the call that undoes it: whatever happens in between, it is undone.
    disposal = Disposal(functools.partial(remove, *given), owner)
    try:
        add(*given)
    except BaseException:
        disposal.forget()
        raise
    return disposal


def _weakly(method: Any) -> Callable[..., Any]:
    """Return a callable that forwards to *method* as long as its object lives."""
    call = callables.weak_callback(method)
    if not callables.is_coroutine_function(method):
        return call

    async def call_async(*args: Any, **kwargs: Any) -> Any:
        awaitable = call(*args, **kwargs)
        return None if awaitable is None else await awaitable

    return call_async
