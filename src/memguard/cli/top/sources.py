"""Where ``memguard top`` gets its news: the file of a guard of this machine."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from memguard.report.publish import reader
from memguard.report.publish.bulletin import Bulletin


class NobodyError(Exception):
    """There is nobody to show; the message says who was looked for and what to do."""


@dataclass(frozen=True, slots=True)
class News:
    """A bulletin, and how old it is in seconds."""

    bulletin: Bulletin
    age: float


class Source(Protocol):
    """Somebody to ask again and again."""

    def read(self) -> News:
        """
        Return the latest news.

        Raises:
            NobodyError: There are none, and there will be none.
        """


@dataclass(frozen=True, slots=True)
class FileSource:
    """The guard of a process of this machine, by its file."""

    places: Sequence[Path]
    pid: int
    guard: str | None = None
    """Its name; None takes the first one of the process."""

    def read(self) -> News:
        """Return what the file says now."""
        found = reader.look(self.places, pid=self.pid)
        for one in found.guards:
            if self.guard in (None, one.bulletin.guard):
                age = time.time() - one.bulletin.written
                return News(one.bulletin, max(0.0, age) if math.isfinite(age) else 0.0)
        raise NobodyError("\n".join((self._missing(), *found.troubles)))

    def _missing(self) -> str:
        named = "" if self.guard is None else f" named {self.guard!r:.60}"
        return (
            f"process {self.pid} has no guard{named} that publishes, or has ended; start it with "
            "MEMGUARD_PUBLISH=1, MemoryGuard(publish=True) or 'memguard run'"
        )


def choose(places: Sequence[Path], pid: int | None, guard: str | None) -> FileSource:
    """
    Return the source that is asked for; where none is, that of the only process.

    Raises:
        NobodyError: There is none, or there are several.
    """
    if pid is not None:
        source = FileSource(places, pid, guard)
        source.read()
        return source
    found = reader.look(places)
    guards = [one for one in found.guards if guard in (None, one.bulletin.guard)]
    pids = sorted({one.bulletin.pid for one in guards})
    if len(pids) == 1:
        return FileSource(places, pids[0], guard)
    if pids:
        listed = ", ".join(map(str, pids[:20]))
        raise NobodyError(f"several processes publish: {listed}; give one, or --list")
    looked = ", ".join(map(str, places))
    nobody = (
        f"no process publishes in {looked}; start one with MEMGUARD_PUBLISH=1, "
        "MemoryGuard(publish=True) or 'memguard run'"
    )
    raise NobodyError("\n".join((nobody, *found.troubles)))
