"""The errors of memguard: one root; each is also the builtin that a caller would catch."""

from __future__ import annotations


class MemguardError(Exception):
    """Root of every error that memguard raises."""


class AdmissionError(MemguardError, MemoryError):
    """Work was not admitted because there is not enough memory for it now."""


class CapacityError(MemguardError, RuntimeError):
    """A registry is full: its bound on what it holds at the same time is reached."""


class ConfigError(MemguardError, ValueError):
    """An option is out of its range; the message says what was given and what is allowed."""


class LifecycleError(MemguardError, RuntimeError):
    """A call came in the wrong order: started twice, or used after close."""


class MissingExtraError(MemguardError, ImportError):
    """An optional package is not installed; the message says what to install."""


class PoolExhaustedError(MemguardError, TimeoutError):
    """No object or buffer was free in time; the message and `holders` name the holders."""

    def __init__(self, message: str, holders: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.holders = holders
        """One line for each holder, the oldest first: call site, thread or task, age."""

    def __reduce__(self) -> tuple[type[PoolExhaustedError], tuple[str, tuple[str, ...]]]:
        return type(self), (str(self), self.holders)


class QueueEmptyError(MemguardError, TimeoutError):
    """No item came in time."""


class QueueFullError(MemguardError, TimeoutError):
    """There was no room for an item in time; it was not put."""


class ReportFormatError(MemguardError, ValueError):
    """A stored report cannot be read: wrong schema version, missing or mistyped fields."""


class ValueTooLargeError(MemguardError, ValueError):
    """A single value is larger than the whole bound of its container."""
