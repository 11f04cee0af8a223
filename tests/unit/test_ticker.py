"""What the leaks floor adds to the shared thread: a forked child does not trace."""

from __future__ import annotations

import weakref

import pytest

from memguard.leaks import ticker
from memguard.leaks.evidence import tracing
from memguard.lifecycle import fork


def test_a_child_of_a_watched_process_ends_its_parents_tracing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Resettable:
        resets = 0

        def _reset(self) -> None:
            self.resets += 1

    ended: list[bool] = []
    monkeypatch.setattr(
        type(tracing.session), "after_fork_in_child", lambda _session: ended.append(True)
    )
    target = Resettable()
    monkeypatch.setattr(fork, "_calls", {})
    monkeypatch.setattr(fork, "_targets", weakref.WeakSet())
    ticker.reset_after_fork(target)
    fork._after_fork_in_child()
    assert ended == [True]
    assert target.resets == 1
