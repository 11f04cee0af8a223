"""Planted, found, where: the comparison, from the reports memguard wrote and nothing else. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

from memguard.units import format_bytes, format_seconds

from .expected import PACKAGE, Plant

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from memguard.leaks import Frame, Holder, LeakReport, Suspect

    from .driver import Run

RANKS = 10
"""How far down a list of suspects or holders a find may stand: what a person reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One planted leak, and what the reports say on it."""

    plant: Plant
    line_rank: int | None
    """Place among the suspects, 1 is first; None where the planted line is not among them."""
    line: str
    """The suspect in the report's own words."""
    holder_rank: int | None
    holder: str

    @property
    def found(self) -> bool:
        """True when both the line and the holder were named."""
        return self.line_rank is not None and self.holder_rank is not None


def compare(plants: Iterable[Plant], reports: Iterable[LeakReport]) -> tuple[Finding, ...]:
    """
    Return one finding per plant, looked for in the *reports* of kind ``leak``.

    A line counts as found when a suspect, or a frame of its stack, is exactly the planted line in
    the planted function. A holder counts when its path and type are exactly those of the container.
    """
    leaks = [report for report in reports if report.kind == "leak"]
    return tuple(_look_for(plant, leaks) for plant in plants)


def _look_for(plant: Plant, leaks: Sequence[LeakReport]) -> Finding:
    line_rank, line = None, "not among the suspects"
    holder_rank, holder = None, "not among the holders"
    for report in leaks:
        for rank, suspect in enumerate(report.suspects[:RANKS], start=1):
            frame = _planted_frame(plant, suspect)
            if frame is not None and (line_rank is None or rank < line_rank):
                line_rank, line = rank, _words_of_suspect(suspect, frame)
        for rank, found in enumerate(report.holders[:RANKS], start=1):
            same = (found.path, found.type) == (plant.holder, plant.holder_type)
            if same and (holder_rank is None or rank < holder_rank):
                holder_rank, holder = rank, _words_of_holder(found)
    return Finding(
        plant=plant, line_rank=line_rank, line=line, holder_rank=holder_rank, holder=holder
    )


def _planted_frame(plant: Plant, suspect: Suspect) -> Suspect | Frame | None:
    stack: tuple[Suspect | Frame, ...] = (suspect, *suspect.frames)
    for frame in stack:
        if (
            PurePath(frame.file).parts[-2:] == (PACKAGE, plant.file)
            and frame.line == plant.line
            and frame.function is not None
            and frame.function.rpartition(".")[2] == plant.function
        ):
            return frame
    return None


def _words_of_suspect(suspect: Suspect, frame: Suspect | Frame) -> str:
    parts = "/".join(PurePath(frame.file).parts[-2:])
    rate = format_bytes(suspect.bytes_per_minute, signed=True)
    return f"{parts}:{frame.line} {frame.function}, {rate}/min"


def _words_of_holder(holder: Holder) -> str:
    words = f"{holder.path}  {holder.type}, +{holder.entries_added:,} entries"
    if holder.bytes_added is not None:
        words += f", {format_bytes(holder.bytes_added, signed=True)}"
    if holder.bytes_per_minute is not None:
        words += f", {format_bytes(holder.bytes_per_minute, signed=True)}/min"
    return words


def table(findings: Iterable[Finding]) -> list[tuple[str, str, str]]:
    """Return the rows ``planted | found | where``, a heading first and two rows for each plant."""
    rows = [("planted", "found", "where, in the words of the report")]
    for finding in findings:
        line = "no" if finding.line_rank is None else f"yes, no. {finding.line_rank}"
        holder = "no" if finding.holder_rank is None else f"yes, no. {finding.holder_rank}"
        rows.append((f"{finding.plant.story}: line", line, finding.line))
        rows.append(("  its holder", holder, finding.holder))
    return rows


def render_table(rows: Sequence[tuple[str, str, str]]) -> str:
    """Return *rows* as aligned text, the first one underlined."""
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    lines = [
        f"{first:<{widths[0]}}  {second:<{widths[1]}}  {third}" for first, second, third in rows
    ]
    rule = "-" * max(len(line) for line in lines)
    return "\n".join([lines[0].rstrip(), rule, *(line.rstrip() for line in lines[1:])])


def summary_of(report: LeakReport) -> str:
    """Return one report in one line: when, how fast, when the limit is reached."""
    trend = report.trend
    words = (
        f"{report.kind} reported {format_seconds(report.uptime_seconds)} after the start: "
        f"{format_bytes(trend.baseline_bytes)} grew to {format_bytes(trend.current_bytes)}, "
        f"{format_bytes(trend.bytes_per_hour / 60, signed=True)}/min"
    )
    if trend.limit_bytes is not None and trend.seconds_to_limit is not None:
        words += (
            f"; {format_seconds(trend.seconds_to_limit)} to the limit of "
            f"{format_bytes(trend.limit_bytes)} ({trend.limit_source})"
        )
    return words


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One thing the demo claims, and whether this run bears it out."""

    holds: bool
    words: str

    def __str__(self) -> str:
        return f"{'ok    ' if self.holds else 'FAILED'}  {self.words}"


def claims_on_leaky(run: Run, findings: Sequence[Finding]) -> list[Claim]:
    """Return what the leaky run must bear out: all leaks named, in private files, logged once."""
    named = sum(finding.found for finding in findings)
    alarms, files = len(run.alarms), len(run.report_files)
    return [
        Claim(
            holds=named == len(findings) > 0,
            words=f"{named} of {len(findings)} planted leaks named, with line and holder",
        ),
        Claim(
            holds=run.events == alarms > 0,
            words=f"{alarms} leak report(s), in {run.events} log event(s)",
        ),
        Claim(
            holds=files > 0 and not run.open_files,
            words=f"{files} report files, open to others than their owner: "
            + (", ".join(run.open_files) or "none"),
        ),
        *_claims_on_any(run),
    ]


def claims_on_repaired(run: Run) -> list[Claim]:
    """Return what the repaired run must bear out: the same load and no alarm."""
    return [
        Claim(holds=not run.alarms, words=f"{len(run.alarms)} alarm(s) on the repaired shop"),
        *_claims_on_any(run),
    ]


def _claims_on_any(run: Run) -> list[Claim]:
    planned, sent, failed = (run.client[key] for key in ("planned", "sent", "failed"))
    errors = ", ".join(f"{count} x {kind}" for kind, count in run.statistics["errors_by_kind"])
    return [
        Claim(
            holds=failed == 0 and sent == planned,
            words=f"{run.variant}: {sent:,} of {planned:,} requests answered, {failed} failed",
        ),
        Claim(
            holds=not errors and not run.tracing_at_end,
            words=f"{run.variant}: {errors or 'no'} errors inside memguard, "
            f"tracing left {'on' if run.tracing_at_end else 'off'}",
        ),
    ]
