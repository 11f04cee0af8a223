"""The evidence of a report as HTML: what holds the growth, and which lines allocate it. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from memguard.leaks.report import (
    Frame,
    Holder,
    LeakReport,
    ResourceGroup,
    ResourceGrowth,
    Suspect,
)
from memguard.report.render.content import (
    allocated_for,
    blocks,
    holder_facts,
    holder_gain,
    holder_size,
    stack_shown,
    why_no_user_line,
)
from memguard.report.render.html.components import MOST_ENTRIES, bar, path
from memguard.report.render.html.markup import Markup, element, join
from memguard.report.render.html.tree import Branch, tree
from memguard.report.render.resources import group_places, resource_facts
from memguard.report.render.words import Locations
from memguard.units import format_bytes


def holder_tree(holders: Sequence[Holder], report: LeakReport, locations: Locations) -> Markup:
    """Return *holders* of *report* as a tree of their paths, each with what is known of it."""
    largest = max((_pace(holder) for holder in holders), default=0.0)

    def item(branch: Branch, above: str) -> Markup:
        shown = [
            _holder(
                holders[number],
                report,
                locations,
                above=above,
                share=_pace(holders[number]) / largest if largest > 0 else 0.0,
            )
            for number in branch.members
        ]
        below = [item(further, above + branch.text) for further in branch.branches]
        stem = None if shown else element("p", path(branch.text), class_="stem")
        return element("li", stem, *shown, element("ul", *below) if below else None)

    branches = tree([holder.path for holder in holders])
    return element("div", element("ul", *(item(b, "") for b in branches)), class_="tree card")


def _pace(holder: Holder) -> float:
    pace = holder.bytes_per_minute
    return pace if pace is not None and math.isfinite(pace) else 0.0


def _holder(
    holder: Holder, report: LeakReport, locations: Locations, *, above: str, share: float
) -> Markup:
    suspect = allocated_for(holder, report.suspects)
    own = holder.path[len(above) :]
    whole = element("code", element("span", path(above), class_="above"), path(own))
    gain = holder_gain(holder, report)
    site = _stack_place(suspect, locations) if suspect else None
    if site is None and holder.site is not None:
        site = _place(holder.site, locations)
    type_ = f"one of the instances of {holder.type}" if holder.unit == "instances" else holder.type
    return element(
        "div",
        element("p", whole, element("span", type_, class_="type"), class_="name"),
        bar(share),
        element(
            "p",
            element("span", holder_size(holder), class_="size"),
            f", {gain}" if gain else "",
            class_="number",
        ),
        element("p", "; ".join(holder_facts(holder, report, most_types=5)), class_="soft small"),
        element("p", "allocated at ", site, class_="small") if site else None,
        _source(suspect) if suspect else None,
        class_="holder",
    )


def _place(place: Suspect | Frame, locations: Locations) -> Markup:
    shown = [element("span", f"{locations.file(place.file)}:{place.line}", class_="place")]
    if place.function:
        shown += [Markup(" "), element("bdi", place.function, class_="soft place")]
    return join(*shown)


def _stack_place(suspect: Suspect, locations: Locations) -> Markup:
    """Return the user's line, and beside it what it calls or is called by."""
    first, beside, calls = stack_shown(suspect)
    shown = [_place(first, locations)]
    if beside is not None:
        arrow = " \u2192 " if calls else " \u2190 "
        shown += [element("span", arrow, class_="soft"), _place(beside, locations)]
    elif (reason := why_no_user_line(suspect)) is not None:
        shown.append(element("span", f" ({reason})", class_="soft small"))
    return join(*shown)


def _source(suspect: Suspect) -> Markup | None:
    if not suspect.source:
        return None
    text = suspect.source.expandtabs(4)
    line = element("span", f"{stack_shown(suspect)[0].line}", class_="line")
    return element("pre", line, element("code", text), class_="source")


def resource_card(growth: ResourceGrowth, locations: Locations) -> Markup:
    """Return a card with a resource that piles up, and who opened it."""
    groups = [_group(group, locations) for group in growth.groups[:MOST_ENTRIES]]
    return element(
        "div",
        element("p", element("span", resource_facts(growth), class_="size"), class_="number"),
        *groups,
        class_="card",
    )


def _group(group: ResourceGroup, locations: Locations) -> Markup:
    places = [
        element("p", f"{said} ", _place(at, locations), class_="soft small")
        for said, at in group_places(group)
    ]
    return element(
        "div",
        element("p", element("code", group.name), class_="name"),
        element("p", f"{group.added:+,}, {group.count:,} now", class_="number"),
        *places,
        class_="holder",
    )


def suspect_card(position: int, suspect: Suspect, locations: Locations) -> Markup:
    """Return a card with an allocating or calling line, its text, and the stack that calls it."""
    # No rate: what no holder explains may be a request in flight when a short burst ended.
    held: Markup | None = element("p", "in no holder", class_="small soft")
    amount = (
        element("span", format_bytes(suspect.bytes), class_="size"),
        element("span", f" in {blocks(suspect)} alive", class_="soft small"),
    )
    if suspect.held_by:
        held = element("p", "held by ", path(suspect.held_by), class_="small soft")
    if suspect.callee is not None:
        held, amount = None, (element("code", suspect.callee), Markup(""))
    return element(
        "div",
        element(
            "div",
            element("p", _stack_place(suspect, locations)),
            element("p", *amount, class_="number"),
            class_="head",
        ),
        _source(suspect),
        held,
        _stack(suspect, locations, is_open=position == 0),
        class_="card",
    )


def _stack(suspect: Suspect, locations: Locations, *, is_open: bool) -> Markup | None:
    frames = suspect.frames[:MOST_ENTRIES]
    if len(frames) < 2:
        return None  # the line itself, which stands above
    own = sum(frame.in_user_code for frame in frames)
    yours = f", {own} in your code" if own else ", none of them in your code"
    return element(
        "details",
        element("summary", f"{len(frames)} frames, the allocating one first{yours}"),
        element("ol", *(_frame(frame, locations) for frame in frames), class_="stack"),
        open=is_open,
    )


def _frame(frame: Frame, locations: Locations) -> Markup:
    mark = element("span", "your code", class_="yours") if frame.in_user_code else None
    return element(
        "li", _place(frame, locations), mark, class_="user" if frame.in_user_code else None
    )
