"""Keeps a long-running Python process inside its memory, and names what leaks and who holds it."""

from memguard._version import __version__
from memguard.errors import (
    ConfigError,
    LifecycleError,
    MemguardError,
    ReportFormatError,
    ValueTooLargeError,
)

__all__ = [
    "ConfigError",
    "LifecycleError",
    "MemguardError",
    "ReportFormatError",
    "ValueTooLargeError",
    "__version__",
]
