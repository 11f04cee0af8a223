"""
Rank what was found: the containers that hold the growth, and the lines that allocate it.

Pure: evidence in, the holders and suspects of a report out.
"""

from __future__ import annotations

from collections import Counter, defaultdict

from memguard.leaks.evidence import calls
from memguard.leaks.evidence.census import MIN_ENTRIES
from memguard.leaks.evidence.frames import frames_of
from memguard.leaks.evidence.gathered import Evidence, HolderEvidence
from memguard.leaks.evidence.own_code import is_own_code
from memguard.leaks.evidence.tracing import Location, Site
from memguard.leaks.finding import advice
from memguard.leaks.finding.judge import is_explained
from memguard.leaks.finding.plausible import bounds_of, hold_to
from memguard.leaks.report import Frame, Holder, LeakReport, Suspect, TrendSummary

SUSPECTS = 10
_WEAK = "weakref.ReferenceType"
HOLDERS = 10
MIN_SHARE = 0.01
"""Holders below this share of the growth are left out of a report that others explain."""
LIGHT = 3
"""Holders below it that are named where no other explains the growth."""


def rank_holders(
    evidence: Evidence, trend: TrendSummary, previous: LeakReport | None
) -> tuple[tuple[Holder, ...], tuple[Holder, ...], list[str]]:
    """
    Return the holders of the growth, light ones that grew, and notes on weights that were wrong.

    Light ones only where the others do not explain the growth.

    Only those with objects of an extension in their entries: a few bytes of Python may keep much
    more alive in a C library.
    """
    known = _known_before(evidence, previous)
    rows = [
        _holder(holder, known.get((holder.path, holder.type)), evidence.functions)
        for holder in evidence.holders
        if holder.steady
    ]
    if evidence.trace is None:
        # Instances that no container holds are found by tracing only; while their type grows on,
        # what was found about them still stands.
        growing = {name for name, _, _ in evidence.all_types}
        seen = {row.path for row in rows}
        rows += [h for h in known.values() if h.path not in seen and h.type in growing]
    rows, notes = hold_to(bounds_of(evidence, trend), rows)
    rows.sort(key=lambda row: (not row.anchored, _only_counts(row), -(row.bytes_per_minute or 0.0)))
    growth = max(0.0, trend.bytes_per_hour / 60)
    heavy = [row for row in rows if not is_light(row, trend)][:HOLDERS]
    if is_explained(sum(row.bytes_per_minute or 0.0 for row in heavy), growth):
        return tuple(heavy), (), notes
    extends = {holder.path for holder in evidence.holders if holder.sample.extends}
    light = [r for r in rows if is_light(r, trend) and r.path in extends and _may_hold_more(r)]
    return tuple(heavy), tuple(light[: min(LIGHT, HOLDERS - len(heavy))]), notes


def _only_counts(holder: Holder) -> bool:
    """Return True for a library's list of weak references, such as asyncio's of all tasks."""
    return not holder.in_user_code and holder.entry_types == (_WEAK,)


def is_light(holder: Holder, trend: TrendSummary) -> bool:
    """Return True for a holder that accounts for next to nothing of the growth."""
    return (holder.bytes_per_minute or 0.0) < max(0.0, trend.bytes_per_hour / 60) * MIN_SHARE


def _may_hold_more(holder: Holder) -> bool:
    """Return True for a holder that may keep more alive than it weighs: it grows, without end."""
    return (
        holder.anchored
        and holder.bound is None
        and holder.inventory_name is None
        and holder.entries_added >= MIN_ENTRIES
    )


def _known_before(evidence: Evidence, previous: LeakReport | None) -> dict[tuple[str, str], Holder]:
    """Return the holders of *previous* whose path and type are theirs alone, then and now."""
    before = previous.holders if previous is not None else ()
    # Four lists in one list have the same path: which of them was which is unknown.
    then = Counter((holder.path, holder.type) for holder in before)
    now = Counter((holder.path, holder.type) for holder in evidence.holders)
    mine = {(holder.path, holder.type): holder for holder in before}
    return {key: holder for key, holder in mine.items() if then[key] == 1 and now[key] <= 1}


def _holder(
    evidence: HolderEvidence, known: Holder | None, functions: dict[Location, str]
) -> Holder:
    weight, error = evidence.sample.bytes_per_entry, evidence.sample.error_per_entry
    added = evidence.entries_added
    if known is not None:
        # An update counts from the first report on, and trusts the weight that was traced then.
        added = max(added, known.entries_added + evidence.entries - known.entries)
        if not evidence.sample.lines and known.bytes_per_entry is not None:
            weight, error = known.bytes_per_entry, known.bytes_per_entry_error
    return Holder(
        path=evidence.path,
        type=evidence.type,
        entries=evidence.entries,
        entries_added=added,
        entries_per_minute=evidence.entries_per_minute,
        bytes_per_entry=weight,
        bytes_added=None if weight is None else weight * added,
        bytes_per_minute=None if weight is None else weight * evidence.entries_per_minute,
        site=_site(evidence, functions) or (known.site if known else None),
        entry_types=tuple(name for name, _ in evidence.sample.types.most_common(5)),
        inventory_name=evidence.inventory_name,
        bound=evidence.bound,
        anchored=evidence.anchored,
        unit=evidence.unit,
        in_user_code=evidence.in_user_code,
        advice=advice.of_holder(evidence),
        containers=evidence.containers,
        bytes_per_entry_error=error if weight is not None else None,
        unknown_types=tuple(name for name, _ in evidence.sample.unknown.most_common(5)),
    )


def _site(evidence: HolderEvidence, functions: dict[Location, str]) -> Frame | None:
    """Return the line that made most of the sampled entries: in the user's code where it shows."""
    if not evidence.sample.lines:
        return None
    line, _ = evidence.sample.lines.most_common(1)[0]
    stack = frames_of(evidence.sample.stacks.get(line) or (line,), functions)
    return next((frame for frame in stack if frame.in_user_code), stack[0])


def rank_suspects(evidence: Evidence, previous: LeakReport | None) -> tuple[Suspect, ...]:
    """
    Return the allocating lines: those that lead to a growing holder first, by weight; then others.

    What is merely alive at the end of a burst may be a request in flight or a cache at work; what
    hangs on a container that grew between two looks is the growth itself. An update keeps the lines
    of *previous*.
    """
    rows = _traced_suspects(evidence)
    if previous is None:
        return rows
    known = {(suspect.file, suspect.line) for suspect in rows}
    older = (s for s in previous.suspects if s.callee is None and (s.file, s.line) not in known)
    ranked = sorted((*rows, *older), key=lambda s: (s.held_by is None, -s.bytes_per_minute))
    return tuple(ranked[:SUSPECTS])


def rank_calls(evidence: Evidence, previous: LeakReport | None) -> tuple[Suspect, ...]:
    """Return the lines that called C code meanwhile, or those of *previous*; the busiest first."""
    if not evidence.calls and previous is not None:
        return tuple(suspect for suspect in previous.suspects if suspect.callee is not None)
    rows = []
    for call in evidence.calls[: calls.SHOWN]:
        file, line = call.stack[0]
        frames = frames_of(call.stack, evidence.functions)
        mine = next(((each.file, each.line) for each in frames if each.in_user_code), (file, line))
        rows.append(
            Suspect(
                file=file,
                line=line,
                function=evidence.functions.get((file, line)),
                bytes=0,
                count=0,
                bytes_per_minute=0.0,
                frames=frames,
                source=evidence.sources.get(mine),
                callee=call.callee,
            )
        )
    return tuple(rows)


def _traced_suspects(evidence: Evidence) -> tuple[Suspect, ...]:
    trace = evidence.trace
    if trace is None:
        return ()
    held, heaviest = _rates_by_line(evidence.holders)
    minutes = max(trace.seconds, 0.001) / 60
    ranked = sorted(
        {*trace.sites, *held},
        key=lambda line: (
            -held[line],
            -trace.sites[line].bytes if line in trace.sites else 0,
        ),
    )
    rows = []
    for line in ranked[:SUSPECTS]:
        site = trace.sites.get(line, Site(line))
        holder = heaviest.get(line)
        stack = site.stack
        if holder is not None:
            stack = max(holder.sample.stacks.get(line, ()), stack, key=len)
        frames = frames_of(stack or (line,), evidence.functions)
        mine = next(((each.file, each.line) for each in frames if each.in_user_code), line)
        rows.append(
            Suspect(
                file=line[0],
                line=line[1],
                function=evidence.functions.get(line),
                bytes=site.bytes,
                count=site.count,
                bytes_per_minute=held[line] or site.bytes / minutes,
                frames=frames,
                source=evidence.sources.get(mine),
                held_by=holder.path if holder is not None else None,
            )
        )
    return tuple(rows)


def _rates_by_line(
    holders: list[HolderEvidence],
) -> tuple[defaultdict[Location, float], dict[Location, HolderEvidence]]:
    """Return the bytes a minute that each line allocates for holders, and its main holder."""
    rates: defaultdict[Location, float] = defaultdict(float)
    heaviest: dict[Location, tuple[float, HolderEvidence]] = {}
    for holder in holders:
        if not holder.steady:
            continue
        # What has no line, such as the container itself, follows those that have one.
        whole = (holder.sample.bytes_per_entry or 0) * holder.entries_per_minute
        per_byte = whole / max(1, sum(holder.sample.lines.values()))
        for line, size in holder.sample.lines.items():
            if is_own_code(line[0]):  # our history fills its ring; bursts leave our lines out, too
                continue
            rate = size * per_byte
            rates[line] += rate
            if line not in heaviest or rate > heaviest[line][0]:
                heaviest[line] = (rate, holder)
    return rates, {line: holder for line, (_, holder) in heaviest.items()}
