"""The edge: web frameworks, workers and pytest. Imports the core; the core never imports it."""
