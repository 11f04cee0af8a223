"""Streams: the right items in the right order, within their bounds, and closed at the end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import os
import random
import threading
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memguard.bounded.streams import (
    ain_batches,
    apaginate,
    apaginate_after,
    apipeline,
    astream_lines,
    in_batches,
    paginate,
    paginate_after,
    pipeline,
    stream_lines,
)
from memguard.errors import ConfigError, LifecycleError, ValueTooLargeError

ROWS = list(range(95))


def traced_peak(work: Callable[[], object]) -> int:
    """Return the most bytes that *work* had allocated at a time."""
    gc.collect()
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def collected(stream: AsyncIterator[Any]) -> list[Any]:
    async def main() -> list[Any]:
        return [item async for item in stream]

    return asyncio.run(main())


# -- pages --------------------------------------------------------------------------------------


@pytest.mark.parametrize("page_size", [1, 5, 95, 96])
@pytest.mark.parametrize("until", ["empty", "short"])
def test_all_items_come_once_and_in_order(page_size: int, until: Any) -> None:
    asked: list[tuple[int, int]] = []

    def fetch(offset: int, limit: int) -> list[int]:
        asked.append((offset, limit))
        return ROWS[offset : offset + limit]

    assert list(paginate(fetch, page_size=page_size, until=until)) == ROWS
    assert {limit for _, limit in asked} == {page_size}


def test_a_server_that_sends_less_than_it_was_asked_for_loses_nothing() -> None:
    assert list(paginate(lambda offset, _: ROWS[offset : offset + 10], page_size=50)) == ROWS
    short = paginate(lambda offset, _: ROWS[offset : offset + 10], page_size=50, until="short")
    assert len(list(short)) == 10, "as it was told"


def test_pages_are_fetched_only_when_they_are_needed() -> None:
    asked = 0

    def fetch(offset: int, limit: int) -> list[int]:
        nonlocal asked
        asked += 1
        return list(range(offset, offset + limit))

    pages = paginate(fetch, page_size=10)
    assert asked == 0
    assert list(itertools.islice(pages, 15)) == list(range(15))
    assert asked == 2


@given(st.sets(st.integers()), st.integers(1, 20))
def test_a_keyset_finds_every_row(keys: set[int], page_size: int) -> None:
    rows = sorted(keys)

    def fetch(after: int | None) -> list[int]:
        return [row for row in rows if after is None or row > after][:page_size]

    assert list(paginate_after(fetch, key=int)) == rows


def test_a_query_that_ignores_the_key_is_an_error_and_no_endless_loop() -> None:
    pages = paginate_after(lambda _: [1, 2, 3], key=int)
    assert [next(pages) for _ in range(3)] == [1, 2, 3]
    with pytest.raises(LifecycleError, match="pagination does not advance"):
        next(pages)


def test_a_page_above_its_bound_is_an_error() -> None:
    with pytest.raises(ValueTooLargeError, match=r"at most page_size=10 items \(got 95\)"):
        list(paginate(lambda _offset, _limit: ROWS, page_size=10))
    with pytest.raises(ValueTooLargeError, match="page_size=10"):
        list(paginate_after(lambda _: ROWS, key=int, page_size=10))


def test_a_page_without_a_length_is_an_error() -> None:
    with pytest.raises(TypeError, match=r"a page must be a list .*\(got generator\)"):
        list(paginate(lambda _o, _l: (row for row in ROWS), page_size=10))  # type: ignore[arg-type, return-value]  # reason: the point of the test


def test_pages_can_be_awaited() -> None:
    async def fetch(offset: int, limit: int) -> list[int]:
        await asyncio.sleep(0)
        return ROWS[offset : offset + limit]

    async def fetch_after(after: int | None) -> list[int]:
        await asyncio.sleep(0)
        return [row for row in ROWS if after is None or row > after][:10]

    assert collected(apaginate(fetch, page_size=10)) == ROWS
    assert collected(apaginate_after(fetch_after, key=int)) == ROWS


@pytest.mark.parametrize("function", [paginate, apaginate])
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"fetch_page": 3, "page_size": 1}, TypeError, "fetch_page must be callable"),
        ({"fetch_page": print, "page_size": 0}, ConfigError, "page_size must be >= 1"),
        ({"fetch_page": print, "page_size": "9"}, TypeError, "page_size must be an int"),
        ({"fetch_page": print, "page_size": 1, "until": "x"}, ConfigError, "until must be 'empty'"),
    ],
)
def test_bad_options_of_pages_are_refused_at_the_call(
    function: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        function(**options)


@pytest.mark.parametrize("function", [paginate_after, apaginate_after])
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"fetch_after": 3, "key": int}, TypeError, "fetch_after must be callable"),
        ({"fetch_after": print, "key": 3}, TypeError, "key must be callable"),
        ({"fetch_after": print, "key": int, "page_size": 0}, ConfigError, "page_size must be >= 1"),
    ],
)
def test_bad_options_of_keysets_are_refused_at_the_call(
    function: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        function(**options)


# -- batches ------------------------------------------------------------------------------------


@given(
    st.lists(st.integers(0, 12)),
    st.integers(1, 6) | st.none(),
    st.integers(1, 12) | st.none(),
)
def test_batches_hold_all_items_in_order_within_both_bounds(
    items: list[int], size: int | None, max_bytes: int | None
) -> None:
    if size is None and max_bytes is None:
        size = 3
    sizer = None if max_bytes is None else int
    batches = list(
        in_batches(items, size=size, max_bytes=max_bytes, sizer=sizer, oversized="alone")
    )
    assert list(itertools.chain.from_iterable(batches)) == items
    assert all(batches)
    for batch, following in itertools.zip_longest(batches, batches[1:]):
        assert size is None or len(batch) <= size
        assert max_bytes is None or sum(batch) <= max_bytes or len(batch) == 1
        if following is not None:  # no batch ends earlier than it must
            full = size is not None and len(batch) == size
            heavy = max_bytes is not None and (
                sum(batch) + following[0] > max_bytes or sum(batch) >= max_bytes
            )
            assert full or heavy


def test_an_item_above_the_bound_is_an_error_after_what_came_before() -> None:
    batches = in_batches(["a", "bb", "c" * 9], max_bytes=5, sizer=len)
    assert next(batches) == ["a", "bb"]
    with pytest.raises(ValueTooLargeError, match="9 bytes, more than max_bytes=5"):
        next(batches)


def test_an_item_above_the_bound_can_come_alone() -> None:
    items = ["a", "b" * 9, "c"]
    batches = in_batches(items, max_bytes=5, sizer=len, oversized="alone")
    assert list(batches) == [["a"], ["b" * 9], ["c"]]


def test_without_a_sizer_batches_go_by_memory() -> None:
    batches = list(in_batches([bytes(1000)] * 10, max_bytes="3KiB"))
    assert [len(batch) for batch in batches] == [2, 2, 2, 2, 2]


def test_batches_of_an_asynchronous_source() -> None:
    async def source() -> AsyncIterator[int]:
        for row in ROWS:
            yield row

    batches = collected(ain_batches(source(), size=10, max_bytes=30, sizer=lambda _: 4))
    assert [len(batch) for batch in batches] == [7] * 13 + [4]
    assert list(itertools.chain.from_iterable(batches)) == ROWS
    with pytest.raises(TypeError, match=r"for an ordinary one use in_batches"):
        ain_batches(ROWS, size=1)  # type: ignore[arg-type]  # reason: the point of the test


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, ConfigError, "size or max_bytes is required"),
        ({"size": 0}, ConfigError, "size must be >= 1"),
        ({"size": 1.5}, TypeError, "size must be an int"),
        ({"max_bytes": 0}, ConfigError, "max_bytes must be >= 1 byte"),
        ({"max_bytes": "much"}, ConfigError, "max_bytes"),
        ({"size": 1, "sizer": len}, ConfigError, "sizer measures bytes and needs max_bytes"),
        ({"max_bytes": 1, "sizer": 3}, TypeError, "sizer must be callable"),
        ({"size": 1, "oversized": "drop"}, ConfigError, "oversized must be 'raise' or 'alone'"),
    ],
)
def test_bad_options_of_batches_are_refused_at_the_call(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        in_batches([], **options)


def test_what_is_no_iterable_and_what_is_no_size_is_refused() -> None:
    with pytest.raises(TypeError, match=r"iterable must be iterable \(got int\)"):
        in_batches(3, size=1)  # type: ignore[arg-type]  # reason: the point of the test
    with pytest.raises(TypeError, match="sizer must return a whole number"):
        list(in_batches([1], max_bytes=1, sizer=str))  # type: ignore[arg-type]  # reason: as above
    with pytest.raises(ConfigError, match="sizer must return a number of bytes >= 0"):
        list(in_batches([1], max_bytes=1, sizer=lambda _: -1))


# -- lines --------------------------------------------------------------------------------------


@given(st.lists(st.text(st.characters(blacklist_characters="\r\n", codec="utf-8"), max_size=8)))
def test_lines_are_those_of_an_open_file(tmp_path_factory: Any, lines: list[str]) -> None:
    file = tmp_path_factory.getbasetemp() / "lines.txt"
    for end in ("\n", "\r\n"):
        for last in (end, ""):
            text = end.join(lines) + last
            file.write_bytes(text.encode())
            with file.open(encoding="utf-8") as expected:
                assert list(stream_lines(file)) == [line.rstrip("\n") for line in expected]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""])
def test_a_line_of_just_the_bound_is_not_overlong(tmp_path: Path, end: bytes) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * 10 + end)
    assert list(stream_lines(file, max_line_bytes=10)) == ["x" * 10]
    with pytest.raises(ValueTooLargeError):
        list(stream_lines(file, max_line_bytes=9))


@given(
    st.lists(st.binary(max_size=30).filter(lambda line: b"\n" not in line and b"\r" not in line)),
    st.sampled_from([b"\n", b"\r\n"]),
    st.integers(1, 12),
)
def test_truncated_lines_are_the_beginnings_of_all_lines(
    tmp_path_factory: Any, lines: list[bytes], end: bytes, most: int
) -> None:
    file = tmp_path_factory.getbasetemp() / "truncated.txt"
    file.write_bytes(b"".join(line + end for line in lines))
    found = stream_lines(file, max_line_bytes=most, overlong="truncate", encoding="latin-1")
    assert list(found) == [line[:most].decode("latin-1") for line in lines]


def test_a_truncated_line_does_not_end_in_half_a_character(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("ä" * 10 + "\nnext\n", encoding="utf-8")
    assert list(stream_lines(file, max_line_bytes=5, overlong="truncate")) == ["ää", "next"]


def test_an_overlong_line_is_named_by_its_number(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("ok\n" + "x" * 99 + "\n")
    lines = stream_lines(str(file), max_line_bytes=50)
    assert next(lines) == "ok"
    with pytest.raises(ValueTooLargeError, match=r"line 2 of .*file has more than max_line_bytes"):
        next(lines)


def test_the_file_is_closed_with_its_iterator(tmp_path: Path) -> None:
    """An open file would warn when it is collected, and warnings are errors here."""
    file = tmp_path / "file"
    file.write_text("a\nb\n")
    lines = stream_lines(file)
    next(lines)
    lines.close()  # type: ignore[attr-defined]  # reason: a generator, though typed as an iterator
    del lines
    gc.collect()


def test_a_coroutine_reads_the_same_lines(tmp_path: Path) -> None:
    file = tmp_path / "file"
    expected = [f"line {number} " + "ä" * (number % 900) for number in range(2000)]
    file.write_text("\n".join(expected), encoding="utf-8")
    assert collected(astream_lines(file)) == expected
    short = collected(astream_lines(file, max_line_bytes=50, overlong="truncate"))
    assert short == list(stream_lines(file, max_line_bytes=50, overlong="truncate"))
    file.write_text("")
    assert collected(astream_lines(file)) == []


def test_a_coroutine_gets_the_lines_before_an_error_and_then_the_error(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("ok\nfine\n" + "x" * 99 + "\n")
    got: list[str] = []

    async def main() -> None:
        async for line in astream_lines(file, max_line_bytes=50):
            got.append(line)  # noqa: PERF401 - reason: those before the error are wanted

    with pytest.raises(ValueTooLargeError, match="line 3 of"):
        asyncio.run(main())
    assert got == ["ok", "fine"]
    with pytest.raises(FileNotFoundError):
        collected(astream_lines(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match="max_line_bytes must be >= 1 byte"):
        astream_lines(file, max_line_bytes=0)  # at the call, as stream_lines


def test_a_coroutine_that_leaves_early_closes_the_file(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("line\n" * 100_000)

    async def main() -> None:
        async with contextlib.aclosing(astream_lines(file)) as lines:  # type: ignore[type-var]  # reason: a generator, though typed as an iterator
            async for line in lines:
                assert line == "line"
                break

    asyncio.run(main())
    gc.collect()  # an open file would warn


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_coroutine_that_is_cancelled_leaves_the_file_to_the_thread_that_reads(
    tmp_path: Path,
) -> None:
    """A pipe stands for a slow disk: the read goes on until a writer lets it end."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    opened = threading.Event()

    async def read() -> None:
        async with contextlib.aclosing(astream_lines(pipe)) as lines:  # type: ignore[type-var]  # reason: a generator, though typed as an iterator
            async for _ in lines:
                opened.set()

    async def main() -> None:
        reading = asyncio.create_task(read())
        writer = await asyncio.to_thread(open, pipe, "w")
        with writer:
            await asyncio.sleep(0)
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
            writer.write("late\n")
        assert not opened.is_set()

    asyncio.run(main())
    gc.collect()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"path": 3}, TypeError, "path must be a string or a path"),
        ({"max_line_bytes": 0}, ConfigError, "max_line_bytes must be >= 1 byte"),
        ({"max_line_bytes": None}, TypeError, "max_line_bytes must be a number of bytes"),
        ({"overlong": "skip"}, ConfigError, "overlong must be 'raise' or 'truncate'"),
        ({"encoding": "utf-16"}, ConfigError, "encoding must write a line end as one byte"),
        ({"encoding": "klingon"}, ConfigError, r"encoding is unknown \(got 'klingon'\)"),
        ({"encoding": 8}, TypeError, "encoding must be a string"),
        ({"errors": "hope"}, ConfigError, "errors must be a known handler"),
        ({"errors": None}, TypeError, "errors must be a string"),
    ],
)
def test_bad_options_of_lines_are_refused_at_the_call(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        stream_lines(**{"path": "nowhere", **options})


# -- pipelines ----------------------------------------------------------------------------------


class Recorder:
    """Makes stages that tell when they are closed, and may fail at it or before."""

    def __init__(self) -> None:
        self.closed: list[str] = []

    def stage(self, name: str, *, fails_at: int = -1, fails_to_close: bool = False) -> Any:
        def run(items: Iterator[int]) -> Iterator[int]:
            try:
                for number, item in enumerate(items):
                    if number == fails_at:
                        raise OSError(name)
                    yield item + 1
            finally:
                self.closed.append(name)
                if fails_to_close:
                    raise RuntimeError(f"{name} cannot close")

        return run

    def astage(self, name: str, *, fails_at: int = -1, fails_to_close: bool = False) -> Any:
        async def run(items: AsyncIterator[int]) -> AsyncIterator[int]:
            try:
                number = 0
                async for item in items:
                    if number == fails_at:
                        raise OSError(name)
                    number += 1
                    yield item + 1
            finally:
                await asyncio.sleep(0)
                self.closed.append(name)
                if fails_to_close:
                    raise RuntimeError(f"{name} cannot close")

        return run


def numbers() -> Iterator[int]:
    yield from range(10)


async def anumbers() -> AsyncIterator[int]:
    for number in range(10):
        yield number


async def asum(items: AsyncIterator[int]) -> int:
    return sum([item async for item in items])


def test_a_pipeline_returns_what_its_sink_returns() -> None:
    made = Recorder()
    total = pipeline(numbers(), made.stage("a"), made.stage("b"), sink=sum)
    assert total == sum(range(2, 12))
    assert sorted(made.closed) == ["a", "b"]
    assert pipeline([1, 2, 3], sink=list) == [1, 2, 3]


def test_stages_that_are_left_halfway_are_closed_the_last_first() -> None:
    made = Recorder()
    source = made.stage("source")(iter(range(10)))
    stages = [made.stage("a"), made.stage("b")]
    assert pipeline(source, *stages, sink=next) == 3
    assert made.closed == ["b", "a", "source"]


def test_a_failing_sink_leaves_no_stage_open() -> None:
    made = Recorder()

    def sink(items: Iterator[int]) -> None:
        next(items)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        pipeline(numbers(), made.stage("a"), made.stage("b"), sink=sink)
    assert made.closed == ["b", "a"]


def test_a_failing_stage_leaves_no_other_open() -> None:
    made = Recorder()
    with pytest.raises(OSError, match="b"):
        pipeline(numbers(), made.stage("a"), made.stage("b", fails_at=3), sink=list)
    assert sorted(made.closed) == ["a", "b"]


def test_a_stage_that_cannot_be_made_leaves_the_others_closed() -> None:
    made = Recorder()
    source = made.stage("source")(iter(range(10)))
    next(source)

    def broken(_: Iterator[int]) -> Iterator[int]:
        raise OSError("no stage")

    with pytest.raises(OSError, match="no stage"):
        pipeline(source, broken, sink=list)
    assert made.closed == ["source"]


@pytest.mark.parametrize("on_error", ["log", "raise"])
def test_one_stage_that_cannot_close_does_not_keep_the_others_open(
    on_error: Any, caplog: pytest.LogCaptureFixture
) -> None:
    made = Recorder()
    stages = [made.stage("a"), made.stage("b", fails_to_close=True), made.stage("c")]
    if on_error == "raise":
        with pytest.raises(RuntimeError, match="b cannot close"):
            pipeline(numbers(), *stages, sink=next, on_error=on_error)
    else:
        assert pipeline(numbers(), *stages, sink=next) == 3
        assert "pipeline.close_failed" in caplog.records[0].message
    assert made.closed == ["c", "b", "a"]


def test_an_error_of_the_pipeline_is_not_replaced_by_one_of_closing() -> None:
    made = Recorder()

    def sink(items: Iterator[int]) -> None:
        next(items)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        pipeline(numbers(), made.stage("a", fails_to_close=True), sink=sink, on_error="raise")


def test_an_interruption_while_closing_still_closes_the_others() -> None:
    made = Recorder()

    def stubborn(items: Iterator[int]) -> Iterator[int]:
        try:
            yield from items
        finally:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pipeline(made.stage("a")(iter([1, 2])), made.stage("b"), stubborn, sink=next)
    assert made.closed == ["b", "a"]


def test_an_asynchronous_pipeline_is_closed_as_well() -> None:
    made = Recorder()

    async def first(items: AsyncIterator[int]) -> int:
        return await anext(items)

    async def main() -> None:
        assert await apipeline(anumbers(), made.astage("a"), sink=asum) == sum(range(1, 11))
        made.closed.clear()
        stages = [made.astage("a"), made.astage("b", fails_to_close=True), made.astage("c")]
        assert await apipeline(anumbers(), *stages, sink=first) == 3
        assert made.closed == ["c", "b", "a"]
        with pytest.raises(RuntimeError, match="b cannot close"):
            await apipeline(anumbers(), *stages, sink=first, on_error="raise")
        with pytest.raises(OSError, match="x"):
            await apipeline(anumbers(), made.astage("x", fails_at=2), sink=asum)

    asyncio.run(main())


def test_a_cancelled_pipeline_is_closed() -> None:
    made = Recorder()

    async def endless() -> AsyncIterator[int]:
        while True:
            await asyncio.sleep(0)
            yield 1

    async def main() -> None:
        sink = asum
        task = asyncio.create_task(
            apipeline(endless(), made.astage("a"), made.astage("b"), sink=sink)
        )
        for _ in range(10):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert sorted(made.closed) == ["a", "b"]

    asyncio.run(main())


def test_bad_pipelines_are_refused() -> None:
    with pytest.raises(TypeError, match="stage 2 must be callable"):
        pipeline([], iter, 3, sink=list)  # type: ignore[arg-type]  # reason: the point of the test
    with pytest.raises(TypeError, match="sink must be callable"):
        pipeline([], sink=3)  # type: ignore[arg-type]  # reason: the point of the test
    with pytest.raises(ConfigError, match="on_error must be 'log' or 'raise'"):
        pipeline([], sink=list, on_error="hide")  # type: ignore[arg-type]  # reason: as above
    with pytest.raises(TypeError, match="not iterable"):
        pipeline(3, sink=list)  # type: ignore[arg-type]  # reason: the point of the test


# -- memory -------------------------------------------------------------------------------------

KIB = 1024
ITEM = 4 * KIB


def exhaust(stream: Iterator[Any]) -> int:
    return sum(1 for _ in stream)


async def aexhaust(stream: AsyncIterator[Any]) -> int:
    count = 0
    async for _ in stream:
        count += 1
    return count


def page_at(offset: int, limit: int) -> list[bytes]:
    return [bytes(ITEM) for _ in range(min(limit, max(0, 2000 - offset)))]


def page_after(after: int | None) -> list[tuple[int, bytes]]:
    start = 0 if after is None else after + 1
    return [(number, bytes(ITEM)) for number in range(start, min(start + 10, 2000))]


async def apage_at(offset: int, limit: int) -> list[bytes]:
    return page_at(offset, limit)


async def apage_after(after: int | None) -> list[tuple[int, bytes]]:
    return page_after(after)


def items() -> Iterator[bytes]:
    for _ in range(2000):
        yield bytes(ITEM)


async def aitems() -> AsyncIterator[bytes]:
    for item in items():
        yield item


STREAMS: dict[str, Callable[[], int]] = {
    "paginate": lambda: exhaust(paginate(page_at, page_size=10)),
    "paginate_after": lambda: exhaust(paginate_after(page_after, key=lambda row: row[0])),
    "apaginate": lambda: asyncio.run(aexhaust(apaginate(apage_at, page_size=10))),
    "apaginate_after": lambda: asyncio.run(
        aexhaust(apaginate_after(apage_after, key=lambda row: row[0]))
    ),
    "in_batches": lambda: exhaust(in_batches(items(), size=10)) * 10,
    "in_batches by bytes": lambda: exhaust(in_batches(items(), max_bytes="41KiB")) * 10,
    "ain_batches": lambda: asyncio.run(aexhaust(ain_batches(aitems(), size=10))) * 10,
    "pipeline": lambda: pipeline(items(), iter, iter, sink=exhaust),
    "apipeline": lambda: asyncio.run(apipeline(aitems(), sink=aexhaust)),
}


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_of_two_hundred_times_its_bound_stays_within_it(name: str) -> None:
    """2000 items of 4 KiB are 8 MiB; ten of them, and the ten that are being made, are 80 KiB."""
    stream = STREAMS[name]
    stream()  # what is loaded and kept at the first use is not the stream's
    asyncio_has = 150 * KIB if "asyncio" in stream.__code__.co_names else 0
    peak = traced_peak(lambda: stream() == 2000 or pytest.fail("items are missing"))
    assert peak < 24 * ITEM + asyncio_has


@pytest.mark.parametrize("overlong", ["truncate", "raise"])
def test_a_file_without_line_ends_is_never_read_as_a_whole(tmp_path: Path, overlong: Any) -> None:
    file = tmp_path / "file"
    with file.open("wb") as output:
        for _ in range(200):
            output.write(b"x" * 64 * KIB)

    def read() -> None:
        try:
            lines = list(stream_lines(file, max_line_bytes="64KiB", overlong=overlong))
        except ValueTooLargeError:
            assert overlong == "raise"
        else:
            assert [len(line) for line in lines] == [64 * KIB]

    assert traced_peak(read) < 8 * 64 * KIB


def test_a_long_file_of_lines_is_read_line_by_line(tmp_path: Path) -> None:
    file = tmp_path / "file"
    generator = random.Random(4)  # noqa: S311 - reason: lengths, not secrets
    sizes = [generator.randrange(4 * KIB) for _ in range(4000)]
    file.write_bytes(b"".join(b"y" * size + b"\n" for size in sizes))
    assert traced_peak(lambda: exhaust(stream_lines(file, max_line_bytes="4KiB"))) < 100 * KIB
    assert [len(line) for line in stream_lines(file, max_line_bytes="4KiB")] == sizes

    async def read() -> int:
        # One thread: without a GIL, an object that its maker's thread shares is freed when that
        # thread runs again, and each idle thread of the executor would keep lines.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        return sum([len(line) async for line in astream_lines(file, max_line_bytes="4KiB")])

    assert asyncio.run(read()) == sum(sizes)
    assert traced_peak(lambda: asyncio.run(read())) < 500 * KIB
