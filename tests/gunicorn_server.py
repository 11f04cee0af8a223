"""A real gunicorn on a free port of the loopback, its log, and clients that count every answer."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "workers"
DEADLINE = 40.0


class Server:
    """gunicorn in a process of its own, ended with the ``with`` block."""

    def __init__(self, directory: Path, conf: str, *arguments: str, **environment: str) -> None:
        self._log = directory / "gunicorn.log"
        file = directory / "gunicorn.conf.py"
        # The control socket of newer ones would be shared by all of one user.
        file.write_text(f"{conf}\ncontrol_socket_disable = True\n", "utf-8")
        paths = [str(ROOT / "src"), str(EXAMPLE), *sys.path]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "gunicorn", "-c", str(file), "-b", "127.0.0.1:0"),
                    *("--graceful-timeout", "20", *arguments),
                ],
                cwd=directory,
                stdout=log,
                stderr=log,
                env={
                    **{name: value for name, value in os.environ.items() if "MEMGUARD" not in name},
                    "PYTHONPATH": os.pathsep.join(paths),
                    "PYTHONDONTWRITEBYTECODE": "1",
                    **environment,
                },
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(DEADLINE)
        finally:
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait()

    def log(self) -> str:
        return self._log.read_text("utf-8")

    def count(self, pattern: str) -> int:
        return len(re.findall(pattern, self.log()))

    def wait(self, condition: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + DEADLINE
        while not condition():
            assert self._process.poll() is None, self.log()
            assert time.monotonic() < deadline, f"waited for {what} in vain:\n{self.log()}"
            time.sleep(0.05)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def port(self) -> int:
        pattern = r"Listening at: http://127\.0\.0\.1:(\d+)"
        self.wait(lambda: self.count(pattern), "its port")
        found = re.search(pattern, self.log())
        assert found
        return int(found[1])

    def get(self, path: str = "/") -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    @contextlib.contextmanager
    def under_load(self, clients: int = 3, *, tries: int = 1) -> Iterator[Counter[str]]:
        """
        Send requests, each on a connection of its own, and count what came of every one.

        Args:
            clients: Threads that ask.
            tries: How often one is sent whose connection was closed before any answer came.
        """
        outcomes: Counter[str] = Counter()
        stop = threading.Event()
        mutex = threading.Lock()

        def answer(left: int) -> str:
            try:
                return str(self.get()[0])
            except ConnectionResetError as error:  # no answer at all: it may be sent again
                return answer(left - 1) if left > 1 else repr(error)
            except (OSError, http.client.HTTPException) as error:
                return repr(error)

        def ask() -> None:
            while not stop.wait(0.01):
                outcome = answer(tries)
                with mutex:
                    outcomes[outcome] += 1

        threads = [threading.Thread(target=ask) for _ in range(clients)]
        for thread in threads:
            thread.start()
        try:
            yield outcomes
        finally:
            stop.set()
            for thread in threads:
                thread.join()
