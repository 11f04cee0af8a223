"""Where a path may end, and what must not happen to running functions on the way."""

from __future__ import annotations

import sys
import threading
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from memguard.leaks.holders.anchors import Anchors
from tests import strangers

OLD = sys.version_info < (3, 13)
TRACED = OLD and (sys.gettrace() or threading.gettrace()) is not None


@contextmanager
def running(function: Callable[..., Any], *arguments: Any) -> Iterator[list[Any]]:
    """Run *function* in a thread until the block ends; its result is in the list afterwards."""
    started, gate = threading.Event(), threading.Event()
    result: list[Any] = []

    def run() -> None:
        result.append(function(*arguments, started, gate))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert started.wait(20)
        yield result
    finally:
        gate.set()
        thread.join(20)


def names(*wanted: object) -> list[str]:
    """Return how the locals of running functions name *wanted*."""
    anchors = Anchors({})
    found = list(anchors.locals_holding(set(map(id, wanted))))
    return [anchors.of([local, None]).name for local, _ in found]  # type: ignore[union-attr] # reason: a local always is one


def plain(held: object, started: threading.Event, gate: threading.Event) -> object:
    variable = held
    started.set()
    gate.wait(20)
    return variable


def with_exec(started: threading.Event, gate: threading.Event) -> object:
    exec("made_by_exec = 7")  # noqa: S102 - reason: this is what is tested
    started.set()
    gate.wait(20)
    return eval("locals().get('made_by_exec')")  # noqa: S307 - reason: likewise


def traced(started: threading.Event, gate: threading.Event) -> object:
    """Set a trace function that is at work when the search looks."""

    def trace(frame: types.FrameType, event: str, argument: object) -> Any:  # noqa: ARG001 - reason: the signature of a trace function
        if event == "line" and not started.is_set():
            started.set()
            gate.wait(20)
        return trace

    def victim() -> tuple[int, int]:
        first = 1
        second = 2
        return first, second

    sys.settrace(trace)
    try:
        return victim()
    finally:
        sys.settrace(None)


def profiled(started: threading.Event, gate: threading.Event) -> object:
    """Set a profile function that is at work when the search looks."""
    armed: list[int] = []

    def profile(frame: types.FrameType, event: str, argument: object) -> None:  # noqa: ARG001 - reason: the signature of a profile function
        if event == "c_call" and armed and not started.is_set():
            started.set()
            gate.wait(20)

    def victim() -> tuple[int, int]:
        first = 1
        armed.append(1)
        second = len("ab")
        return first, second

    sys.setprofile(profile)
    try:
        return victim()
    finally:
        sys.setprofile(None)


@pytest.mark.skipif(TRACED, reason="while a tracer is at work, locals are not looked at")
def test_a_local_of_a_running_function_is_named_with_its_line() -> None:
    held: list[int] = []
    line = plain.__code__.co_firstlineno + 3
    with running(plain, held):
        found = names(held)
    assert f"local 'variable' of running function {__name__}.plain (line {line})" in found


@pytest.mark.skipif(TRACED, reason="while a tracer is at work, locals are not looked at")
def test_the_locals_of_the_user_rank_before_those_of_a_library() -> None:
    held: list[int] = []
    with running(plain, held):
        anchors = Anchors({})
        ranks = {
            anchor.name.split("'")[1]: anchor.rank
            for local, _ in anchors.locals_holding([id(held)])
            if (anchor := anchors.of([local, None])) is not None
        }
    assert ranks["variable"] == 0


def test_a_function_under_a_trace_function_keeps_its_variables() -> None:
    """Up to CPython 3.12 a trace function's return writes the locals dict back to the variables."""
    with running(traced) as result:
        names([])
    assert result == [(1, 2)]


def test_a_function_under_a_profile_function_keeps_its_variables() -> None:
    with running(profiled) as result:
        names([])
    assert result == [(1, 2)]


@pytest.mark.skipif(not OLD, reason="since PEP 667 exec has no lasting effect on locals")
def test_names_made_by_exec_stay() -> None:
    with running(with_exec) as result:
        names([])
    assert result == [7]


def test_frames_of_strangers_do_not_break_the_search() -> None:
    """Globals may be a dict of any kind, and ``__name__`` anything."""
    namespace = strangers.HostileDict()
    for name, value in (("__name__", None), ("__builtins__", __builtins__)):
        dict.__setitem__(namespace, name, value)
    source = "def function(held, started, gate):\n    started.set()\n    gate.wait(20)\n"
    code = next(
        constant
        for constant in compile(source, "<made up>", "exec").co_consts
        if isinstance(constant, types.CodeType)
    )
    held: list[int] = []
    strangers.touched.clear()
    with running(types.FunctionType(code, namespace), held):
        found = names(held)
    assert strangers.touched == []
    if not TRACED:
        assert "local 'held' of running function ?.function (line 3)" in found


def test_modules_that_are_none_do_not_break_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    """``sys.modules`` may hold None, lazy modules and lies."""
    monkeypatch.setitem(sys.modules, "none", None)
    monkeypatch.setitem(sys.modules, "lazy", strangers.HostileModule("lazy"))
    monkeypatch.setitem(sys.modules, "lie", strangers.Proxy([]))
    strangers.touched.clear()
    anchors = Anchors({})
    assert anchors.is_module_dict(vars(sys))
    assert strangers.touched == []


def test_nothing_is_known_after_close() -> None:
    container: list[int] = []
    anchors = Anchors({id(container): ("name", "kind")})
    assert anchors.of([container]) is not None
    anchors.close()
    assert anchors.of([container]) is None
    assert not anchors.is_module_dict(vars(sys))


def test_the_name_of_a_container_carries_no_control_characters() -> None:
    container: list[int] = []
    anchor = Anchors({id(container): ("a\x1b[31m", "BoundedCache")}).of([container])
    assert anchor is not None
    assert anchor.name == "BoundedCache 'a?[31m'"
