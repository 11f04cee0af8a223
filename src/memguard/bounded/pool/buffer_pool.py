"""`BufferPool`: byte buffers over reused blocks, within a fixed number of bytes."""

from __future__ import annotations

import threading
import time
import weakref
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from sys import _getframe
from threading import get_ident
from typing import NoReturn, Self

from memguard.bounded import callsite, inventory, options
from memguard.bounded.counter import Tally
from memguard.bounded.pool.blocks import (
    Block,
    BufferPoolStatistics,
    Ledger,
    Loan,
    check_sizes,
    fill_with_zeros,
    is_exported,
)
from memguard.bounded.pool.checkout import Holder, Losses, Record, holders_of, told
from memguard.errors import ConfigError, LifecycleError, PoolExhaustedError, ValueTooLargeError
from memguard.lifecycle import janitor
from memguard.units import format_bytes, parse_bytes

_NAP = 1.0
_UNWATCHED = -1  # instead of the janitor's epoch

__all__ = ["BufferLease", "BufferPool", "BufferPoolStatistics"]


class BufferPool:
    """
    Lend ``memoryview`` objects over reused blocks of fixed sizes, within *maxbytes*.

    A block that comes back while somebody still holds a slice of it, or an array made from it, is
    quarantined until that is gone: two holders never share memory. See ``docs/pools.md``.

    Bounded by: *maxbytes* bytes of blocks, idle, lent and quarantined together; *block_sizes* must
        fit in it.
    Locks: one mutex around the count of bytes, held while a new block is made.
    Keeps alive: idle and quarantined blocks. A lease dropped without release is counted, its place
        in the code named, and its block recovered.

    Thread-safe. In a forked child it is empty.

    Args:
        block_sizes: Sizes of the blocks, bytes or ``"64KiB"``; a lease gets the smallest that fits.
        maxbytes: Most bytes of all blocks, as a number or ``"64MiB"``.
        zero: Fill what was lent with zeros before anybody else gets it. Without it, the next holder
            can read what the former one wrote.
        name: What reports call this pool; the line that made it by default.

    Raises:
        TypeError: An option of the wrong kind.
        ConfigError: An option out of range.
    """

    def __init__(
        self,
        block_sizes: Iterable[int | str],
        *,
        maxbytes: int | str,
        zero: bool = True,
        name: str | None = None,
    ) -> None:
        self.block_sizes = check_sizes(block_sizes)
        checked = options.check_maxbytes(maxbytes)
        if checked is None:
            raise TypeError("maxbytes must be a number of bytes or a string like '64MiB'")
        self.maxbytes = checked
        if self.block_sizes[-1] > self.maxbytes:
            raise ConfigError(
                f"maxbytes must hold at least one block of {self.block_sizes[-1]} bytes "
                f"(got {self.maxbytes}); raise it, or leave the largest block size out"
            )
        if not isinstance(zero, bool):
            raise TypeError(f"zero must be True or False (got {type(zero).__name__})")
        self.zero = zero
        self.name = callsite.name_for("BufferPool", name)
        self._closed = False
        self._start_empty()
        inventory.register(self, name=self.name, kind="BufferPool", also=(self._lent,))

    def _start_empty(self) -> None:
        self._ledger = Ledger(self.maxbytes)
        self._idle: dict[int, list[Block]] = {size: [] for size in self.block_sizes}
        self._quarantine: deque[tuple[Block, int]] = deque()
        self._dropped: deque[Loan] = deque()
        # The leases hold their loans, and so their blocks; here is only who has them.
        self._lent: dict[int, tuple[weakref.ref[Block], Record]] = {}
        self._created, self._disposed, self._refused = Tally(), Tally(), Tally()
        self._reading = threading.RLock()
        self._losses = Losses(self.name)
        self._watched = _UNWATCHED

    def _after_fork_in_child(self) -> None:
        """Start empty; what was lent before stays with who holds it, and dies with it."""
        self._start_empty()

    # -- lending ------------------------------------------------------------------------------

    def lease(self, nbytes: int | str) -> BufferLease:
        """
        Return a lease of exactly *nbytes* bytes; ``with pool.lease(n) as view`` ends it.

        Cost: some microseconds, and setting the bytes to zero when it ends.

        Args:
            nbytes: Bytes wanted, as a number or ``"64KiB"``.

        Raises:
            ValueTooLargeError: More than the largest block.
            PoolExhaustedError: *maxbytes* is reached; says who holds the blocks.
            LifecycleError: The pool is closed.
            TypeError: *nbytes* is of the wrong kind.
            ConfigError: It is less than 1.
        """
        wanted = parse_bytes(nbytes, name="nbytes")
        if wanted < 1:
            raise ConfigError(f"nbytes must be >= 1 byte (got {nbytes!r})")
        place = bisect_left(self.block_sizes, wanted)
        if place == len(self.block_sizes):
            raise ValueTooLargeError(
                f"buffer pool {self.name!r}: a lease has at most {self.block_sizes[-1]} bytes, "
                f"its largest block (got {wanted}); add a block size, or read in parts"
            )
        if self._closed:
            raise LifecycleError(f"buffer pool {self.name!r} is closed; make a new one")
        if self._dropped or self._quarantine:
            self._settle()
        frame = _getframe(1)
        record = (time.monotonic(), get_ident(), frame.f_code, frame.f_lasti)
        block = self._block(self.block_sizes[place])
        loan = (block, wanted, record)
        self._lent[id(loan)] = (weakref.ref(block), record)
        self._watch()
        return BufferLease(self, loan)

    def _block(self, size: int) -> Block:
        with suppress(IndexError):
            return self._idle[size].pop()
        block = self._ledger.make(size)
        while block is None:
            if not self._drop_one_idle():
                break
            block = self._ledger.make(size)
        if block is None:
            self._look_for_the_lost()
            block = self._ledger.make(size)
        if block is None:
            self._refuse(size)
        self._created.bump()
        return block

    def _look_for_the_lost(self) -> None:
        """Forget blocks that a signal handler, by raising in the midst of our steps, took away."""
        for key, (block, _) in self._lent.copy().items():
            if block() is None:
                self._lent.pop(key, None)
        self._ledger.recount()

    def _drop_one_idle(self) -> int:
        """Give up one idle block, of the largest size there is; return its bytes, 0 for none."""
        for size in reversed(self.block_sizes):
            try:
                block = self._idle[size].pop()
            except IndexError:
                continue
            self._ledger.strike(block)
            self._disposed.bump()
            return size
        return 0

    def _refuse(self, size: int) -> NoReturn:
        self._refused.bump()
        holders = self.holders()
        held = len(self._quarantine)
        aside = f"; {held} blocks are in quarantine, still in use after release" if held else ""
        raise PoolExhaustedError(
            f"buffer pool {self.name!r}: no room for a block of {format_bytes(size)} within "
            f"maxbytes={format_bytes(self.maxbytes)}; {told(holders)}{aside}; "
            f"give them back sooner (with pool.lease(n) as view), or raise maxbytes",
            tuple(map(str, holders)),
        )

    # -- giving back --------------------------------------------------------------------------

    def _take_back(self, loan: Loan) -> None:
        """Take the block of an ended lease; from now on, its memory is the pool's or nobody's."""
        # Lent before a fork, it is not ours: the lease was the last to know it.
        if self._is_lent(loan) and self._lent.pop(id(loan), None) is not None:
            self._shelve(loan[0], loan[1])

    def _is_lent(self, loan: Loan) -> bool:
        entry = self._lent.get(id(loan))
        return entry is not None and entry[0]() is loan[0]

    def _shelve(self, block: Block, used: int) -> None:
        """Put *block* to the idle ones, or into quarantine."""
        if is_exported(block):
            self._quarantine.append((block, used))
            self._watch()
            return
        if self.zero:
            fill_with_zeros(block, used)
        self._idle[len(block)].append(block)
        if self._closed:
            self._drop_all_idle()

    def _settle(self) -> None:
        """Take back what was dropped, and release from quarantine what is free again."""
        while self._dropped:
            try:
                loan = self._dropped.popleft()
            except IndexError:  # another thread took it
                break
            if self._is_lent(loan):
                self._losses.lose(loan[2], "recovered")
            self._take_back(loan)
        for _ in range(len(self._quarantine)):
            try:
                block, used = self._quarantine.popleft()
            except IndexError:  # another thread took it
                break
            self._shelve(block, used)

    def _watch(self) -> None:
        if self._watched != janitor.epoch:  # else it knows us
            self._watched = janitor.epoch
            if not janitor.watch(self):
                self._watched = _UNWATCHED

    def _sweep(self) -> float | None:
        """Do what is due; the janitor calls this."""
        self._settle()
        watched, self._watched = self._watched, _UNWATCHED
        if not (self._quarantine or self._lent):
            return None
        self._watched = watched
        return _NAP

    # -- looking ------------------------------------------------------------------------------

    def holders(self) -> tuple[Holder, ...]:
        """Return who holds blocks now, the oldest first, at most a hundred. Cost: O(leases)."""
        return holders_of([record for _, record in self._lent.copy().values()], time.monotonic())

    def statistics(self) -> BufferPoolStatistics:
        """Return counts since the pool was made. Thread-safe; cost: O(block sizes)."""
        self._settle()
        idle = sum(map(len, self._idle.values()))
        with self._reading:
            counts = {
                "created": self._created.read(),
                "disposed": self._disposed.read(),
                "refused": self._refused.read(),
            }
        return BufferPoolStatistics(
            name=self.name,
            implementation="python",
            maxbytes=self.maxbytes,
            bytes=self._ledger.total,
            blocks=idle + len(self._lent) + len(self._quarantine),
            idle=idle,
            leased=len(self._lent),
            quarantined=len(self._quarantine),
            lost=self._losses.total,
            lost_sites=self._losses.sites(),
            **counts,
        )

    def footprint(self) -> inventory.Footprint:
        """Return the blocks and their bytes: idle, lent and quarantined."""
        idle = sum(map(len, self._idle.values()))
        blocks = idle + len(self._lent) + len(self._quarantine)
        return inventory.Footprint(items=blocks, bytes=self._ledger.total)

    def reclaim(
        self, *, fraction: float | None = None, to_bytes: int | str | None = None
    ) -> inventory.Reclaimed:
        """
        Give up idle blocks, the largest first; lent ones stay with their holders.

        Args:
            fraction: This share of the idle bytes, at least; all of them by default.
            to_bytes: Until the pool has at most this many bytes.

        Raises:
            ConfigError: A goal is out of range.
        """
        self._settle()
        share = 1.0 if fraction is None else options.check_share(fraction, "fraction")
        idle = sum(size * len(blocks) for size, blocks in self._idle.items())
        goal = idle * share
        if to_bytes is not None:
            goal = self._ledger.total - parse_bytes(to_bytes, name="to_bytes")
        items = freed = 0
        while freed < goal:
            size = self._drop_one_idle()
            if not size:
                break
            items += 1
            freed += size
        return inventory.Reclaimed(items=items, bytes=freed)

    def close(self) -> None:
        """Give up idle blocks and leave the inventory; idempotent. Leases go on until their end."""
        if not self._closed:
            self._closed = True
            inventory.unregister(self)
        self._drop_all_idle()

    def _drop_all_idle(self) -> None:
        while self._drop_one_idle():
            pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return (
            f"BufferPool(name={self.name!r}, bytes={self._ledger.total}, maxbytes={self.maxbytes})"
        )


class BufferLease:
    """
    Bytes of a pool, lent until `release`, the end of the ``with`` block, or its own end.

    Bounded by: one block.
    Locks: none of its own.
    Keeps alive: the block and the pool, until it is released.

    Thread-safe: it may be released from any thread.
    """

    __slots__ = ("__weakref__", "_loan", "_pool", "_view")

    def __init__(self, pool: BufferPool, loan: Loan) -> None:
        self._pool = pool
        self._loan: Loan | None = loan
        with memoryview(loan[0]) as whole:
            self._view = whole[: loan[1]]

    @property
    def view(self) -> memoryview:
        """
        The bytes: writable, of the length that was asked for.

        Raises:
            LifecycleError: The lease is over.
        """
        if self._loan is None:
            raise LifecycleError("this lease is over; take a new one from the buffer pool")
        return self._view

    def release(self) -> None:
        """
        End the view and give the block back.

        A view that cannot be ended because something was made from it, such as an array, stays
        usable for who holds it, and its block is lent to nobody until that is gone.

        Raises:
            LifecycleError: It was given back before.
        """
        loan, self._loan = self._loan, None
        if loan is None:
            raise LifecycleError("this lease is over already; a buffer is given back once")
        with suppress(BufferError):
            self._view.release()
        self._pool._take_back(loan)  # noqa: SLF001 - reason: a lease is part of its pool

    def __enter__(self) -> memoryview:
        return self.view

    def __exit__(self, *exc_info: object) -> None:
        if self._loan is not None:  # else it was released within the block
            self.release()

    def __del__(self) -> None:
        loan = self._loan
        if loan is not None:
            self._pool._dropped.append(loan)  # noqa: SLF001 - reason: a lease is part of its pool
