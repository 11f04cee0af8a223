"""The health application on real WSGI servers: wsgiref, gunicorn; in Flask and in Django."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from wsgiref.validate import validator

import pytest
from flask import Flask
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from memguard import MemoryGuard
from memguard.report.health.wsgi import HealthWsgi
from tests.contracts.health_contract import HealthContract
from tests.serving import TOKEN, Served, wsgi_server
from tests.waiting import wait_for

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.timeout(120)


class TestOverWsgi(HealthContract):
    @staticmethod
    def serve(guard: Any, **options: Any) -> AbstractContextManager[Served]:
        return wsgi_server(HealthWsgi(guard, **options))


@pytest.fixture
def guard() -> Iterator[MemoryGuard]:
    with MemoryGuard(limit="100GiB", interval=0.02, leaks=False) as guard:
        yield guard


def test_it_keeps_to_the_letter_of_wsgi(guard: MemoryGuard) -> None:
    with wsgi_server(validator(HealthWsgi(guard, relieve_token=TOKEN))) as site:
        for path in ("/health/live", "/health/memory", "/memguard", "/nix", "/memguard/"):
            assert site.ask(path).status in (200, 404, 308)
        assert site.ask("/memguard", "HEAD").status == 200
        assert site.post(X_Memguard_Token=TOKEN).status == 200


def test_it_is_mounted_beside_flask(guard: MemoryGuard) -> None:
    app = Flask("shop")
    app.add_url_rule("/hello", view_func=lambda: "hello")
    health = HealthWsgi(guard, relieve_token=TOKEN)
    app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/ops/here": health})  # type: ignore[method-assign] # reason: as Flask documents it
    with wsgi_server(app) as site:
        assert site.ask("/hello").text == "hello"
        assert site.ask("/ops/here/health/live").status == 200
        assert site.ask("/ops/here/memguard").status == 200
        assert site.ask("/ops/here").headers["location"] == "./here/memguard"
        assert site.ask("/ops/here/nix").status == 404
        assert site.post("/ops/here/memguard/relieve", X_Memguard_Token=TOKEN).status == 200
        assert site.ask("/health/live").status == 404


def test_it_stands_before_django() -> None:
    program = """
import django
from django.conf import settings
from django.http import HttpResponse
from django.urls import path
settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="x")
urlpatterns = [path("hello", lambda request: HttpResponse("hello"))]
django.setup()
from django.core.wsgi import get_wsgi_application
from memguard import MemoryGuard
from memguard.report.health.wsgi import HealthWsgi
from tests.serving import wsgi_server
with MemoryGuard(leaks=False) as guard:
    with wsgi_server(HealthWsgi(guard, get_wsgi_application())) as site:
        print(site.ask("/hello").text, site.ask("/health/live").json, site.ask("/memguard").status)
        print(site.ask("/nix").status)
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])},
    )
    assert done.stdout == "hello {'alive': True} 200\n404\n", done.stderr


def test_a_form_without_a_length_is_refused_and_not_waited_for(guard: MemoryGuard) -> None:
    with (
        wsgi_server(HealthWsgi(guard, relieve_token=TOKEN)) as site,
        socket.create_connection(("127.0.0.1", site.port), 20) as peer,
    ):
        peer.sendall(b"POST /memguard/relieve HTTP/1.1\r\nHost: x\r\nContent-Length: no\r\n\r\n")
        assert b" 411 " in peer.recv(4096).split(b"\r\n")[0]


WORKERS = """
import memguard
from memguard.report.health.wsgi import HealthWsgi

def post_fork(server, worker):
    memguard.install(leaks=False, name="worker")

app = HealthWsgi(memguard.install, relieve_token="{token}")
"""


def test_each_worker_of_gunicorn_answers_for_itself(tmp_path: Path) -> None:
    (tmp_path / "service.py").write_text(WORKERS.format(token=TOKEN))
    # The control socket of newer ones would be shared by all of one user.
    settings = "from service import post_fork\ncontrol_socket_disable = True\n"
    (tmp_path / "gunicorn.conf.py").write_text(settings)
    command = [sys.executable, "-m", "gunicorn", "--workers", "2", "--bind", "127.0.0.1:0"]
    command += ["--preload", "service:app"]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )
    try:
        assert process.stderr is not None
        line = next(line for line in process.stderr if "Listening at" in line)
        found = re.search(r"127\.0\.0\.1:(\d+)", line)
        assert found
        site = Served(int(found[1]))
        processes: dict[int, str] = {}

        def both_have_answered() -> bool:
            assert site.ask("/health/memory").json["watching"] is True
            answer = site.ask("/memguard/data")
            processes[answer.json["process_id"]] = answer.json["instance"]
            return len(processes) == 2

        wait_for(both_have_answered)
        assert process.pid not in processes
        wanted = min(processes)
        # The page's own way: ask until the process answers that is meant.
        deadline = time.monotonic() + 25
        while (
            answer := site.post(body=f"token={TOKEN}&instance={processes[wanted]}")
        ).status != 200:
            assert answer.json["error"] == "another process"
            assert time.monotonic() < deadline
        assert answer.json["process_id"] == wanted
    finally:
        process.send_signal(signal.SIGTERM)
        _, rest = process.communicate(timeout=40)
    assert process.returncode == 0, rest
    assert "Traceback" not in rest


HANGING = """
import threading, urllib.request
from memguard import MemoryGuard
from memguard.report.health.wsgi import HealthWsgi
from tests.serving import TOKEN, wsgi_server

guard = MemoryGuard(leaks=False)
guard.on_pressure(threading.Event().wait)
with wsgi_server(HealthWsgi(guard, relieve_token=TOKEN, relieve_seconds=0.2)) as site:
    print(site.post(X_Memguard_Token=TOKEN).status)
"""


def test_a_run_that_hangs_does_not_hold_up_the_end_of_the_process() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", HANGING],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "202\n", "")
