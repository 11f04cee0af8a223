"""Was a program asked to end? A signal that it handles is noted, and nothing else changes."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from types import FrameType

import pytest

from memguard.cli.asked_to_end import AskedToEnd


@pytest.fixture(autouse=True)
def signals_of_the_program(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put back what the test changes: handlers, and the functions that set them."""
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.getsignal(number) for number in numbers}
    for name in ("signal", "getsignal"):
        monkeypatch.setattr(signal, name, getattr(signal, name))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    monkeypatch.undo()
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def asked() -> AskedToEnd:
    found = AskedToEnd()
    found.watch()
    return found


def test_a_program_whose_handler_returns_was_asked(asked: AskedToEnd) -> None:
    got: list[tuple[int, FrameType | None]] = []

    def handler(number: int, frame: FrameType | None) -> None:
        got.append((number, frame))

    former = signal.getsignal(signal.SIGTERM)
    assert signal.signal(signal.SIGTERM, handler) is former
    assert signal.getsignal(signal.SIGTERM) is handler, "the program sees its own"
    assert not asked.was_asked
    signal.raise_signal(signal.SIGTERM)
    assert [number for number, _ in got] == [signal.SIGTERM]
    assert asked.was_asked
    assert signal.signal(signal.SIGTERM, signal.SIG_IGN) is handler


def test_a_program_that_catches_ctrl_c_was_asked(asked: AskedToEnd) -> None:
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    assert asked.was_asked


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="signals of POSIX")
def test_other_signals_ask_for_something_else(asked: AskedToEnd) -> None:
    former = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, former)
    assert not asked.was_asked


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="loops handle signals on POSIX only")
def test_a_loop_that_handles_the_signal_was_asked(asked: AskedToEnd) -> None:
    async def serve() -> None:
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        signal.raise_signal(signal.SIGTERM)
        await asyncio.wait_for(stop.wait(), 30)

    asyncio.run(serve())
    assert asked.was_asked
