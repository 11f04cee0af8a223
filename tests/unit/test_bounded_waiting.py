"""What would wait for ever, or lose what was asked for, is an error instead."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from memguard import MemoryGuard, TimerRegistry
from memguard import guard as front
from memguard.cli import main
from memguard.cli.top.sources import NoGuardError, UrlSource
from memguard.errors import LifecycleError
from memguard.report.health.wsgi import HealthWsgi
from tests.clock import FakeClock

TOKEN = "0123456789abcdef-of-the-test"  # noqa: S105 - reason: of this test only


# --- timers and stopping -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["after", "every"])
def test_a_timer_without_a_thread_is_an_error(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    def none(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    fired = threading.Event()
    with TimerRegistry() as timers:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", none)
            with pytest.raises(LifecycleError, match="no thread to run timers"):
                getattr(timers, kind)(0.001, fired.set)
            assert len(timers) == 0
        timers.after(0.001, fired.set)  # there are threads again
        assert fired.wait(10)


def test_a_guard_is_stopped_while_the_event_loop_goes_on() -> None:
    guard = MemoryGuard(limit="1TiB", relief=False).start()
    assert asyncio.run(guard.astop())
    assert not guard.status().running


def test_uninstall_in_an_event_loop_waits_for_no_investigation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    guard = front.install(limit="1TiB", relief=False)
    assert guard.detector is not None
    asked: list[float] = []
    stop = guard.detector.stop

    def noted(timeout: float = 5.0) -> bool:
        asked.append(timeout)
        return stop(timeout)

    monkeypatch.setattr(guard.detector, "stop", noted)

    async def leave() -> None:
        front.uninstall()

    asyncio.run(leave())
    assert max(asked) <= 0.1
    guard.stop()


# --- WSGI ----------------------------------------------------------------------------------------


def post(app: HealthWsgi, body: bytes, **more: str) -> str:
    answers: list[str] = []
    environ: dict[str, Any] = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/memguard/relieve",
        "CONTENT_TYPE": "application/x-www-form-urlencoded",
        "HTTP_X_MEMGUARD_TOKEN": TOKEN,
        "SERVER_NAME": "127.0.0.1",
        "wsgi.input": io.BytesIO(body),
        **more,
    }
    list(app(environ, lambda status, _: answers.append(status)))
    return answers[0]


def test_a_form_whose_target_cannot_be_read_frees_nothing() -> None:
    guard = MemoryGuard(limit="1TiB", leaks=False)
    app = HealthWsgi(guard, relieve_token=TOKEN)
    form = b"target=1MiB"
    assert guard.relief is not None
    assert post(app, form, HTTP_TRANSFER_ENCODING="chunked").startswith("411")
    assert post(app, form, CONTENT_LENGTH="eleven").startswith("411")
    assert post(app, form, CONTENT_LENGTH="-11").startswith("411")
    assert post(app, form, CONTENT_LENGTH="500").startswith("400")
    assert guard.relief.statistics().runs == 0
    assert post(app, form, CONTENT_LENGTH="11").startswith("200")
    assert guard.relief.statistics().runs == 1


@pytest.mark.parametrize(
    ("host", "token", "warnings"),
    [("10.0.0.5", None, 1), ("127.0.0.1", None, 0), ("10.0.0.5", TOKEN, 0), ("::1", None, 0)],
)
def test_numbers_that_everybody_may_read_are_warned_of_once(
    host: str, token: str | None, warnings: int, caplog: pytest.LogCaptureFixture
) -> None:
    app = HealthWsgi(MemoryGuard(limit="1TiB", leaks=False), read_token=token)
    probe = {"REQUEST_METHOD": "GET", "PATH_INFO": "/health/live", "SERVER_NAME": host}
    with caplog.at_level(logging.WARNING, "memguard"):
        for _ in range(3):
            list(app(probe, lambda *_: None))
    assert sum("health.open_reads" in r.getMessage() for r in caplog.records) == warnings


# --- the command line ----------------------------------------------------------------------------


@contextmanager
def dripping(clock: FakeClock) -> Iterator[str]:
    """Serve headers without end, a byte at a time, each a second later."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                try:
                    connection.sendall(b"HTTP/1.0 200 OK\r\nX-Slow: ")
                    for _ in range(60):
                        clock.advance(1.0)
                        connection.sendall(b"x")
                except OSError:
                    return

        thread = threading.Thread(target=drip)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join(30)


def test_headers_that_drip_are_given_up(fake_clock: FakeClock) -> None:
    with dripping(fake_clock) as url, pytest.raises(NoGuardError, match="takes too long"):
        UrlSource(url, timer=fake_clock).read()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no FIFOs")
def test_a_report_is_not_read_from_a_fifo(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(tmp_path / "leak-1.json")
    with pytest.raises(SystemExit) as exited:
        main(["report", str(tmp_path / "leak-1.json")])
    assert exited.value.code == 2
    assert "not a regular file" in capsys.readouterr().err
