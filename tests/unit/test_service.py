"""``close`` and ``with`` mean the same for everything that is started and stopped."""

from __future__ import annotations

import contextlib
from typing import Self

from memguard.lifecycle.service import Service


class Recorder(Service):
    def __init__(self) -> None:
        self.calls: list[str] = []

    def start(self) -> Self:
        self.calls.append("start")
        return self

    def stop(self, timeout: float = 5.0) -> bool:
        del timeout
        self.calls.append("stop")
        return True


def test_a_block_starts_and_stops_whatever_happens_in_it() -> None:
    service = Recorder()
    with contextlib.suppress(LookupError), service as entered:
        assert entered is service
        assert service.calls == ["start"]
        raise LookupError
    assert service.calls == ["start", "stop"]


def test_close_stops() -> None:
    service = Recorder().start()
    service.close()
    assert service.calls == ["start", "stop"]
