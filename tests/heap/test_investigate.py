"""One taking of evidence on this very process: what it finds, and that it leaves nothing behind."""

from __future__ import annotations

import gc
import sys
import threading
import time
import tracemalloc
import types
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from memguard.heap import walk
from memguard.leaks.evidence.gathered import Evidence, HolderEvidence
from memguard.leaks.finding.investigate import Investigation
from memguard.leaks.holders import paths
from memguard.leaks.options import DetectorOptions, detector_options
from tests import strangers
from tests.waiting import wait_for

SECRET = "yek terces"[::-1]
"""Made up at run time: source lines are in a report, values are not."""


class Session:
    """What leaks."""

    def __init__(self, number: int) -> None:
        self.basket = bytearray(300)
        self.number = f"{SECRET} {number}"


def remember(store: dict[str, Session], number: int) -> None:
    store[f"{SECRET} {number}"] = Session(number)


BASKET = (__file__, Session.__init__.__code__.co_firstlineno + 1)


def options(**changes: Any) -> DetectorOptions:
    chosen: dict[str, Any] = {
        "interval": 0.1,
        "growth_threshold": 1.3,
        "min_growth_bytes": "1MiB",
        "min_samples": 10,
        "max_samples": 60,
        "warmup": None,
        "cooldown": None,
        "trace_frames": 4,
        "trace_seconds": 1.0,
        "trace_bytes": "64MiB",
        "retention_seconds": 20.0,
        "max_objects": 20_000_000,
        "max_reports": 20,
    }
    return detector_options(**{**chosen, **changes})


@pytest.fixture
def shop() -> Iterator[types.ModuleType]:
    module = types.ModuleType("shop.app")
    module.__dict__["__file__"] = "/srv/shop/app.py"
    sys.modules["shop.app"] = module
    yield module
    del sys.modules["shop.app"]
    module.__dict__.clear()


@contextmanager
def repeated(work: Callable[[int], object]) -> Iterator[Callable[[int], None]]:
    """
    Do *work* over and over in another thread, about 2000 times a second.

    Yields what waits until it was done so many times more, however long that takes.
    """
    ended = threading.Event()
    done = [0]

    def run() -> None:
        number = 0
        while not ended.wait(0.0005):
            work(number)
            number += 1
            done[0] = number

    def more(times: int) -> None:
        wanted = done[0] + times
        wait_for(lambda: done[0] >= wanted or not thread.is_alive())

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield more
    finally:
        ended.set()
        thread.join(20)


def investigated(work: Callable[[int], object], *, turns: int = 300, **changes: Any) -> Evidence:
    """Return the evidence of an investigation while *work* is repeated, with *turns* of it seen."""
    investigation = Investigation(
        options(**changes), containers=dict, headroom=changes.pop("headroom", None)
    )
    try:
        with repeated(work) as more:
            more(turns // 6)
            investigation.look(0.0)
            more(turns)
            investigation.begin(0.3)
            deadline = time.monotonic() + 20
            while not investigation.poll():
                time.sleep(0.01)
                assert time.monotonic() < deadline
            return investigation.finish()
    finally:
        investigation.abandon()


def held_at(found: Evidence, path: str) -> HolderEvidence:
    return next(held for held in found.holders if held.path == path)


def test_a_growing_dict_is_found_with_its_line_and_its_path(shop: types.ModuleType) -> None:
    store: dict[str, Session] = {}
    shop.__dict__["SESSIONS"] = store
    held = held_at(
        found := investigated(lambda number: remember(store, number)), "shop.app.SESSIONS"
    )
    assert held.type == "dict"
    assert held.anchored
    assert held.steady
    assert held.entries_added > 20
    assert held.entries_per_minute > 100
    assert BASKET in held.sample.lines
    assert found.functions[BASKET] == "__init__"
    assert (held.sample.bytes_per_entry or 0) > 300
    assert held.sample.types == {f"{__name__}.Session": held.sample.entries}
    assert not tracemalloc.is_tracing()


def test_a_growing_dict_of_strings_is_found_too(shop: types.ModuleType) -> None:
    """Up to CPython 3.13 the collector does not track it."""
    store: dict[str, str] = {}
    shop.__dict__["TEXTS"] = store

    def keep(number: int) -> None:
        store[f"key {number}"] = "x" * (500 + number % 7)

    held = held_at(investigated(keep), "shop.app.TEXTS")
    assert held.entries_added > 20


def test_an_investigation_keeps_nothing_alive(shop: types.ModuleType) -> None:
    store: dict[str, Session] = {}
    shop.__dict__["SESSIONS"] = store
    found = investigated(lambda number: remember(store, number))
    assert found.holders
    newest = weakref.ref(next(reversed(store.values())))
    first = weakref.ref(next(iter(store.values())))
    referrers = sys.getrefcount(store)
    store.clear()
    assert (newest(), first()) == (None, None)
    del shop.__dict__["SESSIONS"]
    assert sys.getrefcount(store) == referrers - 1


def test_no_value_and_no_key_is_in_the_evidence(shop: types.ModuleType) -> None:
    store: dict[str, Session] = {}
    shop.__dict__["SESSIONS"] = store
    text = repr(investigated(lambda number: remember(store, number)))
    assert SECRET not in text


@pytest.mark.stress
def test_one_investigation_after_another_leaves_nothing_behind(shop: types.ModuleType) -> None:
    store: dict[str, Session] = {}
    shop.__dict__["SESSIONS"] = store

    def once() -> None:
        investigated(lambda number: remember(store, number), trace_seconds=0.1)
        store.clear()
        gc.collect()

    once()
    before = len(gc.get_objects())
    for _ in range(4):
        once()
    assert len(gc.get_objects()) - before < 100


def test_an_abandoned_investigation_ends_tracing_and_lets_go() -> None:
    store: list[list[int]] = []
    investigation = Investigation(options(), containers=dict)
    investigation.look(0.0)
    store.extend([n] for n in range(500))
    investigation.begin(1.0)
    assert tracemalloc.is_tracing()
    investigation.abandon()
    investigation.abandon()
    assert not tracemalloc.is_tracing()
    assert investigation._followed.containers == []


@pytest.mark.stress
def test_somebody_elses_session_goes_on(shop: types.ModuleType) -> None:
    store: dict[str, Session] = {}
    shop.__dict__["SESSIONS"] = store
    tracemalloc.start(2)
    try:
        mine = bytearray(10_000)
        found = investigated(lambda number: remember(store, number))
        assert tracemalloc.is_tracing()
        assert tracemalloc.get_traceback_limit() == 2
        assert tracemalloc.get_object_traceback(mine) is not None
    finally:
        tracemalloc.stop()
    assert any("another tracemalloc session" in note for note in found.notes)
    assert BASKET in held_at(found, "shop.app.SESSIONS").sample.lines


def test_a_heap_that_is_too_large_gets_no_census_and_says_so() -> None:
    found = investigated(lambda _: None, max_objects=10_000)
    assert any(note.startswith("no census: ") for note in found.notes)
    assert not tracemalloc.is_tracing()


def test_too_little_memory_below_the_limit_means_no_evidence() -> None:
    investigation = Investigation(options(), containers=dict, headroom=1024**2)
    investigation.look(0.0)
    investigation.begin(1.0)
    assert not tracemalloc.is_tracing()
    assert investigation.poll()
    notes = investigation.finish().notes
    assert any("no census: too little memory" in note for note in notes)
    assert any("no tracing: too little memory" in note for note in notes)


@pytest.mark.parametrize("change", [{"max_objects": 10_000}, {"headroom": 1}])
def test_a_heap_that_became_too_large_is_not_walked_for_anything(
    shop: types.ModuleType, monkeypatch: pytest.MonkeyPatch, change: dict[str, int]
) -> None:
    """Not for the census, not for instances, not for holders, not for the names of functions."""
    store: dict[str, Session] = {}
    shop.__dict__["SESSIONS"] = store
    investigation = Investigation(options(), containers=dict)
    investigation.look(0.0)
    for n in range(500):
        remember(store, n)
    investigation.begin(1.0)
    for n in range(500, 1000):
        remember(store, n)
    if "headroom" in change:
        investigation.headroom = change["headroom"]
    else:
        investigation._options = options(**change)
    monkeypatch.setattr(walk, "_tracked", lambda _: pytest.fail("the heap was walked"))
    evidence = investigation.finish()
    assert any(note.startswith("no census") for note in evidence.notes)


@pytest.mark.stress
def test_tracing_stops_when_the_tracer_has_grown_too_large(shop: types.ModuleType) -> None:
    rows: list[list[int]] = []
    shop.__dict__["ROWS"] = rows

    def allocate(_: int) -> None:
        rows.extend([n] for n in range(2000))

    found = investigated(allocate, turns=12, trace_bytes="64KiB", trace_seconds=10.0)
    assert found.trace is not None
    assert found.trace.seconds < 5
    assert any("trace_bytes" in note for note in found.notes)


def test_no_stranger_is_touched_by_an_investigation(shop: types.ModuleType) -> None:
    kept: list[object] = []
    shop.__dict__["STRANGERS"] = kept

    def meet(_: int) -> None:
        kept.append(strangers.Proxy([]))
        kept.append(strangers.OfHostileMeta([]))
        kept.append(strangers.DictProperty([]))

    strangers.touched.clear()
    shop.__dict__["SOME"] = strangers.make([])
    found = investigated(meet)
    assert strangers.touched == []
    held = held_at(found, "shop.app.STRANGERS")
    assert "tests.strangers.Proxy" in held.sample.types


def test_dicts_that_other_threads_change_meanwhile_do_no_harm(shop: types.ModuleType) -> None:
    busy: dict[tuple[int, int], list[int]] = {}
    shop.__dict__["BUSY"] = busy
    growing: list[list[int]] = []
    shop.__dict__["GROWING"] = growing

    def churn(number: int) -> None:
        growing.append([number])
        for n in range(200):
            busy[number, n] = [n]
        for key in list(busy)[:150]:
            del busy[key]

    found = investigated(churn)
    assert held_at(found, "shop.app.GROWING").entries_added > 20


class Link:
    """One of a chain: what came before it."""

    def __init__(self, before: Link | None) -> None:
        self.before = before


def test_a_chain_is_named_by_its_head_however_long_it_has_become(shop: types.ModuleType) -> None:
    """A climb from a link does not come up as fast as the head moves."""
    kept = chain(shop, length=3000, keep=20)
    wanted = {id(kept[0]): kept[0]}
    key = id(kept.pop())
    path = paths.find_paths(wanted, seconds=20)[key]
    assert (path.path, path.anchored) == ("shop.app.LAST", True)


def chain(module: types.ModuleType, *, length: int, keep: int) -> list[Link]:
    """Let *module* hold a longer chain of links, and return the one with number *keep*."""
    head, kept = module.__dict__.get("LAST"), []
    for number in range(length):
        head = Link(head)
        if number == keep:
            kept.append(head)
    module.__dict__["LAST"] = head
    return kept


class Connection:
    """What has arrived, and is never handed on."""

    def __init__(self) -> None:
        self.received = bytearray(100_000)


def test_a_buffer_that_grows_is_found_with_the_line_that_makes_it_grow(
    shop: types.ModuleType,
) -> None:
    connection = shop.__dict__["UPSTREAM"] = Connection()

    def receive(_: int) -> None:
        connection.received += bytes(5_000)

    found = investigated(receive)
    held = held_at(found, "shop.app.UPSTREAM.received")
    assert held.type == "bytearray"
    assert held.sample.bytes_per_entry == 1, "the entries of a buffer are its bytes"
    assert held.entries_added > 50_000
    assert (__file__, receive.__code__.co_firstlineno + 1) in held.sample.lines


class Knot:
    """In a cycle with itself."""

    def __init__(self, number: int) -> None:
        self.rows = [f"{number}-{k}" for k in range(20)]
        self.me = self


@pytest.mark.parametrize("seconds", [20.0, 0.001], ids=["time", "no time"])
@pytest.mark.parametrize("switch", ["disabled", "threshold 0"])
def test_cycles_where_the_collector_is_off_are_garbage_that_nobody_holds(
    switch: str, seconds: float
) -> None:
    thresholds = gc.get_threshold()
    gc.collect()
    if switch == "disabled":
        gc.disable()
    else:
        gc.set_threshold(0)
    try:
        evidence = investigated(Knot, retention_seconds=seconds)
        left = sum(type(obj) is Knot for obj in gc.get_objects())
    finally:
        gc.enable()
        gc.set_threshold(*thresholds)
    assert not evidence.collector.is_on
    assert evidence.garbage is not None
    assert evidence.garbage.share(f"{__name__}.Knot") > 0.9
    assert evidence.garbage.cycle == f"{__name__}.Knot.me"
    assert evidence.garbage_growth > 300 * sys.getsizeof(["row"] * 20)
    assert f"{__name__}.Knot" not in {held.type for held in evidence.holders}
    assert left > 300, "nothing of it was collected: that is the host's decision"
