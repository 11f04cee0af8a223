"""
Libraries with allocators of their own, which keep what a program has freed: asked to return it.

Only libraries that the program has loaded are asked, by functions that they document. Nothing is
imported. polars has an allocator, too, and no function that empties it; it returns pages by itself.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class LibraryPool:
    """What a loaded library keeps."""

    name: str
    """The library."""
    release: Callable[[], int | None]
    """Has it return what it keeps; gives the bytes that it says so of, None if it does not."""


def loaded_pools(modules: Mapping[str, Any] | None = None) -> list[LibraryPool]:
    """
    Return the pools of memory that loaded libraries keep. Cost: a µs.

    Args:
        modules: Where to look for libraries; ``sys.modules`` by default.
    """
    found = sys.modules if modules is None else modules
    return [
        LibraryPool(name=name, release=release)
        for name, make in _MAKERS
        if (library := found.get(name)) is not None and (release := make(library)) is not None
    ]


def _pyarrow(library: Any) -> Callable[[], int | None] | None:
    """Arrow's default pool: mimalloc or jemalloc, linked into it. It does not say what it keeps."""
    default = getattr(library, "default_memory_pool", None)
    if default is None or not hasattr(default(), "release_unused"):  # while it is being imported
        return None

    def release() -> None:
        default().release_unused()

    return release


def _torch(library: Any) -> Callable[[], int | None] | None:
    """
    The caches of tensors in the memory of the host: pinned for a device, or shared with Metal's.

    Tensors of the CPU have none: they come from malloc. Nothing is asked before there is a device
    in use, for that would set one up.
    """
    memory = getattr(getattr(library, "accelerator", None), "memory", None)
    if memory is None:
        return None
    cuda = getattr(library, "cuda", None)
    if cuda is not None and cuda.is_initialized() and hasattr(memory, "empty_host_cache"):

        def release() -> int | None:
            kept = _pinned(cuda)
            memory.empty_host_cache()
            left = _pinned(cuda)
            return None if kept is None or left is None else max(0, kept - left)

        return release
    current = library.accelerator.current_accelerator()
    if current is not None and current.type == "mps":

        def release_shared() -> int:
            before = int(library.mps.driver_allocated_memory())
            memory.empty_cache()
            return max(0, before - int(library.mps.driver_allocated_memory()))

        return release_shared
    return None


def _pinned(cuda: Any) -> int | None:
    """Return the bytes of pinned memory that nobody uses; None in a version that does not say."""
    if not hasattr(cuda, "host_memory_stats"):
        return None
    found = cuda.host_memory_stats()
    owned, active = found.get("allocated_bytes.current"), found.get("active_bytes.current")
    return None if owned is None or active is None else int(owned) - int(active)


def allocated_bytes(modules: Mapping[str, Any] | None = None) -> int:
    """
    Return the bytes that loaded libraries have in use in their own pools. Cost: a µs.

    What they have freed there may stay with them, and the process looks as large as before; but
    they use it again.
    """
    library = (sys.modules if modules is None else modules).get("pyarrow")
    total = getattr(library, "total_allocated_bytes", None)
    return 0 if total is None else int(total())


_MAKERS: tuple[tuple[str, Callable[[Any], Callable[[], int | None] | None]], ...] = (
    ("pyarrow", _pyarrow),
    ("torch", _torch),
)
LIBRARIES = frozenset(name for name, _ in _MAKERS)
"""The libraries that are asked, and the names of their steps."""
