"""Metrics in real servers: gunicorn with several workers, forks, and a process that ends."""

from __future__ import annotations

import http.client
import os
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.waiting import wait_for

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.timeout(180)  # many deadlines, one after another

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


CONF = """
from examples.observability import gunicorn_conf
from examples.observability.gunicorn_conf import *

def post_worker_init(worker):
    gunicorn_conf.post_worker_init(worker)
    worker.log.info("Ready")
"""
"""That of the example. A worker that is not ready yet misses the signal that tells it to end."""


class Server:
    """A real gunicorn on a free loopback port."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.log = directory / "log"
        conf = directory / "conf.py"
        conf.write_text(CONF, "utf-8")
        options = ["-c", str(conf), "--graceful-timeout", "5"]
        environment = {name: text for name, text in os.environ.items() if "MEMGUARD" not in name}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gunicorn", *options, "examples.observability.app:app"],
                cwd=ROOT,
                stderr=log,
                env={
                    **environment,
                    "BIND": "127.0.0.1:0",
                    "HOME": str(directory),  # where gunicorn puts its control socket
                    "PROMETHEUS_MULTIPROC_DIR": str(directory / "metrics"),
                    "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}",
                    "PYTHONDONTWRITEBYTECODE": "1",
                },
            )
        wait_for(lambda: self.text().count("Ready") >= 2)
        found = re.search(r"Listening at: http://127\.0\.0\.1:(\d+)", self.text())
        assert found, self.text()
        self.port = int(found[1])

    def text(self) -> str:
        return self.log.read_text("utf-8", errors="replace")

    def get(self, path: str) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            assert response.status == 200, self.text()
            return response.read().decode()
        finally:
            connection.close()

    def samples(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(self.get("/metrics"))
            for sample in family.samples
        }

    def total(self, name: str, **labels: str) -> float:
        wanted = set(labels.items())
        return sum(
            value
            for (sample, pairs), value in self.samples().items()
            if sample == name and wanted <= pairs
        )

    def pids(self, name: str = "memguard_private_bytes") -> set[int]:
        return {int(dict(pairs)["pid"]) for (sample, pairs) in self.samples() if sample == name}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    running = Server(tmp_path)
    yield running
    running.process.send_signal(signal.SIGTERM)
    try:
        running.process.wait(30)
    except subprocess.TimeoutExpired:
        running.process.kill()
        running.process.wait()
        raise


def test_one_scrape_tells_of_all_workers_and_forgets_the_dead(server: Server) -> None:
    wait_for(lambda: len(server.pids()) == 2)
    first = server.pids()
    assert server.process.pid not in first
    assert server.total("memguard_running") == 2

    # Work that both do is summed, whoever is asked.
    for number in range(40):
        server.get(f"/product?id={number % 10}")
    looked = ("memguard_cache_hits_total", "memguard_cache_misses_total")
    wait_for(lambda: sum(server.total(name, container="products") for name in looked) == 40)
    before = {name: server.total(name) for name in looked}

    # One is killed: no hook of its own runs, and gunicorn makes another one.
    victim = min(first)
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: victim not in server.pids() and len(server.pids()) == 2)
    assert server.total("memguard_running") == 2
    for name in looked:
        assert server.total(name) == before[name], "counters of the dead stay in the sum"
    for number in range(10):
        server.get(f"/product?id={number}")
    wait_for(lambda: sum(server.total(name) for name in looked) == 50)

    # Its successor counts where it left off: recycling makes no files.
    names = sorted(file.name for file in (server.directory / "metrics").iterdir())
    assert [name for name in names if name.startswith("counter_memguard")] == [
        "counter_memguard-0.db",
        "counter_memguard-1.db",
    ]
    assert "Traceback" not in server.text()


def test_a_worker_that_ends_in_order_takes_its_gauges_back(server: Server) -> None:
    wait_for(lambda: len(server.pids()) == 2)
    gone = server.pids()
    server.process.send_signal(signal.SIGHUP)  # gunicorn replaces every worker
    wait_for(lambda: len(server.pids()) == 2 and not server.pids() & gone)
    wait_for(lambda: server.text().count("Ready") == 4)
    metrics = server.directory / "metrics"
    wait_for(
        lambda: (
            not [
                file
                for file in metrics.glob("gauge_live*")
                for pid in gone
                if f"_{pid}." in file.name
            ]
        )
    )
    server.process.send_signal(signal.SIGTERM)
    server.process.wait(30)
    assert not list(metrics.glob("gauge_live*memguard*"))
    assert "Traceback" not in server.text()


def run(program: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program), *arguments],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        env={name: value for name, value in os.environ.items() if "MEMGUARD" not in name},
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.strip()


@needs_fork
def test_a_forked_child_can_be_scraped_and_tells_its_own_numbers() -> None:
    printed = run(
        """
        import os, warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # fork beside threads, on purpose
        import memguard
        from memguard.report.metrics.prometheus.collector import MemguardCollector

        guard = memguard.install(interval=0.05)
        collector = MemguardCollector(guard)
        collector._gatherer._turn._lock.acquire()  # as if another thread were at it during the fork
        collector._gatherer._lock.acquire()
        child = os.fork()
        value = collector.registry.get_sample_value
        if child == 0:
            assert value("memguard_running", {"guard": "memguard"}) == 0
            assert value("memguard_collector_runs_total") == 2
            assert value("memguard_private_bytes") > 0
            memguard.install()
            assert value("memguard_running", {"guard": "memguard"}) == 1
            memguard.uninstall()
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        print("both lived")
        memguard.uninstall()
        """
    )
    assert printed == "both lived"


@needs_fork
def test_a_fork_in_the_midst_of_a_scrape_harms_neither_side() -> None:
    """What is called when entries expire is the host's, and may do anything."""
    printed = run(
        """
        import os, warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        import memguard
        from memguard.report.metrics.prometheus.collector import MemguardCollector

        guard = memguard.MemoryGuard(leaks=False)
        collector = MemguardCollector(guard)
        ask, children = guard.monitor.pressure, []
        def forking():
            children.append(os.fork())
            guard.monitor.pressure = ask
            return ask()
        guard.monitor.pressure = forking
        found = len(collector.collect())
        again = len(collector.collect())
        if children == [0]:
            os._exit(0 if found == again > 50 else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 0
        print(found == again > 50)
        """
    )
    assert printed == "True"


@needs_fork
def test_a_child_of_a_worker_leaves_the_workers_files_alone(tmp_path: Path) -> None:
    printed = run(
        """
        import os, sys, warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        import memguard
        from memguard.report.metrics.prometheus.multiprocess import MultiprocessBridge

        guard = memguard.install(leaks=False)
        bridge = MultiprocessBridge(guard, interval=3600, directory=sys.argv[1]).start()
        before = sorted(os.listdir(sys.argv[1]))
        bridge._turn._lock.acquire()  # as if its thread were writing during the fork
        child = os.fork()
        if child == 0:
            assert bridge.tick() == 3600 and bridge.stop()
            assert sorted(os.listdir(sys.argv[1])) == before
            memguard.install()
            bridge.start()
            names = os.listdir(sys.argv[1])
            assert "counter_memguard-1.db" in names, names
            assert any(f"_{os.getpid()}." in name for name in names)
            bridge.stop()
            memguard.uninstall()
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        bridge._turn._lock.release()
        assert [name for name in os.listdir(sys.argv[1]) if "gauge" in name]
        bridge.stop()
        memguard.uninstall()
        print(*sorted(os.listdir(sys.argv[1])))
        """,
        str(tmp_path),
    )
    assert "gauge" not in printed


def test_a_process_that_forgets_to_stop_its_bridge_ends_in_order(tmp_path: Path) -> None:
    printed = run(
        """
        import sys
        import memguard
        from memguard.report.metrics.prometheus.collector import MemguardCollector
        from memguard.report.metrics.prometheus.multiprocess import MultiprocessBridge
        from prometheus_client import REGISTRY

        guard = memguard.install()
        MemguardCollector(guard, registry=REGISTRY)
        MultiprocessBridge(guard, interval=0.1, directory=sys.argv[1]).start()
        print("ends")
        """,
        str(tmp_path),
    )
    assert printed == "ends"
