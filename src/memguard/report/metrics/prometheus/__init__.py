"""memguard.report.metrics.prometheus."""
