"""memguard.relief.advice."""
