"""memguard.report.health."""
