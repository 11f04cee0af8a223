"""Real Celery workers, one kind of whose tasks leaks: messages and results are files."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gunicorn_server import EXAMPLE, ROOT

pytestmark = [
    pytest.mark.stress,
    pytest.mark.skipif(sys.platform == "win32", reason="Celery's prefork pool needs fork"),
    pytest.mark.timeout(180),  # several deadlines, one after another
]

DEADLINE = 45.0
ENDS = "this worker ends and is replaced"
QUICK = {
    "WORKER_LIMIT": "40MiB",
    "WORKER_MIN_AGE": "200ms",
    "WORKER_INTERVAL": "300ms",
    "WORKER_LOOK": "50ms",
}

# With a broker that can be polled (Redis, RabbitMQ) Celery runs another prefork pool: one with an
# event loop and a pipe for each process. There is no such broker here, but its pool there is.
EVENTED = """
import socket
from kombu.transport import TRANSPORT_ALIASES, filesystem
from tasks import app, remember, forget

class Transport(filesystem.Transport):
    implements = filesystem.Transport.implements.extend(asynchronous=True)

    def register_with_event_loop(self, connection, loop):
        def drain():
            try:
                for _ in range(50):
                    self.drain_events(connection, timeout=0)
            except socket.timeout:
                pass
        loop.call_repeatedly(0.02, drain)

TRANSPORT_ALIASES["evented"] = "evented:Transport"
app.conf.broker_url = "evented://"
"""

# The file transport may read a message that is still being written: messages are written elsewhere
# and moved to where the worker looks.
CLIENT = """
import collections, json, os, pathlib, sys
from tasks import app, forget, remember
count, size = int(sys.argv[1]), int(sys.argv[2])
queue = pathlib.Path(app.conf.broker_transport_options["data_folder_in"])
written = queue.with_name("written")
written.mkdir(exist_ok=True)
app.conf.broker_transport_options["data_folder_out"] = str(written)
sent = [remember.delay(size) for _ in range(count)] + [forget.delay(10) for _ in range(10)]
for file in sorted(written.iterdir()):
    os.rename(file, queue / file.name)
print(json.dumps(collections.Counter(task.get(timeout=40, interval=0.05) for task in sent)))
"""


def environment(directory: Path) -> dict[str, str]:
    paths = [str(ROOT / "src"), str(EXAMPLE), str(directory), *sys.path]
    return {
        **{name: value for name, value in os.environ.items() if "MEMGUARD" not in name},
        **QUICK,
        "CELERY_DIRECTORY": str(directory),
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


@contextlib.contextmanager
def worker(directory: Path, app: str, *arguments: str) -> Iterator[Path]:
    """Run a Celery worker; its log is complete when the block has ended."""
    file = directory / "celery.log"
    with file.open("wb") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "celery", "-A", app, "worker", "-c", "2", "-l", "INFO"),
                *("--without-gossip", "--without-mingle", *arguments),
            ],
            cwd=directory,
            stdout=log,
            stderr=log,
            env=environment(directory),
        )
    try:
        wait_for(file, " ready.", process)
        yield file
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(DEADLINE)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


def wait_for(file: Path, text: str, process: subprocess.Popen[bytes] | None = None) -> None:
    deadline = time.monotonic() + DEADLINE
    while text not in file.read_text("utf-8"):
        assert process is None or process.poll() is None, file.read_text("utf-8")
        assert time.monotonic() < deadline, f"no {text!r} in\n{file.read_text('utf-8')}"
        time.sleep(0.05)


def send(directory: Path, count: int, size: int) -> Counter[str]:
    """Send tasks, and return which process did how many."""
    done = subprocess.run(
        [sys.executable, "-c", CLIENT, str(count), str(size)],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        env=environment(directory),
    )
    assert done.returncode == 0, done.stderr
    return Counter(eval(done.stdout))  # noqa: S307 - reason: written by the program above


@pytest.mark.parametrize("app", ["tasks", "evented"])
def test_leaking_processes_are_replaced_between_tasks_and_every_task_is_done_once(
    app: str, tmp_path: Path
) -> None:
    (tmp_path / "evented.py").write_text(EVENTED, "utf-8")
    with worker(tmp_path, app) as log:
        done = Counter[str]()
        deadline = time.monotonic() + DEADLINE
        while log.read_text("utf-8").count(ENDS) < 2:
            assert time.monotonic() < deadline, log.read_text("utf-8")
            done += send(tmp_path, 130, 500_000)
        done += send(tmp_path, 10, 10)  # whoever comes after them
    text = log.read_text("utf-8")
    assert text.count("succeeded in") == sum(done.values())
    assert len(done) >= 3, "the work of those who ended went on in others"
    assert "exited with" not in text, "the pool takes it for what it is"
    assert "Traceback" not in text
    ended = re.findall(rf"(ForkPoolWorker-\d+)\] event='worker\.recycling' .*{ENDS}", text)
    assert len(ended) == len(set(ended)) >= 2
    # Those that work have guards, the one that forks has none.
    assert {"MainProcess"} & set(re.findall(r"/(\S+)\] event='guard", text)) == set()
    assert len(re.findall(r"event='guard\.installed'", text)) >= 3
    # Which kind of task it was.
    blamed = re.findall(r"event='worker\.growth' task='(\S+)' grown=(\d+)", text)
    assert blamed
    assert {name for name, _ in blamed} == {"tasks.remember"}
    assert max(int(grown) for _, grown in blamed) > 20 << 20


def test_a_process_of_another_pool_is_told_about_and_goes_on(tmp_path: Path) -> None:
    with worker(tmp_path, "tasks", "-P", "solo") as log:
        done = send(tmp_path, 100, 500_000)
        wait_for(log, "this worker should be replaced")
    text = log.read_text("utf-8")
    assert len(done) == 1
    assert text.count("this worker should be replaced") == 1
    assert "cannot be ended from inside" in text
    assert ENDS not in text
