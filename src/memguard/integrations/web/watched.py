"""One request, from its begin to its end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from memguard.bounded.lifetime.scope import Scope
from memguard.integrations.web.routes import Row

if TYPE_CHECKING:
    from memguard.integrations.web.requests import RequestWatch


@dataclass(frozen=True, slots=True)
class Pending:
    """A request that has ended, and is measured when the next one begins."""

    row: Row
    before: int
    events: int
    at: float


class WatchedRequest:
    """
    One request, from `RequestWatch.begin` to `end`.

    Bounded by: itself; its scope has a bound of its own.
    Locks: that of its watch, for an instant.
    Keeps alive: its watch and its scope.
    """

    __slots__ = (
        "_watch",
        "before",
        "chosen",
        "ended",
        "events",
        "life",
        "resting",
        "scope",
    )

    def __init__(self, watch: RequestWatch) -> None:
        self._watch = watch
        self.life: object = None
        self.events = 0
        self.chosen = False
        self.before: int | None = None
        self.resting = 0
        self.ended = False
        self.scope = Scope(name="request")
        """What ends with the request."""

    def end(self, method: str, route: str, *, failed: bool = False) -> None:
        """
        Count the request, its scope closed by now; idempotent, and raises nothing.

        Args:
            method: ``"GET"``, …
            route: Its template, never the path.
            failed: It raised.
        """
        if self.ended:
            return
        self.ended = True
        try:
            self._watch._end(  # noqa: SLF001 - reason: the two are one mechanism
                self, method if type(method) is str else "", route, failed=failed
            )
        except Exception as error:  # noqa: BLE001 - reason: law 2, the guard never hurts the host
            self._watch._failures.add("end", error)  # noqa: SLF001 - reason: as above

    def rest(self) -> None:
        """Wait for the client from now on: nothing is done meanwhile."""
        self._watch._rest(self, 1)  # noqa: SLF001 - reason: the two are one mechanism

    def wake(self) -> None:
        """Work again."""
        self._watch._rest(self, -1)  # noqa: SLF001 - reason: the two are one mechanism

    def stir(self) -> None:
        """Say that something happened that others must not be measured through."""
        self._watch._stir()  # noqa: SLF001 - reason: the two are one mechanism

    def __del__(self) -> None:
        # A finalizer only appends: the work is done at the next ordinary call.
        watch = self._watch
        if not self.ended and self.life is watch._life:  # noqa: SLF001 - reason: the two are one mechanism
            watch._lost.append(self.resting > 0)  # noqa: SLF001 - reason: as above
