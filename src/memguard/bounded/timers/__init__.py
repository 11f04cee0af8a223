"""memguard.bounded.timers."""
