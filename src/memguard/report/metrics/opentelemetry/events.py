"""
Alerts and leak reports as events: OpenTelemetry log records that have a name.

They are not events of spans: alerts are raised in the guard's own threads, where there is no span.

Source: OpenTelemetry Logs Data Model, "Event name"; severity numbers 9 (INFO) and 13 (WARN).
"""

from __future__ import annotations

import inspect
import math
import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from opentelemetry._logs import LogRecord, SeverityNumber, get_logger_provider
from opentelemetry.trace import TraceFlags

from memguard._version import __version__
from memguard.leaks.report import LeakReport
from memguard.relief.records import Alert
from memguard.report.render.words import printable

_LONGEST = 1000
_NAMES = {
    "level": "memguard.pressure.changed",
    "ineffective": "memguard.relief.ineffective",
    "recycle": "memguard.relief.recycle_requested",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What is emitted: strings and numbers only."""

    name: str
    is_warning: bool
    body: str
    """One sentence, for people."""
    attributes: dict[str, str | int | float]
    time_ns: int
    """When it happened, nanoseconds since the epoch."""


def of_alert(alert: Alert, guard: str) -> Event:
    """Return *alert* as an event. Pure."""
    fields: dict[str, Any] = {
        "memguard.guard": guard,
        "memguard.level": alert.level,
        "memguard.previous_level": alert.previous,
        "memguard.memory.used": alert.used,
        "memguard.memory.limit": alert.limit,
        "memguard.limit.source": alert.source,
        "memguard.reasons": "; ".join(alert.reasons),
    }
    if alert.relief is not None:
        fields["memguard.relief.freed"] = alert.relief.freed
        fields["memguard.relief.fall"] = alert.relief.rss_freed
    what = {
        "level": f"memory is {alert.level}, it was {alert.previous}",
        "ineffective": f"memory is {alert.level} and relief gives nothing",
        "recycle": "memory is critical and relief gives nothing: end this process",
    }[alert.kind]
    reasons = f": {'; '.join(alert.reasons)}" if alert.reasons else ""
    return Event(
        name=_NAMES[alert.kind],
        is_warning=alert.kind != "level" or alert.level in ("elevated", "critical"),
        body=_cut(what + reasons),
        attributes=_plain(fields),
        time_ns=int(alert.time * 1e9),
    )


def of_report(report: LeakReport, guard: str) -> Event:
    """Return a new finding, or the end of one, as an event. Pure."""
    place = report.place
    holder = report.holders[0] if report.holders else None
    fields: dict[str, Any] = {
        "memguard.guard": guard,
        "memguard.leak.id": report.id,
        "memguard.leak.kind": report.kind,
        "memguard.leak.state": report.state,
        "memguard.leak.fingerprint": report.fingerprint or None,
        "memguard.leak.verdict": report.verdict.kind,
        "memguard.leak.growth": report.trend.growth_bytes,
        "memguard.leak.bytes_per_hour": report.trend.bytes_per_hour,
        "memguard.leak.seconds_to_limit": report.trend.seconds_to_limit,
        "memguard.leak.holder.path": holder and holder.path,
        "memguard.leak.holder.type": holder and holder.type,
        "memguard.leak.holder.entries": holder and holder.entries,
        "code.file.path": place and place.file,
        "code.line.number": place and place.line,
        "code.function.name": place and place.function,
    }
    at = f", allocated at {place.file}:{place.line}" if place else ""
    return Event(
        name=_name(report),
        is_warning=report.kind == "leak",
        body=_cut(f"{report.headline}{at}; {report.verdict.advice}"),
        attributes=_plain(fields),
        time_ns=_nanoseconds(report.updated_at),
    )


def _name(report: LeakReport) -> str:
    if report.kind != "leak":
        return "memguard.growth.observed"
    return "memguard.leak.suspected" if report.is_leaking else f"memguard.leak.{report.state}"


def _nanoseconds(text: str) -> int:
    try:
        when = datetime.fromisoformat(text)
        return int(when.timestamp() * 1e9)
    except (ValueError, OverflowError, OSError):  # a report that was read from somewhere
        return time.time_ns()


def _plain(fields: dict[str, Any]) -> dict[str, str | int | float]:
    return {
        name: _cut(value) if type(value) is str else value
        for name, value in fields.items()
        if value is not None and (type(value) is not float or math.isfinite(value))
    }


def _cut(text: str) -> str:
    return printable(text, longest=_LONGEST)


def emit(event: Event, provider: Any | None) -> None:
    """
    Hand *event* to *provider*, or the global one. Raises whatever the SDK raises.

    It may block for as long as the processor does: never where the host waits.
    """
    provider = get_logger_provider() if provider is None else provider
    logger = provider.get_logger("memguard", __version__)
    fields: dict[str, Any] = {
        "timestamp": event.time_ns,
        "observed_timestamp": time.time_ns(),
        "severity_number": SeverityNumber.WARN if event.is_warning else SeverityNumber.INFO,
        "severity_text": "WARN" if event.is_warning else "INFO",
        "body": event.body,
        "attributes": event.attributes,
    }
    if "event_name" in inspect.signature(logger.emit).parameters:  # from 1.39 on
        logger.emit(**fields, event_name=event.name)
    else:
        logger.emit(_record(logger, fields, event.name))


def _record(logger: Any, fields: dict[str, Any], name: str) -> Any:
    """Return a log record as versions before 1.39 take it."""
    make: Any = LogRecord
    resource = getattr(logger, "resource", None)
    if resource is not None:
        # Before 1.37 the SDK exports only records of its own class, and that knows its resource.
        from opentelemetry.sdk import _logs  # noqa: PLC0415 - reason: the API may be installed without the SDK

        make = getattr(_logs, "LogRecord", LogRecord)
        if make is not LogRecord:
            fields["resource"] = resource
    known = inspect.signature(make.__init__).parameters
    if "event_name" in known:  # from 1.35 on
        fields["event_name"] = name
    else:
        fields["attributes"] = {**fields["attributes"], "event.name": name}
    if "context" not in known:  # of no span; later versions deprecate saying so
        fields |= {"trace_id": 0, "span_id": 0, "trace_flags": TraceFlags(0)}
    return make(**fields)
