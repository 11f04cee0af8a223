"""Is this the main interpreter? Threads and tracing of memguard run only there."""

from __future__ import annotations

import functools
import importlib
import sys

from memguard.errors import LifecycleError

_MODULE = "_interpreters" if sys.version_info >= (3, 13) else "_xxsubinterpreters"


@functools.cache
def is_main() -> bool:
    """Return False in a subinterpreter, as mod_wsgi makes them; True also where that is unknown."""
    try:
        interpreters = importlib.import_module(_MODULE)
        return bool(interpreters.get_current() == interpreters.get_main())
    except (ImportError, AttributeError, RuntimeError):
        return True


def require_main(what: str) -> None:
    """
    Refuse to do *what* in a subinterpreter.

    tracemalloc and the collector's lists belong to the whole process or to one interpreter each,
    and ``tracemalloc.start`` of CPython 3.11 waits for ever where a thread of another interpreter
    allocates.

    Raises:
        LifecycleError: This is a subinterpreter.
    """
    if not is_main():
        raise LifecycleError(
            f"{what} works in the main interpreter only (this is a subinterpreter, where tracing "
            "may block the process); call it in the main one, or with mod_wsgi set "
            "WSGIApplicationGroup %{GLOBAL}"
        )
