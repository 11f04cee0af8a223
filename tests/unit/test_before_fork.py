"""Containers in the process of uWSGI that loads the application and forks its workers."""

from __future__ import annotations

import pytest

from memguard import BoundedCache, TimerRegistry
from memguard.bounded.cache.loading import refresh
from memguard.errors import LifecycleError
from memguard.lifecycle import janitor, uwsgi
from tests.clock import FakeClock


@pytest.fixture(autouse=True)
def before_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    janitor.stop()
    monkeypatch.setattr(uwsgi, "is_before_fork", lambda: True)


def test_a_cache_starts_no_janitor_and_expires_when_it_is_used(fake_clock: FakeClock) -> None:
    cache: BoundedCache[str, int] = BoundedCache(10, ttl=5, timer=fake_clock)
    failed = janitor.statistics().failed_starts
    cache["key"] = 1
    assert not janitor.statistics().running
    assert janitor.statistics().failed_starts > failed
    fake_clock.advance(6)
    assert "key" not in cache


def test_a_cache_is_swept_once_the_fork_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    cache: BoundedCache[str, int] = BoundedCache(10, ttl=5)
    cache["key"] = 1
    monkeypatch.setattr(uwsgi, "is_before_fork", lambda: False)
    cache["other"] = 1
    assert janitor.statistics().running


def test_a_timer_is_refused() -> None:
    with TimerRegistry() as timers:
        with pytest.raises(LifecycleError, match="no thread to run timers"):
            timers.every(1, print)
        assert timers.statistics().timers == 0


def test_nothing_is_refreshed_in_the_background() -> None:
    called: list[int] = []
    assert not refresh.in_background(lambda: called.append(1))
    assert not called
