"""
When is a worker process worth replacing? Pure: numbers in, a decision out.

A worker that has grown over its limit is ended and started again: the last resort against a leak
that nobody has fixed yet. Two questions keep that from doing harm. `judge` asks of one worker:
would a fresh one really be smaller? `ask_for_turn` asks of all: is it too soon after the last one?
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import astuple, dataclass, replace
from typing import Literal

from memguard.bounded.options import check_int, check_seconds
from memguard.errors import ConfigError
from memguard.units import format_bytes, format_seconds

VerdictKind = Literal["ok", "young", "relieve", "futile", "due"]

LEAST_GAIN = 0.10
"""Of the limit: what a fresh worker must save, or replacing this one is not worth it."""
MOST_DOUBLINGS = 10
MOST_SECONDS = 7 * 86400
PATIENCE = 10.0
"""Intervals after which a replacement that was never seen is no longer waited for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecycleOptions:
    """When a worker is replaced. Bytes and seconds."""

    limit: int
    """Private memory of one worker above which it is to be replaced."""
    min_age: float = 300.0
    """A younger worker is never replaced, and what it needs by then is what a worker needs."""
    min_requests: int = 20
    """One that has served fewer is never replaced, if requests are counted."""
    interval: float = 60.0
    """Least time between two replacements, all workers of one master together."""
    most_interval: float = 3600.0
    """What the interval grows to while fresh workers are over the limit in no time."""
    relief_pause: float = 300.0
    """Least time between two reliefs of one worker."""

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        if self.limit <= 0:
            raise ConfigError(f"limit must be > 0 bytes (got {self.limit})")
        for name in ("min_age", "interval", "most_interval", "relief_pause"):
            check_seconds(getattr(self, name), name, 0, MOST_SECONDS)
        check_int(self.min_requests, "min_requests", 0, 10**9)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The state of a worker at one moment."""

    at: float
    """Seconds on a monotonic clock."""
    age: float
    """Seconds since the worker was ready to serve."""
    private: int | None
    """Bytes that only this worker holds; None if that cannot be read."""
    requests: int | None = None
    """How many it has served; None if that is not counted."""


@dataclass(frozen=True, slots=True)
class WorkerState:
    """State between calls of `judge`."""

    base: int | None = None
    """What the worker needed when it was ready."""
    settled: int | None = None
    """What it needed at the last look before it was *min_age* old."""
    relieved_at: float | None = None
    """When it last tried relief."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What to do with one worker, and why."""

    kind: VerdictKind
    """``ok``: nothing. ``young``: over, and too young. ``relieve``: free memory, look again.
    ``futile``: over, and a fresh one would be so, too. ``due``: replace it, when it has a turn."""
    reason: str = ""
    at_once: bool = False
    """A worker reaches this limit before it is *min_age* old."""
    gain: int = 0
    """Bytes that a fresh worker would save."""


def judge(seen: Seen, state: WorkerState, options: RecycleOptions) -> tuple[Verdict, WorkerState]:
    """
    Return what to do with a worker, and the state for the next call.

    Args:
        seen: What is known now; not older than in the call before.
        state: What the call before returned.
        options: When a worker is replaced.
    """
    private = seen.private
    if private is None:
        return Verdict(kind="ok", reason="its memory cannot be read"), state
    state = replace(state, base=private if state.base is None else state.base)
    if seen.age < options.min_age or state.settled is None:
        state = replace(state, settled=private)
    if private <= options.limit:
        return Verdict(kind="ok"), state
    over = f"{format_bytes(private)} of {format_bytes(options.limit)}"
    short = _why_too_soon(seen, options)
    if short:
        return Verdict(kind="young", reason=f"{over}, {short}"), state
    needed = state.settled or 0
    at_once = needed > options.limit
    gain = private - (needed if at_once else state.base or 0)
    if gain < LEAST_GAIN * options.limit:
        reason = f"{over}, and a fresh worker needs {format_bytes(private - gain)}"
        return Verdict(kind="futile", reason=reason, at_once=at_once, gain=gain), state
    if state.relieved_at is None or seen.at - state.relieved_at >= options.relief_pause:
        verdict = Verdict(kind="relieve", reason=over, at_once=at_once, gain=gain)
        return verdict, replace(state, relieved_at=seen.at)
    reason = f"{over}, {format_bytes(gain)} more than a fresh worker needs"
    return Verdict(kind="due", reason=reason, at_once=at_once, gain=gain), state


def _why_too_soon(seen: Seen, options: RecycleOptions) -> str:
    if seen.age < options.min_age:
        return f"{format_seconds(seen.age)} old"
    if seen.requests is not None and seen.requests < options.min_requests:
        return f"after {seen.requests} requests"
    return ""


@dataclass(frozen=True, slots=True)
class TurnRecord:
    """What the workers of one master know together."""

    granted_at: float = -1.0
    """When the last turn was given, on the system's monotonic clock; negative when never."""
    granted: int = 0
    """Turns given so far."""
    ready: int = 0
    """Workers that became ready so far."""
    ready_at_grant: int = 0
    """How many of them had when the last turn was given."""
    in_vain: int = 0
    """Turns in a row that were given to workers over the limit in no time."""

    def pack(self) -> bytes:
        """Return it as `PACKED_BYTES` bytes, with a checksum."""
        body = _BODY.pack(*astuple(self))
        return body + _CHECK.pack(zlib.crc32(body))

    @classmethod
    def unpack(cls, packed: bytes) -> TurnRecord | None:
        """Return what was packed, or None when it is not whole: its writer was killed."""
        if len(packed) != PACKED_BYTES:
            return None
        body, check = packed[: _BODY.size], packed[_BODY.size :]
        if _CHECK.unpack(check)[0] != zlib.crc32(body):
            return None
        return cls(*_BODY.unpack(body))


_BODY = struct.Struct("=dQQQQ")
_CHECK = struct.Struct("=I")
PACKED_BYTES = _BODY.size + _CHECK.size


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """Whether a worker may end now."""

    granted: bool
    reason: str = ""
    """Why not."""
    wait: float = 0.0
    """Seconds after which asking again makes sense."""
    backing_off: bool = False
    """The interval is longer than usual because replacing workers has not helped lately."""


def ask_for_turn(
    record: TurnRecord, *, at: float, at_once: bool, options: RecycleOptions
) -> tuple[Turn, TurnRecord]:
    """
    Return whether a worker may end now, and what is then written down for the others.

    A turn is given once for each interval, and not before the replacement of the last worker is
    ready. While workers need a turn as soon as they may have one, the interval doubles.

    Args:
        record: What is written down.
        at: Seconds on the system's monotonic clock.
        at_once: The worker was over its limit before it was old enough.
        options: When a worker is replaced.
    """
    pause = options.interval * float(1 << min(record.in_vain, MOST_DOUBLINGS))
    pause = max(options.interval, min(options.most_interval, pause))
    if record.granted_at >= 0:
        left = record.granted_at + pause - at
        if left > 0:
            refusal = Turn(
                granted=False,
                reason=f"the last one ended {format_seconds(pause - left)} ago",
                wait=left,
                backing_off=pause > options.interval,
            )
            return refusal, record
        gone = at - record.granted_at
        if record.ready == record.ready_at_grant and gone < PATIENCE * options.interval:
            reason = "the replacement of the last one is not ready"
            return Turn(granted=False, reason=reason, wait=min(options.interval, 5.0)), record
    after = replace(
        record,
        granted_at=at,
        granted=record.granted + 1,
        ready_at_grant=record.ready,
        in_vain=record.in_vain + 1 if at_once else 0,
    )
    return Turn(granted=True), after
