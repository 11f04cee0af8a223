"""Looking at the frames of all threads keeps none of them, nor their locals, alive."""

from __future__ import annotations

import gc
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator

import pytest

from memguard.leaks.evidence import frames, resources
from memguard.lifecycle.running import running_frames
from memguard.observe import counts

LOOKS: dict[str, Callable[[], object]] = {
    "running_frames": lambda: deque(running_frames(), maxlen=0),
    "running_frames, left early": lambda: next(running_frames()),
    "running_loops": lambda: deque(counts.running_loops(), maxlen=0),
    "functions that run": lambda: frames.qualified_at([(__file__, 1)], may_walk=False),
    "who piles up": lambda: resources.take_look(0.0),
}


class Local:
    """What a function of the program's holds while it runs."""


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    """Switch it off, as some servers do: what is in a cycle stays then."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_a_look_keeps_no_local_of_its_callers(look: Callable[[], object]) -> None:
    kept: list[weakref.ref[Local]] = []

    def caller() -> None:
        local = Local()
        kept.append(weakref.ref(local))
        look()

    caller()
    thread = threading.Thread(target=caller)  # the latest to start is the last to be looked at
    thread.start()
    thread.join()
    assert [ref() for ref in kept] == [None, None]
