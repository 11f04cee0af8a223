"""
Two reports side by side: which rates fell, which rose, what is new and what is gone.

Pure: two ``LeakReport`` in, a ``Comparison`` out. Rates are compared, not sizes: two runs are
seldom of one length; a rate counts as changed when it moved by more than a fifth, which is what
sampled evidence of one and the same program varies by. A leak that has a new holder of weight is
worse, whatever has left: it is another leak.
"""

from __future__ import annotations

import math
import re
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from memguard.leaks.report import Holder, LeakReport, Suspect, TypeGrowth
from memguard.report.render.content import stack_shown
from memguard.report.render.words import Locations

TOLERANCE = 0.2
"""Share of the larger rate that a rate may move by and still be called the same."""
STILL_BYTES_PER_HOUR = 1024 * 1024
"""Two whole-process rates below this are the same: readings are no finer."""
WEIGHTY_NOW, WEIGHTY_BEFORE = 0.2, 0.05
"""
Shares of the new growth and of the old one from which a new holder is one of weight. A report names
what has more than a hundredth of its growth: at five, it was not merely overlooked before.
"""

Outcome = Literal["better", "worse", "same", "unknown"]
ChangeKind = Literal["new", "worse", "same", "better", "gone", "unknown"]
Unit = Literal["bytes", "entries", "instances"]

_ORDER: dict[ChangeKind, int] = {
    "worse": 0,
    "new": 1,
    "unknown": 2,
    "same": 3,
    "better": 4,
    "gone": 5,
}
_LINE = re.compile(r" \(line \d+\)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What became of one holder, one allocating line or one type."""

    kind: ChangeKind
    """``gone``: not named in the new report; ``new``: not named in the old one. ``unknown``: one of
    the reports did not look, or the rate is not known."""
    name: str
    """A holder's path, ``file:line`` of an allocation, a type's name; as in the newer report."""
    detail: str
    """The holder's type, the function around the line; may be empty."""
    unit: Unit
    """What the rates count."""
    before_per_minute: float | None
    """The old rate; None where it was not named, or not known."""
    after_per_minute: float | None
    in_user_code: bool = True
    """False for what stands in a library: its holder's name, or all of a line's stack."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What got better and what got worse between two reports."""

    outcome: Outcome
    """Of the whole process."""
    old: LeakReport
    new: LeakReport
    holders: tuple[Change, ...]
    suspects: tuple[Change, ...]
    types: tuple[Change, ...]
    notes: tuple[str, ...]
    """Why the two may not be comparable."""

    @property
    def intruder(self) -> Change | None:
        """The new holder that makes it worse, whatever has left; None without one."""
        return _intruder(self.old, self.new, self.holders)

    def to_dict(self) -> dict[str, Any]:
        """Return the changes as JSON-ready dicts, lists, strings and numbers; no NaN."""
        return {
            "outcome": self.outcome,
            "old": _side(self.old),
            "new": _side(self.new),
            "holders": [asdict(change) for change in self.holders],
            "suspects": [asdict(change) for change in self.suspects],
            "types": [asdict(change) for change in self.types],
            "notes": list(self.notes),
        }


def compare(old: LeakReport, new: LeakReport, *, directory: str | None = None) -> Comparison:
    """
    Return what changed from *old* to *new*: the user's own code first, then the worst.

    A holder is known again by its path and type, an allocating line by its place; where code moved,
    by its function and text.

    Args:
        old: The report to compare with.
        new: The report that is judged.
        directory: File names below it are shown relative to it; by default the current directory.
    """
    locations = Locations(directory)

    def changes(before: Sequence[_Entry], after: Sequence[_Entry]) -> tuple[Change, ...]:
        found = (
            _change(pair, _absences(old, new, before, after)) for pair in _pairs(before, after)
        )
        return tuple(sorted(found, key=_urgency))

    holders = changes(
        [_holder(holder) for holder in old.holders], [_holder(holder) for holder in new.holders]
    )
    return Comparison(
        outcome="worse" if _intruder(old, new, holders) is not None else _outcome(old, new),
        old=old,
        new=new,
        holders=holders,
        suspects=changes(
            [_suspect(each, locations) for each in old.suspects if each.callee is None],
            [_suspect(each, locations) for each in new.suspects if each.callee is None],
        ),
        types=changes(
            [_type(growth) for growth in old.types], [_type(growth) for growth in new.types]
        ),
        notes=_notes(old, new),
    )


@dataclass(frozen=True, slots=True)
class _Entry:
    """A holder, a line or a type, as far as it is compared."""

    keys: tuple[Hashable, ...]
    """What it is known again by, the strictest first."""
    name: str
    detail: str
    bytes_per_minute: float | None
    count_per_minute: float | None
    unit: Unit
    """What the count counts."""
    in_user_code: bool = True


def _holder(holder: Holder) -> _Entry:
    return _Entry(
        keys=((holder.path, holder.type), (_LINE.sub("", holder.path), holder.type)),
        name=holder.path,
        detail=holder.type,
        bytes_per_minute=_finite(holder.bytes_per_minute),
        count_per_minute=_finite(holder.entries_per_minute),
        unit="instances" if holder.unit == "instances" else "entries",
        in_user_code=holder.in_user_code,
    )


def _suspect(suspect: Suspect, locations: Locations) -> _Entry:
    first, _, calls = stack_shown(suspect)
    file = locations.file(first.file)
    callee = f"{locations.file(suspect.file)} {suspect.function}" if calls else ""
    detail = first.function or ""
    return _Entry(
        keys=(
            (first.file, first.line, first.function, callee),
            (file, first.line, first.function, callee),
            # The code above it changed.
            (file, suspect.source or first.line, first.function, callee),
        ),
        name=f"{file}:{first.line}",
        detail=f"{detail} \u2192 {locations.shown(suspect)}" if calls else detail,
        bytes_per_minute=_finite(suspect.bytes_per_minute),
        count_per_minute=None,
        unit="bytes",
        in_user_code=suspect.user_frame is not None,
    )


def _type(growth: TypeGrowth) -> _Entry:
    return _Entry(
        keys=(growth.name,),
        name=growth.name,
        detail="",
        bytes_per_minute=None,
        count_per_minute=_finite(growth.per_minute),
        unit="instances",
    )


_Pair = tuple["_Entry | None", "_Entry | None"]


def _pairs(old: Sequence[_Entry], new: Sequence[_Entry]) -> list[_Pair]:
    """Pair what the keys, the strictest first, hold for the same; each is paired at most once."""
    left, right = list(old), list(new)
    pairs: list[_Pair] = []
    for level in range(max((len(entry.keys) for entry in (*old, *new)), default=0)):
        waiting: dict[Hashable, list[_Entry]] = {}
        for entry in left:
            waiting.setdefault(entry.keys[level], []).append(entry)
        unpaired = []
        for entry in right:
            same = waiting.get(entry.keys[level])
            if same:
                pairs.append((same.pop(0), entry))
            else:
                unpaired.append(entry)
        left = [entry for entries in waiting.values() for entry in entries]
        right = unpaired
    return [*pairs, *((entry, None) for entry in left), *((None, entry) for entry in right)]


def _absences(
    old: LeakReport, new: LeakReport, before: Sequence[_Entry], after: Sequence[_Entry]
) -> tuple[ChangeKind, ChangeKind]:
    """
    Return what it means not to be named in *old*, and in *new*.

    A leak without any evidence of a kind did not look: nothing follows from its silence.
    """
    return (
        "new" if before or old.kind != "leak" else "unknown",
        "gone" if after or new.kind != "leak" else "unknown",
    )


def _change(pair: _Pair, absences: tuple[ChangeKind, ChangeKind]) -> Change:
    before, after = pair
    there = [entry for entry in pair if entry is not None]
    in_bytes = all(entry.bytes_per_minute is not None for entry in there)
    old_rate, new_rate = (
        None if entry is None else entry.bytes_per_minute if in_bytes else entry.count_per_minute
        for entry in pair
    )
    if before is None:
        kind = absences[0]
    elif after is None:
        kind = absences[1]
    else:
        kind = _judge(old_rate, new_rate)
    return Change(
        kind=kind,
        name=there[-1].name,
        detail=there[-1].detail,
        unit="bytes" if in_bytes else there[-1].unit,
        before_per_minute=old_rate,
        after_per_minute=new_rate,
        in_user_code=there[-1].in_user_code,
    )


def _urgency(change: Change) -> tuple[bool, int, float]:
    rate = change.after_per_minute
    if rate is None:
        rate = change.before_per_minute
    return not change.in_user_code, _ORDER[change.kind], -(rate or 0.0)


def _intruder(old: LeakReport, new: LeakReport, holders: Sequence[Change]) -> Change | None:
    """Return the heaviest of *holders* that is new and of weight, where *new* may be a leak."""
    if new.kind == "growth":
        return None
    least = STILL_BYTES_PER_HOUR / 60
    for report, share in ((old, WEIGHTY_BEFORE), (new, WEIGHTY_NOW)):
        least = max(least, share * (_finite(report.trend.bytes_per_hour) or 0.0) / 60)
    found = [
        (change.after_per_minute, change)
        for change in holders
        if change.kind == "new" and change.unit == "bytes" and change.after_per_minute is not None
    ]
    pace, heaviest = max(found, key=lambda pair: pair[0], default=(0.0, None))
    return heaviest if pace >= least else None


def _judge(before: float | None, after: float | None, *, still: float = 0.0) -> Outcome:
    if before is None or after is None:
        return "unknown"
    if abs(before) <= still and abs(after) <= still:
        return "same"
    # Halved first: the difference of two huge numbers is no number any more.
    moved, allowed = after / 2 - before / 2, TOLERANCE * max(abs(before), abs(after)) / 2
    if abs(moved) <= allowed:
        return "same"
    return "worse" if moved > 0 else "better"


def _outcome(old: LeakReport, new: LeakReport) -> Outcome:
    if (old.kind == "leak") != (new.kind == "leak") and "snapshot" not in (old.kind, new.kind):
        return "worse" if new.kind == "leak" else "better"
    still = STILL_BYTES_PER_HOUR
    return _judge(_finite(old.trend.bytes_per_hour), _finite(new.trend.bytes_per_hour), still=still)


def _notes(old: LeakReport, new: LeakReport) -> tuple[str, ...]:
    notes = [
        "Rates depend on the load: compare runs under the same one.",
        "Gone means not named in the new report, which names the largest only.",
    ]
    for title, report in (("old", old), ("new", new)):
        if report.kind == "snapshot":
            notes.append(
                f"The {title} report is one look on demand: its rates are of a short moment."
            )
        if report.limits:
            notes.append(f"The {title} report did not see everything; it says what and why.")
    if old.python != new.python:
        notes.append(f"The interpreter changed: {old.python or '?'}, then {new.python or '?'}.")
    if old.detector != new.detector:
        notes.append(f"The detectors differ: {old.detector}, then {new.detector}.")
    return tuple(notes)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _side(report: LeakReport) -> dict[str, Any]:
    pace = _finite(report.trend.bytes_per_hour)
    return {"id": report.id, "kind": report.kind, "bytes_per_hour": pace}
