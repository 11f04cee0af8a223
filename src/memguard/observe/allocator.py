"""Which malloc does this process run on, how much free memory does it keep, can it be trimmed?"""

from __future__ import annotations

import functools
import os
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Literal

from memguard.observe.mallocs import KINDS, Malloc, Sizes

AllocatorName = Literal[
    "glibc", "musl", "jemalloc", "mimalloc", "tcmalloc", "macos", "windows", "unknown"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class AllocatorState:
    """What the C allocator of this process holds. Bytes; None if unknown."""

    name: AllocatorName
    """The allocator that ``malloc`` really resolves to, preloaded ones included."""
    python: str
    """Python's own allocator over it: pymalloc, malloc or mimalloc, ``_debug`` if it checks."""
    library: str | None = None
    """The file that ``malloc`` comes from."""
    in_use: int | None = None
    """Allocated and not freed; blocks with a mapping of their own included."""
    free: int | None = None
    """Freed by the program and kept by the allocator: the most that trimming could return."""
    mmapped: int | None = None
    """The part of *in_use* in blocks with a mapping of their own."""
    arena: int | None = None
    """What the heaps of the allocator take from the system: *in_use* - *mmapped* + *free*."""
    can_trim: bool = False
    """True if `trim` does something."""


def read_allocator() -> AllocatorState:
    """
    Return which allocator this process runs on and what it holds. Never raises.

    Sizes are those of glibc (2.33 and newer), jemalloc 5 and tcmalloc; of others None.

    Thread-safe: yes. Cost: each arena's lock is taken in turn, and on glibc its free lists are
    walked; microseconds in a tidy heap, milliseconds in a shredded one. The GIL is released. The
    first call loads ctypes.
    """
    libc = _libc()
    if libc is None:
        return AllocatorState(name=_system_name(), python=_python_allocator())
    sizes = Sizes() if libc.malloc is None else libc.malloc.sizes()
    return AllocatorState(
        name=libc.name,
        python=_python_allocator(),
        library=libc.library,
        in_use=sizes.in_use,
        free=sizes.free,
        mmapped=sizes.mmapped,
        arena=sizes.arena,
        can_trim=libc.malloc is not None and libc.malloc.can_release,
    )


def trim() -> bool | None:
    """
    Return free memory of the C allocator to the system.

    Cost: it holds the lock of each arena while it walks it, up to a second with tens of GiB, and
    threads that allocate there wait. The GIL is released. Not for a request's thread.

    Returns:
        True when memory was returned, False when there was none to return, None when this process
        does not run on the malloc of glibc, jemalloc, tcmalloc or mimalloc: then nothing was done.
    """
    libc = _libc()
    if libc is None or libc.malloc is None or not libc.malloc.can_release:
        return None
    return libc.malloc.release()


@dataclass(frozen=True, slots=True)
class _Libc:
    name: AllocatorName
    library: str | None
    malloc: Malloc | None


def prepare() -> None:
    """
    Look the allocator up now, in the caller's thread: what starts a thread calls this first.

    It imports ctypes, and asks sysconfig, which has a lock from 3.12 on. A fork while another
    thread is in one of them leaves its lock held in the child forever, and what needs it there
    waits as long.
    """
    _libc()
    _python_allocator()


@functools.cache
def _libc() -> _Libc | None:
    """Return the C library's allocator, looked up once; None if there is none to look up."""
    try:
        return None if sys.platform == "win32" else _look_up()
    except (ImportError, OSError, AttributeError, TypeError, ValueError):
        return None


def _look_up() -> _Libc:
    import ctypes  # noqa: PLC0415 - reason: 5 ms and half a MiB that importing memguard does not spend

    program = ctypes.CDLL(None)
    library = _library_of(ctypes, program, "malloc")
    if library == _library_of(ctypes, program, "PyMem_RawMalloc"):
        # Linked into the interpreter; or it takes the address of `malloc` and is not position
        # independent (Debian's CPython 3.14): then that address is one of its own. Nobody takes
        # the address of `calloc`.
        library = _library_of(ctypes, program, "calloc")
    name = identify(library, symbols=frozenset(s for s in _SIGNS if hasattr(program, s)))
    kind = KINDS.get(name)
    return _Libc(name, library, None if kind is None else kind(ctypes, program))


def _structure(ctypes_: Any, fields: dict[str, Any]) -> Any:
    return type("Structure", (ctypes_.Structure,), {"_fields_": list(fields.items())})


def _library_of(ctypes_: Any, program: Any, symbol: str) -> str | None:
    """Return the file that *symbol* really resolves to, by ``dladdr``; None when unknown."""
    dladdr = getattr(program, "dladdr", None)
    if dladdr is None:
        return None
    text, address = ctypes_.c_char_p, ctypes_.c_void_p
    # Dl_info: dladdr(3).
    info = _structure(ctypes_, {"file": text, "base": address, "name": text, "address": address})()
    dladdr.argtypes = (address, address)
    dladdr.restype = ctypes_.c_int
    if not dladdr(ctypes_.cast(getattr(program, symbol), address), ctypes_.byref(info)):
        return None
    return os.fsdecode(info.file) if info.file else None


_SIGNS: dict[str, AllocatorName] = {
    "mallctl": "jemalloc",
    "mi_version": "mimalloc",
    "tc_version": "tcmalloc",
    "MallocExtension_ReleaseFreeMemory": "tcmalloc",
    "gnu_get_libc_version": "glibc",
}
"""A symbol that only this allocator exports."""


def identify(library: str | None, *, symbols: frozenset[str]) -> AllocatorName:
    """
    Return the allocator that lives in *library*, the file ``malloc`` resolves to.

    A library that is merely loaded (numpy and torch bring allocators of their own) does not count;
    one whose ``malloc`` is the program's ``malloc`` does. Symbols decide only if the file's
    name does not: an allocator linked into the interpreter itself.
    """
    file = PurePath(library or "").name.lower()
    for sign in ("jemalloc", "mimalloc", "tcmalloc"):
        if sign in file:
            return sign
    if "musl" in file:
        return "musl"
    if file.startswith(("libc.so", "libc-2.")):
        return "glibc" if "gnu_get_libc_version" in symbols else "musl"
    if sys.platform == "darwin":
        return "macos"
    for symbol, name in _SIGNS.items():
        # The interpreter's own malloc next to a dynamic glibc is by no means glibc's.
        if symbol in symbols and name != "glibc":
            return name
    return "unknown"


def _system_name() -> AllocatorName:
    return {"win32": "windows", "darwin": "macos"}.get(sys.platform, "unknown")  # type: ignore[return-value]  # reason: all values are names


@functools.cache  # fixed before the first line runs
def _python_allocator() -> str:
    return python_allocator(
        asked="" if sys.flags.ignore_environment else os.environ.get("PYTHONMALLOC", ""),
        counts_blocks=sys.getallocatedblocks() > 0,
        dev_mode=sys.flags.dev_mode,
        free_threaded=bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
    )


def python_allocator(
    *, asked: str, counts_blocks: bool, dev_mode: bool, free_threaded: bool
) -> str:
    """
    Return the name of Python's allocator as PYTHONMALLOC spells it.

    Args:
        asked: The value of PYTHONMALLOC, empty if it is not set or ignored. It may have been
            changed since the start, so the block count overrules it.
        counts_blocks: ``sys.getallocatedblocks()`` is above 0, as it never is with plain malloc.
        dev_mode: ``-X dev`` is on, which adds the debug hooks unless PYTHONMALLOC overrides it.
        free_threaded: The build has no GIL; such a build runs on mimalloc.
    """
    checks = "_debug" if asked.endswith("debug") or (dev_mode and not asked) else ""
    if not counts_blocks:
        return f"malloc{checks}"
    if free_threaded or asked.startswith("mimalloc"):
        return f"mimalloc{checks}"
    return f"pymalloc{checks}"
