"""memguard.report.sinks."""
