"""memguard.integrations.web."""
