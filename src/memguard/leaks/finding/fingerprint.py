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
from memguard.leaks.holders.paths import CONJECTURE
from memguard.leaks.report import RESOURCES, Frame, LeakReport, ResourceGroup, Suspect

LENGTH = 16
"""Hexadecimal digits."""
_NUMBERS = re.compile(r"0x[0-9a-fA-F]+|\d+")


def fingerprint(report: LeakReport, evidence: Evidence) -> str:
    """
    Return the fingerprint of *report*; empty where it names no line, no holder and no group.

    Args:
        report: The finding.
        evidence: What it was composed of: the qualified names and the text of lines.
    """
    place, holder = _place(report), report.holders[0] if report.holders else None
    group = _group(report)
    if place is None and holder is None and group is None:
        return ""
    parts: list[str] = [report.verdict.kind]
    if group is not None:
        parts.append(_shape(group.name))
    if place is not None:
        line: Location = (place.file, place.line)
        name = evidence.qualified.get(line) or place.function or ""
        parts += [frames.package_relative(line[0]), name, evidence.sources.get(line, "").strip()]
    if holder is not None:
        parts += [_shape(holder.path), holder.type]
    return hashlib.sha256("\0".join(parts).encode(errors="replace")).hexdigest()[:LENGTH]


def _group(report: LeakReport) -> ResourceGroup | None:
    """Return what piles up most, where that is what the report is about."""
    piles = (pile for pile in report.resources if pile.kind == report.verdict.kind)
    return next((group for pile in piles for group in pile.groups), None)


def _place(report: LeakReport) -> Frame | Suspect | None:
    """Return the user's line: of what piles up, of the first holder, or of the first suspect."""
    place: Frame | Suspect | None = None
    if report.verdict.kind in RESOURCES:
        place = report.place
    elif report.holders:
        place = report.holders[0].site
    allocating = (suspect for suspect in report.suspects if suspect.callee is None)
    if place is None and (first := next(allocating, None)) is not None:
        place = first.user_frame or first
    return place


def _shape(path: str) -> str:
    """Return *path* without what differs between processes: indices, addresses, conjectures."""
    return _NUMBERS.sub("#", path.partition(CONJECTURE)[0])
