"""
What does this block of code allocate? Current, peak, growth, and the allocating lines.

A tool for the desk and for tests: tracing slows every allocation of the process down while a block
runs. The tracemalloc session is shared between nested and concurrent blocks and left as found.
"""

from __future__ import annotations

import functools
import inspect
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, ClassVar, TypeVar, overload

from memguard import log
from memguard.bounded.options import check_callable, check_instance, check_int
from memguard.errors import LifecycleError
from memguard.heap import walk
from memguard.leaks.evidence import frames, tracing
from memguard.lifecycle import locks
from memguard.units import format_bytes, format_seconds

MAX_OBJECTS = 20_000_000
"""Heaps with more blocks are not walked for the names of functions."""
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfiledLine:
    """A line whose allocations were alive at the end of the block."""

    file: str
    line: int
    function: str | None
    bytes: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryProfile:
    """What a block allocated: bytes that tracemalloc sees, of all threads."""

    name: str
    seconds: float
    current_bytes: int
    """Traced memory at the end of the block."""
    peak_bytes: int
    """The highest level within the block."""
    growth_bytes: int
    """End over beginning: what the block left behind."""
    peak_is_exact: bool
    """False in another tracemalloc session whose peak was higher: it is this at least."""
    lines: tuple[ProfiledLine, ...]
    """The lines that left most behind, heaviest first."""

    def __str__(self) -> str:
        exact = "" if self.peak_is_exact else "at least "
        head = (
            f"{self.name}: {format_bytes(self.growth_bytes, signed=True)}, "
            f"peak {exact}{format_bytes(self.peak_bytes)}, in {format_seconds(self.seconds)}"
        )
        rows = (
            f"  {format_bytes(row.bytes, signed=True):>12}  {row.file}:{row.line}"
            f"{'  ' + row.function if row.function else ''}"
            for row in self.lines
        )
        return "\n".join((head, *rows))


@overload
def profile_memory(function: F, /) -> F: ...


@overload
def profile_memory(
    *,
    name: str | None = None,
    top: int = 5,
    on_result: Callable[[MemoryProfile], object] | None = None,
) -> ProfiledBlock: ...


def profile_memory(
    function: Any = None,
    /,
    *,
    name: str | None = None,
    top: int = 5,
    on_result: Callable[[MemoryProfile], object] | None = None,
) -> Any:
    """
    Return a block to measure what runs in it: for ``with``, or as a decorator, with or without ().

    Thread-safe: blocks may nest and overlap in any threads; each call of a decorated function,
    coroutine functions too, is a block of its own. Cost: allocations take 2 to 13 times as long
    while a block runs.

    Example:
        >>> with profile_memory(name="build") as block:
        ...     kept = [str(n) * 10 for n in range(1000)]
        >>> block.result.growth_bytes > 50_000
        True

    Args:
        function: What to decorate, where it is used without parentheses.
        name: For the result; None is the function's name.
        top: Lines in the result, 0 to 100. With 0 no snapshot is taken, which else costs time for
            everything that is alive at the end.
        on_result: Called with each ``MemoryProfile``; None logs it as ``memory.profiled``.

    Raises:
        TypeError: An option is of the wrong kind.
        ConfigError: *top* is out of its range.
    """
    if function is not None and not callable(function):
        raise TypeError(
            f"profile_memory decorates a function (got {type(function).__name__}); "
            "options have names: profile_memory(name='load')"
        )
    block = ProfiledBlock(name, top, on_result)
    return block if function is None else block(function)


class ProfiledBlock:
    """
    A block under measurement; see `profile_memory`.

    Bounded by: *top* lines. Tracing memory is that of tracemalloc: about 100 bytes a live block.
    Locks: one mutex for the peaks of all blocks under way; no code of yours runs under it.
    Keeps alive: numbers and strings.
    """

    def __init__(
        self,
        name: str | None,
        top: int,
        on_result: Callable[[MemoryProfile], object] | None,
    ) -> None:
        check_instance(name, str, "name", optional=True)
        check_int(top, "top", 0, 100)
        check_callable(on_result, "on_result")
        self._name = name
        self._top = top
        self._on_result = on_result
        self._block: _Block | None = None
        self._result: MemoryProfile | None = None

    def __repr__(self) -> str:
        state = "under way" if self._block is not None else "not begun"
        if self._result is not None:
            state = str(self._result).partition("\n")[0]
        return f"<{type(self).__name__} {state}>"

    @property
    def result(self) -> MemoryProfile:
        """
        The measurements, once the block is over.

        Raises:
            LifecycleError: It is not over yet, or never began.
        """
        if self._result is None:
            raise LifecycleError("the result is available only after the block")
        return self._result

    def __enter__(self) -> ProfiledBlock:  # noqa: PYI034 - reason: not made for subclassing
        if self._block is not None:
            raise LifecycleError(
                "this block is already running; call profile_memory() again to nest"
            )
        refused = tracing.unsupported()
        if refused is not None:
            raise LifecycleError(refused)
        self._block = _Block(to_photograph=self._top > 0)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        block, self._block = self._block, None
        if block is None:
            return
        self._result = result = block.finish(self._name or "block", self._top)
        if self._on_result is not None:
            self._on_result(result)
            return
        log.event(
            logging.INFO,
            "memory.profiled",
            name=result.name,
            growth_bytes=result.growth_bytes,
            peak_bytes=result.peak_bytes,
            seconds=round(result.seconds, 6),
        )

    def __call__(self, function: F) -> F:
        """Return *function*, each call of it a block of its own; coroutine functions too."""
        name = self._name or getattr(function, "__qualname__", type(function).__name__)
        top, on_result = self._top, self._on_result
        measured: Any
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def measured(*args: Any, **kwargs: Any) -> Any:
                with ProfiledBlock(name, top, on_result):
                    return await function(*args, **kwargs)

        else:

            @functools.wraps(function)
            def measured(*args: Any, **kwargs: Any) -> Any:
                with ProfiledBlock(name, top, on_result):
                    return function(*args, **kwargs)

        return measured  # type: ignore[no-any-return] # reason: functools.wraps keeps the signature


class _Block:
    """
    One block under way, with a peak of its own, though tracemalloc keeps one.

    Whenever a block begins or ends, the peak so far is noted for all that are under way, and at a
    beginning it is reset, in a session of ours. The peak of another session is left
    alone: it counts for a block only when it rises above what it was before.
    """

    _lock = locks.Lock()
    _under_way: ClassVar[list[_Block]] = []

    def __init__(self, *, to_photograph: bool) -> None:
        self._tracer = tracing.Tracer()
        self._tracer.start(1, to_photograph=to_photograph)
        with self._lock:
            self._begin = self._peak = self._note_peaks()
            self._floor = tracing.traced_memory()[1]
            self._exact = self._tracer.joined
            if self._tracer.joined:
                tracing.reset_peak()
                self._floor = self._begin
            self._under_way.append(self)
        self._started = time.perf_counter()

    def _note_peaks(self) -> int:
        """Note the peak so far for all blocks under way, and return what is traced now."""
        now, peak = tracing.traced_memory()
        for block in self._under_way:
            if peak > block._floor:  # noqa: SLF001 - reason: blocks of one class
                block._peak, block._exact = max(block._peak, peak), True  # noqa: SLF001 - reason: as above
        return now

    def finish(self, name: str, top: int) -> MemoryProfile:
        """End the block and return what it allocated."""
        seconds = time.perf_counter() - self._started
        with self._lock:
            end = self._note_peaks()
            self._under_way.remove(self)
        if top:
            self._tracer.photograph()
        trace = self._tracer.finish()
        heaviest = sorted(trace.sites.values(), key=lambda site: -site.bytes)[:top]
        functions = frames.functions_at(
            (site.location for site in heaviest), may_walk=walk.too_large(MAX_OBJECTS) is None
        )
        return MemoryProfile(
            name=name,
            seconds=seconds,
            current_bytes=end,
            peak_bytes=max(self._peak, end),
            growth_bytes=end - self._begin,
            peak_is_exact=self._exact,
            lines=tuple(
                ProfiledLine(
                    file=site.location[0],
                    line=site.location[1],
                    function=functions.get(site.location),
                    bytes=site.bytes,
                    count=site.count,
                )
                for site in heaviest
            ),
        )
