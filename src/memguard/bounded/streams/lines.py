"""Lines of a file, each of bounded length, however the file was written."""

from __future__ import annotations

import codecs
import os
from collections.abc import AsyncIterator, Generator, Iterator
from typing import Any, BinaryIO, Literal, cast

from memguard.bounded import options
from memguard.errors import ConfigError, ValueTooLargeError
from memguard.lifecycle.turn import Turn

OVERLONG = ("raise", "truncate")
_SMALLEST_BUFFER = 64 * 1024


def stream_lines(
    path: str | os.PathLike[str],
    *,
    max_line_bytes: int | str = "1MiB",
    overlong: Literal["raise", "truncate"] = "raise",
    encoding: str = "utf-8",
    errors: str = "strict",
) -> Iterator[str]:
    """
    Yield the lines of a file without their line ends; memory is a few times *max_line_bytes*.

    Iterating over an open file reads a line of any length at once: a file that was written without
    line ends, by accident or malice, is then one string as large as itself. The file is opened at
    the first line and closed after the last one, or when the iterator is closed or collected.

    Args:
        path: The file.
        max_line_bytes: Most bytes of a line, its end not counted; a number or ``"1MiB"``.
        overlong: ``"raise"`` stops at a longer line; ``"truncate"`` yields its beginning, without a
            broken character at its end, and goes on with the next line.
        encoding: An encoding in which a line end is one byte, such as UTF-8, ASCII and Latin-1.
        errors: What to do about undecodable bytes, as in ``bytes.decode``.

    Raises:
        TypeError: An option of the wrong kind.
        ConfigError: An option out of range, or an encoding with wider line ends.
        ValueTooLargeError: A line is longer; the message has its number. Raised while iterating.
        OSError: The file cannot be read. Raised while iterating.
        UnicodeDecodeError: As in ``bytes.decode``. Raised while iterating.
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"path must be a string or a path (got {type(path).__name__})")
    most = options.check_bytes(max_line_bytes, "max_line_bytes")
    options.check_choice(overlong, OVERLONG, "overlong")
    _check_encoding(encoding)
    _check_errors(errors)
    return _lines(path, most, overlong == "truncate", encoding, errors)


def _lines(path: Any, most: int, truncates: bool, encoding: str, errors: str) -> Iterator[str]:  # noqa: FBT001 - reason: private, and called once
    with open(path, "rb", buffering=_SMALLEST_BUFFER) as file:  # noqa: PTH123 - reason: a path of any kind
        number = 0
        while line := file.readline(most + 2):
            number += 1
            text = _without_end(line)
            if len(text) <= most:
                yield text.decode(encoding, errors)
            elif truncates:
                _skip_line(file, line)
                yield _beginning(text[:most], encoding, errors)
            else:
                raise ValueTooLargeError(
                    f"line {number} of {os.fspath(path)} has more than max_line_bytes={most} "
                    f"bytes; raise the bound, or pass overlong='truncate'"
                )


def _without_end(line: bytes) -> bytes:
    if line.endswith(b"\r\n"):
        return line[:-2]
    return line[:-1] if line.endswith(b"\n") else line


def _skip_line(file: BinaryIO, line: bytes) -> None:
    while line and not line.endswith(b"\n"):
        line = file.readline(_SMALLEST_BUFFER)


def _beginning(text: bytes, encoding: str, errors: str) -> str:
    """Decode *text* without the part of a character at its end."""
    return codecs.getincrementaldecoder(encoding)(errors).decode(text, final=False)


def _check_encoding(encoding: Any) -> None:
    if not isinstance(encoding, str):
        raise TypeError(f"encoding must be a string (got {type(encoding).__name__})")
    try:
        is_one_byte = "\n".encode(encoding) == b"\n"
    except LookupError:
        raise ConfigError(f"encoding is unknown (got {encoding!r}); use 'utf-8'") from None
    if not is_one_byte:
        raise ConfigError(
            f"encoding must write a line end as one byte (got {encoding!r}); "
            f"convert the file to UTF-8 first"
        )


def _check_errors(errors: Any) -> None:
    if not isinstance(errors, str):
        raise TypeError(f"errors must be a string (got {type(errors).__name__})")
    try:
        codecs.lookup_error(errors)
    except LookupError:
        raise ConfigError(
            f"errors must be a known handler such as 'strict' or 'replace' (got {errors!r})"
        ) from None


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

    They bring lines by 64 Ki characters, for which memory is needed besides: without a GIL, for
    each thread of the executor that has read some. The file is closed after the last line, and when
    the iterator is closed (`contextlib.aclosing`); a read that is under way when the task is
    cancelled ends first, in its thread.

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
    import asyncio  # noqa: PLC0415 - reason: a caller that awaits has it; importing memguard does not load it

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
    """Reads in any thread, one at a time; no thread waits for it."""

    def __init__(self, lines: Generator[str, None, None]) -> None:
        self._lines = lines
        self._turn = Turn()
        self._is_closing = False
        self.ended = False
        self.error: Exception | None = None

    def read(self) -> list[str]:
        """Return some lines; `ended` and `error` say why there are no more."""
        try:
            return self._turn.wait(self._read)
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
        self._turn.run(self._lines.close, busy=None)
