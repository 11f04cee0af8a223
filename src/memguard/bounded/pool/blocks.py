"""The blocks of a buffer pool: idle, lent or quarantined, within a number of bytes."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Iterable
from typing import Any

from memguard.bounded.pool.checkout import Record
from memguard.errors import ConfigError
from memguard.lifecycle import locks
from memguard.units import parse_bytes

_ZEROS = bytes(64 * 1024)
_MAX_SIZES = 64


class Block(bytearray):
    """The memory of a lease. Its death shows that it is no longer used."""

    __slots__ = ("__weakref__",)


class Loan(weakref.ref[Any]):
    """A block that is lent, and the lease that has it."""

    __slots__ = ("block", "nbytes", "record")

    block: Block
    nbytes: int
    """How many of its bytes are lent."""
    record: Record


class Blocks:
    """
    The blocks of one pool; a method is one step under the lock.

    The lock is re-entrant: a destructor or signal handler that interrupts a step may use the pool.
    What an exception in the midst of our steps drops is counted until `recount`.
    """

    def __init__(self, sizes: Iterable[int], maxbytes: int) -> None:
        self.lock = locks.RLock()
        self.idle: dict[int, list[Block]] = {size: [] for size in sizes}
        self.quarantine: deque[tuple[Block, int]] = deque()
        """Blocks released while something still exports their memory, and the bytes used."""
        self.lent: dict[int, Loan] = {}
        self.lost: deque[Loan] = deque()
        """Loans whose lease was dropped; weak reference callbacks only append here."""
        self.total = 0
        """Bytes of all blocks."""
        self._maxbytes = maxbytes
        self._alive: dict[int, weakref.ref[Block]] = {}

    def count(self) -> tuple[int, int, int]:
        """Return how many blocks are idle, lent, and in quarantine."""
        return sum(map(len, self.idle.values())), len(self.lent), len(self.quarantine)

    def take_idle(self, size: int) -> Block | None:
        """Return an idle block of *size*, None when there is none."""
        with self.lock:
            return self.idle[size].pop() if self.idle[size] else None

    def make(self, size: int) -> Block | None:
        """Return a new block, None when there is no room."""
        with self.lock:
            if self.total + size > self._maxbytes:
                return None
            block = Block(size)
            self._alive[id(block)] = weakref.ref(block)
            self.total += size
            return block

    def drop_idle(self) -> int:
        """Give up an idle block of the largest size there is; return its bytes, 0 for none."""
        for size in reversed(self.idle):
            block = self.take_idle(size)
            if block is not None:
                with self.lock:
                    self._alive.pop(id(block), None)
                    self.total -= size
                return size
        return 0

    def recount(self) -> None:
        """Count the blocks that are alive, and look for leases that were dropped. O(blocks)."""
        with self.lock:
            self._recount()

    def _recount(self) -> None:
        alive = {key: known for key, known in self._alive.items() if known() is not None}
        self._alive = alive
        self.total = sum(len(block) for known in alive.values() if (block := known()))
        self.lost.extend(loan for loan in self.lent.values() if loan() is None)

    def lend(self, lease: Any, block: Block, nbytes: int, record: Record) -> Loan:
        """Note that *lease* has *block*."""
        loan = Loan(lease, self.lost.append)
        loan.block = block
        loan.nbytes = nbytes
        loan.record = record
        with self.lock:
            self.lent[id(block)] = loan
        return loan

    def end(self, loan: Loan) -> bool:
        """Return whether *loan* was lent until now: once, and not by the parent process."""
        with self.lock:
            if self.lent.get(id(loan.block)) is not loan:
                return False
            del self.lent[id(loan.block)]
            return True

    def shelve(self, block: Block, used: int, *, zero: bool) -> None:
        """Make *block* idle, or put it into quarantine while its memory is exported."""
        if is_exported(block):
            self.quarantine.append((block, used))
            return
        if zero:
            fill_with_zeros(block, used)
        with self.lock:
            self.idle[len(block)].append(block)

    def take_quarantined(self) -> list[tuple[Block, int]]:
        """Return the blocks of the quarantine whose memory is exported no longer."""
        with self.lock:
            return self._take_quarantined()

    def _take_quarantined(self) -> list[tuple[Block, int]]:
        free: list[tuple[Block, int]] = []
        for _ in range(len(self.quarantine)):
            held = self.quarantine.popleft()
            (self.quarantine if is_exported(held[0]) else free).append(held)
        return free


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
    if not 1 <= len(sizes) <= _MAX_SIZES:
        raise ConfigError(
            f"block_sizes must name 1 to {_MAX_SIZES} different sizes (got {len(sizes)})"
        )
    if sizes[0] < 1:
        raise ConfigError(f"block_sizes must be >= 1 byte each (got {sizes[0]})")
    return tuple(sizes)
