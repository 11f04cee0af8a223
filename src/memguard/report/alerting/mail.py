"""Messages by e-mail: over SMTP, with TLS unless told otherwise, and with headers that are safe."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from memguard.errors import ConfigError
from memguard.report.alerting.notice import Notice, Severity, iso
from memguard.report.alerting.sink import Sink
from memguard.report.alerting.wire import Wire

if TYPE_CHECKING:
    import ssl
    from email.message import EmailMessage

Security = Literal["starttls", "tls", "none"]
PORTS: dict[Security, int] = {"starttls": 587, "tls": 465, "none": 25}
# No comments, no quoted local parts, no lists: one address, which can do nothing in a header.
_ADDRESS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}@[A-Za-z0-9.-]{1,255}")
_HOST = re.compile(r"[A-Za-z0-9.:_-]{1,255}")


class MailSink(Sink):
    """
    Send each message as an e-mail: plain text, one mail for all recipients.

    Firing and resolved mails of one alert refer to each other, so that they show as one thread.
    They are marked as made by a machine (RFC 3834), so that no holiday notice answers them. A mail
    whose acceptance was not heard is sent again, with the same Message-ID.

    Bounded by: *timeout* for one conversation, 64 KiB of answers.
    Locks: none.
    Keeps alive: its options, the password among them, which is in no log, error or ``repr``.

    Args:
        host: The mail server's name.
        sender: One plain address, ``"alerts@example.org"``.
        recipients: One plain address or several, up to 50.
        port: By default 587, or 465 with ``"tls"``, or 25 with ``"none"``.
        security: ``"starttls"`` (refused where the server does not offer it), ``"tls"`` from the
            first byte, or ``"none"``.
        username: Logs in with *password*; only over TLS.
        password: See *username*.
        context: For TLS; by default certificates are checked against those of the system.
        name: For statistics, logs and the thread.
        least: Messages about less grave alerts are not sent.
        timeout: Seconds for one conversation, without the look-up of the name.

    Raises:
        TypeError: An option is of the wrong kind.
        ConfigError: An option is out of its range.
    """

    def __init__(
        self,
        host: str,
        *,
        sender: str,
        recipients: str | Sequence[str],
        port: int | None = None,
        security: Security = "starttls",
        username: str | None = None,
        password: str | None = None,
        context: ssl.SSLContext | None = None,
        name: str = "mail",
        least: Severity = "warning",
        timeout: float | str = 30.0,
    ) -> None:
        super().__init__(name=name, least=least, timeout=timeout)
        if not isinstance(host, str):
            raise TypeError(f"host must be a string (got {type(host).__name__})")
        if not _HOST.fullmatch(host):
            raise ConfigError(f"host must be a name or an address (got {host[:60]!r})")
        if security not in PORTS:
            raise ConfigError(f"security must be 'starttls', 'tls' or 'none' (got {security!r})")
        if port is not None and (isinstance(port, bool) or not isinstance(port, int)):
            raise TypeError(f"port must be a number (got {type(port).__name__})")
        if port is not None and not 1 <= port <= 65535:
            raise ConfigError(f"port must be from 1 to 65535 (got {port})")
        login = _checked_login(username, password, security)
        self._host = host
        self._port = PORTS[security] if port is None else port
        self._sender = _checked_address(sender, name="sender")
        given = (recipients,) if isinstance(recipients, str) else tuple(recipients)
        if not 1 <= len(given) <= 50:
            raise ConfigError(f"recipients must be from 1 to 50 addresses (got {len(given)})")
        self._recipients = tuple(_checked_address(each, name="recipients") for each in given)
        # As for webhooks: neither at the top of this module nor in the thread.
        from memguard.report.alerting.smtp import Mailer  # noqa: PLC0415 - reason: as said above

        self._mailer = Mailer(host, self._port, security=security, login=login, context=context)

    def __repr__(self) -> str:
        return f"MailSink({self._host}:{self._port}, name={self.name!r})"

    def deliver(self, notice: Notice, wire: Wire) -> None:
        """
        Send *notice*.

        Raises:
            DeliveryError: It was not accepted; it says whether to try again.
        """
        self._mailer.send(self.message(notice), wire)

    def message(self, notice: Notice) -> EmailMessage:
        """Return the e-mail for *notice*. Pure."""
        from memguard.report.alerting.smtp import compose  # noqa: PLC0415 - reason: loaded already

        return compose(notice, body(notice), sender=self._sender, recipients=self._recipients)


def body(notice: Notice) -> str:
    """Return the text of the e-mail for *notice*."""
    lines = [notice.summary, ""]
    told = [
        ("status", notice.status),
        ("severity", notice.severity),
        *notice.facts,
        ("since", iso(notice.started_at)),
    ]
    if notice.ended_at is not None:
        told.append(("until", iso(notice.ended_at)))
    told += [("guard", notice.guard), ("host", notice.host), ("process", str(notice.pid))]
    told += [*notice.labels, ("fingerprint", notice.fingerprint)]
    lines += [f"{name + ':':18} {value}" for name, value in told]
    return "\n".join(lines) + "\n"


def _checked_address(address: str, *, name: str) -> str:
    if not isinstance(address, str):
        raise TypeError(f"{name} must be a string (got {type(address).__name__})")
    if not _ADDRESS.fullmatch(address):
        raise ConfigError(f"{name} must be a plain address, me@example.org (got {address[:80]!r})")
    return address


def _checked_login(
    username: str | None, password: str | None, security: Security
) -> tuple[str, str] | None:
    if username is None and password is None:
        return None
    if username is None or password is None:
        raise ConfigError("username and password must be given together, or neither")
    if not isinstance(username, str) or not isinstance(password, str):
        raise TypeError("username and password must be strings")
    if not username.isascii() or not password.isascii():
        # AUTH PLAIN (RFC 4616) could carry UTF-8; smtplib cannot, and would fail each time.
        raise ConfigError("username and password must be ASCII, which is all that smtplib sends")
    if security == "none":
        raise ConfigError("a password is not sent in clear; use security='starttls' or 'tls'")
    return username, password
