"""What a block of code allocates."""

from __future__ import annotations

import asyncio
import logging
import threading
import tracemalloc
from collections.abc import Callable

import pytest

from memguard import MemoryProfile, profile_memory
from memguard.errors import ConfigError, LifecycleError
from memguard.lifecycle import locks
from memguard.units import KiB, MiB

traced = pytest.mark.skipif(
    locks.FREE_THREADED, reason="tracing is refused without a GIL, see the test of the refusal"
)


@pytest.mark.skipif(not locks.FREE_THREADED, reason="tracing is refused only without a GIL")
def test_without_a_gil_a_block_is_refused_and_nothing_is_traced() -> None:
    with pytest.raises(LifecycleError, match="tracemalloc is not safe without the GIL"):
        profile_memory().__enter__()
    assert not tracemalloc.is_tracing()


@traced
def test_growth_peak_and_line_are_those_of_the_block() -> None:
    with profile_memory(name="build") as block:
        passing = bytearray(4 * MiB)
        del passing
        kept = bytearray(MiB)
    result = block.result
    assert len(kept) == MiB
    assert result.name == "build"
    assert MiB <= result.growth_bytes < 1.2 * MiB
    assert 4 * MiB <= result.peak_bytes < 5 * MiB
    assert result.peak_is_exact
    heaviest = result.lines[0]
    assert heaviest.file == __file__
    assert heaviest.function == "test_growth_peak_and_line_are_those_of_the_block"
    assert heaviest.bytes >= MiB
    assert "build: +1.0 MiB, peak 4.0 MiB" in str(result)


@traced
def test_a_block_leaves_tracing_off() -> None:
    with profile_memory():
        assert tracemalloc.is_tracing()
    assert not tracemalloc.is_tracing()


@traced
def test_nested_blocks_have_peaks_of_their_own() -> None:
    with profile_memory(name="outer") as outer:
        early = bytearray(6 * MiB)
        del early
        with profile_memory(name="inner") as inner:
            middle = bytearray(2 * MiB)
            del middle
    assert 6 * MiB <= outer.result.peak_bytes < 7 * MiB
    assert 2 * MiB <= inner.result.peak_bytes < 3 * MiB
    assert not tracemalloc.is_tracing()


@traced
def test_blocks_that_overlap_in_threads_do_not_end_one_anothers_tracing() -> None:
    started, ended = threading.Event(), threading.Event()
    results: list[MemoryProfile] = []

    def other() -> None:
        with profile_memory(name="other", on_result=results.append):
            started.set()
            assert ended.wait(10)
            kept.append(bytearray(MiB))

    kept: list[bytearray] = []
    thread = threading.Thread(target=other)
    thread.start()
    assert started.wait(10)
    with profile_memory(name="main"):
        pass
    assert tracemalloc.is_tracing()
    ended.set()
    thread.join(10)
    assert not tracemalloc.is_tracing()
    assert results[0].growth_bytes >= MiB


@traced
def test_somebody_elses_session_goes_on_with_its_peak() -> None:
    tracemalloc.start(3)
    try:
        high = bytearray(3 * MiB)
        del high
        before = tracemalloc.get_traced_memory()[1]
        with profile_memory() as block:
            kept = bytearray(64 * KiB)
        assert tracemalloc.is_tracing()
        assert tracemalloc.get_traceback_limit() == 3
        assert tracemalloc.get_traced_memory()[1] >= before
        assert len(kept) == 64 * KiB
        assert not block.result.peak_is_exact
        assert block.result.growth_bytes >= 64 * KiB
    finally:
        tracemalloc.stop()


@traced
def test_a_function_is_measured_at_each_call() -> None:
    results: list[MemoryProfile] = []

    @profile_memory(on_result=results.append)
    def build(count: int) -> list[bytearray]:
        return [bytearray(KiB) for _ in range(count)]

    kept = [build(100), build(200)]
    assert len(kept) == 2
    assert [
        result.growth_bytes >= size * KiB for result, size in zip(results, (100, 200), strict=True)
    ]
    assert results[1].growth_bytes > results[0].growth_bytes
    assert build.__name__ == "build"
    assert results[0].name.endswith("build")


@traced
def test_a_bare_decorator_logs_the_result(caplog: pytest.LogCaptureFixture) -> None:
    @profile_memory
    def build() -> bytes:
        return bytes(KiB)

    with caplog.at_level(logging.INFO, logger="memguard"):
        assert len(build()) == KiB
    assert "memory.profiled" in caplog.text


@traced
def test_a_coroutine_is_measured_until_it_is_done() -> None:
    results: list[MemoryProfile] = []

    @profile_memory(on_result=results.append)
    async def build() -> bytearray:
        await asyncio.sleep(0)
        return bytearray(MiB)

    kept = asyncio.run(build())
    assert len(kept) == MiB
    assert results[0].growth_bytes >= MiB


@traced
def test_an_error_in_the_block_passes_and_ends_tracing() -> None:
    with pytest.raises(ZeroDivisionError), profile_memory() as block:
        _ = 1 / 0
    assert not tracemalloc.is_tracing()
    assert block.result.seconds >= 0


@traced
def test_there_is_no_result_before_the_end() -> None:
    with (
        profile_memory() as block,
        pytest.raises(LifecycleError, match="available only after the block"),
    ):
        _ = block.result


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: profile_memory("load"), TypeError, r"got str\); options have names"),  # type: ignore[call-overload] # reason: on purpose
        (lambda: profile_memory(name=3), TypeError, "name must be a string"),  # type: ignore[call-overload] # reason: on purpose
        (lambda: profile_memory(top="5"), TypeError, "top must be an int"),  # type: ignore[call-overload] # reason: on purpose
        (lambda: profile_memory(top=101), ConfigError, "top must be from 0 to 100"),
        (lambda: profile_memory(on_result=3), TypeError, "on_result must be callable"),  # type: ignore[call-overload] # reason: on purpose
    ],
)
def test_bad_options_are_refused(
    make: Callable[[], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make()


@traced
def test_without_lines_the_numbers_are_the_same() -> None:
    with profile_memory(top=0) as block:
        kept = bytearray(MiB)
    assert len(kept) == MiB
    assert block.result.lines == ()
    assert MiB <= block.result.growth_bytes <= block.result.peak_bytes < 1.2 * MiB


@traced
def test_a_block_that_is_printed_says_what_came_of_it() -> None:
    block = profile_memory(name="load")
    assert repr(block) == "<ProfiledBlock not begun>"
    with block:
        assert repr(block) == "<ProfiledBlock under way>"
        kept = bytearray(300_000)
    assert repr(block).startswith("<ProfiledBlock load: +")
    assert "\n" not in repr(block)
    assert len(kept) == 300_000
