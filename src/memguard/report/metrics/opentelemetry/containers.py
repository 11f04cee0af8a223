"""Which containers are told by name: as many as there are places, and those for life."""

from __future__ import annotations

from collections.abc import Iterable

from memguard.bounded.inventory import InventoryRow
from memguard.lifecycle import locks
from memguard.report.render.words import printable

OTHER = "other"
_LONGEST = 100


class NamedContainers:
    """
    Sum containers by name and kind, those without a place of their own under ``"other"``.

    A backend keeps every combination of attributes that it has ever seen, and programs make names
    from user input: a name gets a place while there is one, and keeps it for good.

    Bounded by: *most* places, and one for all others.
    Locks: one around the places; only look-ups happen under it.
    Keeps alive: strings.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._places: dict[tuple[str, str], tuple[str, str]] = {}
        self._reset()

    def _reset(self) -> None:
        """In a forked child: nobody is looking."""
        self._lock = locks.RLock()

    def __len__(self) -> int:
        """Return the places that are taken."""
        return len(self._places)

    def sums(self, rows: Iterable[InventoryRow]) -> dict[tuple[str, str], list[int | None]]:
        """Return (name, kind) → [containers, items, bytes], bytes None where nobody counts them."""
        found: dict[tuple[str, str], list[int | None]] = {}
        for row in rows:
            entry = found.setdefault(self._place(row), [0, 0, None])
            entry[0] = (entry[0] or 0) + 1
            entry[1] = (entry[1] or 0) + row.items
            if row.bytes is not None:
                entry[2] = (entry[2] or 0) + row.bytes
        return found

    def _place(self, row: InventoryRow) -> tuple[str, str]:
        key = _label(row.name), _label(row.kind)
        with self._lock:
            place = self._places.get(key)
            if place is not None:
                return place
            if len(self._places) >= self._most or key[0] == OTHER:
                return OTHER, OTHER
            self._places[key] = key
            return key


def _label(text: object) -> str:
    # As a plain string: a subclass may hash and compare in its own way.
    if not issubclass(type(text), str):
        return "?"
    head = str.__getitem__(text, slice(0, 4 * _LONGEST))  # type: ignore[index] # reason: a str
    return printable(head, longest=_LONGEST)
