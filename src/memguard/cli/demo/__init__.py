"""memguard.cli.demo."""
