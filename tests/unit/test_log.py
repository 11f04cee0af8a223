from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
import structlog

from memguard import log


class Listener(logging.Handler):
    """Keeps what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@pytest.fixture
def listener() -> Iterator[Listener]:
    handler = Listener()
    logger = logging.getLogger("memguard")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler
    logger.setLevel(logging.NOTSET)
    logger.removeHandler(handler)


@pytest.fixture
def configured_structlog() -> Iterator[None]:
    structlog.configure(
        processors=[structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    yield
    structlog.reset_defaults()


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30
    )


def test_nothing_is_printed_until_the_host_configures_logging() -> None:
    done = run("import logging; from memguard import log; log.event(logging.ERROR, 'leak.x', n=1)")
    assert (done.stdout, done.stderr) == ("", "")


def test_a_host_without_logging_is_not_made_to_load_it() -> None:
    done = run(
        "import sys; from memguard import log; log.event(40, 'leak.x', n=1)\n"
        "print('logging' in sys.modules)"
    )
    assert (done.stdout, done.stderr) == ("False\n", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_child_forked_while_logging_is_imported_does_not_wait_for_that_import() -> None:
    """The thread that imports it is gone in the child, and its module is never complete."""
    done = run(
        "import importlib.abc, importlib.machinery, os, signal, sys, threading\n"
        "inside, go = threading.Event(), threading.Event()\n"
        "class Slow(importlib.abc.MetaPathFinder, importlib.abc.Loader):\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'logging':\n"
        "            return importlib.machinery.ModuleSpec(name, self)\n"
        "    def create_module(self, spec):\n"
        "        return None\n"
        "    def exec_module(self, module):\n"
        "        inside.set()\n"
        "        go.wait()\n"
        "from memguard import BoundedCache, TimerRegistry, log\n"
        "sys.meta_path.insert(0, Slow())\n"
        "importing = threading.Thread(target=__import__, args=('logging',))\n"
        "importing.start()\n"
        "inside.wait()\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    signal.alarm(20)\n"
        "    cache = BoundedCache(9, ttl=60)\n"
        "    cache[1] = 1\n"
        "    called = threading.Event()\n"
        "    TimerRegistry().after(0.001, called.set)\n"
        "    log.event(log.ERROR, 'leak.x', n=1)\n"
        "    os._exit(0)\n"
        "status = os.waitpid(child, 0)[1]\n"
        "go.set()\n"
        "importing.join()\n"
        "print(status)\n"
    )
    assert done.stdout == "0\n"


def test_a_host_with_plain_logging_gets_one_plain_line() -> None:
    done = run(
        "import logging; logging.basicConfig(level=logging.INFO)\n"
        "from memguard import log; log.event(logging.INFO, 'leak.suspected', bytes=12, path='a.b')"
    )
    assert done.stderr == "INFO:memguard:event='leak.suspected' bytes=12 path='a.b'\n"
    assert done.stdout == ""


def test_a_host_without_structlog_is_not_made_to_load_it() -> None:
    """It would cost the host 11 MiB, in the very moment when it is short of memory."""
    done = run(
        "import logging, sys; logging.basicConfig(level=logging.INFO)\n"
        "from memguard import log; log.event(logging.INFO, 'leak.suspected', bytes=12)\n"
        "print('structlog' in sys.modules)"
    )
    assert done.stdout == "False\n"


def test_a_plain_event_carries_its_traceback(
    listener: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    log.event(logging.ERROR, "detector.failed", exc_info=ZeroDivisionError())
    assert listener.lines == ["event='detector.failed'"]
    assert caplog.records[0].exc_info is not None
    assert caplog.records[0].exc_info[0] is ZeroDivisionError


def test_a_hostile_value_cannot_start_a_line_of_its_own(listener: Listener) -> None:
    log.event(logging.WARNING, "leak.suspected", path="x\nCRITICAL:root:all is well\x1b[2J")
    assert listener.lines[0].isprintable()


def test_an_event_below_the_level_is_not_rendered(listener: Listener) -> None:
    log.event(logging.DEBUG, "cache.swept")
    log.event(logging.INFO, "cache.swept", removed=3)
    assert listener.lines == ["event='cache.swept' removed=3"]


@pytest.mark.usefixtures("configured_structlog")
def test_a_host_with_structlog_gets_its_own_rendering(listener: Listener) -> None:
    log.event(logging.DEBUG, "cache.swept")
    log.event(logging.WARNING, "leak.suspected", bytes=12)
    assert len(listener.lines) == 1
    assert json.loads(listener.lines[0]) == {"event": "leak.suspected", "bytes": 12}


def test_logging_never_configures_structlog(listener: Listener) -> None:
    log.event(logging.WARNING, "leak.suspected")
    assert listener.lines
    assert not structlog.is_configured()


def test_a_broken_processor_is_said_once_and_never_raised(
    listener: Listener, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "_failed", set())
    monkeypatch.setattr(logging, "lastResort", logging.StreamHandler(sys.stderr))

    def broken(_logger: object, _method: str, _event: object) -> str:
        raise ZeroDivisionError

    structlog.configure(processors=[broken])
    try:
        for _ in range(3):
            log.event(logging.WARNING, "leak.suspected")
    finally:
        structlog.reset_defaults()
    assert listener.lines == []
    said = "memguard: event leak.suspected could not be logged: ZeroDivisionError"
    assert capsys.readouterr().err.count(said) == 1


def test_a_broken_last_resort_is_not_the_callers_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(logging.StreamHandler):  # type: ignore[type-arg] # reason: any stream
        def handle(self, record: logging.LogRecord) -> bool:
            raise OSError(record.getMessage())

    monkeypatch.setattr(log, "_failed", set())
    monkeypatch.setattr(logging, "lastResort", Broken())
    monkeypatch.setattr(structlog, "is_configured", lambda: 1 / 0)
    log.event(logging.WARNING, "leak.suspected")
    assert log._failed == {"leak.suspected"}
