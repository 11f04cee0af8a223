"""The physical footprint of this process on macOS, which counts what the system compressed."""

from __future__ import annotations

import os
import struct
from typing import Any

_RUSAGE_INFO_V0 = 0
# struct rusage_info_v0 of <sys/resource.h>: uuid, user and system time, package idle and interrupt
# wakeups, page-ins, wired, resident, physical footprint, start and exit time.
_LAYOUT = struct.Struct("16s10Q")
_FOOTPRINT = 8

_unread = object()
_function: Any = _unread


def footprint() -> int | None:
    """
    Return the figure that Activity Monitor shows and the system's limits act on, in bytes.

    Resident memory is no measure there: idle pages are compressed and leave it, so that a process
    of gigabytes may show some MiB. None where the system does not tell. Never raises.

    Source: ``proc_pid_rusage`` of ``<libproc.h>``.
    """
    global _function  # noqa: PLW0603 - reason: looked up once, at the first reading
    try:
        if _function is _unread:
            _function = _look_up()
        if _function is None:
            return None
        buffer = bytearray(_LAYOUT.size)
        return None if _function(os.getpid(), _RUSAGE_INFO_V0, buffer) else parse(bytes(buffer))
    except Exception:  # noqa: BLE001 - reason: a figure less beats a dead thread
        return None


def parse(buffer: bytes) -> int | None:
    """Return the physical footprint in a ``struct rusage_info_v0``; None where it is zero."""
    fields = _LAYOUT.unpack(buffer)
    return int(fields[_FOOTPRINT]) or None


def _look_up() -> Any:
    import ctypes  # noqa: PLC0415 - reason: only macOS needs it here

    call = getattr(ctypes.CDLL(None), "proc_pid_rusage", None)
    if call is None:
        return None
    call.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_void_p)
    call.restype = ctypes.c_int

    def into(pid: int, flavor: int, buffer: bytearray) -> int:
        view = (ctypes.c_char * len(buffer)).from_buffer(buffer)
        return int(call(pid, flavor, ctypes.byref(view)))

    return into
