"""
A report as JSON and back. The fields and their units are listed in ``docs/report-schema.md``.

Strict JSON: ASCII only, no NaN, no Infinity; so every parser reads it.
"""

from __future__ import annotations

import json

from memguard.errors import ReportFormatError
from memguard.leaks.report import LeakReport


def render_json(report: LeakReport) -> str:
    """
    Return *report* as indented JSON, ending in a newline.

    A number that is not finite is written as ``null``.
    """
    return json.dumps(report.to_dict(), indent=2, allow_nan=False) + "\n"


def parse_json(text: str) -> LeakReport:
    """
    Return the report that ``render_json`` made *text* from.

    Safe for untrusted text: it builds strings and numbers, nothing else.

    Raises:
        ReportFormatError: No JSON, another schema version, a missing, unknown or mistyped field.
    """
    try:
        data = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ReportFormatError(f"a report must be JSON ({error})") from error
    return LeakReport.from_dict(data)


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
