"""memguard.bounded.pool."""
