"""Services that start and stop; ``close`` and ``with`` follow from that, the same everywhere."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self


class Service(ABC):
    """
    Something that runs between `start` and `stop`.

    Bounded by: nothing of its own.
    Locks: none.
    Keeps alive: nothing.
    """

    __slots__ = ()

    @abstractmethod
    def start(self) -> Self:
        """Begin, and return the service."""

    @abstractmethod
    def stop(self, timeout: float = 5.0) -> bool:
        """End; idempotent. True when all threads have ended within *timeout* seconds."""

    def close(self) -> None:
        """Do what `stop` does."""
        self.stop()

    def __enter__(self) -> Self:
        """Start it."""
        return self.start()

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        self.stop()
