"""Real gunicorn servers whose workers leak, under load."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

from tests.gunicorn_server import EXAMPLE, Server

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="gunicorn needs fork")

CONF = """
from memguard.integrations.workers.gunicorn import hooks
workers = 2
globals().update(hooks(
    limit="{limit}", min_age={min_age}, min_requests=5, interval=0.5, look=0.05, guard={guard},
))
"""
ENDS = "this worker ends and is replaced"
UVICORN = "uvicorn.workers.UvicornWorker"


def conf(limit: str = "40MiB", min_age: float = 0.2, guard: str = "{'leaks': False}") -> str:
    return CONF.format(limit=limit, min_age=min_age, guard=guard)


def ends_and_boots(log: str) -> list[str]:
    """Return what happened to workers, in order, after the first two were there."""
    found = re.findall(rf"{ENDS}|Booting worker", log)
    assert found[:2] == ["Booting worker"] * 2
    return ["end" if what == ENDS else "boot" for what in found[2:]]


@pytest.mark.parametrize(
    ("kind", "application"),
    [("sync", "web:app"), ("gthread", "web:app"), (UVICORN, "web:asgi")],
)
@pytest.mark.stress
def test_leaking_workers_are_replaced_one_at_a_time_and_no_request_fails(
    kind: str, application: str, tmp_path: Path
) -> None:
    arguments = ["-k", kind, *(["--threads", "3"] if kind == "gthread" else []), application]
    with Server(tmp_path, conf(), *arguments, BODY_BYTES="500000") as server:
        server.wait(lambda: server.count("Booting worker") == 2, "two workers")
        # Uvicorn, when it ends, closes connections that have not asked yet; a proxy asks again.
        with server.under_load(tries=2 if kind == UVICORN else 1) as outcomes:
            server.wait(lambda: server.count(ENDS) >= 3, "three workers replaced")
        status, pid = server.get()
        assert status == 200
        assert os.getpgid(int(pid)) == os.getpgid(server.pid)
        happened = ends_and_boots(server.log())
        # One ends, its replacement comes; only then may the next one.
        assert happened[: 2 * 3 - 1] == ["end", "boot", "end", "boot", "end"], server.log()
        assert set(outcomes) == {"200"}, outcomes
        assert outcomes["200"] > 100
    assert "Traceback" not in server.log()
    assert "Shutting down: Master" in server.log()


@pytest.mark.parametrize("limit", ["1MiB", "30MiB"])
@pytest.mark.stress
def test_a_limit_that_every_worker_is_over_at_once_replaces_nobody(
    limit: str, tmp_path: Path
) -> None:
    """The first is less than Python itself; the second less than what the first request loads."""
    application = """
CACHE = []

def app(environ, start_response):
    if not CACHE:
        CACHE.append(bytearray(b"x") * (60 << 20))
    start_response("200 OK", [])
    return [b"fine"]
"""
    (tmp_path / "loads.py").write_text(application, "utf-8")
    with Server(
        tmp_path, conf(limit, min_age=1.5), "--chdir", str(tmp_path), "loads:app"
    ) as server:
        server.wait(lambda: server.count("Booting worker") == 2, "two workers")
        with server.under_load() as outcomes:
            said = "replacing it would not help"
            server.wait(lambda: server.count(said) == 2, "each worker to say so")
            server.wait(lambda: outcomes["200"] > 150, "more requests")
        assert server.count(ENDS) == 0, server.log()
        assert server.count("Booting worker") == 2
        assert server.count(said) == 2, "said once by each, not with each look"


def test_a_worker_has_a_guard_and_what_is_preloaded_is_shared(tmp_path: Path) -> None:
    application = """
import gc, json, memguard
from memguard.observe.readings import read_memory

LOADED = [bytearray(b"x") * (1 << 20) for _ in range(100)]

def app(environ, start_response):
    memory = read_memory(include=("uss",))
    guard = memguard.install()
    start_response("200 OK", [])
    return [json.dumps([
        guard.status().running, gc.get_freeze_count() > 1000, memory.private, memory.uss,
    ]).encode()]
"""
    (tmp_path / "tells.py").write_text(application, "utf-8")
    arguments = ["--preload", "--chdir", str(tmp_path), "tells:app"]
    with Server(tmp_path, conf("50MiB", min_age=0.0), *arguments) as server:
        for _ in range(10):
            status, body = server.get()
            assert status == 200
        running, frozen, private, own = eval(body, {"true": True, "false": False})  # noqa: S307 - reason: our own server wrote it
        assert running
        assert frozen
        assert private > 100 << 20 > 50 << 20 > own
        # Far over the limit by what the kernel calls its memory, and by nothing of its own.
        assert server.count(ENDS) == 0, server.log()
        assert server.count("would not help") == 0, server.log()


def test_the_guard_of_the_application_is_left_as_it_is(tmp_path: Path) -> None:
    application = """
import memguard
memguard.install(name="mine", leaks=False)

def app(environ, start_response):
    start_response("200 OK", [])
    return [memguard.install().name.encode()]
"""
    (tmp_path / "own.py").write_text(application, "utf-8")
    for preload in ([], ["--preload"]):
        with Server(tmp_path, conf(), *preload, "--chdir", str(tmp_path), "own:app") as server:
            assert server.get() == (200, "mine")
            assert "not guarded" not in server.log()


def test_the_example_serves(tmp_path: Path) -> None:
    settings = (EXAMPLE / "gunicorn.conf.py").read_text("utf-8")
    with Server(tmp_path, settings, "web:app") as server:
        assert server.get()[0] == 200
    assert "Traceback" not in server.log()
    assert "memguard" not in server.log(), "nothing to say about workers that are well"
