"""What uWSGI lets a process do, with stand-ins for its module; real ones are in test_servers."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from memguard.errors import ConfigError, LifecycleError
from memguard.guard import MemoryGuard, install, status, uninstall
from memguard.integrations.workers.uwsgi import setup
from memguard.lifecycle import fork, uwsgi


class FakeUwsgi(ModuleType):
    """A process of uWSGI that has loaded the application, and will fork."""

    post_fork_hook: Callable[[], object]
    spooler: object

    def __init__(self) -> None:
        super().__init__("uwsgi")
        self.worker, self.master, self.mule = 0, 4711, 0
        self.numproc, self.has_threads = 2, 1
        self.logged: list[str] = []
        self.opt: dict[str, bytes] = {}

    def worker_id(self) -> int:
        return self.worker

    def mule_id(self) -> int:
        return self.mule

    def masterpid(self) -> int:
        return self.master

    def log(self, text: str) -> None:
        self.logged.append(text)

    def become_worker(self) -> None:
        """Do what uWSGI does after the fork, in a worker."""
        self.worker = 1
        hook = getattr(self, "post_fork_hook", None)
        if hook is not None:
            hook()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeUwsgi]:
    fake = FakeUwsgi()
    monkeypatch.setitem(sys.modules, "uwsgi", fake)
    monkeypatch.setitem(sys.modules, "uwsgidecorators", None)  # it cannot be imported
    monkeypatch.setattr(uwsgi, "_calls", [])
    monkeypatch.setattr(uwsgi, "_said", set())
    yield fake
    uninstall()


def small(**options: Any) -> MemoryGuard:
    return install(leaks=False, gc_watch=False, interval=600, **options)


def test_outside_of_uwsgi_nothing_is_in_the_way() -> None:
    assert uwsgi.obstacle() is None
    assert not uwsgi.is_inside()
    assert not uwsgi.is_before_fork()
    uwsgi.call_after_fork(print)
    uwsgi.say("nobody hears this")
    setup(interval=600)
    with pytest.raises(LifecycleError, match="no guard is installed"):
        status()


def test_no_thread_is_started_before_uwsgi_forks_and_a_warning_names_the_remedy(
    server: FakeUwsgi, caplog: pytest.LogCaptureFixture
) -> None:
    guard = small(relief=False)
    small_status = guard.status()
    assert not small_status.running
    assert not small_status.monitor.running
    assert [row.part for row in small_status.degraded] == ["pressure"]
    assert "restart_in_children=True" in small_status.degraded[0].reason
    assert install() is guard
    assert len(server.logged) == 1, "said once"
    assert "restart_in_children=True" in server.logged[0]
    assert sum("guard.degraded" in r.getMessage() for r in caplog.records) == 1
    server.become_worker()
    assert not guard.status().running
    install()
    assert guard.status().running
    assert guard.status().degraded == ()


def test_with_restart_in_children_the_guard_starts_after_the_fork_and_nothing_is_said(
    server: FakeUwsgi, caplog: pytest.LogCaptureFixture
) -> None:
    guard = small(restart_in_children=True)
    assert not status().running
    assert guard.status().degraded == ()
    server.become_worker()
    assert guard.status().running
    server.become_worker()
    assert guard.status().running
    assert server.logged == []
    assert "degraded" not in caplog.text


def test_a_guard_that_was_uninstalled_before_the_fork_stays_so(server: FakeUwsgi) -> None:
    guard = small(restart_in_children=True)
    uninstall()
    server.become_worker()
    assert not guard.status().running


def test_without_threads_the_guard_says_so_and_does_not_run(server: FakeUwsgi) -> None:
    server.has_threads = 0
    for server.worker in (0, 1):
        guard = small(restart_in_children=True)
        assert not guard.status().running
        assert "--enable-threads" in guard.status().degraded[0].reason
        uninstall()
    assert len(server.logged) == 1


@pytest.mark.parametrize(
    ("opt", "runs"), [({}, False), ({"enable-threads": b"1"}, True), ({"threads": b"4"}, True)]
)
def test_older_ones_are_asked_by_their_options(
    server: FakeUwsgi, opt: dict[str, bytes], *, runs: bool
) -> None:
    del server.has_threads
    server.opt = opt
    assert uwsgi.runs_threads() is runs


def test_a_worker_a_mule_and_a_process_that_never_forks_just_run(server: FakeUwsgi) -> None:
    assert uwsgi.is_before_fork()
    server.worker = 1
    assert uwsgi.obstacle() is None
    server.worker, server.mule = 0, 1
    assert uwsgi.obstacle() is None
    server.mule, server.master, server.numproc = 0, 0, 1
    assert uwsgi.obstacle() is None
    server.numproc = 2
    assert uwsgi.obstacle() == uwsgi.BEFORE_FORK
    server.master, server.numproc = 4711, 1
    assert uwsgi.obstacle() == uwsgi.BEFORE_FORK


def test_a_hook_that_was_there_is_called_too_and_may_fail(server: FakeUwsgi) -> None:
    called: list[str] = []

    def theirs() -> None:
        called.append("theirs")
        raise ZeroDivisionError

    def ours() -> None:
        called.append("ours")

    server.post_fork_hook = theirs
    uwsgi.call_after_fork(ours)
    uwsgi.call_after_fork(ours)
    with pytest.raises(ZeroDivisionError):
        server.become_worker()
    assert called == ["theirs", "ours"]


@pytest.mark.parametrize("imported_already", [True, False])
def test_ours_is_one_of_the_functions_of_uwsgis_decorators(
    server: FakeUwsgi,
    *,
    imported_already: bool,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    called: list[str] = []
    monkeypatch.delitem(sys.modules, "uwsgidecorators")
    # As the real one: what was assigned before is replaced.
    (tmp_path / "uwsgidecorators.py").write_text(
        "import uwsgi\n"
        "postfork_chain = []\n"
        "def hook():\n    for f in postfork_chain: f()\n"
        "uwsgi.post_fork_hook, uwsgi.spooler = hook, 'decorators'\n",
        "utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)
    if imported_already:
        importlib.import_module("uwsgidecorators")
    else:
        server.spooler = "theirs"
        server.post_fork_hook = lambda: called.append("theirs")
    uwsgi.call_after_fork(lambda: called.append("ours"))
    decorators: Any = importlib.import_module("uwsgidecorators")
    if not imported_already:
        assert server.spooler == "theirs"
    decorators.postfork_chain.append(lambda: called.append("a decorator"))
    server.become_worker()
    assert called == [*(() if imported_already else ("theirs",)), "ours", "a decorator"]
    monkeypatch.delitem(sys.modules, "uwsgidecorators")


def test_setup_guards_the_workers_and_checks_its_options_at_once(server: FakeUwsgi) -> None:
    with pytest.raises(ConfigError, match="critical"):
        setup(critical=7)
    with pytest.raises(TypeError):
        setup(nonsense=1)
    setup(name="worker", leaks=False, interval=600)
    with pytest.raises(LifecycleError):
        status()
    server.become_worker()
    assert status().running
    assert install().name == "worker"


def test_setup_uses_the_guard_that_the_application_has_installed(server: FakeUwsgi) -> None:
    guard = small(name="mine")
    setup(name="worker")
    server.become_worker()
    assert install() is guard
    assert guard.status().running


def test_setup_in_a_worker_begins_at_once(server: FakeUwsgi) -> None:
    server.worker = 2
    setup(leaks=False, interval=600)
    assert status().running


def test_a_guard_that_cannot_start_is_reported_and_the_worker_lives(
    server: FakeUwsgi, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    setup(leaks=False, interval=600)
    monkeypatch.setenv("MEMGUARD_LIMIT", "lots")
    server.become_worker()
    assert "MEMGUARD_LIMIT" in server.logged[0]
    assert "worker.not_guarded" in caplog.text


def test_what_restarts_is_asked_by_the_server_hook() -> None:
    class Wanting:
        wants_restart = True
        restarted = 0

        def restart(self) -> None:
            self.restarted += 1

    wanting = Wanting()
    fork.restart_after_fork(wanting)
    fork.restart()
    assert wanting.restarted == 1
