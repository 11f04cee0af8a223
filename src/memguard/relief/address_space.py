"""
Bounds on address space, as bounds on memory: RLIMIT_AS and RLIMIT_DATA.

Most address space of a process is no memory: libraries, stacks of threads, arenas that malloc has
reserved. Nothing of that can be freed, and what is freed stays address space, which the process
uses again. So what is compared is memory: with what it may grow to before the bound is met.
"""

from __future__ import annotations

from dataclasses import replace

from memguard.observe.headroom import Fill


class AddressSpace:
    """
    Turn how full one such bound is into how full it is with memory.

    The address space that has held memory, and is still there, can hold memory again. It grows when
    private memory passes its highest value, and shrinks by what is unmapped.

    Bounded by: two numbers.
    Locks: none; for one thread.
    Keeps alive: nothing.
    """

    def __init__(self) -> None:
        self._space: int | None = None
        self._usable = 0

    def fill(self, fill: Fill, private: int | None) -> Fill:
        """
        Return *fill*, of a bound on address space, as one of memory.

        Args:
            fill: The bound, and the address space in use now.
            private: Private memory now, bytes; None if unknown, and then *fill* is returned.
        """
        if private is None:
            return fill
        space = fill.used
        unmapped = 0 if self._space is None else max(0, self._space - space)
        self._space = space
        self._usable = max(private, self._usable - unmapped)
        most = max(1, fill.bound.bytes - space + self._usable)
        return replace(fill, bound=replace(fill.bound, bytes=most), used=private)
