"""Where messages go: what every sink is, and the two that need no network."""

from __future__ import annotations

import inspect
import logging
import re
from abc import ABC, abstractmethod
from collections.abc import Callable

from memguard import log
from memguard.errors import ConfigError, MemguardError
from memguard.report.alerting.notice import RANK, SEVERITIES, Notice, Severity, checked_severity
from memguard.report.alerting.wire import Wire
from memguard.report.render.words import printable
from memguard.units import parse_seconds

_LONGEST_AFTER = 7 * 86400.0
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,39}")


class DeliveryError(MemguardError, OSError):
    """
    A message could not be delivered.

    Raise it from a callable of your own to have the message tried again.

    Args:
        why: What happened, in a few words without secrets: it is logged.
        retry: False where trying again is in vain: the message is then lost, and counted.
        after: Seconds that the receiver asked to be left alone.
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
    Deliver messages to one place.

    A sink has no state of its own: one may serve several `Alerts`, each of which delivers in a
    thread that it has for this sink alone.

    Bounded by: its options.
    Locks: none.
    Keeps alive: its options.

    Args:
        name: For statistics, logs and the thread.
        least: Messages about less grave alerts are not delivered here.
        timeout: Seconds for one attempt, from the connection to the answer.

    Raises:
        TypeError: An option is of the wrong kind.
        ConfigError: An option is out of its range.
    """

    def __init__(self, *, name: str, least: Severity = "info", timeout: float | str = 10.0) -> None:
        if not isinstance(name, str):
            raise TypeError(f"name must be a string (got {type(name).__name__})")
        if not _NAME.fullmatch(name):
            raise ConfigError(
                "name must be 1 to 40 letters, digits, '_', '.' or '-', a letter first "
                f"(got {name[:40]!r})"
            )
        self.name = name
        self.least: Severity = checked_severity(least, name="least")
        self.timeout = parse_seconds(timeout, name="timeout")
        if not 0.1 <= self.timeout <= 300:
            raise ConfigError(f"timeout must be from 0.1 to 300 seconds (got {timeout!r})")

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r})"

    def wants(self, notice: Notice) -> bool:
        """Return whether *notice* is grave enough for this sink; a test always is."""
        return notice.status == "test" or RANK[notice.severity] >= RANK[self.least]

    @abstractmethod
    def deliver(self, notice: Notice, wire: Wire) -> None:
        """
        Deliver *notice*, over *wire* where a connection is needed.

        Raises:
            DeliveryError: It was not delivered; it says whether to try again.
        """


class LogSink(Sink):
    """
    Log each message: ``alert.firing``, ``alert.resolved`` or ``alert.test``.

    Args:
        name: For statistics and the thread.
        least: Messages about less grave alerts are not logged.
    """

    def __init__(self, *, name: str = "log", least: Severity = "info") -> None:
        super().__init__(name=name, least=least)

    def deliver(self, notice: Notice, wire: Wire) -> None:
        """Log *notice*: at ERROR where it is critical, at INFO where it is over."""
        del wire
        levels = (logging.INFO, logging.WARNING, logging.ERROR)
        firing = notice.status == "firing"
        log.event(
            levels[SEVERITIES.index(notice.severity)] if firing else logging.INFO,
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
    but messages for it do, and `Alerts.stop` waits no longer than it is told to.

    Args:
        call: The function.
        name: For statistics and the thread.
        least: Messages about less grave alerts are not given to it.
    """

    def __init__(
        self, call: Callable[[Notice], object], *, name: str = "call", least: Severity = "info"
    ) -> None:
        super().__init__(name=name, least=least)
        if not callable(call):
            raise TypeError(f"call must be callable (got {type(call).__name__})")
        if inspect.iscoroutinefunction(call):
            raise TypeError(
                "call must be a plain function, for it is called in a thread; in it, hand the "
                "message to your loop with asyncio.run_coroutine_threadsafe"
            )
        self._call = call

    def deliver(self, notice: Notice, wire: Wire) -> None:
        """Call the function."""
        del wire
        given = self._call(notice)
        if inspect.iscoroutine(given):  # of an object with an async __call__: nothing has run
            given.close()
            raise TypeError("call must be a plain function; it returned a coroutine")
