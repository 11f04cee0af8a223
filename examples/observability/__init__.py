"""A small service with memguard, its Prometheus, alert rules and dashboard."""
