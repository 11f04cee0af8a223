"""
Metrics and events for OpenTelemetry.

`Telemetry` observes a guard for the meter and logger providers of the host.
"""

from memguard import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from memguard.report.metrics.opentelemetry.instruments import ProcessMetrics as ProcessMetrics
    from memguard.report.metrics.opentelemetry.telemetry import Telemetry as Telemetry
    from memguard.report.metrics.opentelemetry.telemetry import (
        TelemetryStatistics as TelemetryStatistics,
    )
else:
    __getattr__, __dir__ = lazy.exports(
        __name__,
        {
            "memguard.report.metrics.opentelemetry.instruments": "ProcessMetrics",
            "memguard.report.metrics.opentelemetry.telemetry": "Telemetry TelemetryStatistics",
        },
    )
