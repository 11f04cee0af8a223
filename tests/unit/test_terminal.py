"""A command that is told to end."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator

import pytest

from memguard.cli.terminal import Terminated

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def nothing(*_: object) -> None:
    """A handler of the host's."""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_it_leaves_by_an_exception_and_gives_the_handlers_back(number: signal.Signals) -> None:
    signal.signal(number, nothing)
    with pytest.raises(SystemExit) as raised, Terminated():
        signal.raise_signal(number)
    assert raised.value.code == 128 + number
    assert signal.getsignal(number) is nothing


def test_a_signal_that_is_ignored_stays_so() -> None:
    """So it is under ``nohup``, which is used so that the end of a session ends nothing."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    seen: list[Callable[..., object] | int | None] = []
    with Terminated():
        seen.append(signal.getsignal(signal.SIGHUP))
        signal.raise_signal(signal.SIGHUP)
    assert [*seen, signal.getsignal(signal.SIGHUP)] == [signal.SIG_IGN] * 2
