"""A chain of generators that is closed as a whole, whatever becomes of it."""

from __future__ import annotations

import logging
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
        ConfigError: *on_error* is neither of its words.
    """
    _check(stages, sink, on_error)
    failures: list[Exception] = []
    try:
        # The stack closes them all, even when one of them is interrupted.
        with ExitStack() as stack:
            stream = _opened(source, iter, stack.callback, _close, failures)
            for stage in stages:
                stream = _opened(stage(stream), iter, stack.callback, _close, failures)
            result = sink(stream)
    finally:
        _tell(failures)
    if failures and on_error == "raise":
        raise failures[0]
    return result


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
        ConfigError: *on_error* is neither of its words.
    """
    _check(stages, sink, on_error)
    failures: list[Exception] = []
    try:
        async with AsyncExitStack() as stack:
            push = stack.push_async_callback
            stream = _opened(source, aiter, push, _aclose, failures)
            for stage in stages:
                stream = _opened(stage(stream), aiter, push, _aclose, failures)
            result = await sink(stream)
    finally:
        _tell(failures)
    if failures and on_error == "raise":
        raise failures[0]
    return result


def _check(stages: tuple[Any, ...], sink: Any, on_error: Any) -> None:
    for number, stage in enumerate(stages, 1):
        options.check_callable(stage, f"stage {number}", optional=False)
    options.check_callable(sink, "sink", optional=False)
    options.check_choice(on_error, options.ON_ERROR, "on_error")


def _opened(
    iterable: Any,
    iterate: Callable[[Any], Any],
    push: Callable[..., object],
    close: Callable[..., object],
    failures: list[Exception],
) -> Any:
    """Return the iterator of *iterable*, when both are sure to be closed."""
    push(close, iterable, failures)
    iterator = iterate(iterable)
    if iterator is not iterable:
        push(close, iterator, failures)
    return iterator


def _close(thing: Any, failures: list[Exception]) -> None:
    close = getattr(thing, "close", None)
    if close is not None:
        try:
            close()
        except Exception as error:  # noqa: BLE001 - reason: the policy of on_error
            failures.append(error)


async def _aclose(thing: Any, failures: list[Exception]) -> None:
    close = getattr(thing, "aclose", None)
    if close is not None:
        try:
            await close()
        except Exception as error:  # noqa: BLE001 - reason: the policy of on_error
            failures.append(error)


def _tell(failures: list[Exception]) -> None:
    for error in failures:
        log.event(logging.WARNING, "pipeline.close_failed", error=type(error).__name__)
