"""memguard.report.render.html."""
