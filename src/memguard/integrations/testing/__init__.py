"""memguard.integrations.testing."""
