"""memguard.bounded.events."""
