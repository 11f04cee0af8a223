"""
One POST, within a deadline, a bound and no surprises. Loaded where a webhook is made.

The standard library's ``urllib.request``: it knows the proxies of the environment, and there is no
HTTP client among the dependencies. What it lacks is added here: a deadline for the whole exchange,
a bound on the answer, and a way to cut it. What it has too much of is left out: no redirects (one
to another host would take the headers along), no cookies, no ``file:`` or ``ftp:``.
"""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import re
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from datetime import timezone
from functools import partial
from typing import Any

from memguard._version import __version__
from memguard.report.alerting.sink import DeliveryError
from memguard.report.alerting.wire import Wire

_REASON = re.compile(rb"[a-z_]{3,40}")
_LONGEST_AFTER = 86400.0


class Poster:
    """
    Post to one URL.

    Bounded by: *timeout* of the wire, 64 KiB of answers.
    Locks: none.
    Keeps alive: the TLS context, where the URL is of https.
    """

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        *,
        context: ssl.SSLContext | None,
        trust_env: bool,
    ) -> None:
        self._url = url
        self._headers = {
            "Content-Type": "application/json",
            "User-Agent": f"memguard/{__version__}",
            **headers,
        }
        self._trust_env = trust_env
        self._context = context
        if context is None and url.lower().startswith("https:"):
            self._context = ssl.create_default_context()

    def post(self, body: bytes, wire: Wire) -> None:
        """
        Post *body*; a status of 200 to 299 is a success.

        Raises:
            DeliveryError: Anything else.
        """
        opener = urllib.request.OpenerDirector()
        # The environment alone: macOS keeps proxies elsewhere, too, and asking there after a fork
        # crashes the process.
        proxies = urllib.request.getproxies_environment() if self._trust_env else {}
        opener.add_handler(urllib.request.ProxyHandler(proxies))
        opener.add_handler(_Http(wire))
        opener.add_handler(_Https(wire, self._context))
        request = urllib.request.Request(  # noqa: S310 - reason: http and https are all that has a handler
            self._url, data=body, headers=self._headers, method="POST"
        )
        try:
            self._judge(opener.open(request, timeout=wire.left()))
        except DeliveryError:
            raise
        except urllib.error.URLError as error:
            raise DeliveryError(_kind(error.reason)) from None
        except (OSError, http.client.HTTPException) as error:
            raise DeliveryError(_kind(error)) from None
        except ValueError as error:
            raise DeliveryError(f"bad request: {type(error).__name__}", retry=False) from None

    def _judge(self, answer: Any) -> None:
        with answer:
            self._judge_status(answer, answer.status)

    def _judge_status(self, answer: Any, status: int) -> None:
        if 200 <= status < 300:
            return
        reason = b""
        with contextlib.suppress(OSError, http.client.HTTPException):
            reason = answer.read(64).strip()
        # Slack says in one word why it refuses; any other text might repeat a secret.
        word = f" {reason.decode()}" if _REASON.fullmatch(reason) else ""
        if 300 <= status < 400:
            raise DeliveryError(f"HTTP {status}, redirects are not followed", retry=False)
        retry = may_succeed_later(status)
        after = retry_after(answer.headers.get("Retry-After"), time.time()) if retry else None
        raise DeliveryError(f"HTTP {status}{word}", retry=retry, after=after)


def may_succeed_later(status: int) -> bool:
    """Return whether the same request may be answered better later (RFC 9110, 6585, 8470)."""
    return status in (408, 421, 425, 429) or (status >= 500 and status not in (501, 505))


def retry_after(value: str | None, now: float) -> float | None:
    """
    Return the seconds that a ``Retry-After`` header asks for; None where it says nothing readable.

    Args:
        value: Seconds or a date, RFC 9110, section 10.2.3.
        now: Seconds since the epoch.
    """
    if value is None or len(value) > 100:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return min(float(text), _LONGEST_AFTER)
    try:
        date = email.utils.parsedate_to_datetime(text)
        if date.tzinfo is None:  # "-0000" says UTC as well, RFC 5322, section 3.3
            date = date.replace(tzinfo=timezone.utc)
        moment = date.timestamp()
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    return min(max(0.0, moment - now), _LONGEST_AFTER)


def _kind(error: object) -> str:
    """Return what kind of failure it was, without its text."""
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, ssl.SSLCertVerificationError):
        return "the certificate is not trusted"
    return type(error).__name__


class _Response(http.client.HTTPResponse):
    def __init__(self, wire: Wire, sock: Any, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self.fp.close()
        self.fp = wire.reader(sock)


def _connection(wire: Wire, kind: type, host: str, **options: Any) -> Any:
    connection = kind(host, **options)
    connection._create_connection = lambda address, *_: wire.connect(*address)  # noqa: SLF001 - reason: the seam that http.client has for it; test_webhook would see it gone
    connection.response_class = partial(_Response, wire)
    return connection


class _Http(urllib.request.HTTPHandler):
    def __init__(self, wire: Wire) -> None:
        super().__init__()
        self._wire = wire

    def http_open(self, request: Any) -> Any:
        if request.type != "http":  # the proxy speaks something else, and would be spoken to so
            raise DeliveryError("the proxy's scheme is not supported", retry=False)
        make: Any = partial(_connection, self._wire, http.client.HTTPConnection)
        return self.do_open(make, request)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, wire: Wire, context: ssl.SSLContext | None) -> None:
        super().__init__(context=context)
        self._wire = wire
        self._tls = context

    def https_open(self, request: Any) -> Any:
        make: Any = partial(_connection, self._wire, http.client.HTTPSConnection)
        return self.do_open(make, request, context=self._tls)
