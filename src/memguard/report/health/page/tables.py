"""The tables of the live page: containers by bytes, pauses of the collector. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from memguard.bounded.inventory import InventoryRow
from memguard.observe.gcwatch import GcStatistics
from memguard.report.health.data import by_size
from memguard.report.health.page.words import head_row, nothing, short
from memguard.report.render.html.markup import Markup, element, join
from memguard.report.render.html.parts import bar, path
from memguard.units import format_bytes

MOST_ROWS = 15
"""Containers that are shown; the others are added up in one row."""
_PAUSES = (0.001, 0.01, 0.1, 1.0)
"""Bounds in which pauses are counted, seconds: each must be one of the histogram's own."""


def containers_part(rows: Sequence[InventoryRow]) -> Markup:
    """Return the live containers, the largest first."""
    if not rows:
        return nothing("No container of memguard is alive in this process.")
    ordered = by_size(rows)
    total = sum(row.bytes or 0 for row in ordered)
    largest = max(row.bytes or 0 for row in ordered)
    body = [_container(row, largest) for row in ordered[:MOST_ROWS]]
    rest = ordered[MOST_ROWS:]
    if rest:
        body.append(
            _cells(
                f"{len(rest):,} more",
                sum(row.items for row in rest),
                format_bytes(sum(row.bytes or 0 for row in rest)),
            )
        )
    head = head_row("Name", "Items", "Bytes")
    foot = element("tfoot", _cells("All", sum(row.items for row in ordered), format_bytes(total)))
    table = element("table", element("thead", head), element("tbody", *body), foot)
    return element("div", table, class_="card wide")


def _container(row: InventoryRow, largest: int) -> Markup:
    share = (row.bytes or 0) / largest if largest > 0 else 0.0
    name = join(
        path(row.name),
        element("span", row.kind, class_="type"),
        bar(share) if row.bytes else None,
    )
    size = "not weighed" if row.bytes is None else format_bytes(row.bytes)
    return _cells(name, row.items, size)


def _cells(name: Markup | str, items: int, size: str) -> Markup:
    return element(
        "tr",
        element("td", name, class_="name"),
        element("td", f"{items:,}", class_="number"),
        element("td", size, class_="number"),
    )


def collector_part(gc: GcStatistics | None) -> Markup:
    """Return the collector's pauses, by generation and by length."""
    if gc is None:
        return nothing("The collector is not watched (gc_watch=False).")
    if not gc.collections:
        return nothing("No collection was seen yet.")
    return element("div", _generations(gc), _lengths(gc), class_="pair-of-tables")


def _generations(gc: GcStatistics) -> Markup:
    rows = [
        element(
            "tr",
            element("td", f"{each.generation}"),
            element("td", f"{each.collections:,}", class_="number"),
            element("td", short(each.pause_total), class_="number"),
            element("td", short(each.pause_max), class_="number"),
        )
        for each in gc.generations
    ]
    foot = element(
        "tr",
        element("td", "All"),
        element("td", f"{gc.collections:,}", class_="number"),
        element("td", short(gc.pause_total), class_="number"),
        element("td", short(gc.pause_max), class_="number"),
    )
    head = head_row("Generation", "Pauses", "Together", "Longest")
    table = element(
        "table", element("thead", head), element("tbody", *rows), element("tfoot", foot)
    )
    return element("div", table, class_="card wide")


def _lengths(gc: GcStatistics) -> Markup:
    counts = pauses_by_length(gc)
    rows = [
        element(
            "tr",
            element("td", label),
            element("td", bar(count / gc.collections), class_="share"),
            element("td", f"{count:,}", class_="number"),
        )
        for label, count in counts
    ]
    head = element(
        "tr",
        element("th", "Pauses of", scope="col"),
        element("th"),
        element("th", "Pauses", scope="col", class_="number"),
    )
    return element(
        "div", element("table", element("thead", head), element("tbody", *rows)), class_="card wide"
    )


def pauses_by_length(gc: GcStatistics) -> list[tuple[str, int]]:
    """Return how many pauses fell between the bounds of ``_PAUSES``, the shortest first."""
    counts = [0] * (len(_PAUSES) + 1)
    for generation in gc.generations:
        for upper, count in generation.histogram:
            counts[sum(upper > bound * 1.0001 for bound in _PAUSES)] += count
    labels = [f"up to {short(bound)}" for bound in _PAUSES] + [f"over {short(_PAUSES[-1])}"]
    return list(zip(labels, counts, strict=True))
