"""The errors of memguard: one root, and each is also the builtin that a caller would catch."""

from __future__ import annotations


class MemguardError(Exception):
    """Root of every error that memguard raises."""


class ConfigError(MemguardError, ValueError):
    """An option is out of its range; the message says what was given and what is allowed."""


class LifecycleError(MemguardError, RuntimeError):
    """A call came in the wrong order: started twice, or used after close."""


class ReportFormatError(MemguardError, ValueError):
    """A stored report cannot be read: wrong schema version, missing or mistyped fields."""


class ValueTooLargeError(MemguardError, ValueError):
    """A single value is larger than the whole bound of its container."""
