"""A guard in real processes: forked, exiting, prefork servers."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest


def run(program: str, *, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        env={name: value for name, value in os.environ.items() if "MEMGUARD" not in name},
    )
    assert done.returncode == code, done.stderr
    assert done.stderr == ""
    return done.stdout.strip()


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


@needs_fork
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_is_stopped_and_can_start_its_own() -> None:
    printed = run(
        """
        import os, threading, warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # fork beside threads, on purpose
        from memguard.guard import install, relieve, status, uninstall
        from memguard.relief.collector import GcPolicy

        guard = install(interval=0.05, gc_policy=GcPolicy(threshold=(900, 10, 10)))
        place = guard.admit("1MiB")
        child = os.fork()
        if child == 0:
            assert not status().running
            assert threading.active_count() == 1
            assert status().admission.running == 0
            relieve("1MiB")
            install()
            assert status().running
            names = sorted(t.name for t in threading.enumerate() if "memguard" in t.name)
            assert len(names) == 2, names
            uninstall()
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert status().running and status().admission.running == 1
        uninstall()
        print("both lived")
        """
    )
    assert printed == "both lived"


@needs_fork
def test_forks_under_load_never_meet_a_lock_of_a_thread_that_is_gone() -> None:
    printed = run(
        """
        import os, threading, warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        from memguard.bounded.cache.bounded_cache import BoundedCache
        from memguard.guard import install, relieve, uninstall

        guard = install(interval=0.01, leaks=False, limit="1TiB")
        cache = BoundedCache(1000)
        done = threading.Event()
        def work():
            number = 0
            while not done.is_set():
                number += 1
                cache[number] = b"x" * 100
                if number % 50 == 0:
                    relieve(10_000)
        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads: thread.start()
        for _ in range(15):
            child = os.fork()
            if child == 0:
                install()
                assert not relieve(1000).busy
                guard.admit("1KiB").close()
                uninstall()
                os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        done.set()
        for thread in threads: thread.join()
        uninstall()
        print("fine")
        """
    )
    assert printed == "fine"


def test_a_program_that_forgets_its_guard_ends_at_once() -> None:
    printed = run(
        """
        import time, atexit
        from memguard.guard import install
        began = time.monotonic()
        atexit.register(lambda: print(time.monotonic() - began < 30))
        install(interval=600.0)
        """
    )
    assert printed == "True"


@needs_fork
def test_a_child_that_is_forked_while_another_thread_installs_can_install_its_own() -> None:
    printed = run(
        """
        import os, threading, warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # fork beside threads, on purpose
        from memguard.guard import install, process, status, uninstall

        real, building, go_on = process.MemoryGuard, threading.Event(), threading.Event()

        def slow(**options):
            building.set()
            go_on.wait(40)
            return real(**options)

        process.MemoryGuard = slow
        other = threading.Thread(target=install, kwargs={"leaks": False})
        other.start()
        assert building.wait(40)
        child = os.fork()
        if child == 0:
            process.MemoryGuard = real
            installing = threading.Thread(target=install, kwargs={"leaks": False}, daemon=True)
            installing.start()
            installing.join(30)
            os._exit(installing.is_alive())
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        go_on.set()
        other.join()
        uninstall()
        print("both lived")
        """
    )
    assert printed == "both lived"


def test_a_guard_whose_threads_get_other_numbers_ends_without_a_word() -> None:
    """As where gevent is patched in after `install`: `threading` then counts greenlets."""
    printed = run(
        """
        import threading, time
        import memguard
        guard = memguard.install(limit="1TiB", interval=0.02)
        while not guard.status().monitor.ticks:
            time.sleep(0.01)
        native = threading.get_ident
        mine = native()
        threading.get_ident = lambda: native() + (native() != mine)
        memguard.uninstall()
        print("running", guard.status().running)
        """
    )
    assert printed == "running False"


@needs_fork
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_guard_that_restarts_in_children_runs_there_untouched_and_in_theirs() -> None:
    printed = run(
        """
        import os, threading, time, warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # fork beside threads, on purpose
        from memguard.guard import install, status, uninstall

        ticks = []
        guard = install(interval=0.02, restart_in_children=True, on_level=lambda a: ticks.append(1))

        def runs():
            while not ticks:  # of this process, without a call to anything of ours
                time.sleep(0.01)
            assert status().running and status().monitor.ticks
            names = [t.name for t in threading.enumerate() if "memguard" in t.name]
            assert sorted(set(names)) == sorted(names), names

        def forked(work):
            pid = os.fork()
            if pid == 0:
                del ticks[:]
                try:
                    runs()
                    work()
                    uninstall()
                    os._exit(0)
                finally:
                    os._exit(1)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

        runs()
        forked(lambda: forked(lambda: None))
        guard.stop()

        def stays_stopped():
            time.sleep(0.2)
            assert not status().running and threading.active_count() == 1

        pid = os.fork()
        if pid == 0:
            try:
                stays_stopped()
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        uninstall()
        print("all ran")
        """
    )
    assert printed == "all ran"


@needs_fork
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_install_in_a_child_where_the_guard_is_about_to_restart_finds_it_running() -> None:
    printed = run(
        """
        import os, warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        from memguard.guard import install, status, uninstall

        guard = install(interval=600, leaks=False, restart_in_children=True)
        for touch in (install, status, lambda: guard.admit("1KiB").close(), lambda: guard.level):
            pid = os.fork()
            if pid == 0:
                try:
                    touch()
                    assert guard._running
                    assert install() is guard
                    uninstall()
                    os._exit(0)
                finally:
                    os._exit(1)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        uninstall()
        print("found")
        """
    )
    assert printed == "found"
