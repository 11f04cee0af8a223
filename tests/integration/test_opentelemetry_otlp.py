"""A guard told over OTLP/HTTP to a receiver on loopback: one that listens, and ones that do not."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

from memguard import BoundedCache, MemoryGuard
from memguard.report.metrics.catalog import INSTRUMENTS
from memguard.report.metrics.opentelemetry.telemetry import Telemetry
from tests.alerting import unused_port
from tests.waiting import wait_for


class Receiver(ThreadingHTTPServer):
    """Decodes what it is sent, as a collector does."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.status = 200
        self.requests = 0
        self.metrics: dict[str, Any] = {}
        self.logs: list[Any] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        server = self.server
        server.requests += 1
        answer = b""
        if server.status == 200:
            if self.path == "/v1/metrics":
                for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                    for scope in resource.scope_metrics:
                        server.metrics |= {metric.name: metric for metric in scope.metrics}
                answer = ExportMetricsServiceResponse().SerializeToString()
            else:
                for resource_logs in ExportLogsServiceRequest.FromString(body).resource_logs:
                    for scope_logs in resource_logs.scope_logs:
                        server.logs += scope_logs.log_records
                answer = ExportLogsServiceResponse().SerializeToString()
        self.send_response(server.status)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@contextlib.contextmanager
def providers(
    url: str, *, patience: float, simple: bool = False
) -> Iterator[tuple[MeterProvider, LoggerProvider]]:
    """Yield a meter and a logger provider that send to *url*, often."""
    exporter = OTLPMetricExporter(f"{url}/v1/metrics", timeout=patience)
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=50)
    meters = MeterProvider([reader], shutdown_on_exit=False)
    logs = LoggerProvider(shutdown_on_exit=False)
    sender = OTLPLogExporter(f"{url}/v1/logs", timeout=patience)
    logs.add_log_record_processor(
        SimpleLogRecordProcessor(sender)
        if simple
        else BatchLogRecordProcessor(sender, schedule_delay_millis=50)
    )
    try:
        yield meters, logs
    finally:
        meters.shutdown(timeout_millis=2000)
        logs.shutdown()


def test_a_collector_is_told_everything(receiver: Receiver) -> None:
    cache: BoundedCache[int, int] = BoundedCache(maxsize=9, name="sessions")
    cache[1] = 1
    with (
        providers(receiver.url, patience=20) as (meters, logs),
        MemoryGuard(limit="100GiB", name="shop") as guard,
        Telemetry(guard, meter_provider=meters, logger_provider=logs),
    ):
        wait_for(lambda: {each.otel for each in INSTRUMENTS} <= receiver.metrics.keys())
        wait_for(lambda: receiver.logs)  # its level is known now: the first alert
    usage = receiver.metrics["process.memory.usage"]
    assert usage.unit == "By"
    assert usage.sum.data_points[0].as_int > 1024**2
    assert not usage.sum.is_monotonic
    items = receiver.metrics["memguard.container.items"].sum.data_points
    names = [
        point.as_int
        for point in items
        for each in point.attributes
        if (each.key, each.value.string_value) == ("memguard.container.name", "sessions")
    ]
    assert names == [1]
    event = receiver.logs[0]
    assert event.event_name == "memguard.pressure.changed"
    assert event.severity_number == 9
    guards = [each.value.string_value for each in event.attributes if each.key == "memguard.guard"]
    assert guards == ["shop"]


class Hanging(threading.Thread):
    """A receiver that accepts and never answers."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.accepted: list[socket.socket] = []
        self.start()

    def run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self.accepted.append(self.socket.accept()[0])

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        self.join(10)
        for each in self.accepted:
            each.close()


@pytest.mark.parametrize("simple", [False, True], ids=["batched", "one by one"])
@pytest.mark.parametrize("kind", ["dead", "hanging", "failing"])
def test_a_receiver_that_does_not_receive_does_not_hurt_the_guard(
    kind: str,
    simple: bool,  # noqa: FBT001 - reason: a parameter
    receiver: Receiver,
) -> None:
    receiver.status = 500
    hanging = Hanging()
    url = {
        "dead": f"http://127.0.0.1:{unused_port()}",
        "hanging": hanging.url,
        "failing": receiver.url,
    }[kind]
    try:
        with (
            providers(url, patience=1, simple=simple) as (meters, logs),
            MemoryGuard(limit="100GiB", interval=0.01) as guard,
        ):
            told = Telemetry(guard, meter_provider=meters, logger_provider=logs).start()
            wait_for(lambda: told.statistics().collections >= 1)
            wait_for(lambda: told.statistics().events >= 1 or told._emitting)
            ticks = guard.status().monitor.ticks
            wait_for(lambda: guard.status().monitor.ticks > ticks + 20)
            began = time.monotonic()
            told.stop(timeout=0.5)
            took = time.monotonic() - began
            assert guard.status().running
            assert guard.status().monitor.errors == 0
        assert took < 15  # with 0.5 asked for; without a bound it would be minutes
        wait_for(lambda: not [t for t in threading.enumerate() if "telemetry" in t.name])
    finally:
        hanging.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_is_silent_until_it_is_started_there() -> None:
    program = """
import os, sys
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from memguard import MemoryGuard
from memguard.report.metrics.opentelemetry.telemetry import Telemetry
reader = InMemoryMetricReader()
provider = MeterProvider([reader], shutdown_on_exit=False)
def told():
    data = reader.get_metrics_data()
    return 0 if data is None or not data.resource_metrics else 1
guard = MemoryGuard(leaks=False).start()
telemetry = Telemetry(guard, meter_provider=provider).start()
assert told()
child = os.fork()
if child == 0:
    code = 1
    try:
        assert not telemetry.statistics().running
        assert not told()
        guard.start()
        telemetry.start()
        assert told()
        telemetry.close()
        guard.close()
        code = 0
    finally:
        os._exit(code)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert told()
telemetry.close()
guard.close()
print("fine")
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", "-c", program],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("fine\n", "")


def test_an_exit_without_close_is_clean() -> None:
    program = """
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from memguard import MemoryGuard
from memguard.report.metrics.opentelemetry.telemetry import Telemetry
guard = MemoryGuard(leaks=False).start()
telemetry = Telemetry(guard, meter_provider=MeterProvider([InMemoryMetricReader()])).start()
print("fine")
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "fine\n", "")
