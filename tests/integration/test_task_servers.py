"""
Real processes that do tasks: the guard runs in each of them, or says that it does not.

Celery's prefork pool with a Redis server, and the pools of `multiprocessing` with each of its start
methods; the table of ``docs/production.md`` has the results.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.server_processes import (
    DEADLINE,
    SERVED,
    Host,
    asked_for,
    in_time,
    needs,
    program,
    unwatched,
    watched,
)

pytestmark = [
    pytest.mark.stress,
    asked_for,
    pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc"),
    pytest.mark.timeout(300),
]

WORKERS = 2
QUICK: dict[str, Any] = {"leak_options": {"trace_seconds": 0.1, "interval": 0.05}}
RESTART = {"restart_in_children": True}


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[str]:
    """Return the address of a Redis server of this test's own."""
    needs("redis-server", "celery", "redis")
    socket = tmp_path / "redis"
    command = [str(program("redis-server")), "--port", "0", "--unixsocket", str(socket)]
    with subprocess.Popen(
        [*command, "--save", "", "--dir", str(tmp_path)], stdout=subprocess.DEVNULL
    ) as server:
        try:
            deadline = time.monotonic() + DEADLINE
            while not socket.exists():
                assert server.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.02)
            yield f"redis+socket://{socket}"
        finally:
            server.terminate()


class Celery(Host):
    """A Celery worker with two processes, which is asked by tasks."""

    def __init__(self, directory: Path, broker: str, where: str, **guard: Any) -> None:
        from celery import Celery as Application  # noqa: PLC0415 - reason: may not be installed

        command = [
            *(sys.executable, "-m", "celery", "-A", "tasks", "worker", "-c", str(WORKERS)),
            *("--without-gossip", "--without-mingle", "-l", "WARNING"),
        ]
        super().__init__(directory, command, where, guard, BROKER=broker)
        self._client = Application("asks", broker=broker, backend=broker, set_as_current=False)
        self.wait(lambda: self.ask("/status"), "an answer")

    def __exit__(self, *error: object) -> None:
        self._client.close()
        super().__exit__(*error)

    def ask(self, path: str = "/") -> dict[str, Any]:
        """Return what a task returns."""
        return next(iter(self.all_workers(1, path).values()))

    def all_workers(self, count: int, path: str = "/busy") -> dict[int, dict[str, Any]]:
        """Send tasks, several at a time, until *count* processes have done one."""
        from celery.exceptions import TimeoutError  # noqa: A004, PLC0415 - reason: as above

        found: dict[int, dict[str, Any]] = {}
        deadline = time.monotonic() + DEADLINE
        while len(found) < count:
            assert time.monotonic() < deadline, f"{found} of {count} answered:\n{self.log()}"
            sent = [self._client.send_task("ask", [path]) for _ in range(count)]
            for each in sent:
                with contextlib.suppress(TimeoutError):
                    answer = each.get(timeout=DEADLINE / 2)
                    found[answer["pid"]] = answer
        return found


@pytest.mark.parametrize(
    ("where", "guard", "runs"),
    [
        pytest.param("import", {}, False, id="import"),
        pytest.param("import", RESTART, True, id="import-restart"),
        pytest.param("hook", {}, True, id="hook"),
        pytest.param("setup", {}, True, id="setup"),
    ],
)
def test_celery_with_redis(
    where: str,
    guard: dict[str, Any],
    runs: bool,  # noqa: FBT001 - reason: pytest's parameter
    broker: str,
    tmp_path: Path,
) -> None:
    numbers = iter(range(100))

    def bare() -> float:
        number = next(numbers)
        with Celery(tmp_path / f"bare{number}", broker, "bare") as host:
            host.all_workers(WORKERS)
            time.sleep(0.2 * number)  # another moment of the second after which it looks
            return host.stop()

    def guarded() -> float:
        directory = tmp_path / f"guarded{next(numbers)}"
        options = {**guard, **QUICK, "report_dir": str(directory / "reports")}
        with Celery(directory, broker, where, **options) as host:
            if runs:
                watched(host, directory / "reports")
            else:
                unwatched(host)
            return stopped(host)

    in_time(bare, guarded)


def stopped(host: Host) -> float:
    took = host.stop()
    assert "Traceback" not in host.log(), host.log()
    assert "Exception ignored" not in host.log(), host.log()
    return took


@pytest.mark.parametrize(
    ("method", "where", "guard", "runs"),
    [
        pytest.param("fork", "import", {}, False, id="fork-import"),
        pytest.param("fork", "import", RESTART, True, id="fork-import-restart"),
        pytest.param("fork", "hook", {}, True, id="fork-initializer"),
        pytest.param("spawn", "import", {}, True, id="spawn-import"),
        pytest.param("spawn", "hook", {}, True, id="spawn-initializer"),
        pytest.param("forkserver", "import", {}, True, id="forkserver-import"),
        pytest.param("forkserver preload", "import", {}, False, id="forkserver-preload-import"),
        pytest.param(
            "forkserver preload", "import", RESTART, True, id="forkserver-preload-import-restart"
        ),
        pytest.param("forkserver preload", "hook", {}, True, id="forkserver-preload-initializer"),
    ],
)
def test_pools_of_multiprocessing(
    method: str,
    where: str,
    guard: dict[str, Any],
    runs: bool,  # noqa: FBT001 - reason: pytest's parameter
    tmp_path: Path,
) -> None:
    numbers = iter(range(100))
    start, *preload = method.split()
    command = [sys.executable, str(SERVED / "pooled.py"), start, "{socket}", *preload]

    @contextlib.contextmanager
    def host(name: str, where: str, **options: Any) -> Iterator[Host]:
        with Host(tmp_path / name, command, where, options) as host:
            host.wait(host.serves, "an answer")
            yield host

    def bare() -> float:
        with host(f"bare{next(numbers)}", "bare") as server:
            server.all_workers(WORKERS)
            return server.stop()

    def guarded() -> float:
        name = f"guarded{next(numbers)}"
        reports = tmp_path / name / "reports"
        with host(name, where, **guard, **QUICK, report_dir=str(reports)) as server:
            if runs:
                watched(server, reports)
            else:
                unwatched(server)
            return stopped(server)

    in_time(bare, guarded)
