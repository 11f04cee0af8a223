"""
Show a leaking web server that stays up: ``python examples/workers``.

Two workers of gunicorn keep half a megabyte of each request forever. Each may use 40 MiB of its
own; they are replaced one at a time, and every request is answered.
"""

from __future__ import annotations

import http.client
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

HERE = Path(__file__).parent
QUICK = {
    "WORKER_LIMIT": "40MiB",
    "WORKER_MIN_AGE": "200ms",
    "WORKER_INTERVAL": "500ms",
    "WORKER_LOOK": "50ms",
    "BODY_BYTES": "500000",
}
REPLACEMENTS = 3
SECONDS = 60


def main() -> int:
    """Serve until three workers were replaced, and print what the clients saw."""
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory) / "log"
        with log.open("wb") as output:
            server = subprocess.Popen(
                [sys.executable, "-m", "gunicorn", "-b", "127.0.0.1:0", "web:app"],
                cwd=HERE,
                stdout=output,
                stderr=output,
                env={**os.environ, **QUICK},
            )
        try:
            answers = ask_until_replaced(server, log)
        finally:
            server.terminate()
            server.wait()
        for line in log.read_text("utf-8").splitlines():
            if "memguard:" in line:
                print(line.partition("memguard: ")[2])
    print(f"answers by status: {dict(answers)}")
    return 0 if set(answers) == {200} else 1


def ask_until_replaced(server: subprocess.Popen[bytes], log: Path) -> Counter[int]:
    """Return how often each status was answered until enough workers were replaced."""
    answers: Counter[int] = Counter()
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        text = log.read_text("utf-8")
        address = re.search(r"Listening at: http://([\d.]+):(\d+)", text)
        if text.count("this worker ends and is replaced") >= REPLACEMENTS:
            return answers
        if address is None:
            time.sleep(0.1)
            continue
        connection = http.client.HTTPConnection(address[1], int(address[2]), timeout=SECONDS)
        connection.request("GET", "/")
        answers[connection.getresponse().status] += 1
        connection.close()
    raise SystemExit(f"no {REPLACEMENTS} replacements in {SECONDS} s:\n{log.read_text('utf-8')}")


if __name__ == "__main__":
    sys.exit(main())
