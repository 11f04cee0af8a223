"""memguard.leaks.finding."""
