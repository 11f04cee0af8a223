"""The observe rooms where only a process of its own can tell: forks, kills, preloads, limits."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from memguard.observe.history import History

MIB = 1024**2
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux only")
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


def run(
    script: str, *arguments: str, env: dict[str, str] | None = None, flags: tuple[str, ...] = ()
) -> Any:
    """Run *script* in an interpreter of its own and return the JSON that it prints."""
    done = subprocess.run(
        [sys.executable, *flags, "-c", textwrap.dedent(script), *arguments],
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
        env={**os.environ, **(env or {})},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


FORK = """
    import gc, json, os, sys
    from pathlib import Path
    from memguard.observe.gcwatch import GcWatch
    from memguard.observe.history import History
    from memguard.observe.readings import Reading
    from memguard.errors import LifecycleError

    gc.disable()
    clock = [0.0]
    path = Path(sys.argv[1])
    history = History(path=path, clock=lambda: clock[0])
    watch = GcWatch()
    watch.start()
    gc.collect()
    for _ in range(3):
        history.add(Reading(at=0.0, anon=100))
        clock[0] += 60
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            gc.collect()
            told = {"counted_in_callback": watch._tally.copy()[2]}
            told["watch"] = watch.statistics().collections
            told["running"] = watch.statistics().running
            watch.start()
            gc.collect()
            told["started_anew"] = watch.statistics().collections
            watch.stop()
            told["callbacks"] = gc.callbacks.count(watch._tally.callback)
            told["readings"] = len(history.last())
            told["file"] = history.statistics().file
            history.add(Reading(at=0.0, anon=7))
            clock[0] += 60
            history.add(Reading(at=0.0, anon=7))
            told["hours"] = [hour.peak for hour in history.hours()]
            history.close()
            try:
                History(path=path)
            except LifecycleError as error:
                told["second_writer"] = "another process" in str(error)
            os.write(send, json.dumps(told).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(send)
    with os.fdopen(receive) as pipe:
        told = json.load(pipe)
    assert os.waitpid(child, 0)[1] == 0
    before = watch.statistics().collections
    gc.collect()
    told["parent_watches_on"] = watch.statistics().collections - before
    watch.stop()
    history.add(Reading(at=0.0, anon=100))
    history.close()
    with History(path=path, clock=lambda: clock[0]) as again:
        told["stored"] = [(hour.count, hour.peak) for hour in again.hours()]
    print(json.dumps(told))
"""


@forks
def test_a_forked_child_begins_stopped_and_empty_and_leaves_the_parents_file_alone(
    tmp_path: Path,
) -> None:
    told = run(FORK, str(tmp_path / "history.db"))
    assert told == {
        "counted_in_callback": 1,  # what the parent counted; the child's collection added nothing
        "watch": 0,
        "running": False,
        "started_anew": 1,
        "callbacks": 0,
        "readings": 0,
        "file": None,
        "hours": [7],
        "second_writer": True,
        "parent_watches_on": 1,
        "stored": [[4, 100]],
    }


def test_a_watch_that_nobody_stops_is_silent_when_the_interpreter_ends() -> None:
    """Objects that die last set off collections while modules are being taken apart."""
    done = subprocess.run(
        [
            sys.executable,
            "-X",
            "dev",
            "-c",
            textwrap.dedent(
                """
                import atexit, gc, sys
                from memguard.observe.gcwatch import GcWatch
                gc.set_threshold(1)
                watch = GcWatch(log_collections=True)
                watch.start()
                class Late:
                    def __del__(self, make=list):
                        for _ in range(200):
                            cycle = make()
                            cycle.append(cycle)
                late = Late()
                late.me = late
                sys.modules["late"] = Late()
                gc.callbacks.append(lambda phase, info, late=Late(): None)
                atexit.register(lambda: [[] for _ in range(100)])
                """
            ),
        ],
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@forks
@linux
def test_after_a_fork_a_reading_is_the_childs_own() -> None:
    told = run(
        """
        import json, os
        from memguard.observe.readings import read_memory
        read_memory()
        receive, send = os.pipe()
        if os.fork() == 0:
            ballast = bytearray(b"x" * (64 << 20))
            os.write(send, str(read_memory().private).encode())
            os._exit(0)
        child = int(os.read(receive, 100))
        os.wait()
        print(json.dumps({"child": child, "parent": read_memory().private}))
        """
    )
    assert told["child"] - told["parent"] > 50 * MIB


WRITER = """
    import sys, itertools
    from memguard.observe.history import History
    from memguard.observe.readings import Reading
    clock = [0.0]
    history = History(path=sys.argv[1], clock=lambda: clock[0], keep_minutes=20)
    print("ready", flush=True)
    for number in itertools.count():
        history.add(Reading(at=0.0, anon=1000 + number % 50))
        clock[0] += 60
"""


def test_a_writer_killed_at_any_moment_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    readings = 0
    deadline = time.monotonic() + 30
    for delay in (0.0, 0.03, 0.11, 0.2, *[0.5] * 60):
        if delay == 0.5 and (readings > 20 or time.monotonic() > deadline):
            break  # more rounds are for a machine so busy that it wrote little until now
        writer = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(WRITER), str(path)], stdout=subprocess.PIPE
        )
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"ready\n"
        time.sleep(delay)  # the point of the test: killed in the middle of its work
        writer.kill()
        writer.wait(20)
        writer.stdout.close()
        with History(path=path, keep_minutes=20) as history:
            hours = history.hours()
            assert history.statistics().file_errors == 0
        assert sum(hour.count for hour in hours) >= readings
        readings = sum(hour.count for hour in hours)
        assert all(1000 <= hour.lowest <= hour.average <= hour.peak < 1050 for hour in hours)
    assert readings > 20


def test_importing_the_rooms_loads_no_ctypes_and_no_sqlite_and_hooks_nothing() -> None:
    """What is not used costs nothing."""
    told = run(
        """
        import gc, json, sys, threading
        callbacks = list(gc.callbacks)
        import memguard.observe.readings, memguard.observe.headroom, memguard.observe.history
        import memguard.observe.gcwatch, memguard.observe.allocator
        memguard.observe.readings.read_memory()
        print(json.dumps({
            "ctypes": "ctypes" in sys.modules,
            "sqlite": "sqlite3" in sys.modules,
            "callbacks": gc.callbacks == callbacks,
            "threads": threading.active_count(),
        }))
        """
    )
    assert told == {"ctypes": False, "sqlite": False, "callbacks": True, "threads": 1}


@linux
def test_a_resource_limit_of_the_process_is_found_and_compared_with_address_space() -> None:
    told = run(
        """
        import json, resource
        resource.setrlimit(resource.RLIMIT_AS, (600 << 20, resource.RLIM_INFINITY))
        from memguard.observe.headroom import read_headroom
        from memguard.observe.limits import read_limit
        from memguard.observe.readings import read_memory
        row = read_memory()
        before = read_headroom(row).fullest
        ballast = bytearray(400 << 20)
        after = read_headroom(read_memory()).fullest
        print(json.dumps({
            "limit": read_limit().bytes, "source": read_limit().source,
            "vms": row.vms, "before": before.used if before.bound.kind == "rlimit.as" else None,
            "after": [after.bound.kind, after.used],
        }))
        """
    )
    assert told["limit"] == 600 * MIB
    assert told["source"] == "RLIMIT_AS"
    kind, used = told["after"]
    assert kind == "rlimit.as"
    assert used > told["vms"] + 399 * MIB


@pytest.mark.parametrize(
    ("asked", "flags", "name"),
    [
        ("", (), "pymalloc"),
        ("malloc", (), "malloc"),
        ("debug", (), "pymalloc_debug"),
        ("malloc_debug", (), "malloc_debug"),
        ("", ("-X", "dev"), "pymalloc_debug"),
        ("malloc", ("-E",), "pymalloc"),
    ],
)
def test_pythons_allocator_is_told_as_it_really_is(
    asked: str, flags: tuple[str, ...], name: str
) -> None:
    """With -E the variable is ignored, and so it must be by us."""
    if sys.flags.dev_mode or getattr(sys, "_is_gil_enabled", lambda: True)() is False:
        pytest.skip("this interpreter chooses its allocator otherwise")
    told = run(
        """
        import json
        from memguard.observe.allocator import read_allocator
        from memguard.observe.readings import read_memory
        print(json.dumps([read_allocator().python, read_memory().blocks]))
        """,
        env={"PYTHONMALLOC": asked},
        flags=flags,
    )
    assert told[0] == name


PRELOAD = """
#include <stddef.h>
#include <stdlib.h>
extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void __libc_free(void *);
void *malloc(size_t size) { return __libc_malloc(size); }
void *calloc(size_t count, size_t size) { return __libc_calloc(count, size); }
void *realloc(void *block, size_t size) { return __libc_realloc(block, size); }
void free(void *block) { __libc_free(block); }
"""


@linux
@pytest.mark.parametrize(
    ("library", "name"), [("libjemalloc.so.2", "jemalloc"), ("libhouse.so", "unknown")]
)
def test_a_preloaded_malloc_is_recognised_and_never_trimmed(
    tmp_path: Path, library: str, name: str
) -> None:
    """The library says what it is by its file, as the preloads of the real ones do."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler to build a library to preload")
    source = tmp_path / "preload.c"
    source.write_text(PRELOAD)
    built = subprocess.run(
        [compiler, "-shared", "-fPIC", "-o", str(tmp_path / library), str(source)],
        capture_output=True,
        check=False,
        timeout=60,
    )
    if built.returncode != 0:
        pytest.skip("the compiler cannot build a library here (no glibc headers)")
    told = run(
        """
        import json
        from memguard.observe.allocator import read_allocator, trim
        state = read_allocator()
        print(json.dumps([state.name, state.library, state.in_use, state.can_trim, trim()]))
        """,
        env={"LD_PRELOAD": str(tmp_path / library)},
    )
    assert told == [name, str(tmp_path / library), None, False, None]


@linux
def test_trimming_gives_freed_memory_back_to_the_system() -> None:
    """A heap with a hole under a block that still lives: only trim can empty the hole."""
    told = run(
        """
        import ctypes, json
        from memguard.observe.allocator import read_allocator, trim
        from memguard.observe.readings import read_memory
        state = read_allocator()
        if not state.can_trim:
            print(json.dumps(None)); raise SystemExit
        libc = ctypes.CDLL(None)
        libc.malloc.restype = ctypes.c_void_p
        libc.malloc.argtypes = (ctypes.c_size_t,)
        libc.free.argtypes = (ctypes.c_void_p,)
        blocks = []
        for _ in range(1500):
            block = libc.malloc(64 << 10)
            ctypes.memset(block, 1, 64 << 10)
            blocks.append(block)
        keeper = libc.malloc(64 << 10)
        for block in blocks:
            libc.free(block)
        free = read_allocator().free
        before = read_memory().private
        answer = trim()
        after = read_memory().private
        print(json.dumps([free, answer, before - after]))
        """
    )
    if told is None:
        pytest.skip("this process does not run on glibc's malloc")
    free, answer, given_back = told
    assert free > 80 * MIB
    assert answer is True
    assert given_back > 80 * MIB
