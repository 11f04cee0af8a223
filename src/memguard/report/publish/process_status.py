"""
The status that a guard publishes: its health and a curve, small enough to write every second.

Plain data and its JSON, ASCII only. The one who reads it may be another user and another version of
memguard, so reading is strict: what comes back is strings and finite numbers of a sane size.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from memguard._version import __version__
from memguard.errors import ReportFormatError
from memguard.observe.readings import Reading
from memguard.report.health.health_report import HealthReport
from memguard.report.render.words import printable
from memguard.report.state import GuardState
from memguard.schema import plain, read

STATUS_VERSION = 2
MOST_BYTES = 256 * 1024
"""A longer one is none; usual are some KiB."""
MOST_CONTAINERS = 30
MOST_LEAKS = 5
MOST_POINTS = 120
"""Of the curve."""
_LONGEST = 200
"""Characters of a name."""
_LARGEST = 2**63


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessStatus:
    """What a guard knew when this was written."""

    version: int
    """`STATUS_VERSION` of the writer."""
    memguard: str
    """The writer's version of memguard."""
    python: str
    program: str
    within: float
    """The next one is due within so many seconds."""
    curve_seconds: tuple[float, ...]
    """How long before it was written each point of the curve was read, oldest first."""
    curve_bytes: tuple[int, ...]
    """Private memory at each of these points."""
    health: HealthReport
    """With fewer containers and leaks than the report of the health routes has."""

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-ready dicts, lists, strings and numbers."""
        result: dict[str, Any] = plain(asdict(self))
        return result


def status_of(
    state: GuardState, readings: Sequence[Reading], *, program: str, within: float
) -> ProcessStatus:
    """
    Return what *state* and the guard's last *readings*, oldest first, say.

    Cost: O(readings + containers log containers); some hundred µs.
    """
    seconds, sizes = _curve(readings, state.reading.at)
    health = HealthReport.of(state)
    containers = health.containers
    return ProcessStatus(
        version=STATUS_VERSION,
        memguard=__version__,
        python=platform.python_version(),
        program=printable(program, longest=_LONGEST),
        within=within,
        curve_seconds=seconds,
        curve_bytes=sizes,
        health=replace(
            health,
            containers=replace(containers, largest=containers.largest[:MOST_CONTAINERS]),
            leaks=health.leaks[-MOST_LEAKS:],
        ),
    )


def encode(status: ProcessStatus) -> bytes:
    """Return *status* as one line of JSON."""
    return json.dumps(status.to_dict(), allow_nan=False).encode("ascii") + b"\n"


def decode(content: bytes) -> ProcessStatus:
    """
    Return the status that ``encode`` made *content* from. Safe for untrusted input.

    Raises:
        ReportFormatError: It is too long, no JSON, of another version, or a field is wrong.
    """
    return from_dict(load(content))


def load(content: bytes) -> Any:
    """
    Return the JSON in *content*, of a sane length and with numbers of a sane size.

    Raises:
        ReportFormatError: It is too long, or no JSON.
    """
    if len(content) > MOST_BYTES:
        raise ReportFormatError(f"there are more than {MOST_BYTES} bytes")
    try:
        return json.loads(
            content, parse_int=_whole, parse_float=_number, parse_constant=_refuse_constant
        )
    except (ValueError, RecursionError) as error:
        raise ReportFormatError(f"it must be JSON ({error})") from error


def from_dict(data: object) -> ProcessStatus:
    """
    Return the status that ``to_dict`` made *data* from.

    Raises:
        ReportFormatError: Another version, or a missing, unknown or mistyped field.
    """
    version = data.get("version") if isinstance(data, dict) else None
    if version != STATUS_VERSION:
        raise ReportFormatError(
            f"a status's version must be {STATUS_VERSION} (got {version!r:.20}); "
            "look at this process with the memguard that it runs"
        )
    status = read(ProcessStatus, data, "status")
    if len(status.curve_seconds) != len(status.curve_bytes):
        raise ReportFormatError("status.curve_seconds and curve_bytes must be equally long")
    return status


def _curve(readings: Sequence[Reading], now: float) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Thin *readings* to `MOST_POINTS`, the newest among them."""
    step = -(-len(readings) // MOST_POINTS) or 1
    seconds: list[float] = []
    sizes: list[int] = []
    for reading in reversed(readings[::-1][::step]):
        private = reading.private
        if private is not None:
            seconds.append(round(max(0.0, now - reading.at), 2))
            sizes.append(private)
    return tuple(seconds), tuple(sizes)


def _whole(text: str) -> int:
    value = int(text)
    if abs(value) > _LARGEST:
        raise ValueError("a number is out of all bounds")
    return value


def _number(text: str) -> float:
    value = float(text)
    if abs(value) > _LARGEST:
        raise ValueError("a number is out of all bounds")
    return value


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
