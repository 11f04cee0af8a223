"""A signal that asks for a look, chained to whoever had it before."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

import memguard
from memguard.errors import ConfigError, LifecycleError
from memguard.lifecycle.signals import ChainedHandler

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGUSR2"), reason="signals of POSIX")


@pytest.fixture(autouse=True)
def _handler_as_found() -> Iterator[None]:
    former = signal.getsignal(signal.SIGUSR2)
    yield
    signal.signal(signal.SIGUSR2, former)


def test_the_action_runs_and_then_the_former_handler() -> None:
    order: list[str] = []
    signal.signal(signal.SIGUSR2, lambda *_: order.append("former"))
    request = ChainedHandler(signal.SIGUSR2, lambda: order.append("action"))
    request.open()
    os.kill(os.getpid(), signal.SIGUSR2)
    request.close()
    os.kill(os.getpid(), signal.SIGUSR2)
    assert order == ["action", "former", "former"]


def test_closing_puts_the_former_handler_back() -> None:
    former = signal.getsignal(signal.SIGUSR2)
    request = ChainedHandler(signal.SIGUSR2, lambda: None)
    request.open()
    assert signal.getsignal(signal.SIGUSR2) != former
    request.close()
    request.close()
    assert signal.getsignal(signal.SIGUSR2) == former


def test_a_handler_that_came_after_ours_stays() -> None:
    request = ChainedHandler(signal.SIGUSR2, lambda: None)
    request.open()
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    request.close()
    assert signal.getsignal(signal.SIGUSR2) is signal.SIG_IGN


def test_outside_the_main_thread_it_is_refused_with_the_way_out() -> None:
    request = ChainedHandler(signal.SIGUSR2, lambda: None)
    caught: list[BaseException] = []

    def start() -> None:
        try:
            request.open()
        except LifecycleError as error:
            caught.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join(10)
    assert "main thread" in str(caught[0])


@pytest.mark.parametrize("number", [signal.SIGKILL, 9999])
def test_a_signal_that_cannot_be_caught_is_refused(number: int) -> None:
    with pytest.raises(ConfigError, match="on_signal must be a signal"):
        ChainedHandler(number, lambda: None)


def test_what_is_no_number_is_refused() -> None:
    with pytest.raises(TypeError, match="on_signal must be a signal number"):
        memguard.LeakDetector(on_signal="SIGUSR2")  # type: ignore[arg-type] # reason: on purpose
