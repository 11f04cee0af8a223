"""Programs that show memguard at work; each one is run by the test suite."""
