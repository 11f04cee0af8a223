"""Blocks of bytes: who still refers to their memory, and how what was in them is forgotten."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

from memguard.bounded.pool.checkout import Record
from memguard.errors import ConfigError
from memguard.units import parse_bytes

_ZEROS = bytes(64 * 1024)
_MOST_CLASSES = 64


class Block(bytearray):
    """The memory of a lease. Its death is how a pool learns that nobody has it any more."""

    __slots__ = ("__weakref__",)


Loan: TypeAlias = tuple[Block, int, Record]
"""A block, how many of its bytes are lent, and to whom."""


class Ledger:
    """
    The blocks of one pool that are alive, and their bytes.

    Blocks are made and counted in one step, so that the sum is never too small; what is dropped by
    an exception in the midst of our steps is counted until `recount`.
    """

    __slots__ = ("_blocks", "_lock", "_maxbytes", "total")

    def __init__(self, maxbytes: int) -> None:
        # Re-entrant, and a destructor that interrupts a section and comes here does no harm.
        self._lock = threading.RLock()
        self._blocks: dict[int, weakref.ref[Block]] = {}
        self._maxbytes = maxbytes
        self.total = 0

    def make(self, size: int) -> Block | None:
        """Return a new block, None when there is no room."""
        with self._lock:
            if self.total + size > self._maxbytes:
                return None
            block = Block(size)
            self._blocks[id(block)] = weakref.ref(block)
            self.total += size
            return block

    def strike(self, block: Block) -> None:
        """Stop counting *block*; the caller drops it."""
        with self._lock:
            if self._blocks.pop(id(block), None) is not None:
                self.total -= len(block)

    def recount(self) -> None:
        """Count what is alive. Cost: O(blocks)."""
        with self._lock:
            alive = [block for known in self._blocks.values() if (block := known()) is not None]
            self._blocks = {id(block): self._blocks[id(block)] for block in alive}
            self.total = sum(map(len, alive))


@dataclass(frozen=True, slots=True, kw_only=True)
class BufferPoolStatistics:
    """What a `BufferPool` holds, and what has happened since it was made. Counts and bytes."""

    name: str
    implementation: str
    """Which code runs: ``"python"``."""
    maxbytes: int
    bytes: int
    """Bytes of all blocks: idle, lent and quarantined."""
    blocks: int
    idle: int
    leased: int
    quarantined: int
    """Blocks given back while something still exports their memory; not lent until it is gone."""
    created: int
    disposed: int
    """Idle blocks given up: for another size, under pressure, or at close."""
    lost: int
    """Leases that were dropped without release."""
    lost_sites: tuple[tuple[str, int], ...]
    """Places that lost leases, ``(site, losses)``, the most first; at most a hundred."""
    refused: int
    """Leases refused because *maxbytes* was reached."""


def is_exported(block: bytearray) -> bool:
    """Return whether a view, a slice of one, or an array still refers to the memory of *block*."""
    # Changing the length is refused exactly then; the allocation stays where it is.
    try:
        block.append(block.pop())
    except BufferError:
        return True
    return False


def fill_with_zeros(block: bytearray, used: int) -> None:
    """Set the first *used* bytes of *block* to zero, without another block of that size."""
    with memoryview(block) as view:
        for start in range(0, used, len(_ZEROS)):
            size = min(len(_ZEROS), used - start)
            view[start : start + size] = _ZEROS[:size] if size < len(_ZEROS) else _ZEROS


def check_sizes(given: Any) -> tuple[int, ...]:
    """Return the block sizes in rising order, each once."""
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise TypeError(
            f"block_sizes must be a list of sizes such as [4096, '64KiB'] "
            f"(got {type(given).__name__})"
        )
    sizes = sorted({parse_bytes(size, name="block_sizes") for size in given})
    if not 1 <= len(sizes) <= _MOST_CLASSES:
        raise ConfigError(
            f"block_sizes must name 1 to {_MOST_CLASSES} different sizes (got {len(sizes)})"
        )
    if sizes[0] < 1:
        raise ConfigError(f"block_sizes must be >= 1 byte each (got {sizes[0]})")
    return tuple(sizes)
