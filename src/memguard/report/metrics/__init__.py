"""
Metrics of a guard for monitoring systems.

One room for each system; each needs its client library.
"""
