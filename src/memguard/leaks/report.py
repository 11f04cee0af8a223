"""
What was found, as plain data: frozen dataclasses of strings and numbers, never live objects.

``LeakReport.to_dict`` and ``from_dict`` are the JSON form; ``SCHEMA_VERSION`` counts its changes.
"""

from __future__ import annotations

import math
import reprlib
import types
import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from typing import Any, Literal

from memguard.errors import ReportFormatError

SCHEMA_VERSION = 1

ReportKind = Literal["leak", "growth", "snapshot"]
"""``leak``: sustained growth, confirmed by evidence. ``growth``: the threshold was passed but the
evidence speaks against a leak. ``snapshot``: one look on demand."""

VerdictKind = Literal["live_objects", "cycles", "fragmentation", "native", "unknown", "none"]


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
    """A line that allocates memory which stays."""

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
    """The text of the line; None where the file is not there or is newer than the process."""
    held_by: str | None = None
    """Path of the holder whose entries were allocated here, where that is known."""

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
    """*entries_added* x *bytes_per_entry*: an estimate."""
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
    """False where nothing nameable was found above it in the time allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeGrowth:
    """A type with more live instances at the last look than at the first."""

    name: str
    count: int
    added: int
    per_minute: float


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
    """One finding: what grew, how fast, which line allocates, who holds, and what stayed unseen."""

    id: str
    kind: ReportKind
    detector: str
    pid: int
    started_at: str
    """When the finding was first reported, ISO 8601, UTC."""
    updated_at: str
    revision: int
    """1 for a new finding; a leak that goes on updates its report."""
    uptime_seconds: float
    """Seconds from the detector's start to this finding's first report."""
    trend: TrendSummary
    verdict: Verdict
    suspects: tuple[Suspect, ...] = ()
    holders: tuple[Holder, ...] = ()
    types: tuple[TypeGrowth, ...] = ()
    explained_ratio: float | None = None
    """Share of the growth rate that the named holders account for; None where not measured."""
    limits: tuple[str, ...] = ()
    """What this report could not see, and why."""
    cost: Cost = Cost()
    python: str = ""
    schema_version: int = SCHEMA_VERSION

    def to_dict(self) -> dict[str, Any]:
        """
        Return the report as JSON-ready dicts, lists, strings and numbers.

        A number that is not finite becomes None, for JSON knows no NaN.
        """
        result: dict[str, Any] = _plain(asdict(self))
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
                f"schema_version must be {SCHEMA_VERSION} (got {_shown(version)}); "
                "read the report with the memguard that wrote it"
            )
        report: LeakReport = _read_dataclass(cls, data, "report")
        return report


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _read(expected: Any, value: Any, where: str) -> Any:
    """Build *expected* (a dataclass, tuple, optional, literal or scalar type) from JSON data."""
    if is_dataclass(expected):
        return _read_dataclass(expected, value, where)
    origin, arguments = typing.get_origin(expected), typing.get_args(expected)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise _mistyped(where, "a list", value)
        return tuple(_read(arguments[0], item, f"{where}[{n}]") for n, item in enumerate(value))
    if origin in (typing.Union, types.UnionType):  # only ever "something or None" in this schema
        something = next(a for a in arguments if a is not type(None))
        return None if value is None else _read(something, value, where)
    return _read_scalar(expected, value, where)


def _read_scalar(expected: Any, value: Any, where: str) -> Any:
    if typing.get_origin(expected) is Literal:
        allowed = typing.get_args(expected)
        if value not in allowed:
            raise _mistyped(where, "one of " + ", ".join(map(repr, allowed)), value)
        return value
    if expected is float and value is None:
        return math.nan
    kinds = (int, float) if expected is float else (expected,)
    if type(value) not in kinds:  # exact: a bool is no number here
        raise _mistyped(where, _type_name(expected), value)
    try:
        return expected(value)
    except OverflowError:  # an int that no float can hold
        raise _mistyped(where, "a finite number", value) from None


def _read_dataclass(expected: Any, value: Any, where: str) -> Any:
    if not isinstance(value, Mapping):
        raise _mistyped(where, "an object", value)
    names = [field.name for field in fields(expected)]
    missing = reprlib.repr([name for name in names if name not in value])
    unknown = reprlib.repr(sorted(map(str, value.keys() - set(names))))
    if value.keys() != set(names):
        raise ReportFormatError(f"{where} has missing {missing} and unknown {unknown} fields")
    hints = typing.get_type_hints(expected)
    return expected(**{name: _read(hints[name], value[name], f"{where}.{name}") for name in names})


def _mistyped(where: str, allowed: str, value: Any) -> ReportFormatError:
    return ReportFormatError(f"{where} must be {allowed} (got {_shown(value)})")


def _shown(value: Any) -> str:
    """Return what was found, for a message: a plain value shortened, of anything else its type."""
    if type(value) is int and value.bit_length() > 64:  # repr refuses to print the longest
        return f"an int of {value.bit_length()} bits"
    if value is None or type(value) in (bool, int, float, str):
        return reprlib.repr(value)
    return type(value).__name__


def _type_name(expected: Any) -> str:
    return {bool: "true or false", int: "a whole number", float: "a number", str: "a string"}[
        expected
    ]
