"""memguard.report.metrics."""
