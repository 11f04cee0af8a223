"""memguard.report.metrics.opentelemetry."""
