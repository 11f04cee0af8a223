"""Requests: which are measured, whose growth it is, who is refused."""

from __future__ import annotations

import gc
import os
import random
import threading
import time
import tracemalloc
from typing import Any

import pytest

from memguard import AdmissionError, ConfigError, MemoryGuard
from memguard.integrations.web import metering
from memguard.integrations.web.metering import BYTES_PER_BLOCK, allocated_source, read_allocated
from memguard.integrations.web.requests import RequestWatch, WatchedRequest, watch_of
from memguard.relief.records import PressureState
from tests.web.waiting import make_critical, wait_for_a_look


class Memory:
    """What is allocated, as the test sets it."""

    def __init__(self) -> None:
        self.bytes: int | None = 1000
        self.looks = 0

    def __call__(self) -> int | None:
        self.looks += 1
        return self.bytes


@pytest.fixture
def memory() -> Memory:
    return Memory()


def watching(memory: Memory, **options: Any) -> RequestWatch:
    return RequestWatch(**{"sample": 1.0, "warmup": 0, "read": memory, **options})


def settle(watch: RequestWatch) -> None:
    """Measure the last request, as the begin of the next one does."""
    watch._settle()


def serve(watch: RequestWatch, memory: Memory, growth: int, route: str = "/a") -> None:
    request = watch.begin(route)
    assert memory.bytes is not None
    memory.bytes += growth
    request.end("GET", route)
    settle(watch)


def test_growth_goes_to_the_route_of_the_request(memory: Memory) -> None:
    watch = watching(memory)
    for _ in range(10):
        serve(watch, memory, 500, "/leaky")
        serve(watch, memory, 0, "/fine")
    seen = watch.statistics()
    assert [(row.route, row.growth_bytes) for row in seen.routes] == [
        ("/leaky", 5000),
        ("/fine", 0),
    ]
    assert (seen.requests, seen.sampled, seen.in_flight) == (20, 20, 0)


def test_of_two_at_the_same_time_neither_is_measured(memory: Memory) -> None:
    """Whose growth it was cannot be told, and nobody is blamed for it."""
    watch = watching(memory)
    first = watch.begin("/a")
    second = watch.begin("/b")
    memory.bytes = 10**6
    second.end("GET", "/b")
    first.end("GET", "/a")
    seen = watch.statistics()
    assert [row.growth_bytes for row in seen.routes] == [0, 0]
    assert (seen.overlapped, seen.sampled) == (2, 0)


def test_one_that_came_and_went_meanwhile_crowds_as_well(memory: Memory) -> None:
    watch = watching(memory)
    slow = watch.begin("/slow")
    watch.begin("/quick").end("GET", "/quick")
    slow.end("GET", "/slow")
    assert watch.statistics().overlapped == 2


def test_a_socket_that_waits_for_its_client_does_not_crowd(memory: Memory) -> None:
    watch = watching(memory)
    socket = watch.begin("/ws", measure=False)
    socket.pause()
    serve(watch, memory, 300)
    assert watch.statistics().sampled == 1


@pytest.mark.parametrize("way", ["wake", "stir"])
def test_a_socket_that_does_something_meanwhile_does(memory: Memory, way: str) -> None:
    watch = watching(memory)
    socket = watch.begin("/ws", measure=False)
    socket.pause()
    request = watch.begin("/a")
    if way == "wake":
        socket.resume()
        socket.pause()
    else:
        socket.touch()
    request.end("GET", "/a")
    assert (watch.statistics().sampled, watch.statistics().overlapped) == (0, 1)


def test_a_socket_that_is_being_served_crowds(memory: Memory) -> None:
    watch = watching(memory)
    socket = watch.begin("/ws", measure=False)
    serve(watch, memory, 300)
    socket.pause()
    socket.pause()  # two tasks of one socket may wait
    socket.resume()
    serve(watch, memory, 300)
    socket.resume()
    serve(watch, memory, 300)
    socket.end("WEBSOCKET", "/ws")
    serve(watch, memory, 300)
    seen = watch.statistics()
    assert (seen.overlapped, seen.sampled, seen.in_flight) == (2, 2, 0)


def test_a_request_that_raised_is_counted_and_not_measured(memory: Memory) -> None:
    """Its traceback still holds what it had made."""
    watch = watching(memory)
    request = watch.begin("/a")
    memory.bytes = 10**9
    request.end("GET", "/a", failed=True)
    seen = watch.statistics()
    assert (seen.failed, seen.sampled, seen.routes[0].failed) == (1, 0, 1)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("what", ["tracing", "relieving", "unknown"])
def test_what_cannot_be_told_is_no_growth(memory: Memory, when: str, what: str) -> None:
    guard = MemoryGuard(leaks=False, relief=False, interval=3600)
    watch = watching(memory, guard=guard)
    watch.start_guard()

    def disturb() -> None:
        if what == "tracing":
            tracemalloc.start()
        elif what == "relieving":
            wait_for_a_look(guard)
            guard.stop()
            guard.monitor._state = PressureState(level="elevated", used=80, limit=100)
        else:
            memory.bytes = None

    try:
        if when == "before":
            disturb()
            request = watch.begin("/a")
        else:
            request = watch.begin("/a")
            disturb()
        request.end("GET", "/a")
        settle(watch)
    finally:
        tracemalloc.stop()
        guard.stop()
    assert (watch.statistics().discarded, watch.statistics().sampled) == (1, 0)


def test_what_lies_in_buffers_until_the_next_request_is_no_growth(memory: Memory) -> None:
    watch = watching(memory)
    request = watch.begin("/a")
    memory.bytes = 10**9
    request.end("GET", "/a")
    memory.bytes = 1007
    settle(watch)
    assert watch.statistics().routes[0].growth_bytes == 7


def test_a_request_that_something_followed_before_the_next_is_not_measured(
    memory: Memory,
) -> None:
    watch = watching(memory)
    socket = watch.begin("/ws", measure=False)
    socket.pause()
    watch.begin("/a").end("GET", "/a")
    socket.resume()
    settle(watch)
    seen = watch.statistics()
    assert (seen.overlapped, seen.sampled) == (1, 0)


def test_a_request_that_nothing_followed_for_long_is_not_measured(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever else the process does in such a time would be blamed on it."""
    watch = watching(memory)
    watch.begin("/a").end("GET", "/a")
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 61)
    settle(watch)
    assert watch.statistics().discarded == 1


@pytest.mark.parametrize(("sample", "most"), [(1 - 1e-9, 2), (1.0, 12)])
def test_looking_takes_at_most_one_percent_of_the_time(sample: float, most: int) -> None:
    """As in a process with very many objects."""
    looks = []

    def dear() -> int:
        until = time.thread_time() + 0.04
        while time.thread_time() < until:
            pass
        looks.append(1)
        return 5

    watch = RequestWatch(sample=sample, warmup=0, read=dear)
    for _ in range(6):
        watch.begin("/a").end("GET", "/a")
    settle(watch)
    assert len(looks) == most, "the first look rests for eight seconds, unless all are wanted"


def test_the_first_of_a_route_warm_it_up(memory: Memory) -> None:
    watch = watching(memory, warmup=3)
    for growth in (10**8, 10**7, 10**6, 5):
        serve(watch, memory, growth)
    seen = watch.statistics()
    assert (seen.warming, seen.sampled, seen.routes[0].growth_bytes) == (3, 1, 5)


def test_real_growth_is_told_to_the_byte() -> None:
    """Large blocks exactly, small ones by their number."""
    kept: list[object] = []
    watch = RequestWatch(sample=1.0, warmup=2)
    gc.collect()
    gc.disable()  # what other tests have left would be given back in a request of this one
    try:
        for _ in range(8):
            request = watch.begin("/large")
            kept.append(b"x" * 100_000)
            request.end("GET", "/large")
            request = watch.begin("/small")
            # Of strings, for there is no free list of them.
            kept.append([f"key {number}" for number in range(1000)])
            request.end("GET", "/small")
            request = watch.begin("/fine")
            b"x" * 100_000  # noqa: B018 - reason: taken, and given back
            request.end("GET", "/fine")
    finally:
        gc.enable()
    seen = watch.statistics()
    if seen.source != "allocated":
        pytest.skip("reason: this platform's allocator tells nothing, and pages are no bytes")
    means = {row.route: row.mean_bytes or 0.0 for row in seen.routes}
    assert means["/large"] == pytest.approx(100_000, abs=2_000)
    assert abs(means["/fine"]) < 2_000
    assert means["/small"] == pytest.approx(8_856 + 1000 * BYTES_PER_BLOCK, rel=0.1)


def test_private_memory_stands_in_where_the_allocator_tells_nothing() -> None:
    assert (read_allocated("private") or 0) > 1_000_000
    assert allocated_source() in ("allocated", "private")


def test_a_share_of_the_requests_is_measured(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metering, "_REST", 0)
    watch = watching(memory, sample=0.1)
    for _ in range(5000):
        serve(watch, memory, 0)
    seen = watch.statistics()
    assert 300 < seen.sampled < 800
    assert memory.looks == 2 * seen.sampled


def test_none_is_measured_where_none_is_wanted(memory: Memory) -> None:
    watch = watching(memory, sample=0)
    serve(watch, memory, 0)
    assert (memory.looks, watch.statistics().requests) == (0, 1)


def test_the_sequence_of_the_host_is_left_alone() -> None:
    random.seed(7)
    expected = random.random()  # noqa: S311 - reason: what is tested is its sequence
    random.seed(7)
    watch = RequestWatch(sample=0.5)
    for _ in range(10):
        watch.begin("/a").end("GET", "/a")
    assert random.random() == expected  # noqa: S311 - reason: as above


def test_a_request_ends_once(memory: Memory) -> None:
    watch = watching(memory)
    request = watch.begin("/a")
    for _ in range(3):
        request.end("GET", "/a")
    seen = watch.statistics()
    assert (seen.in_flight, seen.routes[0].count) == (0, 1)


def test_one_that_the_server_forgot_is_not_in_flight_for_ever(memory: Memory) -> None:
    watch = watching(memory)
    watch.begin("/a").pause()
    watch.begin("/b")
    gc.collect()
    seen = watch.statistics()
    assert (seen.abandoned, seen.in_flight) == (2, 0)
    serve(watch, memory, 1)
    assert watch.statistics().sampled == 1


def test_a_reading_that_fails_is_counted_and_hurts_nobody() -> None:
    def broken() -> int:
        raise OSError

    watch = RequestWatch(sample=1.0, warmup=0, read=broken)
    watch.begin("/a").end("GET", "/a")
    seen = watch.statistics()
    assert (seen.in_flight, seen.discarded, seen.routes[0].count) == (0, 1, 1)
    assert seen.errors_by_kind == (("read: OSError", 1),)


def test_a_route_that_cannot_be_found_is_unmatched() -> None:
    def broken(_: str) -> str:
        raise LookupError

    class Strange(str):
        __slots__ = ()

    watch = RequestWatch()
    assert watch.route(broken, "x") == "unmatched"
    assert watch.route(lambda: None) == "unmatched"
    assert watch.route(lambda: Strange("/a")) == "unmatched"
    assert watch.route(lambda: "/a") == "/a"
    assert watch.statistics().errors == 1


def test_work_is_refused_while_memory_is_critical() -> None:
    with MemoryGuard(leaks=False, relief=False, interval=3600) as guard:
        watch = RequestWatch(guard=guard, admit=True, exempt=["/health"])
        watch.begin("/a").end("GET", "/a")
        make_critical(guard)
        with pytest.raises(AdmissionError):
            watch.begin("/a")
        with pytest.raises(AdmissionError):
            watch.begin("/healthy")
        for path in ("/health", "/health/live"):
            watch.begin(path).end("GET", path)
        seen = watch.statistics()
        assert (seen.refused, seen.requests, seen.in_flight) == (2, 3, 0)
        assert guard.status().admission.running == 0


def test_a_level_that_nobody_looks_after_refuses_nobody() -> None:
    """A stopped guard may have been stopped while memory was critical: that is history."""
    guard = MemoryGuard(leaks=False, relief=False, interval=3600)
    watch = RequestWatch(guard=guard, admit=True)
    watch.begin("/a").end("GET", "/a")
    guard.stop()
    guard.monitor._state = PressureState(level="critical", used=99, limit=100)
    watch.begin("/a").end("GET", "/a")
    assert watch.statistics().refused == 0


def test_no_place_is_kept_from_which_others_would_be_reckoned() -> None:
    with MemoryGuard(leaks=False, relief=False, interval=3600) as guard:
        watch = RequestWatch(guard=guard, admit=True)
        request = watch.begin("/a")
        admission = guard.status().admission
        assert (admission.admitted, admission.running) == (1, 0)
        request.end("GET", "/a")


def test_a_method_of_a_strange_type_is_no_key(memory: Memory) -> None:
    class Strange(str):
        __slots__ = ()

        def __hash__(self) -> int:
            raise AssertionError("not under a lock")

    watch = watching(memory)
    watch.begin("/a").end(Strange("GET"), "/a")
    assert [row.method for row in watch.statistics().routes] == ["_OTHER"]


def test_many_threads_leave_nothing_in_flight() -> None:
    watch = RequestWatch(sample=1.0)
    started = threading.Barrier(8)

    def work(seed: int) -> None:
        chance = random.Random(seed)  # noqa: S311 - reason: a seed makes the test repeatable
        started.wait(30)
        for _ in range(500):
            request = watch.begin("/a", measure=chance.random() < 0.5)
            if chance.random() < 0.3:
                request.pause()
                if chance.random() < 0.5:
                    request.resume()
            request.end("GET", f"/{chance.randrange(3)}", failed=chance.random() < 0.1)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(50)
    settle(watch)
    seen = watch.statistics()
    assert (seen.requests, seen.in_flight, watch._active) == (4000, 0, 0)
    assert sum(row.count for row in seen.routes) == 4000
    assert seen.sampled == sum(row.sampled for row in seen.routes)
    assert (seen.errors, seen.abandoned) == (0, 0)


def test_the_guard_is_started_before_the_first_request_and_stopped_by_who_started_it() -> None:
    guard = MemoryGuard(leaks=False, relief=False, interval=3600)
    watch = RequestWatch(guard=guard)
    assert not guard.status().running
    watch.begin("/a").end("GET", "/a")
    assert guard.status().running
    watch.stop_guard()
    assert not guard.status().running
    watch.begin("/a").end("GET", "/a")
    assert not guard.status().running, "what was stopped stays stopped"


def test_a_guard_that_runs_is_left_to_its_owner() -> None:
    with MemoryGuard(leaks=False, relief=False, interval=3600) as guard:
        watch = RequestWatch(guard=guard)
        watch.start_guard()
        watch.stop_guard()
        assert guard.status().running


def test_a_guard_that_cannot_start_is_counted_and_the_request_served(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    guard = MemoryGuard(leaks=False, relief=False)
    monkeypatch.setattr(guard, "start", lambda: (_ for _ in ()).throw(RuntimeError("no thread")))
    watch = RequestWatch(guard=guard)
    watch.begin("/a").end("GET", "/a")
    assert watch.statistics().errors_by_kind == (("guard: RuntimeError", 1),)


def test_a_forked_child_begins_anew(memory: Memory) -> None:
    watch = watching(memory)
    parents = watch.begin("/a")
    watch.begin("/b").end("GET", "/b")
    with watch._lock:  # as another thread may hold it
        child = os.fork()
        if child == 0:
            status = 1
            try:
                parents.end("GET", "/a")
                serve(watch, memory, 7)
                seen = watch.statistics()
                status = 0 if (seen.requests, seen.in_flight, seen.sampled) == (1, 0, 1) else 2
            finally:
                os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    parents.end("GET", "/a")


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"sample": 1.5}, ConfigError, "sample must be from 0 to 1"),
        ({"sample": float("nan")}, ConfigError, "sample"),
        ({"sample": True}, TypeError, "sample"),
        ({"sample": "much"}, TypeError, "sample"),
        ({"warmup": -1}, ConfigError, "warmup"),
        ({"warmup": 1.0}, TypeError, "warmup"),
        ({"max_routes": 0}, ConfigError, "max_routes must be from 1 to 10000"),
        ({"guard": "yes"}, TypeError, "MemoryGuard"),
        ({"admit": 1}, TypeError, "admit"),
        ({"admit": True}, ConfigError, "needs guard="),
        ({"exempt": "/health"}, TypeError, "one string"),
        ({"exempt": [b"/health"]}, TypeError, "bytes"),
        ({"exempt": ["health"]}, ConfigError, "begin with /"),
        ({"exempt": ["/health/"]}, ConfigError, "not end with it"),
        ({"retry_after": 0}, ConfigError, "retry_after"),
        ({"retry_after": "2d"}, ConfigError, "retry_after"),
        ({"read": 5}, TypeError, "read"),
    ],
)
def test_wrong_options_are_refused(
    options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        RequestWatch(**options)


def test_a_watch_has_its_options_already() -> None:
    watch = RequestWatch()
    assert watch_of(watch, {}) is watch
    with pytest.raises(TypeError, match="sample: give these"):
        watch_of(watch, {"sample": 1})
    with pytest.raises(TypeError, match="RequestWatch"):
        watch_of("watch", {})  # type: ignore[arg-type]  # reason: what is tested


def test_a_refusal_says_when_to_come_back() -> None:
    headers, body = RequestWatch(retry_after="1.5s").refusal()
    assert dict(headers)["Retry-After"] == "2"
    assert dict(headers)["Content-Length"] == str(len(body))


def test_nothing_is_left_of_a_request() -> None:
    watch = RequestWatch(sample=1.0)

    def requests() -> int:
        return sum(type(thing) is WatchedRequest for thing in gc.get_objects())

    gc.collect()  # those of earlier tests, in cycles, are not to go meanwhile
    before = requests()
    for _ in range(1000):
        watch.begin("/a").end("GET", "/a")
    assert requests() == before
