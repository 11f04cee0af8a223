"""`BufferPool`: byte buffers over reused blocks, within a fixed number of bytes."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterable
from contextlib import suppress
from sys import _getframe
from threading import get_ident
from typing import NoReturn, Self

from memguard.bounded import callsite, inventory, options
from memguard.bounded.pool.blocks import Block, Blocks, Loan, check_sizes
from memguard.bounded.pool.checkout import Holder, Record, describe_holders, holders_of
from memguard.bounded.pool.stats import BufferPoolStatistics, Counts
from memguard.bounded.pool.watch import NAP, Watch
from memguard.errors import ConfigError, LifecycleError, PoolExhaustedError, ValueTooLargeError
from memguard.lifecycle import fork
from memguard.units import format_bytes, parse_bytes


class BufferPool:
    """
    Lend ``memoryview`` objects over reused blocks of fixed sizes, within *maxbytes*.

    A block that is released while a slice of it, or an array made from it, is still in use, is
    quarantined until that is gone: two holders never share memory. See ``docs/pools.md``.

    Bounded by: *maxbytes* bytes of blocks, idle, lent and quarantined together; *block_sizes* must
        fit in it.
    Locks: one re-entrant mutex, held while a new block is made, not while one is zeroed.
    Keeps alive: its blocks. A lease dropped without release is counted, its line named, and its
        block recovered.

    Thread-safe. In a forked child it is empty.

    Args:
        block_sizes: Sizes of the blocks, bytes or ``"64KiB"``; a lease gets the smallest that fits.
        maxbytes: Most bytes of all blocks, as a number or ``"64MiB"``.
        zero: Zero a block before it is lent again. Without this, the next holder
            can read what the previous one wrote.
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
        self.maxbytes = options.check_bytes(maxbytes, "maxbytes")
        if self.block_sizes[-1] > self.maxbytes:
            raise ConfigError(
                f"maxbytes must hold at least one block of {self.block_sizes[-1]} bytes "
                f"(got {self.maxbytes}); raise it, or leave the largest block size out"
            )
        self.zero = options.check_flag(zero, "zero")
        self.name = callsite.name_for("BufferPool", name)
        self._closed = False
        self._watch = Watch(self)
        self._start_empty()
        inventory.register(self, name=self.name, kind="BufferPool", also=(self._blocks.lent,))

    def _start_empty(self) -> None:
        self._blocks = Blocks(self.block_sizes, self.maxbytes)
        self._counts = Counts(self.name)

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
            PoolExhaustedError: *maxbytes* is reached; the message names the holders.
            LifecycleError: The pool is closed.
            TypeError: *nbytes* is of the wrong kind.
            ConfigError: It is less than 1.
        """
        fork.check()
        wanted = options.check_bytes(nbytes, "nbytes")
        place = bisect_left(self.block_sizes, wanted)
        if place == len(self.block_sizes):
            raise ValueTooLargeError(
                f"buffer pool {self.name!r}: a lease has at most {self.block_sizes[-1]} bytes, "
                f"its largest block (got {wanted}); add a block size, or read in parts"
            )
        if self._closed:
            raise LifecycleError(f"buffer pool {self.name!r} is closed; make a new one")
        self._settle()
        frame = _getframe(1)
        record = (time.monotonic(), get_ident(), frame.f_code, frame.f_lasti)
        lease = BufferLease(self, self._block(self.block_sizes[place]), wanted, record)
        self._watch.ensure()
        return lease

    def _block(self, size: int) -> Block:
        blocks = self._blocks
        block = blocks.take_idle(size)
        if block is not None:
            return block
        block = blocks.make(size)
        while block is None and self._drop_idle():
            block = blocks.make(size)
        if block is None:
            blocks.recount()
            self._settle()
            block = blocks.take_idle(size) or blocks.make(size)
        if block is None:
            self._refuse(size)
        self._counts.add("created")
        return block

    def _drop_idle(self) -> int:
        """Give up one idle block; return its bytes, 0 for none."""
        size = self._blocks.drop_idle()
        if size:
            self._counts.add("disposed")
        return size

    def _refuse(self, size: int) -> NoReturn:
        self._counts.add("refused")
        holders = self.holders()
        held = len(self._blocks.quarantine)
        aside = f"; {held} blocks are in quarantine, still in use after release" if held else ""
        raise PoolExhaustedError(
            f"buffer pool {self.name!r}: no room for a block of {format_bytes(size)} within "
            f"maxbytes={format_bytes(self.maxbytes)}; {describe_holders(holders)}{aside}; "
            f"release them sooner (with pool.lease(n) as view), or raise maxbytes",
            tuple(map(str, holders)),
        )

    # -- releasing ----------------------------------------------------------------------------

    def _take_back(self, loan: Loan) -> bool:
        """Take the block of an ended lease; return whether it was lent until now."""
        if not self._blocks.end(loan):
            return False
        self._shelve(loan.block, loan.nbytes)
        return True

    def _shelve(self, block: Block, used: int) -> None:
        self._blocks.shelve(block, used, zero=self.zero)
        if self._closed:
            self._drop_all_idle()

    def _settle(self) -> None:
        """Take back what was dropped, and what may leave the quarantine."""
        blocks = self._blocks
        while blocks.lost:
            with suppress(IndexError):  # another thread took it
                loan = blocks.lost.popleft()
                if self._take_back(loan):
                    self._counts.lose(loan.record, "recovered")
        if blocks.quarantine:
            for block, used in blocks.take_quarantined():
                self._shelve(block, used)

    def _sweep(self) -> float | None:
        """Do what is due; the janitor calls this."""
        self._settle()
        self._watch.suspend()
        if not (self._blocks.quarantine or self._blocks.lent):
            return None
        self._watch.resume()
        return NAP

    # -- looking ------------------------------------------------------------------------------

    def holders(self) -> tuple[Holder, ...]:
        """Return who holds blocks now, the oldest first, at most a hundred. Cost: O(leases)."""
        loans = self._blocks.lent.copy().values()
        return holders_of([loan.record for loan in loans], time.monotonic())

    def statistics(self) -> BufferPoolStatistics:
        """Return counts since the pool was made. Thread-safe; cost: O(block sizes)."""
        self._settle()
        idle, leased, quarantined = self._blocks.count()
        counts = self._counts
        return BufferPoolStatistics(
            name=self.name,
            implementation="python",
            maxbytes=self.maxbytes,
            bytes=self._blocks.total,
            blocks=idle + leased + quarantined,
            idle=idle,
            leased=leased,
            quarantined=quarantined,
            created=counts["created"],
            disposed=counts["disposed"],
            refused=counts["refused"],
            lost=counts["lost"],
            lost_sites=counts.sites(),
        )

    def footprint(self) -> inventory.Footprint:
        """Return the blocks and their bytes: idle, lent and quarantined."""
        return inventory.Footprint(items=sum(self._blocks.count()), bytes=self._blocks.total)

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
        idle = sum(size * len(blocks) for size, blocks in self._blocks.idle.items())
        goal = idle * share
        if to_bytes is not None:
            goal = self._blocks.total - parse_bytes(to_bytes, name="to_bytes")
        items = freed = 0
        while freed < goal:
            size = self._drop_idle()
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
        while self._drop_idle():
            pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return (
            f"BufferPool(name={self.name!r}, bytes={self._blocks.total}, maxbytes={self.maxbytes})"
        )


class BufferLease:
    """
    Bytes of a pool, lent until `release`, the end of the ``with`` block, or its own end.

    Bounded by: one block.
    Locks: that of the pool, for a few steps.
    Keeps alive: the block and the pool, until it is released.

    Thread-safe: it may be released from any thread.
    """

    __slots__ = ("__weakref__", "_loan", "_pool", "_view")

    def __init__(self, pool: BufferPool, block: Block, nbytes: int, record: Record) -> None:
        self._pool = pool
        with memoryview(block) as whole:
            self._view = whole[:nbytes]
        self._loan: Loan | None = pool._blocks.lend(self, block, nbytes, record)  # noqa: SLF001 - reason: a lease is part of its pool

    @property
    def view(self) -> memoryview:
        """
        The bytes: writable, of the requested length.

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
        usable by its holder, and its block is not lent again until that is gone.

        Raises:
            LifecycleError: It is over already.
        """
        loan, self._loan = self._loan, None
        if loan is None:
            raise LifecycleError("this lease is already over; release it once")
        with suppress(BufferError):
            self._view.release()
        self._pool._take_back(loan)  # noqa: SLF001 - reason: a lease is part of its pool

    def __enter__(self) -> memoryview:
        return self.view

    def __exit__(self, *exc_info: object) -> None:
        if self._loan is not None:  # else it was released within the block
            self.release()
