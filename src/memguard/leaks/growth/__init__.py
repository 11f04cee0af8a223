"""memguard.leaks.growth."""
