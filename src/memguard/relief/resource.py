"""What can be short: memory, which containers hold, or another resource, which they do not."""

MEMORY = "memory"
"""The resource that caches, pools and relief's own steps are about."""
