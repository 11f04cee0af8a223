"""
A program, and what is true of it: what grows, where, and who holds it.

A program is the source of a module ``shop`` that has ``step(i)``, or ``main(tick)``, which calls
``tick()`` for each number itself. Lines that end in ``# <- allocates`` make what leaks.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Any

MARK = "# <- allocates"
LIVE = ("live_objects",)
ROWS = '["%d-%d" % (i, k) for k in range(40)]'


@dataclass(frozen=True, kw_only=True)
class Program:
    """A program and the truth about it."""

    name: str
    source: str
    rate: int
    """Steps from one reading to the next."""
    alarm: bool | None = True
    """Whether it leaks; None where it does in part, and an alarm is as right as none."""
    kinds: tuple[str, ...] = LIVE
    """Verdicts that are true."""
    holders: tuple[str, ...] = ()
    """The path of the first holder begins with one of these; empty where none has a name."""
    lists: tuple[str, ...] = ()
    """The standard library's own lists of what runs, which hold it, too: to name one is right."""
    share: float | None = 1.0
    """Of what it leaks, held by the first holder; None where that is not measured."""
    readings: int = 150
    """After which a program without an alarm ends."""
    ends: bool = False
    """Whether its growth ends, and no finding may be open when the program does."""
    at_the_end: tuple[str, ...] = ()
    """Verdicts of a look on demand at the end that are true; empty where none is taken."""
    needs: tuple[str, ...] = ()
    """Packages that it imports."""

    may_hide_its_line: bool = False
    """Whether it may allocate nothing while it is traced: a buffer has room to grow into."""

    @property
    def lines(self) -> set[int]:
        """The numbers of the lines that allocate what leaks."""
        lines = self.source.splitlines()
        return {number for number, text in enumerate(lines, 1) if text.endswith(MARK)}


def program(name: str, source: str, **truth: Any) -> Program:
    """Return the program of *source*, and the *truth* about it."""
    return Program(name=name, source=textwrap.dedent(source).lstrip(), **truth)
