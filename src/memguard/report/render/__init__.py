"""memguard.report.render."""
