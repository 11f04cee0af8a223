"""A class remembers every message that it has seen, to see none twice."""

from __future__ import annotations

HOLDER = "class_attribute.Inbox.seen"


class Inbox:
    """Drops messages that came before."""

    seen: set[tuple[int, bytes]] = set()  # noqa: RUF012 - reason: this is the leak

    def accept(self, number: int) -> None:
        """Take a message in."""
        message = (number, bytes(6000))  # <- allocates
        self.seen.add(message)


INBOX = Inbox()


def step(number: int) -> None:
    """Receive one message."""
    INBOX.accept(number)
