"""Real servers in sessions of their own: what their workers say, how they stop, what they leave."""

from __future__ import annotations

import http.client
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import pytest

ROOT = Path(__file__).parents[1]
SERVED = Path(__file__).parent / "served"
DEADLINE = 60.0
REQUIRED = "MEMGUARD_TEST_SERVERS"
"""
Environment variable: servers are tried where it is set, for that takes minutes. If it is
``required``, one that is missing is an error.
"""
PROGRAMS = frozenset({"redis-server", "uwsgi"})
"""Servers that are started by name; all others by this Python, as modules."""
asked_for = pytest.mark.skipif(
    REQUIRED not in os.environ, reason=f"takes minutes: set {REQUIRED}=required to try servers"
)


def needs(*names: str) -> None:
    """
    Skip the test if a package or program is not installed; fail it if servers are required.

    A program of the same name that another Python has installed is no package of this one.
    """
    missing = [name for name in names if not _is_there(name)]
    if missing:
        reason = f"not installed: {', '.join(missing)} (pip install --group servers; redis-server)"
        if os.environ.get(REQUIRED) == "required":
            pytest.fail(reason)
        pytest.skip(reason)


def _is_there(name: str) -> bool:
    if name in PROGRAMS:
        return program(name) is not None
    return importlib.util.find_spec(name) is not None


def program(name: str) -> str | None:
    """Return the path of a program beside this interpreter, or on the PATH."""
    beside = Path(sys.executable).with_name(name)
    return str(beside) if beside.exists() else shutil.which(name)


class Host:
    """
    A server in a session of its own, ended with the ``with`` block, and all that it started.

    Args:
        directory: Its working directory; ``http`` in it is its socket.
        command: Arguments; ``{socket}`` stands for that socket.
        where: Where the application installs its guard.
        options: Of the guard.
        stop_signal: What ends it.
    """

    def __init__(
        self,
        directory: Path,
        command: list[str],
        where: str,
        options: Mapping[str, Any] | None = None,
        *,
        stop_signal: int = signal.SIGTERM,
        **environment: str,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.socket = str(directory / "http")
        self._log = directory / "log"
        self._stop_signal = stop_signal
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [part.replace("{socket}", self.socket) for part in command],
                cwd=directory,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env={
                    **{name: value for name, value in os.environ.items() if "MEMGUARD" not in name},
                    "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(SERVED)]),
                    "PYTHONDONTWRITEBYTECODE": "1",
                    "PYTHONUNBUFFERED": "1",
                    "WHERE": where,
                    "OPTIONS": json.dumps(options or {}),
                    **environment,
                },
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for pid in self.processes():
            os.kill(pid, signal.SIGKILL)
        self._process.wait()

    @property
    def pid(self) -> int:
        return self._process.pid

    def log(self) -> str:
        return self._log.read_text("utf-8", "replace")

    def wait(self, condition: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + DEADLINE
        while not condition():
            assert self._process.poll() is None, self.log()
            assert time.monotonic() < deadline, f"waited for {what} in vain:\n{self.log()}"
            time.sleep(0.02)

    def processes(self) -> set[int]:
        """Return what lives of its session."""
        found = set()
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                try:
                    fields = (entry / "stat").read_text().rpartition(")")[2].split()
                except OSError:
                    continue
                if int(fields[3]) == self.pid and fields[0] not in "ZX":
                    found.add(int(entry.name))
        return found

    def ask(self, path: str = "/") -> dict[str, Any]:
        """Return the answer to one request."""
        connection = _UnixConnection(self.socket)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read()
            assert answer.status == 200, (answer.status, body)
            found: dict[str, Any] = json.loads(body)
            return found
        finally:
            connection.close()

    def serves(self) -> bool:
        """Return whether it answers."""
        try:
            self.ask()
        except (OSError, http.client.HTTPException):
            return False
        return True

    def all_workers(self, count: int, path: str = "/busy") -> dict[int, dict[str, Any]]:
        """Ask, several clients at a time, until *count* processes have answered."""
        found: dict[int, dict[str, Any]] = {}
        errors: list[Exception] = []

        def ask() -> None:
            try:
                answer = self.ask(path)
            except Exception as error:  # noqa: BLE001 - reason: raised below
                errors.append(error)
            else:
                found[answer["pid"]] = answer

        deadline = time.monotonic() + DEADLINE
        while len(found) < count:
            assert time.monotonic() < deadline, f"{found} of {count} answered:\n{self.log()}"
            clients = [threading.Thread(target=ask) for _ in range(count)]
            for client in clients:
                client.start()
            for client in clients:
                client.join()
            if errors:
                raise AssertionError(self.log()) from errors[0]
        return found

    def stop(self) -> float:
        """Ask it to end, and return the seconds that it took; nothing of it may be left."""
        began = time.monotonic()
        self._process.send_signal(self._stop_signal)
        try:
            self._process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            pytest.fail(f"it did not end:\n{self.log()}")
        took = time.monotonic() - began
        deadline = time.monotonic() + 2.0
        while left := self.processes():
            assert time.monotonic() < deadline, f"left: {left}\n{self.log()}"
            time.sleep(0.02)
        return took


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=DEADLINE)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(DEADLINE)
        self.sock.connect(self._path)


def in_time(bare: Callable[[], float], guarded: Callable[[], float], *, tries: int = 3) -> None:
    """
    Assert that to stop takes a guarded server no more than 1.1 times a bare one, and 0.3 s.

    The machine may be busy: one guarded stop out of *tries* is enough. It is held against the
    slowest bare one so far: gevent's and Celery's look only once a second whether they are to end.
    """
    pairs = []
    for _ in range(tries):
        pairs.append((bare(), guarded()))
        if pairs[-1][1] <= 1.1 * max(each for each, _ in pairs) + 0.3:
            return
    pytest.fail(f"(bare, guarded) seconds to stop: {pairs}")


def watched(host: Host, reports: Path, workers: int = 2) -> None:
    """Assert that each worker has a guard that lives, and writes a report of its own."""
    first = host.all_workers(workers)
    assert all(row["installed"] and row["running"] for row in first.values()), host.log()
    deadline = time.monotonic() + 30.0
    while behind := [
        pid
        for pid, now in host.all_workers(workers).items()
        if pid in first and now["ticks"] <= first[pid]["ticks"]
    ]:
        assert time.monotonic() < deadline, f"{behind} stand still"
    host.all_workers(workers, "/report")
    host.wait(lambda: set(first) <= writers(reports), "a report of each worker")
    assert "unguarded" not in host.log(), host.log()


def writers(reports: Path) -> set[int]:
    """Return the processes that have written a report."""
    return {json.loads(path.read_text("utf-8"))["pid"] for path in reports.glob("*.json")}


def unwatched(host: Host, workers: int = 2) -> None:
    """Assert that no worker says that it has a guard, and that the log says so, once."""
    found = host.all_workers(workers)
    assert not any(row["running"] for row in found.values()), found
    said = "restart_in_children=True"
    host.wait(lambda: said in host.log(), "the log to say so")
    time.sleep(0.3)
    # uWSGI writes it to its own log; ours has it, too.
    lines = [line for line in host.log().splitlines() if said in line]
    assert len([line for line in lines if "event=" in line]) <= 2, lines
    assert len(lines) <= 3, lines
