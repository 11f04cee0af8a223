"""memguard.bounded.cache."""
