"""The no-residue check is itself checked: a check that sees nothing would let every test pass."""

from __future__ import annotations

import gc
import logging
import signal
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from tests.residue import Residue


@contextmanager
def left_thread(name: str, *, daemon: bool) -> Iterator[None]:
    finish = threading.Event()
    thread = threading.Thread(target=finish.wait, args=(10,), name=name, daemon=daemon)
    thread.start()
    yield
    finish.set()
    thread.join(10)


@contextmanager
def left_tracing() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


@contextmanager
def left_gc_callback() -> Iterator[None]:
    def callback(_phase: str, _info: dict[str, int]) -> None: ...

    gc.callbacks.append(callback)
    yield
    gc.callbacks.remove(callback)


@contextmanager
def left_thresholds() -> Iterator[None]:
    found = gc.get_threshold()
    gc.set_threshold(found[0] + 1)
    yield
    gc.set_threshold(*found)


@contextmanager
def left_gc_disabled() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@contextmanager
def left_signal_handler() -> Iterator[None]:
    found = signal.signal(signal.SIGTERM, lambda _number, _frame: None)
    yield
    signal.signal(signal.SIGTERM, found)


@contextmanager
def left_profile() -> Iterator[None]:
    sys.setprofile(lambda _frame, _event, _argument: None)
    yield
    sys.setprofile(None)


@contextmanager
def left_log_handler(logger: str | None) -> Iterator[None]:
    handler = logging.StreamHandler()
    logging.getLogger(logger).addHandler(handler)
    yield
    logging.getLogger(logger).removeHandler(handler)


@pytest.mark.parametrize(
    ("leave", "seen"),
    [
        (lambda: left_thread("memguard-test", daemon=True), "memguard-test (daemon)"),
        (lambda: left_thread("stranger", daemon=False), "thread left running: stranger"),
        (left_tracing, "tracing was False, is True"),
        (left_gc_callback, "gc_callbacks"),
        (left_thresholds, "gc_thresholds"),
        (left_gc_disabled, "gc_enabled was True, is False"),
        (left_signal_handler, f"handler of signal {int(signal.SIGTERM)} was"),
        (left_profile, "profile_function"),
        (lambda: left_log_handler(None), "root_handlers"),
        (lambda: left_log_handler("memguard"), "memguard_handlers"),
    ],
)
def test_whatever_a_test_leaves_is_named(
    leave: Callable[[], AbstractContextManager[None]], seen: str
) -> None:
    before = Residue.take()
    with leave():
        changes = Residue.take().changes_since(before)
    assert any(seen in change for change in changes)


def test_nothing_left_is_no_change() -> None:
    before = Residue.take()
    with left_thread("stranger-daemon", daemon=True):
        assert Residue.take().changes_since(before) == []
    assert Residue.take().changes_since(before) == []
