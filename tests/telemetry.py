"""A meter provider and a logger provider that keep what they are told in memory."""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk._logs import LoggerProvider, export
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

# Renamed in 1.39; the older name warns in later versions.
_LogExporter: Any = (
    vars(export).get("InMemoryLogRecordExporter") or vars(export)["InMemoryLogExporter"]
)


class Metrics:
    """A meter provider, read on demand."""

    def __init__(self) -> None:
        self.reader = InMemoryMetricReader()
        self.provider = MeterProvider([self.reader], shutdown_on_exit=False)

    def collect(self) -> dict[str, Any]:
        """Collect once; return metrics of memguard by name."""
        data = self.reader.get_metrics_data()
        return {
            metric.name: metric
            for resource in (data.resource_metrics if data is not None else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def values(
        self, name: str, collected: dict[str, Any] | None = None
    ) -> dict[tuple[Any, ...], Any]:
        """Collect once; return attribute values → value of one metric."""
        metric = (self.collect() if collected is None else collected).get(name)
        points = metric.data.data_points if metric is not None else ()
        return {tuple(point.attributes.values()): point.value for point in points}


class Logs:
    """A logger provider that keeps its records."""

    def __init__(self) -> None:
        self.exporter = _LogExporter()
        self.provider = LoggerProvider(shutdown_on_exit=False)
        self.provider.add_log_record_processor(SimpleLogRecordProcessor(self.exporter))

    def records(self) -> list[Any]:
        """Return what was emitted so far."""
        return [data.log_record for data in self.exporter.get_finished_logs()]


def name_of(record: Any) -> Any:
    """Return the event name, which is an attribute before version 1.35."""
    return getattr(record, "event_name", None) or (record.attributes or {}).get("event.name")
