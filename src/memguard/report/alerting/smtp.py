"""One e-mail over SMTP, within a deadline and a bound. Loaded where a mail sink is made."""

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
from typing import Any

from memguard.report.alerting.notice import Notice
from memguard.report.alerting.sink import DeliveryError
from memguard.report.alerting.wire import Wire

_POLICY = email.policy.SMTP
_NO_NAME = re.compile(r"[^A-Za-z0-9.-]+")


def compose(notice: Notice, text: str, *, sender: str, recipients: Sequence[str]) -> EmailMessage:
    """
    Return the message for *notice*. Pure.

    Whatever stands in its names, it stays in its header: titles are one printable line, and
    ``EmailMessage`` refuses line breaks.

    Sources: RFC 5322, RFC 3834.
    """
    domain = sender.rpartition("@")[2]
    message = EmailMessage(policy=_POLICY)
    message["From"] = sender
    message["To"] = ", ".join(recipients)
    message["Subject"] = notice.title
    message["Date"] = email.utils.formatdate(notice.time, localtime=False)
    message["Message-ID"] = f"<memguard.{notice.id}@{domain}>"
    message["References"] = f"<memguard.{notice.fingerprint}@{domain}>"
    message["Auto-Submitted"] = "auto-generated"
    message["X-Auto-Response-Suppress"] = "All"  # what Exchange listens to
    message.set_content(text, charset="utf-8")
    return message


class Mailer:
    """
    Send through one server, with a connection of its own for each message.

    Bounded by: *timeout* of the wire, 64 KiB of answers.
    Locks: none.
    Keeps alive: the login and the TLS context.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        security: str,
        login: tuple[str, str] | None,
        context: ssl.SSLContext | None,
    ) -> None:
        self._host = host
        self._port = port
        self._security = security
        self._login = login
        if context is None and security != "none":
            context = ssl.create_default_context()
        self._context = context
        # smtplib would ask the resolver for our full name, and wait for it.
        self._own_name = _NO_NAME.sub("-", socket.gethostname()).strip("-.") or "localhost"

    def send(self, message: EmailMessage, wire: Wire) -> None:
        """
        Send *message*.

        Raises:
            DeliveryError: No recipient was accepted.
        """
        smtp: _Smtp | None = None
        try:
            smtp = _Smtp(wire, self._context if self._security == "tls" else None, self._own_name)
            smtp.greet(self._host, self._port)
            if self._security == "starttls":
                smtp.starttls(context=self._context)
            if self._login is not None:
                smtp.login(*self._login)
            smtp.send_message(message)
        except smtplib.SMTPException as error:
            raise _judged(error) from None
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


class _Smtp(smtplib.SMTP):
    def __init__(self, wire: Wire, context: ssl.SSLContext | None, own_name: str) -> None:
        self._wire = wire
        self._tls = context
        super().__init__(local_hostname=own_name, timeout=wire.left())

    def greet(self, host: str, port: int) -> None:
        self._host = host  # what starttls checks the certificate for
        code, text = self.connect(host, port)
        if code != 220:
            raise smtplib.SMTPConnectError(code, text)

    def _get_socket(self, host: str, port: int, timeout: float) -> Any:
        del timeout  # the wire knows better
        sock = self._wire.connect(host, port)
        if self._tls is None:
            return sock
        try:
            return self._tls.wrap_socket(sock, server_hostname=host)
        except BaseException:
            sock.close()
            raise

    def getreply(self) -> tuple[int, bytes]:
        if self.file is None and self.sock is not None:
            self.file = self._wire.reader(self.sock)
        return super().getreply()


def _judged(error: smtplib.SMTPException) -> DeliveryError:
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
