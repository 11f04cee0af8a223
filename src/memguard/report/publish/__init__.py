"""memguard.report.publish."""
