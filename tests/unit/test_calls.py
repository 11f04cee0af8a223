"""Which lines call C code meanwhile: what counts as such, and that the host notices nothing."""

from __future__ import annotations

import ctypes
import functools
import os
import sqlite3
import sys
import threading
import types
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from memguard.leaks.evidence import calls
from memguard.leaks.evidence.calls import MOST, Calls, CallSite, callee_of

needs_monitoring = pytest.mark.skipif(
    calls.unsupported() is not None, reason="sys.monitoring came with 3.12, and needs a GIL here"
)
monitoring: Any = getattr(sys, "monitoring", None)
HERE = __file__
STRLEN = ctypes.CDLL(None).strlen


class Plain:
    """A class of Python."""

    def __call__(self) -> None:
        """Do nothing."""


class Connection(sqlite3.Connection):
    """A class of Python that C code makes."""


def function() -> None:
    """Do nothing."""


@pytest.mark.parametrize(
    "call",
    [
        len,
        "text".upper,
        str.upper,
        dict.update,
        [].append,
        str,
        object,
        Plain,
        Plain(),
        Plain().__call__,
        function,
        functools.partial(function),
        os.getpid,
        None,
    ],
)
def test_what_python_itself_allocates_is_left_out(call: object) -> None:
    assert callee_of(call) is None


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (zlib.compress, "zlib.compress"),
        (sqlite3.Connection.close, "sqlite3.Connection.close"),
        (sqlite3.Connection, "sqlite3.Connection"),
        (sqlite3.connect(":memory:").execute, "sqlite3.Connection.execute"),
    ],
)
def test_modules_that_pass_memory_on_to_a_c_library_are_named(call: object, name: str) -> None:
    assert callee_of(call) == name


def test_a_function_of_ctypes_is_named() -> None:
    assert callee_of(STRLEN) == "strlen (ctypes)"


def test_naming_runs_no_code_of_the_host() -> None:
    class Meta(type):
        def __getattribute__(cls, name: str) -> object:
            raise AssertionError(name)

    class Hostile(metaclass=Meta):
        def __getattribute__(self, name: str) -> object:
            raise AssertionError(name)

        def __call__(self) -> None:
            """Do nothing."""

    assert callee_of(Hostile) is None
    assert callee_of(Hostile()) is None


def test_why_calls_are_not_watched_is_said() -> None:
    reason = calls.unsupported()
    if sys.version_info < (3, 12):
        assert reason == "which lines called C code meanwhile can be seen from CPython 3.12 on"
    else:
        assert reason is None or "GIL" in reason


def _compress() -> None:
    zlib.compress(b"x")


@pytest.fixture
def compress() -> Callable[[], None]:
    """A function whose instructions no test before has seen."""
    return types.FunctionType(_compress.__code__.replace(), globals())


@pytest.fixture
def watched() -> Iterator[Calls]:
    burst = Calls()
    assert burst.start() is None
    yield burst
    burst.abandon()


def of_this_file(burst: Calls) -> list[CallSite]:
    """End *burst*; return what it saw here: a plugin of pytest may seed a library meanwhile."""
    return [site for site in burst.end() if any(file == HERE for file, _ in site.stack)]


def in_a_thread(call: Callable[[], object]) -> None:
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()


@needs_monitoring
class TestBurst:
    def test_the_line_in_another_thread_is_seen(
        self, watched: Calls, compress: Callable[[], None]
    ) -> None:
        in_a_thread(compress)
        (site,) = [each for each in watched.end() if each.callee == "zlib.compress"]
        assert site.stack[0] == (HERE, compress.__code__.co_firstlineno + 1)
        assert site.calls == 1

    def test_an_instruction_is_counted_so_many_times_only(
        self, watched: Calls, compress: Callable[[], None]
    ) -> None:
        for _ in range(MOST + 5):
            compress()
        (site,) = [each for each in watched.end() if each.callee == "zlib.compress"]
        assert (site.calls, site.place) == (MOST, 1)

    def test_extensions_come_before_the_standard_library(
        self, watched: Calls, compress: Callable[[], None]
    ) -> None:
        for _ in range(MOST):
            compress()
        STRLEN(b"")
        assert [each.callee for each in of_this_file(watched)] == [
            "strlen (ctypes)",
            "zlib.compress",
        ]

    def test_a_library_is_followed_up_to_the_users_line(self, watched: Calls) -> None:
        namespace: dict[str, Any] = {"compress": zlib.compress}
        library = compile("def pack(): compress(b'')", os.__file__, "exec")
        exec(library, namespace)  # noqa: S102 - reason: code that says it is of the standard library
        namespace["pack"]()
        (site,) = [each for each in watched.end() if each.callee == "zlib.compress"]
        assert [file for file, _ in site.stack] == [os.__file__, HERE]

    def test_the_tool_id_is_handed_back(self, watched: Calls, compress: Callable[[], None]) -> None:
        assert "memguard" in [monitoring.get_tool(each) for each in calls.TOOL_IDS]
        watched.end()
        assert [monitoring.get_tool(each) for each in calls.TOOL_IDS] == [None, None]
        compress()
        assert of_this_file(watched) == []

    def test_a_tool_of_the_host_is_as_it_was(self, compress: Callable[[], None]) -> None:
        seen: list[str] = []

        def on_line(code: Any, _: int) -> Any:
            if code is compress.__code__:
                seen.append("line")
            return monitoring.DISABLE

        monitoring.use_tool_id(1, "a coverage tool")
        try:
            monitoring.register_callback(1, monitoring.events.LINE, on_line)
            monitoring.set_events(1, monitoring.events.LINE)
            compress()
            before = list(seen)
            burst = Calls()
            assert burst.start() is None
            compress()
            assert len(of_this_file(burst)) == 1
            compress()
            assert monitoring.get_tool(1) == "a coverage tool"
            assert monitoring.get_events(1) == monitoring.events.LINE
            assert seen == before == ["line"]  # what it had disabled stays so
        finally:
            monitoring.set_events(1, 0)
            monitoring.free_tool_id(1)

    def test_without_a_free_tool_id_nothing_is_watched(self) -> None:
        for each in calls.TOOL_IDS:
            monitoring.use_tool_id(each, "the host's")
        try:
            assert "no tool id" in str(Calls().start())
            assert [monitoring.get_tool(each) for each in calls.TOOL_IDS] == ["the host's"] * 2
        finally:
            for each in calls.TOOL_IDS:
                monitoring.free_tool_id(each)

    def test_no_memory_while_watching_is_no_error_of_the_host(
        self,
        watched: Calls,
        compress: Callable[[], None],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def fail(call: object) -> None:
            if call is zlib.compress:
                raise MemoryError

        monkeypatch.setattr(calls, "callee_of", fail)
        compress()
        assert of_this_file(watched) == []

    def test_the_error_of_a_signal_handler_is_the_hosts(
        self,
        watched: Calls,
        compress: Callable[[], None],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Such a handler may run in the middle of the callback."""

        def interrupt(call: object) -> None:
            if call is zlib.compress:
                raise TimeoutError

        monkeypatch.setattr(calls, "callee_of", interrupt)
        with pytest.raises(TimeoutError):
            compress()
        assert of_this_file(watched) == []

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
    def test_a_forked_child_has_no_burst(self, watched: Calls) -> None:
        child = os.fork()
        if child == 0:
            left = [monitoring.get_tool(each) for each in calls.TOOL_IDS]
            os._exit(0 if left == [None, None] and watched.seconds == 0.0 else 1)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert "memguard" in [monitoring.get_tool(each) for each in calls.TOOL_IDS]
