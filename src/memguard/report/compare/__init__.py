"""memguard.report.compare."""
