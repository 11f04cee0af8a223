"""`pipeline` and `apipeline`: a chain of iterators that is closed as a whole, whatever fails."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import AsyncExitStack, ExitStack
from typing import Any, Literal, TypeVar

from memguard import log
from memguard.bounded import options

R = TypeVar("R")


def pipeline(
    source: Iterable[Any],
    *stages: Callable[[Iterator[Any]], Iterable[Any]],
    sink: Callable[[Iterator[Any]], R],
    on_error: Literal["log", "raise"] = "log",
) -> R:
    """
    Return ``sink(...stages(source))``; close every stage and the source, whatever fails.

    A generator that is left halfway keeps its file, connection or lock until it is collected. Here,
    each one is closed before this returns or raises, the last stage first and the source last, also
    when a stage, the sink, or the closing of another one fails.

    Bounded by: what the stages hold; items go through one by one.

    Args:
        source: Where the items come from; closed when it has a ``close``.
        stages: Each takes an iterator and returns one: generator functions, or partials of them.
        sink: Takes the last iterator; what it returns is returned.
        on_error: Whether an exception of a ``close`` is logged or raised, when all are closed. It
            never replaces an exception of the pipeline itself.

    Raises:
        TypeError: Something cannot be called or iterated.
        ConfigError: *on_error* is neither ``"log"`` nor ``"raise"``.
    """
    chain = _Chain(stages, sink, on_error)
    with chain, ExitStack() as stack:  # the stack closes them all, even when a close raises
        result = sink(chain.connect(source, iter, stack.callback, chain.close))
    return result  # noqa: RET504 - reason: to type checkers, the stack may swallow exceptions


async def apipeline(
    source: AsyncIterable[Any],
    *stages: Callable[[AsyncIterator[Any]], AsyncIterable[Any]],
    sink: Callable[[AsyncIterator[Any]], Awaitable[R]],
    on_error: Literal["log", "raise"] = "log",
) -> R:
    """
    Return ``await sink(...stages(source))``; close every stage and the source, whatever fails.

    As `pipeline`, with asynchronous iterators, which are closed with ``aclose``, also when the task
    is cancelled.

    Raises:
        TypeError: Something cannot be called or iterated.
        ConfigError: *on_error* is neither ``"log"`` nor ``"raise"``.
    """
    chain = _Chain(stages, sink, on_error)
    with chain:
        async with AsyncExitStack() as stack:
            push = stack.push_async_callback
            result = await sink(chain.connect(source, aiter, push, chain.aclose))
    return result


class _Chain:
    """The stages of one pipeline, and what failed while they were closed."""

    def __init__(self, stages: tuple[Any, ...], sink: Any, on_error: Any) -> None:
        for number, stage in enumerate(stages, 1):
            options.check_callable(stage, f"stage {number}", optional=False)
        options.check_callable(sink, "sink", optional=False)
        self._raises = options.check_choice(on_error, options.ON_ERROR, "on_error") == "raise"
        self._stages = stages
        self._failures: list[Exception] = []

    def connect(
        self,
        source: Any,
        iterate: Callable[[Any], Any],
        push: Callable[..., object],
        close: Callable[..., object],
    ) -> Any:
        """Return the iterator of the last stage; *push* has then a *close* of each one."""
        stream = source
        for stage in (None, *self._stages):
            iterable = stream if stage is None else stage(stream)
            push(close, iterable)
            stream = iterate(iterable)
            if stream is not iterable:
                push(close, stream)
        return stream

    def close(self, iterator: Any) -> None:
        """Close *iterator*, when it has a ``close``."""
        try:
            if hasattr(iterator, "close"):
                iterator.close()
        except Exception as error:  # noqa: BLE001 - reason: the policy of on_error
            self._failures.append(error)

    async def aclose(self, iterator: Any) -> None:
        """Close *iterator*, when it has an ``aclose``."""
        try:
            if hasattr(iterator, "aclose"):
                await iterator.aclose()
        except Exception as error:  # noqa: BLE001 - reason: the policy of on_error
            self._failures.append(error)

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, *_: object) -> None:
        """Log what failed; raise the first of it, unless the pipeline itself has failed."""
        for error in self._failures:
            log.event(log.WARNING, "pipeline.close_failed", error=type(error).__name__)
        if self._failures and self._raises and kind is None:
            raise self._failures[0]
