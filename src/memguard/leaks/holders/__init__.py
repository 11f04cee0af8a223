"""memguard.leaks.holders."""
