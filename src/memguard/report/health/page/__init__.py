"""memguard.report.health.page."""
