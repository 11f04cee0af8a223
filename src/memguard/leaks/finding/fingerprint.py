"""
A fingerprint of a finding: the same for the same leak, in whichever process it was found.

Made of names and text only. A restart, another process, an edit elsewhere in the file or another
size of the leak do not change it; another line, holder or kind of growth does.
"""

from __future__ import annotations

import hashlib
import re

from memguard.leaks.evidence import frames
from memguard.leaks.evidence.gathered import Evidence
from memguard.leaks.evidence.tracing import Location
from memguard.leaks.report import RESOURCES, Frame, LeakReport, Suspect

LENGTH = 16
"""Hexadecimal digits."""
_NUMBERS = re.compile(r"0x[0-9a-fA-F]+|\d+")


def fingerprint(report: LeakReport, evidence: Evidence) -> str:
    """
    Return the fingerprint of *report*; empty where it names neither a line nor a holder.

    Args:
        report: The finding.
        evidence: What it was composed of: the qualified names and the text of lines.
    """
    line, holder = _line(report), report.holders[0] if report.holders else None
    if line is None and holder is None:
        return ""
    parts: list[str] = [report.verdict.kind]
    if line is not None:
        name = evidence.qualified.get(line) or evidence.functions.get(line) or ""
        parts += [frames.package_relative(line[0]), name, evidence.sources.get(line, "").strip()]
    if holder is not None:
        parts += [_shape(holder.path), holder.type]
    return hashlib.sha256("\0".join(parts).encode(errors="replace")).hexdigest()[:LENGTH]


def _line(report: LeakReport) -> Location | None:
    """Return the user's line: of what piles up, of the first holder, or of the first suspect."""
    place: Frame | Suspect | None = None
    if report.verdict.kind in RESOURCES:
        place = report.place
    elif report.holders:
        place = report.holders[0].site
    if place is None and report.suspects:
        place = report.suspects[0].user_frame or report.suspects[0]
    return None if place is None else (place.file, place.line)


def _shape(path: str) -> str:
    """Return *path* without what differs between processes: indices, addresses, thread numbers."""
    return _NUMBERS.sub("#", path)
