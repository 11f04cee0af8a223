"""memguard.cli.top."""
