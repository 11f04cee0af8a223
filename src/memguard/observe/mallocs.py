"""
What a `malloc` holds, and how it releases free memory: one class for each that can be asked.

Every class has two methods, which ctypes calls without the GIL. They look up what they need once,
when they are made, in the program that is running.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """What a malloc holds. Bytes; None if unknown."""

    in_use: int | None = None
    """Allocated and not freed; blocks with a mapping of their own included."""
    free: int | None = None
    """Freed by the program and kept."""
    mmapped: int | None = None
    """The part of *in_use* in blocks with a mapping of their own."""
    arena: int | None = None
    """What its heaps take from the system: *in_use* - *mmapped* + *free*."""


class Malloc(Protocol):
    """A `malloc` that can be asked."""

    can_release: bool
    """Whether `release` does something."""

    def sizes(self) -> Sizes:
        """Return what it holds."""

    def release(self) -> bool:
        """Return free memory to the system; True if there may have been some."""


class Glibc:
    """
    The malloc of glibc, by ``mallinfo2`` (2.33 and newer) and ``malloc_trim``.

    The older ``mallinfo`` counts in C ints and lies from 2 GiB on, so it is not used.

    Bounded by: two functions.
    Locks: none; glibc takes the lock of each arena in turn.
    Keeps alive: nothing.

    Source: mallinfo(3), malloc_trim(3).
    """

    # Ten size_t, in this order.
    _FIELDS = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"

    def __init__(self, ctypes_: Any, program: Any) -> None:
        self._info = getattr(program, "mallinfo2", None)
        if self._info is not None:
            fields = [(name, ctypes_.c_size_t) for name in self._FIELDS.split()]
            self._info.argtypes = ()
            self._info.restype = type("Mallinfo2", (ctypes_.Structure,), {"_fields_": fields})
        self._trim = _function(program, "malloc_trim", (ctypes_.c_size_t,), ctypes_.c_int)
        self.can_release = self._trim is not None

    def sizes(self) -> Sizes:
        """Return what it holds; nothing before 2.33."""
        if self._info is None:
            return Sizes()
        found = self._info()
        return Sizes(
            in_use=int(found.uordblks + found.hblkhd),
            free=int(found.fordblks),
            mmapped=int(found.hblkhd),
            arena=int(found.arena),
        )

    def release(self) -> bool:
        """Return free pages to the system."""
        # psutil.heap_trim() is the same call, but keeps the GIL (seen in 7.2.2).
        return self._trim is not None and bool(self._trim(0))


class Jemalloc:
    """
    jemalloc 5, by ``mallctl``: what it counts, and ``arena.<all>.purge``.

    Free memory in the caches of threads is counted as used, and stays.

    Bounded by: one function.
    Locks: none; jemalloc takes the lock of each arena in turn.
    Keeps alive: nothing.

    Source: jemalloc(3).
    """

    _ALL = 4096
    """``MALLCTL_ARENAS_ALL``"""

    def __init__(self, ctypes_: Any, program: Any) -> None:
        size, pointer = ctypes_.c_size_t, ctypes_.c_void_p
        arguments = (ctypes_.c_char_p, pointer, pointer, pointer, size)
        names = ("mallctl", "je_mallctl")
        found = (_function(program, name, arguments, ctypes_.c_int) for name in names)
        self._mallctl = next((each for each in found if each is not None), None)
        self._ctypes = ctypes_
        self.can_release = self._mallctl is not None

    def sizes(self) -> Sizes:
        """Return what it holds; nothing if it was built without statistics."""
        if self._mallctl is None:
            return Sizes()
        epoch = self._ctypes.c_uint64(1)
        length = self._ctypes.sizeof(epoch)
        # It counts anew each time that somebody sets the epoch.
        self._mallctl(b"epoch", None, None, self._ctypes.byref(epoch), length)
        names = (b"stats.allocated", b"stats.resident", b"stats.metadata")
        allocated, resident, metadata = map(self._read, names)
        if allocated is None or resident is None:
            return Sizes()
        return Sizes(in_use=allocated, free=max(0, resident - allocated - (metadata or 0)))

    def _read(self, name: bytes) -> int | None:
        found = self._ctypes.c_size_t()
        length = self._ctypes.c_size_t(self._ctypes.sizeof(found))
        byref = self._ctypes.byref
        failed = self._mallctl is None or self._mallctl(name, byref(found), byref(length), None, 0)
        return None if failed else int(found.value)

    def release(self) -> bool:
        """Have every arena return its unused dirty pages to the system."""
        name = f"arena.{self._ALL}.purge".encode()
        return self._mallctl is not None and not self._mallctl(name, None, None, None, 0)


class Tcmalloc:
    """
    tcmalloc of gperftools, by the C interface of ``MallocExtension``.

    Bounded by: two functions.
    Locks: none; tcmalloc takes that of its page heap.
    Keeps alive: nothing.

    Source: gperftools ``malloc_extension_c.h``.
    """

    def __init__(self, ctypes_: Any, program: Any) -> None:
        arguments = (ctypes_.c_char_p, ctypes_.c_void_p)
        name = "MallocExtension_GetNumericProperty"
        self._property = _function(program, name, arguments, ctypes_.c_int)
        self._release = _function(program, "MallocExtension_ReleaseFreeMemory", (), None)
        self._ctypes = ctypes_
        self.can_release = self._release is not None

    def sizes(self) -> Sizes:
        """Return what it holds."""
        return Sizes(
            in_use=self._read(b"generic.current_allocated_bytes"),
            free=self._read(b"tcmalloc.pageheap_free_bytes"),
        )

    def _read(self, name: bytes) -> int | None:
        found = self._ctypes.c_size_t()
        if self._property is None or not self._property(name, self._ctypes.byref(found)):
            return None
        return int(found.value)

    def release(self) -> bool:
        """Return the free pages of the page heap to the system."""
        if self._release is None:
            return False
        self._release()
        return True


class Mimalloc:
    """
    mimalloc, by ``mi_collect``: the heap of the calling thread, and those that threads left.

    Bounded by: one function.
    Locks: none.
    Keeps alive: nothing.

    Source: ``mimalloc.h``.
    """

    def __init__(self, ctypes_: Any, program: Any) -> None:
        self._collect = _function(program, "mi_collect", (ctypes_.c_bool,), None)
        self.can_release = self._collect is not None

    def sizes(self) -> Sizes:
        """Return nothing: it tells its statistics to people only."""
        return Sizes()

    def release(self) -> bool:
        """Return free pages to the system."""
        if self._collect is None:
            return False
        self._collect(True)
        return True


KINDS: dict[str, type[Glibc | Jemalloc | Tcmalloc | Mimalloc]] = {
    "glibc": Glibc,
    "jemalloc": Jemalloc,
    "tcmalloc": Tcmalloc,
    "mimalloc": Mimalloc,
}
"""By the name of the allocator; all others cannot be asked."""


def _function(program: Any, name: str, arguments: tuple[Any, ...], result: Any) -> Any:
    """Return a C function of *program*, with its types; None if it has no such."""
    function = getattr(program, name, None)
    if function is not None:
        function.argtypes = arguments
        function.restype = result
    return function
