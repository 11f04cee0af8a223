"""TELL: render and deliver what was found."""
