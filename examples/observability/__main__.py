"""
The walk-through: a service fills its memory, and a real Prometheus fires the alerts.

``python -m examples.observability`` starts the service with a limit of 192 MiB and a Prometheus
that scrapes it, has the service keep 160 MiB that relief cannot free, waits until the alerts
fire, has the memory freed, and waits until they are resolved. Alert rules wait for minutes; here
their times are made 180 times shorter, and nothing else is changed. Ends with 0 only if every alert
fired and was resolved; with 3 if there is no ``prometheus`` to run.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

HERE = Path(__file__).parent
LIMIT = "192MiB"
FILL_MIB = 160
WANTED = ("MemguardUsedHigh", "MemguardCritical", "MemguardReliefIneffective")
HURRY = 180

_DURATION = re.compile(r"(?<=\[)\d+[mh](?=\])|(?<=for: )\d+[mh]|(?<=_interval: )\d+s")
_SECONDS = {"s": 1, "m": 60, "h": 3600}


def hurried(text: str) -> str:
    """Return rules or a configuration with shorter times: 1 s at least, and 5 s for rates."""

    def shorter(found: re.Match[str]) -> str:
        seconds = int(found[0][:-1]) * _SECONDS[found[0][-1]]
        # Rates need two scrapes: no window is shorter than five of them.
        least = 5 if found.string[found.start() - 1] == "[" else 1
        return f"{max(least, seconds // HURRY)}s"

    return _DURATION.sub(shorter, text)


def get(url: str) -> str:
    """Return what *url* answers."""
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - reason: a loopback address of ours
        text: str = answer.read().decode()
    return text


class Prometheus:
    """A real one, on a free port, that has just been started."""

    def __init__(self, directory: Path, service: str) -> None:
        for name in ("prometheus.yml", "memguard-rules.yml"):
            text = hurried((HERE / name).read_text("utf-8"))
            text = text.replace("127.0.0.1:8000", service.removeprefix("http://"))
            (directory / name).write_text(text, "utf-8")
        self.log = directory / "prometheus.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    str(shutil.which("prometheus")),
                    f"--config.file={directory / 'prometheus.yml'}",
                    f"--storage.tsdb.path={directory / 'data'}",
                    "--web.listen-address=127.0.0.1:0",
                ],
                stdout=log,
                stderr=log,
            )
        self.url = ""

    def is_ready(self) -> bool:
        """Return whether it answers; the operating system knows which port it got."""
        if self.process.poll() is not None:
            raise SystemExit(f"prometheus ended:\n{self.log.read_text('utf-8')}")
        if not self.url:
            for connection in psutil.Process(self.process.pid).net_connections("tcp4"):
                if connection.status == psutil.CONN_LISTEN:
                    self.url = f"http://127.0.0.1:{connection.laddr.port}"
        with contextlib.suppress(OSError):
            return bool(self.url) and bool(get(f"{self.url}/-/ready"))
        return False

    def ask(self, path: str, **query: str) -> Any:
        """Return the data of an answer of the HTTP API."""
        text = get(f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(query)}")
        return json.loads(text)["data"]

    def value(self, expression: str) -> float | None:
        """Return the first value of *expression* now; None where it has none."""
        found = self.ask("query", query=expression)["result"]
        return float(found[0]["value"][1]) if found else None

    def firing(self) -> dict[str, str]:
        """Return the alerts that are firing: name, summary."""
        return {
            alert["labels"]["alertname"]: alert["annotations"]["summary"]
            for alert in self.ask("alerts")["alerts"]
            if alert["state"] == "firing"
        }

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextlib.contextmanager
def service() -> Iterator[str]:
    """Run the service, and give its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "examples.observability.app"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PORT": "0", "MEMGUARD_LIMIT": LIMIT, "MEMGUARD_HOLD_OFF": "1"},
    )
    try:
        assert process.stdout is not None  # noqa: S101 - reason: it was asked for
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.communicate()


def wait_for(what: str, condition: Callable[[], object], seconds: float = 40) -> None:
    """Wait until *condition* holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"after {seconds:.0f} s still not: {what}")
        time.sleep(0.2)


def walk(directory: Path) -> None:
    """Do what the docstring says."""
    with service() as address:
        print(f"service:    {address}, limit {LIMIT}")
        prometheus = Prometheus(directory, address)
        try:
            wait_for("Prometheus is ready", prometheus.is_ready)
            print(f"prometheus: {prometheus.url}")
            used = "memguard_used_ratio"
            wait_for("a first scrape", lambda: prometheus.value(used) is not None)
            wait_for("no alert yet", lambda: not prometheus.firing())
            for number in range(200):
                get(f"{address}/product?id={number % 50}")
            print(f"used:       {prometheus.value(used):.0%} of the limit")

            get(f"{address}/grow?mib={FILL_MIB}")
            wait_for(
                "all alerts fire: " + ", ".join(WANTED),
                lambda: prometheus.firing().keys() >= set(WANTED),
            )
            print(f"used:       {prometheus.value(used):.0%} of the limit")
            for name, summary in sorted(prometheus.firing().items()):
                print(f"firing:     {name}: {summary}")
            check_dashboard(prometheus)

            get(f"{address}/free")
            wait_for("all is resolved", lambda: not prometheus.firing().keys() & set(WANTED))
            print(f"resolved:   {prometheus.value(used):.0%} of the limit used")
        finally:
            prometheus.stop()


def check_dashboard(prometheus: Prometheus) -> None:
    """Ask everything that the dashboard asks."""
    dashboard = json.loads((HERE / "dashboard.json").read_text("utf-8"))
    asked = answered = 0
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            expression = re.sub(r"\$(job|instance)", ".*", target["expr"])
            answered += bool(prometheus.ask("query", query=expression)["result"])
            asked += 1
    print(f"dashboard:  {asked} expressions are valid, {answered} have data by now")


def main(arguments: list[str] | None = None) -> int:
    """Walk."""
    argparse.ArgumentParser(
        prog="python -m examples.observability", description=__doc__
    ).parse_args(arguments)
    if shutil.which("prometheus") is None:
        print("prometheus is not installed (Debian: apt-get install prometheus)", file=sys.stderr)
        return 3
    with tempfile.TemporaryDirectory() as directory:
        walk(Path(directory))
    print("every alert fired and was resolved")
    return 0


if __name__ == "__main__":
    sys.exit(main())
