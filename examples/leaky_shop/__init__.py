"""
A real web shop with three planted leaks, and the same shop repaired: what ``make demo`` runs.

``app`` leaks, ``repaired`` does not; ``shop``, ``db``, ``jobs`` and ``signals`` are shared by both.
``serve`` runs one of them with memguard inside, ``client`` is its visitor. ``__main__`` drives both
runs and compares what memguard reported with what was planted.
"""
