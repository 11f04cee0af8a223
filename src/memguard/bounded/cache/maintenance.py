"""What both kinds of caches do for relief: estimate their bytes, and free them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from memguard.bounded import options
from memguard.bounded.inventory import TRUSTED_SECONDS, Measured, Reclaimed
from memguard.lifecycle import fork
from memguard.units import parse_bytes

_MOST_LOOKS = 1000
MOST_NODES = 100
"""Objects looked at in one key or value of an estimate."""
_RELEASE_SECONDS = 0.1
"""After which a lock is not one that a thread of this process is about to release."""


class SizeEstimate:
    """
    The average bytes of an entry, measured again when an eighth of the entries has changed.

    Reading items, bytes and statistics of a hundred caches every few seconds must not walk the
    same values again and again.

    Bounded by: one number.
    Locks: none.
    Keeps alive: nothing.
    """

    __slots__ = ("known",)

    def __init__(self) -> None:
        self.known: Measured | None = None

    def average(self, changes: int, count: int, measure: Callable[[], float]) -> float:
        """
        Return the bytes of an entry.

        Args:
            changes: Entries that ever came, left or were replaced.
            count: Entries now.
            measure: Measures a few of them.
        """
        now = time.monotonic()
        known = self.known
        if known is not None:
            is_fresh = now - known.at < TRUSTED_SECONDS
            if is_fresh and 0 <= changes - known.changes <= count // 8:
                return known.average
            if known.will_do(changes, count, now):
                return known.average
        average = measure()
        self.known = Measured(average, changes, count, now)
        return average


def shrink(
    *,
    to_bytes: int | str | None,
    fraction: float | None,
    count: Callable[[], int],
    counted: Callable[[], int] | None,
    average: float,
    drop_while: Callable[[Callable[[], bool]], tuple[int, int]],
) -> Reclaimed:
    """
    Remove the entries that would leave next until a goal is met, and say what was removed.

    Args:
        to_bytes: Keep at most this many bytes; exactly one goal must be given.
        fraction: Remove this share of the entries, 0 to 1.
        count: Returns the live entries.
        counted: Returns the bytes if the cache counts them.
        average: Bytes of an entry, for a cache that does not.
        drop_while: Drops entries while what it is given returns True; returns entries and bytes.

    Raises:
        TypeError: None or both goals are given, or one is of the wrong kind.
        ConfigError: One is out of range.
    """
    if (to_bytes is None) == (fraction is None):
        raise TypeError("shrink needs exactly one of to_bytes= and fraction=")
    held, most = count, 0
    if fraction is not None:
        share = options.check_share(fraction, "fraction")
        most = count() - math.ceil(count() * share)
    else:
        most = parse_bytes(to_bytes or 0, name="to_bytes")
        if counted is not None:
            held = counted
        else:
            most = int(most / average) if average else 0
    items, freed = drop_while(lambda: held() > most)
    return Reclaimed(items=items, bytes=freed if counted is not None else int(items * average))


def look_again(looks: int) -> int:
    """Count one more look for a key that was not what it was found to be."""
    if looks == _MOST_LOOKS:
        raise RuntimeError("the key's __eq__ changes the cache during every look-up of it")
    return looks + 1


def free_in_child(lock: Any) -> None:
    """Free a re-entrant lock that a vanished thread holds; this thread's own stays held."""
    # A thread of this child, if it has one already, releases it at once.
    if lock.acquire(timeout=_RELEASE_SECONDS if fork.is_late() else 0):
        lock.release()
    else:
        lock._at_fork_reinit()  # noqa: SLF001 - reason: as logging and threading do


def depth(lock: Any) -> int:
    """Return how many times this thread, which holds *lock*, has acquired it."""
    count = getattr(lock, "_recursion_count", None)
    if count is not None:
        return int(count())
    return 1 if " count=1 " in repr(lock) else 2  # early releases of CPython 3.11
