"""A signal handler that raises leaves no lock of ours held, on any version of CPython."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from tests.lock_storm import FORMS

ROUNDS = 3000
OURS = [form for form in FORMS if not form.startswith("threading.")]

pytestmark = pytest.mark.skipif(
    not hasattr(signal, "setitimer"), reason="no timer that sends signals on this system"
)


def left_held(form: str, *more: str, rounds: int = ROUNDS) -> int:
    """Return how often a storm of *rounds* interruptions leaves the lock of *form* held."""
    command = [sys.executable, "-m", "tests.lock_storm", form, str(rounds), *more]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=50)
    return int(done.stdout)


@pytest.mark.parametrize("form", OURS)
def test_a_raising_signal_handler_leaves_no_lock_of_ours_held(form: str) -> None:
    assert left_held(form) == 0


@pytest.mark.stress
@pytest.mark.parametrize("form", ["Lock", "RLock", "Condition", "Turn"])
def test_nor_where_another_thread_takes_it_meanwhile(form: str) -> None:
    assert left_held(form, "contended") == 0


@pytest.mark.parametrize("form", ["threading.Lock", "threading.RLock"])
def test_a_plain_with_leaves_it_held_on_cpython_3_14_only(form: str) -> None:
    """The storm can tell: where there is a gap it finds it."""
    assert (left_held(form, rounds=300) > 0) == (sys.version_info[:2] == (3, 14))


def test_a_condition_of_threading_is_left_held_on_every_version() -> None:
    """The storm can tell on each version; so our own condition is worth its lines."""
    assert left_held("threading.Condition", rounds=300) > 0
