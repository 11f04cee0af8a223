"""The frames that run now: of all threads, with none of them kept."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator


def running_frames() -> Iterator[types.FrameType]:
    """
    Yield the frames of all threads, those of one thread innermost first.

    What asks for them is among them. It keeps no frame when it has ended: one that refers to itself
    is a cycle, which holds the locals of all its callers until the collector runs.
    """
    innermost = list(sys._current_frames().values())  # noqa: SLF001 - reason: the documented way to other threads' frames
    frame: types.FrameType | None = None
    try:
        while innermost:
            frame = innermost.pop()
            while frame is not None:
                yield frame
                frame = frame.f_back
    finally:
        innermost.clear()
        frame = None
