"""The sentences of a failure: how much, which line, who holds it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from memguard.leaks.evidence.frames import frames_of, functions_at
from memguard.leaks.evidence.tracing import Location, Site
from memguard.leaks.report import Frame
from memguard.report.render.words import Places, printable
from memguard.units import format_bytes

MOST_LINES = 5
"""Lines shown of each failure."""
MOST_LEFT = 20
_CALLERS = 2
_TRIFLE = 200
"""A line with less than one part in this many of the heaviest is not shown."""


def lines_of(sites: Sequence[Site], holders: Mapping[Location, str]) -> list[str]:
    """
    Return the heaviest of *sites* as text, each with its callers and its holder.

    Cost: one walk of the heap, for the names of the functions.
    """
    shown = [site for site in sites[:MOST_LINES] if site.bytes * _TRIFLE >= sites[0].bytes]
    functions = functions_at({place for site in shown for place in site.stack})
    places = Places()
    rows = []
    for site in shown:
        blocks = f"{site.count:+,} block{'' if site.count == 1 else 's'}"
        first, *callers = frames_of(site.stack or (site.location,), functions)
        rows.append(
            f"  {format_bytes(site.bytes, signed=True):>10}  ({blocks})  allocated at  "
            f"{places.shown(first)}"
        )
        rows += [f"{'':14}←  {places.shown(caller)}" for caller in _nearest(callers)]
        if site.location in holders:
            rows.append(f"{'':14}held by  {printable(holders[site.location], longest=300)}")
    more = len(sites) - len(shown)
    if more > 0:
        rest = sum(site.bytes for site in sites[len(shown) :])
        lines = "line" if more == 1 else "lines"
        rows.append(f"  {format_bytes(rest, signed=True):>10}  at {more} other {lines}")
    return rows


def _nearest(callers: Sequence[Frame]) -> list[Frame]:
    """Return the callers to show: the nearest of the user's own code, else the nearest."""
    own = [caller for caller in callers if caller.in_user_code]
    return (own or list(callers))[:_CALLERS]


def survives(
    bytes_per_run: int, allowed: int, runs: int, warmup: int, details: Sequence[str]
) -> str:
    """Return the failure of a test that leaks."""
    head = (
        f"memguard: {format_bytes(bytes_per_run)} survive each run of this test "
        f"(allowed: {format_bytes(allowed)}); {runs} runs counted, after {warmup} to warm up"
    )
    return "\n".join((head, *details))


def keeps(growth: int, allowed: int, details: Sequence[str]) -> str:
    """Return the failure of a block that leaves too much alive."""
    head = f"memguard: {format_bytes(growth)} survive this block (allowed: {format_bytes(allowed)})"
    return "\n".join((head, *details))


def left_behind(found: Sequence[str], *, what: str) -> str:
    """Return the failure of what leaves behind what is *found*."""
    rows = [f"  {row}" for row in found[:MOST_LEFT]]
    if len(found) > MOST_LEFT:
        rows.append(f"  and {len(found) - MOST_LEFT} more")
    return "\n".join((f"memguard: left behind by {what}:", *rows))


def exceeds(peak: int, limit: int, details: Sequence[str], *, what: str) -> str:
    """Return the failure of what takes too much at once."""
    head = f"memguard: {what} needs {format_bytes(peak)} at its peak (limit: {format_bytes(limit)})"
    return "\n".join((head, *details))
