"""Real servers when something happens: a stop in an investigation, a recycled or killed worker."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memguard.report.publish import reader
from tests.server_commands import WORKERS, granian, gunicorn, hypercorn, uvicorn, uwsgi
from tests.server_processes import Host, asked_for, in_time, needs

pytestmark = [
    pytest.mark.stress,
    asked_for,
    pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc"),
    pytest.mark.timeout(300),
]

Command = Callable[..., list[str]]
WATCHFUL = {
    "interval": 0.05,
    "min_growth_bytes": "1MiB",
    "growth_threshold": 1.03,
    "trace_seconds": 30,
}


def started(directory: Path, command: list[str], where: str, **options: Any) -> Host:
    host = Host(directory, command, where, options)
    host.wait(host.serves, "an answer")
    return host


def silent(host: Host) -> None:
    """Assert that nothing of ours failed aloud."""
    assert "Traceback" not in host.log(), host.log()
    assert "Exception ignored" not in host.log(), host.log()


@pytest.mark.parametrize("restart", [None, True])
def test_uwsgi_serves_at_each_of_twelve_starts_and_runs_only_where_it_watches(
    restart: bool | None,  # noqa: FBT001 - reason: pytest's parameter
    tmp_path: Path,
) -> None:
    """A thread that holds the GIL while uWSGI forks would keep a worker from ever serving."""
    needs("uwsgi")
    for start in range(12):
        options = {"interval": 0.02, "restart_in_children": restart}
        with started(tmp_path / str(start), uwsgi("import"), "import", **options) as host:
            first = host.all_workers(WORKERS)
            then = host.all_workers(WORKERS)
            assert all(row["running"] is bool(restart) for row in then.values()), then
            for pid, row in first.items():
                assert (then[pid]["ticks"] > row["ticks"]) is row["running"], (first, then)
            host.stop()
            silent(host)


@pytest.mark.parametrize("options", [["--threads=2"], ["--threads=2", "--lazy-apps"]])
def test_containers_made_before_uwsgi_forks_start_no_thread_there(
    options: list[str], tmp_path: Path
) -> None:
    """They are swept in each worker; a timer cannot be had there, and says so."""
    needs("uwsgi")
    for start in range(6):
        command = uwsgi("hook", *options)
        with Host(tmp_path / str(start), command, "hook", {}, EARLY="yes") as host:
            host.wait(host.serves, "an answer")
            rows = host.all_workers(WORKERS, "/early").values()
            assert all(row["swept"] for row in rows), rows
            for row in rows:
                assert (row["said"] is None) == ("--lazy-apps" in options), row
                assert row["said"] is None or "no thread to run timers" in row["said"]
            host.stop()
            silent(host)


@pytest.mark.parametrize("server", [gunicorn, uvicorn])
def test_two_workers_with_one_history_file_both_serve(server: Command, tmp_path: Path) -> None:
    history = tmp_path / "place"
    history.mkdir(mode=0o700)
    file = str(history / "history")
    with started(tmp_path / "server", server("import"), "import", history=file) as host:
        rows = host.all_workers(WORKERS).values()
        assert all(row["running"] for row in rows), rows
        assert sorted(row["history"] is None for row in rows) == [False, True], rows
        degraded = [row["degraded"] for row in rows if row["degraded"]]
        assert [list(each) for each in degraded] == [["history"]], rows
        assert "in memory only" in degraded[0]["history"]
        host.stop()
        silent(host)


@pytest.mark.parametrize(
    ("server", "where"),
    [
        (gunicorn, "import"),
        (uvicorn, "lifespan"),
        (hypercorn, "lifespan"),
        (granian, "import"),
        (uwsgi, "hook"),
    ],
)
def test_a_server_that_is_stopped_in_an_investigation_stops_in_time(
    server: Command, where: str, tmp_path: Path
) -> None:
    needs(server.__name__)
    numbers = iter(range(100))

    def run(where: str) -> float:
        directory = tmp_path / str(next(numbers))
        with started(directory, server(where), where, leak_options=WATCHFUL) as host:
            first = host.all_workers(WORKERS, "/leak")
            deadline = time.monotonic() + 60
            while where != "bare":
                rows = [host.ask() for _ in first]
                if any(row["detector"] == "tracing" for row in rows):
                    break
                assert time.monotonic() < deadline, rows
            took = host.stop()
            silent(host)
            return took

    in_time(lambda: run("bare"), lambda: run(where))


@pytest.mark.parametrize("kind", ["sync", "gthread"])
def test_workers_that_are_recycled_after_few_requests_are_guarded_and_leave_nothing(
    kind: str, tmp_path: Path
) -> None:
    command = gunicorn("setup", "-k", kind, "--max-requests", "5")
    numbers = iter(range(100))

    def run(where: str) -> float:
        directory = tmp_path / str(next(numbers))
        with started(directory, command, where, publish=str(directory / "published")) as host:
            seen: dict[int, bool] = {}
            host.wait(lambda: _ask_and_note(host, seen) >= 3 * WORKERS, "workers that are replaced")
            if where != "bare":
                assert all(seen.values()), host.log()
            took = host.stop()
            silent(host)
            if where != "bare":
                assert list((directory / "published").iterdir()) == []
            return took

    in_time(lambda: run("bare"), lambda: run("setup"))


def _ask_and_note(host: Host, seen: dict[int, bool]) -> int:
    row = host.ask()
    seen[row["pid"]] = row.get("running", False)
    return len(seen)


def test_a_worker_that_is_killed_while_it_publishes_leaves_nothing_that_is_read(
    tmp_path: Path,
) -> None:
    place = tmp_path / "published"
    numbers = random.Random(12)  # noqa: S311 - reason: moments of a test
    options = {"publish": str(place), "interval": 0.01, "leaks": False}
    with started(tmp_path / "server", gunicorn("hook"), "hook", **options) as host:
        killed: set[int] = set()
        for _ in range(6):
            for pid in host.all_workers(WORKERS):
                if pid not in killed:
                    time.sleep(numbers.random() * 0.02)
                    os.kill(pid, signal.SIGKILL)
                    killed.add(pid)
            host.wait(lambda: not set(host.processes()) & killed, "their end")
        rows = host.all_workers(WORKERS)
        assert all(row["running"] for row in rows.values()), host.log()
        host.wait(
            lambda: (
                {int(one.file.name.split("-")[1]) for one in reader.look([place]).guards}
                == set(rows)
            ),
            "the living to be read, and no other",
        )
        host.stop()
    assert reader.look([place]) == reader.Found(())
    left = [path.name for path in place.iterdir()]
    assert not [name for name in left if name.endswith(".tmp") or name.startswith(".")], left


@pytest.mark.parametrize("kind", ["sync", "gevent"])
def test_a_preloaded_worker_that_nobody_asks_starts_its_guard(kind: str, tmp_path: Path) -> None:
    needs("gunicorn", *(["gevent"] if kind == "gevent" else []))
    place = tmp_path / "published"
    options = {"publish": str(place), "restart_in_children": True, "interval": 0.05}
    command = gunicorn("import", "-k", kind, "--preload")
    with Host(tmp_path / "server", command, "import", options) as host:

        def running() -> int:
            guards = reader.look([place]).guards if place.exists() else ()
            return len({one.file.name.split("-")[1] for one in guards})

        host.wait(lambda: running() == 1 + WORKERS, "the guards of master and workers")
        rows = host.all_workers(WORKERS).values()
        time.sleep(1.5)  # longer than the patience of the parent
        after = host.all_workers(WORKERS)
        assert all(after[row["pid"]]["ticks"] > row["ticks"] for row in rows), after
        host.stop()
        silent(host)
        assert "unguarded" not in host.log(), host.log()


def test_a_server_that_reloads_starts_a_guard_each_time_and_leaves_nothing(tmp_path: Path) -> None:
    command = [
        *(sys.executable, "-m", "uvicorn", "--uds", "{socket}", "--reload", "--reload-dir", "."),
        "application:asgi",
    ]
    numbers = iter(range(100))

    def run(where: str) -> float:
        directory = tmp_path / str(next(numbers))
        directory.mkdir()
        changed = directory / "changed.py"
        changed.touch()
        with started(directory, command, where) as host:
            pids = {host.ask()["pid"]}
            for change in range(1, 3):
                time.sleep(0.6)  # until the reloader, which looks every 0.25 s, knows the file
                os.utime(changed, (change, changed.stat().st_mtime + 10))
                host.wait(lambda: _fresh(host, pids), "the next process")
                row = host.ask()
                assert row["installed"] is (where != "bare")
                assert where == "bare" or row["running"]
                pids.add(row["pid"])
            host.wait(lambda: len(pids & host.processes()) == 1, "the end of those before")
            took = host.stop()
            silent(host)
            return took

    in_time(lambda: run("bare"), lambda: run("import"))


def _fresh(host: Host, pids: set[int]) -> bool:
    return host.serves() and host.ask()["pid"] not in pids
