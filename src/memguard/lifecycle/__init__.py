"""memguard.lifecycle."""
