"""HOLD: containers that cannot grow without limit."""
