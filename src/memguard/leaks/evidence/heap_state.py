"""The state of the heap at one time, as numbers: objects, containers, and both allocators."""

from __future__ import annotations

import gc
import sys
from dataclasses import dataclass

from memguard.heap import walk
from memguard.leaks.evidence import census
from memguard.leaks.options import DetectorOptions
from memguard.observe.allocator import AllocatorState, read_allocator
from memguard.observe.readings import read_memory

MEAN_BLOCK_BYTES = 64
"""About the mean small block of CPython; the order of magnitude is what counts."""
COLLECT_BLOCKS = 1_000_000
"""Heaps with more blocks are not collected to see what it gives: that would be the stall."""


@dataclass(frozen=True, slots=True)
class HeapState:
    """What the heap was like: numbers only."""

    look: census.Look
    allocator: AllocatorState
    blocks: int
    modules: int
    """Modules imported so far: code that is loaded grows the heap, too."""
    private: int | None = None
    """Memory that only this process holds, bytes."""
    data: int | None = None
    """Address space it may write to, bytes, touched or not."""


def refusal(options: DetectorOptions, headroom: int | None) -> str | None:
    """Return why the heap should not be walked, or None."""
    blocks = walk.too_large(options.max_objects)
    if blocks is not None:
        return f"no census: {blocks:,} blocks are more than max_objects"
    if headroom is not None and headroom < sys.getallocatedblocks() * 16:
        return "no census: too little memory is left below the limit for it"
    return None


def read_state(at: float) -> HeapState:
    """Return the state of the heap, stamped *at*. Cost: see ``census.take_look``."""
    # The allocators first: what the question itself imports is no growth of the program.
    allocator, blocks = read_allocator(), sys.getallocatedblocks()
    modules, row = len(sys.modules), read_memory()
    return HeapState(census.take_look(at), allocator, blocks, modules, row.private, row.data)


def collect() -> int | None:
    """
    Collect garbage and return about how many bytes that gave back; None where it was not done.

    Not done where the collector is off, which is somebody's decision, or the heap is large.
    """
    blocks = sys.getallocatedblocks()
    if not gc.isenabled() or blocks > COLLECT_BLOCKS:
        return None
    in_use = read_allocator().in_use
    gc.collect()
    small = (blocks - sys.getallocatedblocks()) * MEAN_BLOCK_BYTES
    after = read_allocator().in_use
    large = 0 if in_use is None or after is None else in_use - after
    return max(0, small) + max(0, large)
