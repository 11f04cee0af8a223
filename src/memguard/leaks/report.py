"""
A finding as plain data: frozen dataclasses of strings and numbers, never live objects.

``LeakReport.to_dict`` and ``from_dict`` are the JSON form; ``SCHEMA_VERSION`` counts its changes.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from memguard.errors import ReportFormatError
from memguard.schema import plain, read, shown
from memguard.units import format_bytes, format_rate, format_seconds

SCHEMA_VERSION = 1

ReportKind = Literal["leak", "growth", "snapshot"]
"""``leak``: sustained growth, confirmed by evidence. ``growth``: the threshold was passed, but it
may end (its state is ``suspected``), or the evidence speaks against a leak. ``snapshot``: one look
on demand."""

FindingState = Literal["suspected", "leaking", "ended", "retracted"]
"""
``suspected``: it grows as a leak does, and as a warm-up does that will end; no alarm.
``leaking``: it has outlasted a warm-up, or the limit is near; this is the alarm.
``ended``: level and holder have stood still for a while; what grew is kept.
``retracted``: what grew was given back, or further evidence speaks against a leak.
"""

ResourceKind = Literal["threads", "tasks", "sockets", "files"]
"""What piles up beside memory: threads, asyncio tasks, sockets, other file descriptors."""

VerdictKind = Literal[
    "live_objects",
    "extension",
    "cycles",
    "fragmentation",
    "native",
    "interpreter",
    "threads",
    "tasks",
    "sockets",
    "files",
    "unknown",
    "none",
]

VERDICTS: dict[str, str] = {
    "live_objects": "live Python objects",
    "extension": "objects that nothing in Python holds",
    "cycles": "garbage in reference cycles",
    "fragmentation": "free memory that the allocator keeps",
    "native": "memory outside Python's allocators",
    "interpreter": "memory of another interpreter in this process",
    "threads": "threads that do not end",
    "tasks": "asyncio tasks that do not finish",
    "sockets": "sockets that are not closed",
    "files": "file descriptors that are not closed",
    "unknown": "of an unknown kind",
    "none": "nothing that lasts",
}
"""Each kind in words."""

HolderUnit = Literal["entries", "instances", "bytes"]
"""What grows in a holder: a container's entries, the instances of a type, a buffer's bytes."""

NO_LIMIT = 2**31 - 1
"""More entries than a list of 16 GiB has; ``sys.maxsize`` and its like stand for no limit."""

RESOURCES: frozenset[str] = frozenset(typing.get_args(ResourceKind))
_OVER = ("ended", "retracted")
_LINES_ARE_OF_OTHERS = ("native", "interpreter", "fragmentation", "none")
"""Kinds that lines of Python which were busy meanwhile do not show."""
_OF_WEIGHT = 0.25
"""Share of the growth that a holder must account for to be what grows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One line of an allocating call stack."""

    file: str
    line: int
    function: str | None = None
    """The function around the line; None where no live code object covers it."""
    in_user_code: bool = False
    """True outside the standard library, installed packages and memguard."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspect:
    """A line that allocates memory which stays, or that called C code while native memory grew."""

    file: str
    line: int
    function: str | None
    bytes: int
    """Bytes allocated here in the tracing window and still alive at its end."""
    count: int
    """Blocks, likewise."""
    bytes_per_minute: float
    """*bytes* over the length of the window."""
    frames: tuple[Frame, ...] = ()
    """The calling stack, the allocating line first; as deep as was traced."""
    source: str | None = None
    """
    The text of the user's line nearest to the allocation, or of the allocating one where none is
    the user's; None where the file is not there or is newer than the process.
    """
    held_by: str | None = None
    """Path of the holder whose entries were allocated here, where that is known."""
    callee: str | None = None
    """
    The C code that this line called while memory outside Python grew: ``lxml.etree.fromstring``. It
    was busy meanwhile and need not be the cause; *bytes*, *count* and the rate are 0. None for a
    line that allocates.
    """

    @property
    def user_frame(self) -> Frame | None:
        """The nearest frame in the user's own code, or None."""
        return next((frame for frame in self.frames if frame.in_user_code), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """An object that keeps the growth alive."""

    path: str
    """How to reach it in the program: ``leaky_shop.app.SESSIONS``."""
    type: str
    """Its type: ``dict``."""
    entries: int
    """Entries at the last look."""
    entries_added: int
    """Entries gained between the first look and the last."""
    entries_per_minute: float
    bytes_per_entry: int | None
    """Measured on a sample of new entries; None where none could be measured."""
    bytes_added: int | None
    """
    *entries_added* x *bytes_per_entry*: an estimate. Never more than the growth of the process in
    that time plus *entries_added* x *bytes_per_entry_error*.
    """
    bytes_per_minute: float | None
    site: Frame | None = None
    """The line that allocated most of the sampled entries; None where nothing was traced."""
    entry_types: tuple[str, ...] = ()
    """Types of the sampled entries, most frequent first; never their values."""
    inventory_name: str | None = None
    """The name it is registered by, where it is one of memguard's containers."""
    bound: int | None = None
    """Entries that its owner allows (``maxsize``, ``maxlen``), where a bound is not yet reached."""
    anchored: bool = True
    """False where no named object was found above it in the time allowed."""
    unit: HolderUnit = "entries"
    """What *entries* counts: for ``instances``, *type* is what piles up, *path* leads to one."""
    in_user_code: bool = True
    """False where *path* begins in a library, or has no name."""
    advice: str | None = None
    """What to do about it, by what it is and holds; None where nothing is to be said."""
    bytes_per_entry_error: int | None = None
    """
    Bytes by which *bytes_per_entry* may be off because entries differ: two standard errors of the
    sample, so that it is closer 19 times of 20. None where fewer than two entries were weighed.
    """
    containers: int = 1
    """How many containers of this type at this path are counted together: the lists of a dict."""
    unknown_types: tuple[str, ...] = ()
    """Types below the entries whose memory only their library knows: it is in no number here."""

    @property
    def allows(self) -> int | None:
        """*bound*, or None where that is a number which stands for "no limit"."""
        return None if self.bound is None or self.bound >= NO_LIMIT else self.bound


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeGrowth:
    """A type with more live instances at the last look than at the first."""

    name: str
    count: int
    added: int
    per_minute: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceGroup:
    """What of a resource belongs together: threads of one target, tasks that wait at one line."""

    name: str
    """What they are: ``shop.workers.poll``, ``tcp, CLOSE_WAIT, remote port 5432``."""
    count: int
    added: int
    """Between the first look and the last; an update adds to what the report had."""
    begins_at: Frame | None = None
    """The function that a thread or task runs; None where there is none, or it is not known."""
    waits_at: Frame | None = None
    """Where most of them are: the innermost line of the user's own code; None likewise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceGrowth:
    """A resource other than memory of which the process has more and more."""

    kind: ResourceKind
    count: int
    """At the last reading."""
    added: int
    """Between the first look and the last, as for *groups*."""
    per_minute: float
    limit: int | None = None
    """How many the system allows (RLIMIT_NOFILE); None where none is known."""
    seconds_to_limit: float | None = None
    """Until then at this rate; None without a limit, or where it is not being approached."""
    groups: tuple[ResourceGroup, ...] = ()
    """Largest growth first."""
    sampled: bool = False
    """
    True where there were too many to read each: *count*, *added* and those of *groups* are inferred
    from 50,000 of all open descriptors.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """A level of memory at a time, for drawing."""

    seconds: float
    """Since the detector's start."""
    bytes: int
    """Private memory: the lowest reading of its stretch of time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrendSummary:
    """What the readings did before evidence was taken."""

    kind: str
    bytes_per_hour: float
    confidence: float
    baseline_bytes: int
    current_bytes: int
    samples: int
    span_seconds: float
    limit_bytes: int | None = None
    limit_source: str | None = None
    seconds_to_limit: float | None = None
    curve: tuple[CurvePoint, ...] = ()
    """The whole run in few points, oldest first."""

    @property
    def growth_bytes(self) -> int:
        """Current level over the baseline, bytes."""
        return self.current_bytes - self.baseline_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What kind of growth it is, and what to do about it."""

    kind: VerdictKind
    advice: str
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What taking this evidence cost the process."""

    traced_seconds: float = 0.0
    census_seconds: float = 0.0
    retention_seconds: float = 0.0
    tracer_peak_bytes: int = 0
    """Memory of the tracer itself at its highest, bytes."""
    cpu_seconds: float = 0.0
    """Processor time of the detector so far, watching included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakReport:
    """One finding: what grew, how fast, which line allocates, what holds it, what was not seen."""

    id: str
    kind: ReportKind
    detector: str
    pid: int
    started_at: str
    """When the finding was first reported, ISO 8601, UTC."""
    updated_at: str
    revision: int
    """1 for a new finding; a leak that continues updates its report."""
    uptime_seconds: float
    """Seconds from the detector's start to this finding's first report."""
    trend: TrendSummary
    verdict: Verdict
    suspects: tuple[Suspect, ...] = ()
    holders: tuple[Holder, ...] = ()
    types: tuple[TypeGrowth, ...] = ()
    resources: tuple[ResourceGrowth, ...] = ()
    """Threads, tasks, sockets and files that pile up, by themselves or along with memory."""
    window_seconds: float = 0.0
    """From the first look at the heap to the last: what holders gained is of it."""
    gap_seconds: float = 0.0
    """Between the last two looks: what types gained, and all rates of holders and types."""
    explained_ratio: float | None = None
    """Share of the growth rate that the named holders account for; None where not measured."""
    garbage_ratio: float | None = None
    """
    Share of the growth rate that is garbage in reference cycles; None where not measured.

    With *explained_ratio* at most 1; what is left is not explained.
    """
    limits: tuple[str, ...] = ()
    """What this report could not see, and why."""
    cost: Cost = Cost()
    python: str = ""
    state: FindingState | None = None
    """None for growth that was never suspected, and for a snapshot."""
    ended_at: str | None = None
    """When it was seen that the growth had ended, ISO 8601, UTC; None while it may go on."""
    watched_until: str | None = None
    """
    When watching ended while it may have gone on, ISO 8601, UTC: *state* is of that moment, and
    stays unless a detector of this process meets the same growth again. None while it is watched.
    """
    fingerprint: str = ""
    """
    The same for the same leak in other processes, after a restart and after edits elsewhere: made
    of the verdict's kind, the file within its package, the function and the text of the user's
    line, and the shape of the holder's path; the name of the group where threads, tasks or
    descriptors pile up. No number is part of it. Empty where none of these is known.
    """
    schema_version: int = SCHEMA_VERSION

    @property
    def is_leaking(self) -> bool:
        """
        True for a leak that goes on: False once it has ended or was retracted.

        As of *watched_until* where that is set: nobody has looked since.
        """
        return self.kind == "leak" and self.state not in ("ended", "retracted")

    @property
    def headline(self) -> str:
        """
        What grows and how fast: ``"library_app.BACKGROUND grows 33.0 MiB/min"``.

        For titles, subjects and log events: one printable line.
        """
        kind, words = self.verdict.kind, VERDICTS.get(self.verdict.kind, self.verdict.kind)
        if kind == "none":
            return "no growth that lasts"
        if kind in RESOURCES:
            return _on_one_line(self._pile())
        holder = next(iter(self.holders), None)
        total = self.trend.bytes_per_hour / 60
        has_no_name = holder is not None and not holder.anchored and holder.unit != "instances"
        if holder is None or has_no_name or kind in _LINES_ARE_OF_OTHERS:
            much = self._much(total, self.trend.growth_bytes)
            return _on_one_line(f"memory {much}: {words}")
        own = holder.bytes_per_minute
        if own is None or own < _OF_WEIGHT * total:
            much = self._much(total, self.trend.growth_bytes)
            return _on_one_line(f"memory {much}: {words}, some held by {holder.path}")
        much = self._much(own, holder.bytes_added)
        if holder.unit == "instances":
            return _on_one_line(f"instances of {holder.type} pile up: memory {much}")
        return _on_one_line(f"{holder.path} {much}")

    def _pile(self) -> str:
        """Return what of another resource than memory piles up, and how fast."""
        pile = next((each for each in self.resources if each.kind == self.verdict.kind), None)
        if pile is None:
            return f"{self.verdict.kind} pile up"
        which = f": {pile.groups[0].name}" if pile.groups else ""
        over = self.state in _OVER
        pace = f"+{pile.added:,}" if over else f"{pile.per_minute:,.0f}/min"
        about = "about " if pile.sampled else ""
        return (
            f"{self.verdict.kind} pile{'d' if over else ''} up, {pace}, "
            f"{about}{pile.count:,} now{which}"
        )

    def _much(self, per_minute: float, added: int | None) -> str:
        """Return how fast it grows, or how much it grew where that is no leak, or is over."""
        if added is not None and self.state in _OVER:
            stopped = "and has stopped" if self.state == "ended" else "which was no leak"
            return f"grew {format_bytes(max(0, added))}, {stopped}"
        if added is not None and self.kind == "growth" and self.state != "suspected":
            return f"grew {format_bytes(max(0, added))}"
        may_end = ", which may end" if self.state == "suspected" else ""
        return f"grows {format_rate(per_minute)}{may_end}"

    @property
    def place(self) -> Frame | Suspect | None:
        """
        The line to read first, in the user's own code where its stack reaches it, or None.

        Of the first holder, or the first suspect without one. None too where the growth is no
        memory of Python: which lines were busy meanwhile says nothing about it.
        """
        if self.verdict.kind in _LINES_ARE_OF_OTHERS:
            return None
        found: Frame | Suspect | None = next(iter(self.suspects), None)
        if self.verdict.kind in RESOURCES:
            piles = (pile for pile in self.resources if pile.kind == self.verdict.kind)
            groups = (group for pile in piles for group in pile.groups)
            found = next(
                (g.waits_at or g.begins_at for g in groups if g.waits_at or g.begins_at), None
            )
        elif self.holders:
            holder = self.holders[0]
            own = (suspect for suspect in self.suspects if suspect.held_by == holder.path)
            found = max(own, key=lambda suspect: suspect.bytes, default=None) or holder.site
        return (found.user_frame or found) if isinstance(found, Suspect) else found

    def __str__(self) -> str:
        """
        Return it in one to three lines: what grew and how fast, who holds it, which line allocates.

        For a print or a chat; `memguard.report.render.text.render` shows all of it.
        """
        grown = format_bytes(self.trend.growth_bytes, signed=True)
        span = format_seconds(self.trend.span_seconds)
        lines = [f"{self.kind} {_on_one_line(self.id)}: {self.headline}; {grown} in {span}"]
        holder, place = next(iter(self.holders), None), self.place
        if holder is not None:
            lines.append(f"  held by       {_on_one_line(f'{holder.path} : {holder.type}')}")
        if place is not None:
            where = f"{place.file}:{place.line}  {place.function or ''}".rstrip()
            lines.append(f"  allocated at  {_on_one_line(where)}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """
        Return the report as JSON-ready dicts, lists, strings and numbers.

        A number that is not finite becomes None, for JSON knows no NaN.
        """
        result: dict[str, Any] = plain(asdict(self))
        return result

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> LeakReport:
        """
        Return the report that ``to_dict`` made *data* from.

        Raises:
            ReportFormatError: Another schema version, a missing, unknown or mistyped field.
        """
        version = data.get("schema_version") if isinstance(data, Mapping) else None
        if version != SCHEMA_VERSION:
            raise ReportFormatError(
                f"schema_version must be {SCHEMA_VERSION} (got {shown(version)}); "
                "read the report with the memguard that wrote it"
            )
        return read(cls, data, "report")


def without_source_lines(report: LeakReport) -> LeakReport:
    """Return *report* with no text of a line of code: files, lines and functions stay."""
    suspects = tuple(replace(suspect, source=None) for suspect in report.suspects)
    return replace(report, suspects=suspects)


def _on_one_line(text: str) -> str:
    """Return *text* with what would act on a terminal as escapes: names may be hostile."""
    return text if text.isprintable() else "".join(map(_escaped, text))


def _escaped(character: str) -> str:
    return character if character.isprintable() else ascii(character)[1:-1]
