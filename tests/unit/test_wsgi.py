"""The WSGI middleware: PEP 3333 to the letter, and a scope for each request."""

from __future__ import annotations

import gc
import io
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from wsgiref.util import FileWrapper, setup_testing_defaults
from wsgiref.validate import validator

import pytest

from memguard import MemoryGuard, Scope
from memguard.integrations.web.requests import RequestWatch
from memguard.integrations.web.wsgi import MemguardMiddleware
from tests.web.waiting import make_critical


def environ(path: str = "/secret/42", *, wrapper: Any = None) -> dict[str, Any]:
    made: dict[str, Any] = {"SCRIPT_NAME": "", "PATH_INFO": path, "QUERY_STRING": ""}
    if wrapper is not None:
        made["wsgi.file_wrapper"] = wrapper
    setup_testing_defaults(made)
    return made


class Server:
    """The server's side: it calls, iterates and closes."""

    def __init__(self, app: Callable[..., Any], watch: RequestWatch | None = None) -> None:
        self.watch = watch or RequestWatch(sample=1.0, warmup=0)
        self.app = MemguardMiddleware(app, watch=self.watch)
        self.started: list[Any] = []
        self.written: list[bytes] = []

    def start_response(self, *arguments: Any) -> Callable[[bytes], None]:
        self.started.append(arguments)
        return self.written.append

    def call(self, environment: dict[str, Any] | None = None) -> Any:
        return self.app(environment or environ(), self.start_response)

    def serve(self, environment: dict[str, Any] | None = None) -> bytes:
        body = self.call(environment)
        try:
            return b"".join(body)
        finally:
            if hasattr(body, "close"):
                body.close()

    @property
    def in_flight(self) -> int:
        return self.watch.statistics().in_flight


class Body:
    """A body that says when it was closed."""

    def __init__(self, seen: list[str], *blocks: bytes) -> None:
        self.seen = seen
        self.blocks = blocks

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.blocks)

    def close(self) -> None:
        self.seen.append("closed")


def test_the_scope_is_closed_after_the_body() -> None:
    seen: list[str] = []

    def app(env: Any, start_response: Any) -> Iterable[bytes]:
        env["memguard.scope"].defer(seen.append, "ended")
        start_response("200 OK", [("Content-Type", "text/plain")])
        return Body(seen, b"one", b"two")

    server = Server(app)
    body = server.call()
    assert (b"".join(body), seen, server.in_flight) == (b"onetwo", [], 1)
    body.close()
    body.close()
    assert (seen, server.in_flight) == (["closed", "ended"], 0)
    assert server.watch.statistics().routes[0].count == 1


def test_a_generator_runs_when_it_is_iterated_and_is_closed_with_its_scope() -> None:
    seen: list[str] = []

    def app(env: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        env["memguard.scope"].defer(seen.append, "ended")
        try:
            yield b"one"
            yield b"two"
        finally:
            seen.append("finally")

    server = Server(app)
    body = server.call()
    assert not server.started
    assert next(iter(body)) == b"one"  # and then the client goes away
    body.close()
    assert seen == ["finally", "ended"]
    assert server.in_flight == 0


def test_an_error_passes_unchanged() -> None:
    mistake = ValueError("mine")
    scopes: list[Scope] = []

    def app(env: Any, _start_response: Any) -> Iterable[bytes]:
        scopes.append(env["memguard.scope"])
        raise mistake

    server = Server(app)
    with pytest.raises(ValueError, match="mine") as caught:
        server.call()
    assert caught.value is mistake
    assert scopes[0].closed
    assert (server.in_flight, server.watch.statistics().failed) == (0, 1)


def test_an_error_of_a_generator_passes_and_is_counted() -> None:
    def app(_env: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b"one"
        raise ValueError("mine")

    server = Server(app)
    with pytest.raises(ValueError, match="mine"):
        server.serve()
    assert (server.in_flight, server.watch.statistics().routes[0].failed) == (0, 1)


def test_an_error_of_close_passes_and_the_request_has_ended() -> None:
    class Broken(Body):
        def close(self) -> None:
            raise OSError("disk")

    server = Server(lambda _env, _start: Broken([], b"x"))
    body = server.call()
    with pytest.raises(OSError, match="disk"):
        body.close()
    assert server.in_flight == 0


def test_write_and_exc_info_reach_the_server() -> None:
    def app(_env: Any, start_response: Any) -> Iterable[bytes]:
        write = start_response("200 OK", [])
        write(b"written")
        start_response("500 Oh", [], (ValueError, ValueError(), None))
        return []

    server = Server(app)
    server.serve()
    assert server.written == [b"written"]
    assert [len(arguments) for arguments in server.started] == [2, 3]


@pytest.mark.parametrize("blocks", [[], [b"one"], [b"one", b"two"], (b"one",)])
def test_the_length_of_a_body_is_known_where_it_was(blocks: Any) -> None:
    """Servers take the Content-Length of a single block."""
    server = Server(lambda _env, _start: blocks)
    body = server.call()
    assert len(body) == len(blocks)
    body.close()


def test_the_length_of_a_stream_is_not_known() -> None:
    server = Server(lambda _env, _start: iter([b"one"]))
    body = server.call()
    assert not hasattr(body, "__len__")
    body.close()


def test_a_body_is_let_go_before_memory_is_measured() -> None:
    class Kept(Body):
        pass

    held: list[weakref.ref[Any]] = []
    alive: list[bool] = []

    def app(_env: Any, _start: Any) -> Iterable[bytes]:
        body = Kept([], b"x")
        held.append(weakref.ref(body))
        return body

    def read() -> int:
        alive.extend(ref() is not None for ref in held)
        return 0

    server = Server(app, RequestWatch(sample=1.0, warmup=0, read=read))
    server.call().close()
    server.watch._settle()
    assert alive == [False]


def test_a_file_reaches_the_server_as_its_own_wrapper() -> None:
    """Else the server could not use sendfile."""
    file = io.BytesIO(b"content")
    seen: list[str] = []

    def app(env: Any, start_response: Any) -> Any:
        env["memguard.scope"].defer(seen.append, "ended")
        start_response("200 OK", [])
        return env["wsgi.file_wrapper"](file)

    server = Server(app)
    body = server.call(environ(wrapper=FileWrapper))
    assert type(body) is FileWrapper
    assert (body.filelike, seen, server.in_flight) == (file, [], 1)
    body.close()
    assert (file.closed, seen, server.in_flight) == (True, ["ended"], 0)


def test_a_file_of_a_wrapper_that_is_a_function_is_known_again() -> None:
    """As uWSGI's: it gives the file itself back and remembers it."""
    file = io.BufferedReader(io.BytesIO(b"content"))

    def app(env: Any, _start: Any) -> Any:
        return env["wsgi.file_wrapper"](file, 4096)

    server = Server(app)
    body = server.call(environ(wrapper=lambda given, _size: given))
    assert body is file
    assert server.in_flight == 1
    body.close()
    assert (file.closed, server.in_flight) == (True, 0)


def test_a_file_that_takes_no_attribute_ends_with_its_environ() -> None:
    class Slotted:
        __slots__ = ()

    ended = threading.Event()

    def app(env: Any, _start: Any) -> Any:
        env["memguard.scope"].defer(ended.set)
        return env["wsgi.file_wrapper"](Slotted())

    server = Server(app)
    environment = environ(wrapper=lambda given: given)
    assert type(server.call(environment)) is Slotted
    assert (server.in_flight, ended.is_set()) == (1, False)
    environment.clear()
    assert server.in_flight == 0
    assert ended.wait(20), "a scope that was collected winds up what it owns"


def test_a_wrapper_that_was_not_used_changes_nothing() -> None:
    server = Server(lambda _env, _start: [b"x"])
    assert server.serve(environ(wrapper=lambda given: given)) == b"x"
    assert server.in_flight == 0


def test_a_middleware_within_another_leaves_the_request_to_it() -> None:
    inner = RequestWatch()
    server = Server(MemguardMiddleware(lambda _env, _start: [b"x"], watch=inner))
    assert server.serve() == b"x"
    assert (server.watch.statistics().requests, inner.statistics().requests) == (1, 0)


def test_no_path_becomes_a_label() -> None:
    server = Server(lambda _env, _start: [b"x"])
    server.serve()
    assert server.watch.statistics().routes[0].route == "unmatched"
    assert "42" not in repr(server.watch.statistics().routes)


def test_an_application_or_a_resolver_names_the_route() -> None:
    def app(env: Any, _start: Any) -> Iterable[bytes]:
        env["memguard.route"] = "/by/application"
        return []

    server = Server(app)
    server.serve()
    assert server.watch.statistics().routes[0].route == "/by/application"
    middleware = MemguardMiddleware(app, route=lambda _env: "/by/resolver")
    middleware(environ(), server.start_response).close()  # type: ignore[attr-defined]  # reason: a body of ours
    assert middleware.statistics().routes[0].route == "/by/resolver"


def test_while_memory_is_critical_clients_are_told_to_come_back() -> None:
    def app(_env: Any, _start: Any) -> Iterable[bytes]:
        raise AssertionError("it must not be called")

    with MemoryGuard(leaks=False, relief=False, interval=3600) as guard:
        make_critical(guard)
        server = Server(app, RequestWatch(guard=guard, admit=True, retry_after=7))
        body = server.serve()
    status, headers = server.started[0]
    assert status == "503 Service Unavailable"
    assert dict(headers)["Retry-After"] == "7"
    assert dict(headers)["Content-Length"] == str(len(body))


@pytest.mark.parametrize("kind", ["list", "generator"])
def test_the_validator_of_the_standard_library_is_content_on_both_sides(kind: str) -> None:
    def app(_env: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"x"] if kind == "list" else (block for block in [b"x"])

    checked = validator(MemguardMiddleware(validator(app)))
    body: Any = checked(environ("/"), lambda _status, _headers, _exc=None: lambda _block: None)
    assert b"".join(body) == b"x"
    body.close()


def test_no_request_leaves_a_cycle_for_the_collector() -> None:
    def app(env: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        if env["PATH_INFO"] == "/file":
            return env["wsgi.file_wrapper"](io.BytesIO(b"x"))
        return [b"x"] if env["PATH_INFO"] == "/list" else iter([b"x"])

    server = Server(app, RequestWatch(sample=1.0, warmup=0))

    def serve_all() -> None:
        for path in ("/file", "/list", "/iterator"):
            server.serve(environ(path, wrapper=FileWrapper))

    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        for _ in range(20):
            serve_all()
        gc.collect()
        ours = {type(thing).__name__ for thing in gc.garbage if is_of_a_request(thing)}
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert not ours


def is_of_a_request(thing: object) -> bool:
    """Other tests leave garbage as well."""
    kind = type(thing)
    return kind in (Scope, FileWrapper, io.BytesIO) or "integrations" in kind.__module__


def test_wrong_options_are_refused() -> None:
    with pytest.raises(TypeError, match="route must be callable"):
        MemguardMiddleware(lambda _env, _start: [], route=5)  # type: ignore[arg-type]  # reason: what is tested


def test_an_asynchronous_disposer_is_a_failure_of_the_scope_and_not_of_the_request() -> None:
    scopes: list[Scope] = []

    async def disposer() -> None:
        raise AssertionError("nobody awaits it")

    def app(env: Any, _start: Any) -> Iterable[bytes]:
        scopes.append(env["memguard.scope"])
        env["memguard.scope"].defer(disposer)
        return []

    server = Server(app)
    server.serve()
    assert server.in_flight == 0
    assert scopes[0].statistics().errors == 1


def test_what_the_server_was_handling_before_is_no_failure_of_the_request() -> None:
    def app(_env: Any, start: Any) -> Iterable[bytes]:
        start("200 OK", [])
        return [b"x"]

    middleware = MemguardMiddleware(app)

    def serve(*, fails: bool) -> None:
        body: Any = middleware({"REQUEST_METHOD": "GET", "PATH_INFO": "/"}, lambda *_: None)
        try:
            if fails:
                raise BrokenPipeError
        finally:
            body.close()

    try:
        [].pop()
    except IndexError:  # a server that tries again in here
        serve(fails=False)
    with pytest.raises(BrokenPipeError):
        serve(fails=True)
    assert [(row.count, row.failed) for row in middleware.statistics().routes] == [(2, 1)]
