"""memguard.leaks.evidence."""
