"""memguard.bounded.lifetime."""
