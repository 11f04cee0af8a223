"""The host's own relief callbacks: what is registered, what each takes, and when it is due."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from memguard.bounded.lifetime import callables
from memguard.bounded.options import check_callable, check_choice, check_int
from memguard.errors import ConfigError, LifecycleError
from memguard.lifecycle import fork
from memguard.lifecycle.failures import Failures
from memguard.lifecycle.loops import running_loop
from memguard.lifecycle.registry import Registration, Registry
from memguard.relief.effects import Record
from memguard.relief.levels import SEVERITY, Level
from memguard.units import parse_seconds

if TYPE_CHECKING:
    import asyncio

PressureLevel = Literal["elevated", "critical"]
PRESSURE_LEVELS: tuple[PressureLevel, ...] = ("elevated", "critical")
PressureStage = Literal["free", "cheap", "costly"]
PRESSURE_STAGES: tuple[PressureStage, ...] = ("free", "cheap", "costly")
PressureFunction: TypeAlias = (
    Callable[[], Any] | Callable[[int], Any] | Callable[[int, PressureLevel], Any]
)
"""Takes nothing, the bytes that are wanted, or these and the level."""
MOST_CALLBACKS = 1000
DEADLINE_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PressureCallback:
    """A callback, and when and where it is called."""

    call: Callable[..., Any]
    level: PressureLevel
    priority: int
    stage: PressureStage = "costly"
    takes: int = 0
    """How many arguments it is called with: none, the bytes wanted, or these and the level."""
    deadline: float = DEADLINE_SECONDS
    """Seconds after which it is slow."""
    loop: asyncio.AbstractEventLoop | None = None
    """Where it runs; None: in a thread of memguard's."""
    process: object = None
    """In which process it was registered: a loop does not run in a forked child."""
    record: Record = field(default_factory=Record, repr=False)
    """What it freed so far."""
    under_way: list[object] = field(default_factory=list, repr=False)
    """The call that waits or has not ended, if there is one."""


CallbackRegistration: TypeAlias = Registration[PressureCallback]


class Callbacks:
    """
    Keep callbacks, and say which of them are due.

    Bounded by: 1000 callbacks.
    Locks: none.
    Keeps alive: callbacks and the loops they run on, until their registration is closed.
    """

    def __init__(self, failures: Failures) -> None:
        self.failures = failures
        self._registered: Registry[PressureCallback] = Registry(
            MOST_CALLBACKS, "pressure callbacks"
        )

    def __len__(self) -> int:
        """Return the callbacks registered."""
        return len(self._registered)

    def add(
        self,
        callback: PressureFunction,
        *,
        level: PressureLevel,
        priority: int,
        stage: PressureStage = "costly",
        deadline: float | str = DEADLINE_SECONDS,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> CallbackRegistration:
        """
        Register *callback*. Its signature is looked at once, here.

        Raises:
            TypeError: An argument is of the wrong kind, or *callback* needs arguments that it will
                not be given.
            ConfigError: *stage*, *level*, *priority* or *deadline* is out of range.
            LifecycleError: It is a coroutine function and there is no loop to run it on.
            CapacityError: There are 1000 already.
        """
        check_callable(callback, "callback", optional=False)
        seconds = parse_seconds(deadline, name="deadline")
        if seconds <= 0:
            raise ConfigError(f"deadline must be > 0 seconds (got {deadline!r})")
        return self._registered.add(
            PressureCallback(
                call=callback,
                level=check_choice(level, PRESSURE_LEVELS, "level"),
                priority=check_int(priority, "priority", -(2**63), 2**63),
                stage=check_choice(stage, PRESSURE_STAGES, "stage"),
                takes=arguments_of(callback),
                deadline=seconds,
                loop=_loop_of(callback, loop),
                process=fork.process(),
            )
        )

    def reset(self) -> None:
        """Know of no call, as in a forked child. Only sets fields."""
        for each in self._registered:
            each.under_way.clear()
            each.record.effect = None

    def all(self) -> list[PressureCallback]:
        """Return what is registered at this moment. Thread-safe."""
        return list(self._registered)

    def is_registered(self, callback: PressureCallback) -> bool:
        """Return whether its registration is open."""
        return any(each is callback for each in self._registered)

    def drop(self, callback: PressureCallback) -> bool:
        """Close the registration of *callback*; False when it was closed already."""
        return self._registered.discard(callback)

    def due(self, level: Level, stage: PressureStage | None = None) -> list[PressureCallback]:
        """Return what is to be called at *level*: lowest priority first, then oldest."""
        severity = SEVERITY[level]
        due = [
            each
            for each in self._registered
            if SEVERITY[each.level] <= severity and stage in (None, each.stage)
        ]
        return sorted(due, key=lambda each: each.priority)


def arguments_of(callback: Callable[..., Any]) -> int:
    """
    Return how many positional arguments *callback* needs: none, one or two.

    Only those without a default count: ``gc.collect`` or ``lambda index=index: …`` mean something
    else by theirs. A function of C that does not say what it takes is called with none.

    Raises:
        TypeError: It needs more than two, or keywords.
    """
    try:
        parameters = inspect.signature(callback).parameters.values()
    except (ValueError, TypeError):
        return 0
    needed = [each for each in parameters if each.default is each.empty]
    positional = [
        each for each in needed if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)
    ]
    keywords = [each.name for each in needed if each.kind is each.KEYWORD_ONLY]
    if len(positional) > 2 or keywords:
        names = ", ".join([each.name for each in positional] + keywords)
        raise TypeError(
            "callback must take no argument, (goal_bytes) or (goal_bytes, level) "
            f"(got one that needs {names}); give the others a default, or use functools.partial"
        )
    return len(positional)


def _loop_of(
    callback: Callable[..., Any], loop: asyncio.AbstractEventLoop | None
) -> asyncio.AbstractEventLoop | None:
    """Return the loop that *callback* runs on; None for a thread."""
    if loop is not None:
        if not callable(getattr(loop, "call_soon_threadsafe", None)):
            raise TypeError(f"loop must be an event loop of asyncio (got {type(loop).__name__})")
        if loop.is_closed():
            raise LifecycleError("loop must be open (got a closed event loop)")
        return loop
    if not callables.is_coroutine_function(callback):
        return None
    running = running_loop()
    if running is None:
        raise LifecycleError(
            "a coroutine function needs an event loop to run on, and none runs in this thread: "
            "call on_pressure() from a coroutine, or pass loop="
        )
    return running
