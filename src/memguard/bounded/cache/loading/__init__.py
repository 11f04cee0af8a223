"""memguard.bounded.cache.loading."""
