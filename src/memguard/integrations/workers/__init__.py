"""memguard.integrations.workers."""
