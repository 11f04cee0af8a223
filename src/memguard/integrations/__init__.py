"""
The edge: web frameworks, workers, pytest and logging.

It imports the core; the core never imports it.
"""
