"""Programs made of parts, so that what is true of each is known."""

from __future__ import annotations

import random
import textwrap
from collections.abc import Iterator

from tests.truth.parts import CONTAINERS, HOLDERS, PAYLOADS
from tests.truth.program import MARK, Program

BYTES_A_READING = 160 * 1024
"""What a leak adds from one reading to the next, about."""


def compose(container: str, payload: str, holder: str) -> Program:
    """Return the program that leaks *payload* into *container*, held by *holder*."""
    box, thing, owner = CONTAINERS[container], PAYLOADS[payload], HOLDERS[holder]
    put = box.put
    if box.has_payload and container != "cached":
        # The line of a tiny thing is no truer than that of the entry around it.
        mark = f"  {MARK}" if thing.size < 3 * box.overhead else ""
        put = f"value = make(i); {put}{mark}"
    parts = [box.source, thing.source if box.has_payload else "", owner.source]
    source = "\n\n".join(textwrap.dedent(part).strip() for part in parts if part)
    source = source.replace("NEW", box.new).replace("PUT", put)
    size = box.overhead + (thing.size if box.has_payload else 0)
    paths = owner.paths if container != "bounded" else ("BoundedCache 'visits'",)
    what = f"{container}-{payload}-{holder}" if box.has_payload else f"{container}-{holder}"
    return Program(
        name=what,
        source=f"{source}\n",
        rate=max(1, BYTES_A_READING // size),
        holders=paths,
        needs=thing.needs if box.has_payload else (),
        may_hide_its_line=box.is_buffer,
    )


def composed(count: int, seed: int = 11) -> list[Program]:
    """
    Return *count* programs of live objects, each container, payload and holder used evenly.

    The same for the same *seed*, and the beginning of a longer list.
    """
    dice = random.Random(seed)  # noqa: S311 - reason: a choice of tests, and the same one each time
    decks = [_dealt(list(part), dice) for part in (CONTAINERS, PAYLOADS, HOLDERS)]
    found: dict[str, Program] = {}
    while len(found) < count:
        container, payload, holder = (next(deck) for deck in decks)
        box = CONTAINERS[container]
        if box.hashable_only and not PAYLOADS[payload].hashable:
            container = "list"
        program = compose(container, payload, holder)
        found.setdefault(program.name, program)
    return list(found.values())


def _dealt(deck: list[str], dice: random.Random) -> Iterator[str]:
    """Yield the names of *deck* over and over, shuffled each time."""
    while True:
        dice.shuffle(deck)
        yield from deck
