"""Measurements, run by hand: none of them is a test, each writes its machine beside its numbers."""
