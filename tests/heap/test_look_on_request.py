"""What a running detector does when a look is asked for."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import memguard
from memguard.guard import MemoryGuard

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGUSR2"), reason="signals of POSIX")


@pytest.fixture(autouse=True)
def _handler_as_found() -> Iterator[None]:
    former = signal.getsignal(signal.SIGUSR2)
    yield
    signal.signal(signal.SIGUSR2, former)


def reasons(guard: MemoryGuard) -> dict[str, str]:
    return {each.part: each.reason for each in guard.status().degraded}


def test_a_running_detector_looks_and_writes_when_the_signal_comes(tmp_path: Path) -> None:
    detector = memguard.LeakDetector(
        interval=60, report_dir=tmp_path / "reports", on_signal=signal.SIGUSR2, trace_seconds=0.1
    )
    with detector:
        os.kill(os.getpid(), signal.SIGUSR2)
        pause = threading.Event()
        for _ in range(1000):
            if list((tmp_path / "reports").glob("leak-*.json")):
                break
            pause.wait(0.02)
    written = list((tmp_path / "reports").glob("leak-*.json"))
    assert len(written) == 1
    assert detector.reports == (), "a look on request is no finding"


def test_a_directory_that_cannot_be_made_is_tried_again_with_the_next_report(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").write_bytes(b"")  # as root, modes forbid nothing
    place = tmp_path / "file" / "reports"
    short = {"trace_seconds": 0.1}
    with MemoryGuard(limit="1TiB", relief=False, report_dir=place, leak_options=short) as guard:
        assert "no report can be written" in reasons(guard)["reports"]
        assert guard.detector is not None
        (tmp_path / "file").unlink()
        guard.detector.look_on_request()
        assert reasons(guard) == {}
        assert any(entry.suffix == ".json" for entry in place.iterdir())
        assert dict(guard.status().degradations) == {"reports": 1}
