"""memguard.bounded.streams."""
