"""Lines of a file in a coroutine: threads read them, so that no disk holds up the loop."""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncIterator, Generator
from typing import Literal, cast

from memguard.bounded._lines import stream_lines

CHUNK = 64 * 1024
"""Characters of lines that one trip to a thread brings, a line of any length at least."""


def astream_lines(
    path: str | os.PathLike[str],
    *,
    max_line_bytes: int | str = "1MiB",
    overlong: Literal["raise", "truncate"] = "raise",
    encoding: str = "utf-8",
    errors: str = "strict",
) -> AsyncIterator[str]:
    """
    Yield what `stream_lines` does, for ``async for``: threads of the loop's executor read the file.

    They bring lines by 64 Ki characters, for which memory is needed besides. The file is closed
    after the last line, and when the iterator is closed (`contextlib.aclosing`); a read that is
    under way when the task is cancelled ends first, in its thread.

    Args:
        path: As in `stream_lines`, like all others.
        max_line_bytes: Most bytes of a line.
        overlong: What to do about a longer one.
        encoding: That of the file.
        errors: What to do about undecodable bytes.

    Raises:
        TypeError: An option of the wrong kind.
        ConfigError: An option out of range, or an encoding with wider line ends.
        ValueTooLargeError: A line is longer. Raised while iterating, like those that follow.
        OSError: The file cannot be read.
        UnicodeDecodeError: As in ``bytes.decode``.
    """
    lines = stream_lines(
        path, max_line_bytes=max_line_bytes, overlong=overlong, encoding=encoding, errors=errors
    )
    return _alines(_Reader(cast("Generator[str, None, None]", lines)))


async def _alines(reader: _Reader) -> AsyncIterator[str]:
    import asyncio  # noqa: PLC0415 - reason: whoever awaits has it; importing memguard does not load it

    try:
        while not reader.ended:
            for line in await asyncio.to_thread(reader.read):
                yield line
        if reader.error is not None:
            raise reader.error
    finally:
        reader.error = None  # its traceback holds what it was raised in
        reader.close()


class _Reader:
    """Reads in whatever thread, one at a time; nobody waits for it."""

    def __init__(self, lines: Generator[str, None, None]) -> None:
        self._lines = lines
        self._turn = threading.Lock()
        self._is_closing = False
        self.ended = False
        self.error: Exception | None = None

    def read(self) -> list[str]:
        """Return some lines; `ended` and `error` say why there are no more."""
        try:
            with self._turn:
                return self._read()
        finally:
            if self._is_closing:
                self.close()  # the task was cancelled meanwhile, and found us reading

    def _read(self) -> list[str]:
        found: list[str] = []
        size = 0
        try:
            for line in self._lines:
                found.append(line)
                size += len(line)
                if size >= CHUNK or self._is_closing:
                    return found
        except Exception as error:  # noqa: BLE001 - reason: raised after the lines before it
            self.error = error
        self.ended = True
        return found

    def close(self) -> None:
        """Close the file: now, or in the thread that reads, when it has read."""
        self._is_closing = True
        if self._turn.acquire(blocking=False):
            try:
                self._lines.close()
            finally:
                self._turn.release()
