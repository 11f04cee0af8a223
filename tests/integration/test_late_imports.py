"""
What memguard needs later it imports when it starts.

An import on a thread of memguard, or in a signal handler, would wait for the import lock that the
host holds, meet a file system that is gone, or find a module that the host has replaced meanwhile.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(120)  # a whole program, on a machine that may be busy

# From `watch_imports` on, whatever is imported is printed with the call that asked for it.
PRELUDE = """
import os, signal, sys, threading, time, traceback

def watch_imports():
    def note(event, given):
        if event == "import" and given[0] not in sys.modules:
            stack = traceback.extract_stack()[:-1]
            calls = [f"{call.filename}:{call.lineno}" for call in stack if call.filename[0] != "<"]
            print(given[0], "on", threading.current_thread().name, "by", *calls[-4:], flush=True)
    traceback.extract_stack()
    sys.addaudithook(note)

LEAK = []

def leak_until(happened, seconds=60):
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "it did not happen in time"
        LEAK.extend(bytearray(2000) for _ in range(20))
        time.sleep(0.002)

WATCHFUL = dict(interval=0.05, min_growth_bytes="1MiB", growth_threshold=1.03, trace_seconds=20)
"""


def imports_of(program: str, directory: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
        cwd=directory,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_a_hidden_import_is_seen(tmp_path: Path) -> None:
    printed = imports_of("watch_imports()\nimport colorsys", tmp_path)
    assert printed.startswith("colorsys on MainThread by")


@pytest.mark.skipif(not hasattr(signal, "SIGUSR2"), reason="this system has no signal for users")
def test_a_detector_imports_nothing_after_its_start(tmp_path: Path) -> None:
    """Not for a finding, its report, what the signal asks for, and not to stop."""
    printed = imports_of(
        """
        from memguard import LeakDetector

        found = []
        detector = LeakDetector(
            **WATCHFUL, report_dir="reports", on_leak=found.append, on_signal=signal.SIGUSR2
        )
        detector.start()
        watch_imports()
        leak_until(lambda: found)
        asked = detector.statistics().investigations
        signal.raise_signal(signal.SIGUSR2)
        leak_until(lambda: detector.statistics().investigations > asked)
        detector.stop()
        assert os.listdir("reports")
        """,
        tmp_path,
    )
    assert printed == ""


@pytest.mark.parametrize("logging_is_set_up", [pytest.param(True, marks=pytest.mark.stress), False])
def test_a_guard_imports_nothing_after_it_was_installed(
    tmp_path: Path, *, logging_is_set_up: bool
) -> None:
    """Not for relief, alerts, history, publishing or a finding, and not to be uninstalled."""
    printed = imports_of(
        f"""
        import logging
        import memguard
        from memguard.report.alerting import Alerts, FileSink, LeakSuspected, LevelReached, LogSink
        from memguard.report.alerting import MailSink, WebhookSink

        if {logging_is_set_up}:
            logging.basicConfig(filename="log", level=logging.DEBUG)
        cache = memguard.BoundedCache(maxbytes="64MiB", ttl=1)
        pool = memguard.ObjectPool(bytearray, reset=bytearray.clear, maxsize=10)
        levels, found = [], []
        guard = memguard.install(
            limit="256MiB",
            elevated=0.3,
            critical=0.9,
            interval=0.05,
            hold_off=0.1,
            history="history.db",
            publish=os.getcwd(),
            report_dir="reports",
            gc_policy=memguard.GcPolicy(time_share=0.02),
            leak_options=WATCHFUL,
            on_level=levels.append,
            on_leak=found.append,
        )
        guard.on_pressure(lambda: None)
        rules = [LevelReached("elevated"), LeakSuspected()]
        nobody = WebhookSink("http://localhost:1/"), MailSink(
            "localhost", port=1, security="none", sender="a@example.org", recipients="b@example.org"
        )
        sinks = [LogSink(), FileSink("alerts.log"), *nobody]
        alerts = Alerts(guard, rules=rules, sinks=sinks).start()
        watch_imports()
        for key in range(1000):
            cache[key] = bytes(5000)
        leak_until(lambda: found and levels and alerts.statistics().retried)
        memguard.relieve("100MiB")
        alerts.close()
        memguard.uninstall()
        """,
        tmp_path,
    )
    assert printed == ""
