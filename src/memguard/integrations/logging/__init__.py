"""memguard.integrations.logging."""
