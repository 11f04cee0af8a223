"""
Metrics and events for OpenTelemetry.

`Telemetry` observes a guard for the meter and logger providers of the host.
"""

from memguard import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from memguard.report.metrics.opentelemetry.instruments import ProcessMetrics
    from memguard.report.metrics.opentelemetry.telemetry import Telemetry, TelemetryStatistics

__all__ = [
    "ProcessMetrics",
    "Telemetry",
    "TelemetryStatistics",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy.exports(
        __name__,
        {
            "memguard.report.metrics.opentelemetry.instruments": "ProcessMetrics",
            "memguard.report.metrics.opentelemetry.telemetry": "Telemetry TelemetryStatistics",
        },
    )
