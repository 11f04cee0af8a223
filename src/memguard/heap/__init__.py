"""memguard.heap."""
