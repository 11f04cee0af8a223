"""Notices by e-mail: SMTP within a deadline, TLS by default, safe headers."""

from __future__ import annotations

import contextlib
import email.policy
import email.utils
import re
import smtplib
import socket
import ssl
from collections.abc import Sequence
from email.message import EmailMessage
from typing import Any, Literal

from memguard.bounded.options import check_choice, check_instance, check_int
from memguard.errors import ConfigError
from memguard.report.alerting.connection import Connection
from memguard.report.alerting.notice import Notice, Severity
from memguard.report.alerting.sink import DeliveryError, Sink

Security = Literal["starttls", "tls", "none"]
PORTS: dict[Security, int] = {"starttls": 587, "tls": 465, "none": 25}
# No comments, no quoted local parts, no lists: one address, which can do nothing in a header.
_ADDRESS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}@[A-Za-z0-9.-]{1,255}")
_HOST = re.compile(r"[A-Za-z0-9.:_-]{1,255}")
_NO_NAME = re.compile(r"[^A-Za-z0-9.-]+")


class MailSink(Sink):
    """
    Send each notice as an e-mail: plain text, one mail for all recipients.

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
        min_severity: Notices about less grave alerts are not sent.
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
        min_severity: Severity = "warning",
        timeout: float | str = 30.0,
    ) -> None:
        super().__init__(name=name, min_severity=min_severity, timeout=timeout)
        if not _HOST.fullmatch(check_instance(host, str, "host")):
            raise ConfigError(f"host must be a name or an address (got {host[:60]!r})")
        self._host = host
        self._security = check_choice(security, tuple(PORTS), "security")
        self._port = PORTS[security] if port is None else check_int(port, "port", 1, 65535)
        self._login = _checked_login(username, password, security)
        self._sender = _checked_address(sender, name="sender")
        given = (recipients,) if isinstance(recipients, str) else tuple(recipients)
        if not 1 <= len(given) <= 50:
            raise ConfigError(f"recipients must be from 1 to 50 addresses (got {len(given)})")
        self._recipients = tuple(_checked_address(each, name="recipients") for each in given)
        if context is None and security != "none":
            context = ssl.create_default_context()
        self._context = context
        # smtplib would ask the resolver for our full name, and wait for it.
        self._own_name = _NO_NAME.sub("-", socket.gethostname()).strip("-.") or "localhost"

    def __repr__(self) -> str:
        return f"MailSink({self._host}:{self._port}, name={self.name!r})"

    def deliver(self, notice: Notice, connection: Connection) -> None:
        """
        Send *notice*.

        Raises:
            DeliveryError: No recipient was accepted; it says whether to try again.
        """
        message = self.message(notice)
        smtp: _Smtp | None = None
        try:
            tls = self._context if self._security == "tls" else None
            smtp = _Smtp(connection, tls, self._own_name)
            smtp.greet(self._host, self._port)
            if self._security == "starttls":
                smtp.starttls(context=self._context)
            if self._login is not None:
                smtp.login(*self._login)
            smtp.send_message(message)
        except smtplib.SMTPException as error:
            raise _refusal(error) from None
        except TimeoutError:
            raise DeliveryError("timed out") from None
        except ssl.SSLCertVerificationError:
            raise DeliveryError("the certificate is not trusted") from None
        except OSError as error:
            raise DeliveryError(type(error).__name__) from None
        else:
            # It is accepted: whatever comes now must not have it sent again.
            with contextlib.suppress(smtplib.SMTPException, OSError):
                smtp.quit()
        finally:
            if smtp is not None:
                smtp.close()

    def message(self, notice: Notice) -> EmailMessage:
        """
        Return the e-mail for *notice*. Pure.

        Whatever stands in its names, it stays in its header: titles are one printable line, and
        ``EmailMessage`` refuses line breaks.

        Sources: RFC 5322, RFC 3834.
        """
        domain = self._sender.rpartition("@")[2]
        message = EmailMessage(policy=email.policy.SMTP)
        message["From"] = self._sender
        message["To"] = ", ".join(self._recipients)
        message["Subject"] = notice.title
        message["Date"] = email.utils.formatdate(notice.time, localtime=False)
        message["Message-ID"] = f"<memguard.{notice.id}@{domain}>"
        message["References"] = f"<memguard.{notice.fingerprint}@{domain}>"
        message["Auto-Submitted"] = "auto-generated"
        message["X-Auto-Response-Suppress"] = "All"  # what Exchange listens to
        message.set_content(body(notice), charset="utf-8")
        return message


def body(notice: Notice) -> str:
    """Return the text of the e-mail for *notice*."""
    pairs = [
        ("status", notice.status),
        ("severity", notice.severity),
        *notice.facts,
        *notice.period,
        ("guard", notice.guard),
        ("host", notice.host),
        ("process", str(notice.pid)),
        *notice.labels,
        ("fingerprint", notice.fingerprint),
    ]
    lines = [notice.summary, "", *(f"{name + ':':18} {value}" for name, value in pairs)]
    return "\n".join(lines) + "\n"


class _Smtp(smtplib.SMTP):
    def __init__(
        self, connection: Connection, context: ssl.SSLContext | None, own_name: str
    ) -> None:
        self._connection = connection
        self._tls = context
        super().__init__(local_hostname=own_name, timeout=connection.left())

    def greet(self, host: str, port: int) -> None:
        self._host = host  # what starttls checks the certificate for
        code, text = self.connect(host, port)
        if code != 220:
            raise smtplib.SMTPConnectError(code, text)

    def _get_socket(self, host: str, port: int, timeout: float) -> Any:
        del timeout  # the connection knows better
        sock = self._connection.connect(host, port)
        if self._tls is None:
            return sock
        try:
            return self._tls.wrap_socket(sock, server_hostname=host)
        except BaseException:
            sock.close()
            raise

    def getreply(self) -> tuple[int, bytes]:
        if self.file is None and self.sock is not None:
            self.file = self._connection.reader(self.sock)
        return super().getreply()


def _refusal(error: smtplib.SMTPException) -> DeliveryError:
    """Return the failure with the server's code, never its text: that may repeat a password."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        codes = [code for code, _ in error.recipients.values()]
        worst = min(codes, default=550)  # one that may be accepted later is worth another attempt
        return DeliveryError(f"recipients refused, SMTP {worst}", retry=worst < 500)
    if isinstance(error, smtplib.SMTPResponseException):
        code = int(error.smtp_code)
        return DeliveryError(f"{type(error).__name__} {code}", retry=not 500 <= code < 600)
    if isinstance(error, smtplib.SMTPNotSupportedError):
        return DeliveryError("the server does not offer what is needed", retry=False)
    return DeliveryError(type(error).__name__)


def _checked_address(address: str, *, name: str) -> str:
    if not _ADDRESS.fullmatch(check_instance(address, str, name)):
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
