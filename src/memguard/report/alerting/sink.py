"""Sinks: where notices go. The protocol, and the two sinks that need no network."""

from __future__ import annotations

import inspect
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable

from memguard import log
from memguard.bounded.options import (
    check_callable,
    check_choice,
    check_identifier,
    check_seconds,
)
from memguard.errors import MemguardError
from memguard.report.alerting.connection import Connection
from memguard.report.alerting.notice import RANK, SEVERITIES, Notice, Severity
from memguard.report.render.words import printable

_LONGEST_AFTER = 7 * 86400.0


class DeliveryError(MemguardError, OSError):
    """
    A message could not be delivered.

    Raise it from a callable of your own to have the message tried again.

    Args:
        why: What happened, in a few words without secrets: it is logged.
        retry: False if retrying is pointless: the message is then lost, and counted.
        after: Seconds that the receiver asked to wait before the next attempt.
    """

    def __init__(self, why: str, *, retry: bool = True, after: float | None = None) -> None:
        super().__init__(why)
        self.why = printable(why, longest=100) if isinstance(why, str) else type(why).__name__
        self.retry = bool(retry)
        # Not a number becomes zero here: it is not greater than it.
        self.after = None if after is None else max(0.0, min(float(after), _LONGEST_AFTER))

    def __reduce__(self) -> tuple[Callable[..., DeliveryError], tuple[str, bool, float | None]]:
        return _delivery_error, (self.why, self.retry, self.after)


def _delivery_error(why: str, retry: bool, after: float | None) -> DeliveryError:  # noqa: FBT001 - reason: pickle calls it by position
    return DeliveryError(why, retry=retry, after=after)


class Sink(ABC):
    """
    Deliver notices to one place.

    A sink has no state of its own: one may serve several `Alerts`, each of which delivers in a
    thread that it has for this sink alone.

    Bounded by: its options.
    Locks: none.
    Keeps alive: its options.

    Args:
        name: For statistics, logs and the thread.
        min_severity: Notices about less grave alerts are not delivered here.
        timeout: Seconds for one attempt, from the connection to the answer.

    Raises:
        TypeError: An option is of the wrong kind.
        ConfigError: An option is out of its range.
    """

    def __init__(
        self, *, name: str, min_severity: Severity = "info", timeout: float | str = 10.0
    ) -> None:
        self.name = check_identifier(name, "name", longest=40)
        self.min_severity: Severity = check_choice(min_severity, SEVERITIES, "min_severity")
        self.timeout = check_seconds(timeout, "timeout", 0.1, 300)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r})"

    def wants(self, notice: Notice) -> bool:
        """Return whether *notice* is grave enough for this sink; a test always is."""
        return notice.status == "test" or RANK[notice.severity] >= RANK[self.min_severity]

    @abstractmethod
    def deliver(self, notice: Notice, connection: Connection) -> None:
        """
        Deliver *notice*, over *connection* where a connection is needed.

        Raises:
            DeliveryError: It was not delivered; it says whether to try again.
        """


class LogSink(Sink):
    """
    Log each notice: ``alert.firing``, ``alert.resolved`` or ``alert.test``.

    Args:
        name: For statistics and the thread.
        min_severity: Notices about less grave alerts are not logged.
    """

    def __init__(self, *, name: str = "log", min_severity: Severity = "info") -> None:
        super().__init__(name=name, min_severity=min_severity)

    def deliver(self, notice: Notice, connection: Connection) -> None:
        """Log *notice*: at ERROR where it is critical, at INFO where it is resolved."""
        del connection
        levels = (logging.INFO, logging.WARNING, logging.ERROR)
        firing = notice.status == "firing"
        log.event(
            levels[RANK[notice.severity]] if firing else logging.INFO,
            f"alert.{notice.status}",
            rule=notice.rule,
            severity=notice.severity,
            summary=notice.summary,
            fingerprint=notice.fingerprint,
            number=notice.number,
            value=notice.value,
            guard=notice.guard,
        )


class CallSink(Sink):
    """
    Call a function of yours with each `Notice`, in a thread of this sink and under no lock.

    What it raises is counted and logged once for each kind, and the message is not tried again,
    except after a `DeliveryError`. It has all the time it wants: other sinks do not wait for it,
    but messages for it do, and `Alerts.stop` waits no longer than its *timeout*.

    Args:
        call: The function.
        name: For statistics and the thread.
        min_severity: Notices about less grave alerts are not given to it.
    """

    def __init__(
        self,
        call: Callable[[Notice], object],
        *,
        name: str = "call",
        min_severity: Severity = "info",
    ) -> None:
        super().__init__(name=name, min_severity=min_severity)
        check_callable(call, "call", optional=False)
        if inspect.iscoroutinefunction(call):
            raise TypeError(
                "call must be a plain function, because it runs in a thread; in it, hand the "
                "message to your loop with asyncio.run_coroutine_threadsafe"
            )
        self._call = call

    def deliver(self, notice: Notice, connection: Connection) -> None:
        """Call the function."""
        del connection
        given = self._call(notice)
        if inspect.iscoroutine(given):  # of an object with an async __call__: nothing has run
            given.close()
            raise TypeError("call must be a plain function; it returned a coroutine")
