"""
Children that a server forks in C, without Python's hooks, as uWSGI does.

``fork`` of the C library, called with the GIL held, leaves a child in which no hook has run: every
object says that the threads of the parent are alive.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

FORK = """
    import ctypes, glob, os, signal, sys, threading, time, traceback
    libc = ctypes.PyDLL(None)

    def switches():
        return [
            [line for line in open(path) if "voluntary" in line]
            for path in glob.glob("/proc/self/task/*/status") if f"/{os.getpid()}/" not in path
        ]

    def in_child(work):
        # Python's own lock does not survive such a fork if a thread waits for it: let all rest.
        before, now = None, switches()
        while before != now:
            time.sleep(0.03)
            before, now = now, switches()
        sys.stdout.flush()
        pid = libc.fork()
        if pid == 0:
            signal.alarm(20)
            code = 1
            try:
                work()
                code = 0
            except BaseException:
                traceback.print_exc()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
"""


def run(program: str) -> str:
    """Return what *program* prints; a child that waits for a lost thread runs into the timeout."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FORK) + textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        env={name: value for name, value in os.environ.items() if "MEMGUARD" not in name},
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.strip()


def test_a_guard_of_the_parent_does_not_run_in_the_child_and_starts_afresh_there() -> None:
    printed = run(
        """
        import memguard
        guard = memguard.install(interval=600)
        place = guard.admit("1MiB")

        def child():
            status = memguard.status()
            assert not status.running and not status.monitor.running
            assert status.detector.state == "idle"
            assert status.admission.running == 0
            assert memguard.install() is guard
            assert memguard.status().running
            while not memguard.status().monitor.ticks:
                time.sleep(0.01)
            memguard.uninstall()

        in_child(child)
        assert memguard.status().running and memguard.status().admission.running == 1
        memguard.uninstall()
        print("both lived")
        """
    )
    assert printed == "both lived"


def test_a_child_never_waits_for_threads_of_its_parent() -> None:
    printed = run(
        """
        import memguard
        from memguard.lifecycle import at_exit
        guard = memguard.install()
        joined = []

        def child():
            threading.Thread.join = lambda thread, timeout=None: joined.append(thread.name)
            assert guard.stop() is True
            at_exit._stop_all()
            memguard.uninstall()
            assert joined == [], joined

        in_child(child)
        memguard.uninstall()
        print("at once")
        """
    )
    assert printed == "at once"


def test_work_is_admitted_in_a_child_whose_parent_held_the_lock() -> None:
    printed = run(
        """
        import memguard
        guard = memguard.install()
        held, done = threading.Event(), threading.Event()

        def hold():
            with guard.admission._lock:
                held.set()
                done.wait()

        holder = threading.Thread(target=hold)
        holder.start()
        held.wait()
        in_child(lambda: guard.admit("1KiB").close())
        done.set()
        holder.join()
        memguard.uninstall()
        print("admitted")
        """
    )
    assert printed == "admitted"


def test_what_a_pool_of_the_parent_holds_is_not_lent_to_the_child() -> None:
    printed = run(
        """
        import memguard
        pool = memguard.ObjectPool(lambda: bytearray(1), reset=None, maxsize=2)
        mine = pool.acquire()
        pool.release(mine)
        lent = pool.acquire()

        def child():
            pool.release(lent)  # the parent's: forgotten, and not lent again
            got = [pool.acquire() for _ in range(2)]
            assert all(each is not mine for each in got)
            with pool_of_two.lease(timeout=0) as other:
                assert other is not idle

        pool_of_two = memguard.ObjectPool(lambda: bytearray(1), reset=None, maxsize=2)
        with pool_of_two.lease() as idle:
            pass
        in_child(child)
        pool.release(lent)
        assert pool.acquire() is mine
        print("apart")
        """
    )
    assert printed == "apart"


def test_timers_and_refreshes_of_the_child_have_threads_of_their_own() -> None:
    printed = run(
        """
        import memguard
        from memguard.bounded.cache.loading import refresh
        timers = memguard.TimerRegistry()
        called = threading.Event()
        timers.after(0, called.set)
        called.wait()
        timers.after(3600, print)
        busy, done = [], threading.Event()
        while refresh.in_background(done.wait):
            busy.append(1)

        def child():
            called.clear()
            timers.after(0, called.set)
            assert called.wait(30)
            loaded = threading.Event()
            assert refresh.in_background(loaded.set)
            assert loaded.wait(30)
            assert timers.close(30) and refresh.stop(30)

        in_child(child)
        done.set()
        assert timers.close(30) and refresh.stop(30)
        print("called")
        """
    )
    assert printed == "called"


def test_the_janitor_sweeps_in_the_child() -> None:
    printed = run(
        """
        from memguard.lifecycle import janitor

        class Swept:
            def __init__(self): self.swept = threading.Event()
            def _sweep(self):
                self.swept.set()
                return 1.0

        first = Swept()
        janitor.watch(first)
        first.swept.wait()

        def child():
            assert not janitor.statistics().running
            mine = Swept()
            janitor.watch(mine)
            assert mine.swept.wait(30)
            assert janitor.stop(30)

        in_child(child)
        assert janitor.statistics().running and janitor.stop(30)
        print("swept")
        """
    )
    assert printed == "swept"


def test_a_load_in_the_parent_is_not_waited_for_in_the_child() -> None:
    printed = run(
        """
        import memguard
        cache = memguard.BoundedCache(10)
        begun, done = threading.Event(), threading.Event()

        def slow(key):
            begun.set()
            done.wait()
            return "parent"

        loading = threading.Thread(target=cache.get_or_load, args=("key", slow))
        loading.start()
        begun.wait()

        def child():
            assert cache.get_or_load("key", lambda key: "child") == "child"

        in_child(child)
        done.set()
        loading.join()
        print(cache["key"])
        """
    )
    assert printed == "parent"


def test_a_grandchild_and_many_threads_that_ask_at_once_are_reset_once() -> None:
    printed = run(
        """
        from memguard.lifecycle import fork

        class Counting:
            resets = 0
            def _reset(self):
                time.sleep(0)  # lets the other threads run
                self.resets += 1

        counting = Counting()
        fork.reset_after_fork(counting)

        def asked(times):
            barrier = threading.Barrier(8)
            def ask():
                barrier.wait()
                fork.check()
                assert counting.resets == times
            asking = [threading.Thread(target=ask) for _ in range(8)]
            for each in asking: each.start()
            for each in asking: each.join()
            assert counting.resets == times

        def child():
            asked(1)
            in_child(lambda: asked(2))
            assert counting.resets == 1

        in_child(child)
        assert counting.resets == 0
        print("once")
        """
    )
    assert printed == "once"


HELD = """
    import memguard, memguard.lifecycle.janitor
    from memguard.bounded.lifetime import owners
    from memguard.observe.gcwatch import GcWatch
    from memguard.integrations.web import RequestWatch
    from memguard.observe.history import History
    from memguard.observe.readings import read_memory

    def while_held(lock, work, begin=lambda: None):
        "Run work in a child in which a thread of the parent holds the lock for ever."
        held, done = threading.Event(), threading.Event()
        def hold():
            with lock:
                begin()
                held.set()
                done.wait()
        holder = threading.Thread(target=hold)
        holder.start()
        held.wait()
        try:
            in_child(work)
        finally:
            done.set()
            holder.join()
"""
USES_OF_A_CACHE = (
    "assert cache['key'] == 'value'",
    "assert cache.get('key') == 'value'",
    "assert cache.get('none') is None",
    "cache['key'] = 2; assert cache['key'] == 2",
    "cache['new'] = 2; assert cache['new'] == 2",
    "del cache['key']; assert 'key' not in cache",
    "assert cache.pop('key') == 'value'",
    "assert cache.popitem() == ('key', 'value')",
    "cache.clear(); assert len(cache) == 0",
    "assert list(cache) == ['key']; assert cache.statistics().items == 1",
    "cache.resize(maxsize=5); assert cache.statistics().maxsize == 5",
    "assert cache.shrink(fraction=1).items == 1",
    "assert cache.setdefault('other', 3) == 3",
)
USES_OF_OTHERS = (
    ("listeners._table.lock", "listeners.on('other', called.append)"),
    ("listeners._table.lock", "listeners.off('event', called.append)"),
    ("listeners._table.lock", "listeners.once('event', print).close()"),
    ("listeners._table.lock", "assert listeners.statistics().listeners == 1"),
    ("listeners._table.lock", "listeners.on('other', print, owner=owner); listeners.end(owner)"),
    ("listeners._table.lock", "listeners.close()"),
    ("listeners._emitter.mutes._lock", "listeners.muted('x').__enter__()"),
    ("owners._owners.lock", "listeners.on('other', print, owner=owner); listeners.end(owner)"),
    ("weak._reading", "assert weak.get('owner') is owner and weak.statistics().items == 1"),
    ("history._lock", "history.add(reading); assert len(history.last()) == 1"),
    ("history._lock", "history.flush(); history.close()"),
    ("watch._lock", "watch.statistics(); watch.stop()"),
    ("policy._lock", "policy.stop(); policy.start(); policy.stop()"),
    ("requests._lock", "requests.begin('/path').close('GET', '/path')"),
    ("requests._lock", "assert requests.statistics().requests == 0"),
    ("memguard.lifecycle.janitor._janitor.lock", "memguard.BoundedCache(9, ttl=9)[1] = 1"),
)


@pytest.mark.stress
@pytest.mark.parametrize("options", ["", ", ttl=600", ", maxbytes='1MiB', policy='s3fifo'"])
def test_a_cache_that_a_thread_of_the_parent_was_changing(options: str) -> None:
    """The thread holds the lock in the child, too, and will not release it there."""
    printed = run(
        HELD
        + f"""
    for use in {USES_OF_A_CACHE!r}:
        print(use)
        cache = memguard.BoundedCache(10{options})
        cache["key"] = "value"
        ring = cache._ring

        def child():
            exec(use)
            cache["last"] = 1
            assert cache["last"] == 1

        while_held(cache._lock, child, lambda: setattr(cache, "_ring", False))
        cache._ring = ring
        assert cache["key"] == "value"
    """
    )
    assert printed.splitlines() == list(USES_OF_A_CACHE)


def test_a_wrapped_mapping_that_a_thread_of_the_parent_was_using() -> None:
    printed = run(
        HELD
        + """
    cache = memguard.BoundedCache.wrap({"key": 1}, maxsize=10)

    def child():
        assert cache["key"] == 1
        cache["other"] = 2
        assert len(cache) == cache.statistics().items == 2

    while_held(cache._mutex, child)
    print("went on")
    """
    )
    assert printed == "went on"


def test_what_a_thread_of_the_parent_was_changing() -> None:
    printed = run(
        HELD
        + f"""
    class Owner: pass

    for lock, use in {USES_OF_OTHERS!r}:
        print(lock, use)
        owner, called, reading = Owner(), [], read_memory()
        listeners, weak = memguard.ListenerRegistry(), memguard.WeakValueCache(10)
        history, watch = History(), GcWatch().start()
        policy, requests = memguard.GcPolicy(time_share=0.02), RequestWatch()
        listeners.on("event", called.append)
        owned = memguard.ListenerRegistry()
        owned.on("event", called.append, owner=owner)
        weak["owner"] = owner

        def child():
            exec(use)
            memguard.lifecycle.janitor.stop(30)

        while_held(eval(lock), child)
        watch.stop()
    """
    )
    assert len(printed.splitlines()) == len(USES_OF_OTHERS)


def test_a_watch_of_the_collector_counts_in_the_child_and_goes_on_counting() -> None:
    printed = run(
        """
        import gc
        from memguard.lifecycle import fork
        from memguard.observe.gcwatch import GcWatch
        watch = GcWatch().start()
        gc.collect()

        def child():
            assert not watch.statistics().running
            watch.start()
            fork.check()  # as the first other call of ours
            gc.collect()
            assert watch.statistics().collections == 1, watch.statistics()
            watch.stop()

        in_child(child)
        gc.collect()
        assert watch.statistics().collections >= 2
        watch.stop()
        print("counted")
        """
    )
    assert printed == "counted"


def test_a_cache_with_lifetimes_is_swept_in_the_child() -> None:
    printed = run(
        """
        import memguard
        from memguard.lifecycle import janitor
        cache = memguard.BoundedCache(10, ttl=3600)
        cache["parent"] = 1
        assert janitor.statistics().running

        def child():
            cache.set("child", 1, ttl=0.1)
            while "child" in cache._map:
                time.sleep(0.01)
            assert janitor.stop(30)

        in_child(child)
        assert janitor.stop(30)
        print("swept")
        """
    )
    assert printed == "swept"


def test_a_guard_that_restarts_in_children_does_so_when_it_is_used() -> None:
    printed = run(
        """
        import memguard
        guard = memguard.install(interval=0.05, restart_in_children=True)

        def child():
            assert memguard.status().running
            while not memguard.status().monitor.ticks:
                time.sleep(0.01)
            memguard.uninstall()

        in_child(child)
        assert memguard.status().running
        memguard.uninstall()
        print("restarted")
        """
    )
    assert printed == "restarted"
