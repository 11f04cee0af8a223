"""
What uWSGI lets a process of its do: whether threads run in it, and whether it is about to fork.

uWSGI loads an application in one process and forks its workers from that, in C: a thread that
holds the GIL at that moment is missing in the worker, which then waits for it forever and never
serves. Nothing of uWSGI is imported: inside it, its module is there from the start.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable
from typing import Any

NO_THREADS = "uWSGI runs no thread of Python here: start it with --enable-threads"
BEFORE_FORK = (
    "uWSGI forks its workers from this process, and no thread survives that: "
    "call memguard.install(restart_in_children=True), or install() after the fork, "
    "in a function with @uwsgidecorators.postfork; or start uWSGI with --lazy-apps"
)


def _module() -> Any | None:
    found = sys.modules.get("uwsgi")
    return found if callable(getattr(found, "worker_id", None)) else None


def runs_threads() -> bool:
    """Return False inside a uWSGI that never lets go of the GIL while it waits for a request."""
    uwsgi = _module()
    if uwsgi is None:
        return True
    known = getattr(uwsgi, "has_threads", None)  # also true by default, from 2.0.27 on
    if known is None:
        known = uwsgi.opt.get("enable-threads") or uwsgi.opt.get("threads")
    return bool(known)


def is_inside() -> bool:
    """Return whether this is a process of uWSGI."""
    return _module() is not None


def is_before_fork() -> bool:
    """Return whether this process of uWSGI loads the application, and will fork its workers."""
    uwsgi = _module()
    if uwsgi is None or _id(uwsgi.worker_id) or _id(getattr(uwsgi, "mule_id", None)):
        return False
    is_only_one = getattr(uwsgi, "numproc", 0) == 1 and not _master(uwsgi)
    return not is_only_one


def obstacle() -> str | None:
    """Return why no thread should be started in this process now, for people; None: it may be."""
    if not runs_threads():
        return NO_THREADS
    return BEFORE_FORK if is_before_fork() else None


def call_after_fork(call: Callable[[], object]) -> None:
    """
    Call *call* in each worker and mule, after the hooks that are there already.

    Asking again changes nothing. A ``uwsgi.post_fork_hook`` that is assigned later replaces it.
    """
    uwsgi = _module()
    if uwsgi is None or call in _calls:
        return
    _calls.append(call)
    chain = _chain(uwsgi)
    if chain is not None:
        chain.append(call)
        return
    before = getattr(uwsgi, "post_fork_hook", None)

    def hook() -> None:
        try:
            if before is not None:
                before()
        finally:
            call()

    uwsgi.post_fork_hook = hook


def say(text: str) -> None:
    """Write *text* to uWSGI's own log, once: nothing has set up logging yet when it loads."""
    uwsgi = _module()
    if uwsgi is not None and text not in _said:
        _said.add(text)
        with contextlib.suppress(Exception):
            uwsgi.log(f"memguard: {text}")


_calls: list[Callable[[], object]] = []
_said: set[str] = set()


def _id(of: Callable[[], int] | None) -> int:
    return 0 if of is None else int(of())


def _master(uwsgi: Any) -> int:
    return _id(getattr(uwsgi, "masterpid", None))


def _chain(uwsgi: Any) -> list[Callable[[], object]] | None:
    """Return the list of uWSGI's decorators; None without a master, for which they are not made."""
    name = "uwsgidecorators"
    if name not in sys.modules and _master(uwsgi):
        # Imported later, by the application, they would replace the hook.
        mine = {
            attribute: getattr(uwsgi, attribute)
            for attribute in ("post_fork_hook", "spooler")
            if hasattr(uwsgi, attribute)
        }
        with contextlib.suppress(Exception):
            chain: Any = importlib.import_module(name).postfork_chain
            if "post_fork_hook" in mine:
                chain.append(mine.pop("post_fork_hook"))
        for attribute, value in mine.items():
            setattr(uwsgi, attribute, value)
    found = getattr(sys.modules.get(name), "postfork_chain", None)
    return found if isinstance(found, list) else None
