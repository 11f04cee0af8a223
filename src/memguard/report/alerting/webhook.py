"""
Notices by HTTP: JSON to any webhook, and to Slack and compatible services.

The client is the standard library's ``urllib.request``: it knows the proxies of the environment,
and there is no HTTP client among the dependencies. What it lacks is added here: a deadline for the
whole exchange, a bound on the answer, and a way to cut it. What it has too much of is left out: no
redirects (one to another host would take the headers along), no cookies, no ``file:`` or ``ftp:``.
"""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import json
import re
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from datetime import UTC
from functools import partial
from typing import Any, TypedDict, Unpack

from memguard._version import __version__
from memguard.bounded.options import check_callable, check_flag, check_instance
from memguard.errors import ConfigError
from memguard.report.alerting.connection import Connection
from memguard.report.alerting.notice import Notice, Severity
from memguard.report.alerting.sink import DeliveryError, Sink

MOST_BODY = 64 * 1024
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
# What http.client refuses, refused at once; and nothing that latin-1 cannot say.
_VALUE = re.compile(r"[\t\x20-\x7e\xa0-\xff]{0,4000}")
_REASON = re.compile(rb"[a-z_]{3,40}")
_LONGEST_AFTER = 86400.0

# Slack cuts a text at 40,000 characters and splits it from 4,000 on; a field is shown up to 2,000.
_SLACK_TEXT = 3000
_SLACK_TITLE = 150
_SLACK_FIELDS = 10
_SLACK_COLORS = {"info": "#3b82f6", "warning": "#d97706", "critical": "#dc2626"}
_SLACK_RESOLVED = "#16a34a"


class WebhookOptions(TypedDict, total=False):
    """The options that every webhook takes; see `WebhookSink`."""

    context: ssl.SSLContext | None
    trust_env: bool
    name: str
    min_severity: Severity
    timeout: float | str


class WebhookSink(Sink):
    """
    Post each notice as JSON: `Notice.to_dict`.

    Any status from 200 to 299 is a delivery. Connections that fail, timeouts, 408, 421, 425, 429
    and 5xx but 501 and 505 are tried again, a ``Retry-After`` is honoured; anything else is a
    refusal for good. Redirects are not followed. A notice whose answer was lost is sent again:
    its ``id`` is the same.

    The URL and the headers may be secrets: neither is in a log, an error or a ``repr``.

    Bounded by: *timeout* for one exchange, 64 KiB for a body and for an answer.
    Locks: none.
    Keeps alive: its options.

    Args:
        url: Of http or https.
        headers: Sent with each request: ``{"Authorization": "Bearer …"}``.
        payload: Makes something else of a notice, as JSON: called with the `Notice`.
        context: For TLS; by default certificates are checked against those of the system.
        trust_env: Use the proxies that the environment names (``https_proxy``, ``no_proxy``).
        name: For statistics, logs and the thread.
        min_severity: Notices about less grave alerts are not posted.
        timeout: Seconds for one exchange, without the look-up of the name.

    Raises:
        TypeError: An option is of the wrong kind.
        ConfigError: An option is out of its range.
    """

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        payload: Callable[[Notice], Any] | None = None,
        context: ssl.SSLContext | None = None,
        trust_env: bool = True,
        name: str = "webhook",
        min_severity: Severity = "info",
        timeout: float | str = 10.0,
    ) -> None:
        super().__init__(name=name, min_severity=min_severity, timeout=timeout)
        self._shown_url = _checked_url(url)
        self._url = url
        self._payload = check_callable(payload, "payload")
        self._trust_env = check_flag(trust_env, "trust_env")
        self._headers = {
            "Content-Type": "application/json",
            "User-Agent": f"memguard/{__version__}",
            **_checked_headers(headers),
        }
        if context is None and url.lower().startswith("https:"):
            context = ssl.create_default_context()
        self._context = context

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._shown_url}/..., name={self.name!r})"

    def payload(self, notice: Notice) -> Any:
        """Return what is posted for *notice*."""
        return notice.to_dict() if self._payload is None else self._payload(notice)

    def deliver(self, notice: Notice, connection: Connection) -> None:
        """
        Post *notice*; a status of 200 to 299 is a success.

        Raises:
            DeliveryError: It was not delivered; it says whether to try again.
        """
        text = json.dumps(self.payload(notice), allow_nan=False, separators=(",", ":"))
        body = text.encode("ascii")
        if len(body) > MOST_BODY:
            raise DeliveryError(f"the payload is longer than {MOST_BODY} bytes", retry=False)
        try:
            with self._post(body, connection) as answer:
                _check_status(answer)
        except DeliveryError:
            raise
        except urllib.error.URLError as error:
            raise DeliveryError(_kind(error.reason)) from None
        except (OSError, http.client.HTTPException) as error:
            raise DeliveryError(_kind(error)) from None
        except ValueError as error:
            raise DeliveryError(f"bad request: {type(error).__name__}", retry=False) from None

    def _post(self, body: bytes, connection: Connection) -> Any:
        opener = urllib.request.OpenerDirector()
        # The environment alone: macOS keeps proxies elsewhere, too, and asking there after a fork
        # crashes the process.
        proxies = urllib.request.getproxies_environment() if self._trust_env else {}
        opener.add_handler(urllib.request.ProxyHandler(proxies))
        opener.add_handler(_Http(connection))
        opener.add_handler(_Https(connection, self._context))
        request = urllib.request.Request(  # noqa: S310 - reason: http and https are all that has a handler
            self._url, data=body, headers=self._headers, method="POST"
        )
        return opener.open(request, timeout=connection.left())


def _check_status(answer: Any) -> None:
    status = answer.status
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
            date = date.replace(tzinfo=UTC)
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
    def __init__(self, connection: Connection, sock: Any, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self.fp.close()
        self.fp = connection.reader(sock)


def _made(connection: Connection, kind: type, host: str, **options: Any) -> Any:
    made = kind(host, **options)
    made._create_connection = lambda address, *_: connection.connect(*address)  # noqa: SLF001 - reason: the seam that http.client has for it; test_webhook would see it gone
    made.response_class = partial(_Response, connection)
    return made


class _Http(urllib.request.HTTPHandler):
    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self._connection = connection

    def http_open(self, request: Any) -> Any:
        if request.type != "http":  # the proxy speaks something else, and would be spoken to so
            raise DeliveryError("the proxy's scheme is not supported", retry=False)
        make: Any = partial(_made, self._connection, http.client.HTTPConnection)
        return self.do_open(make, request)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, connection: Connection, context: ssl.SSLContext | None) -> None:
        super().__init__(context=context)
        self._connection = connection
        self._tls = context

    def https_open(self, request: Any) -> Any:
        make: Any = partial(_made, self._connection, http.client.HTTPSConnection)
        return self.do_open(make, request, context=self._tls)


class SlackSink(Sink):
    """
    Post each notice to an incoming webhook of Slack, or of what understands the same.

    Mattermost and Rocket.Chat do, and Discord under ``/slack``.

    Args:
        url: The webhook's, which is a secret.
        channel: Where the receiver allows to choose one.
        options: *context*, *trust_env*, *name*, *min_severity*, *timeout*: see `WebhookSink`.

    Raises:
        TypeError: An option is of the wrong kind.
        ConfigError: An option is out of its range.
    """

    def __init__(
        self, url: str, *, channel: str | None = None, **options: Unpack[WebhookOptions]
    ) -> None:
        check_instance(channel, str, "channel", optional=True)
        self.payload = partial(slack_payload, channel=channel)
        """Makes of a notice what is posted."""
        given = WebhookOptions(name="slack") | options
        self._webhook = hook = WebhookSink(url, payload=self.payload, **given)
        self._shown_url = _checked_url(url)
        super().__init__(name=hook.name, min_severity=hook.min_severity, timeout=hook.timeout)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._shown_url}/..., name={self.name!r})"

    def deliver(self, notice: Notice, connection: Connection) -> None:
        """
        Post *notice*; a status of 200 to 299 is a success.

        Raises:
            DeliveryError: It was not delivered; it says whether to try again.
        """
        self._webhook.deliver(notice, connection)


def slack_payload(notice: Notice, *, channel: str | None = None) -> dict[str, Any]:
    """
    Return *notice* as the JSON of an incoming webhook. Pure.

    Texts stay below what Slack cuts off, and its control characters are escaped, so that no name
    of the host's can call a whole channel (``<!channel>``).

    Source: Slack, "Incoming webhooks", "Formatting text for app surfaces", "Attachments".
    """
    title = _slack(notice.title, _SLACK_TITLE)
    color = _SLACK_COLORS[notice.severity] if notice.status == "firing" else _SLACK_RESOLVED
    since, *until = notice.period
    found = [*notice.facts, since, ("process", str(notice.pid)), *until]
    return {
        "text": title,
        "attachments": [
            {
                "color": color,
                "fallback": title,
                "text": _slack(notice.summary, _SLACK_TEXT),
                "fields": [
                    {
                        "title": _slack(name, _SLACK_TITLE),
                        "value": _slack(value, _SLACK_TEXT // 10),
                        "short": len(value) <= 40,
                    }
                    for name, value in found[-_SLACK_FIELDS:]
                ],
                "footer": _slack(" ".join(f"{n}={v}" for n, v in notice.labels), 300),
                "ts": int(notice.time),
            }
        ],
        **({} if channel is None else {"channel": channel}),
    }


def _slack(text: str, longest: int) -> str:
    """Escape what Slack would take for markup of its own, and cut: never inside an escape."""
    shown = []
    room = longest
    for character in text:
        piece = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}.get(character, character)
        room -= len(piece)
        if room < 0:
            break
        shown.append(piece)
    return "".join(shown)


def _checked_url(url: str) -> str:
    """Return the scheme and host of *url*, which alone may be shown; or refuse it, unshown."""
    check_instance(url, str, "url")
    if not url.isascii() or not url.isprintable() or " " in url or len(url) > 2000:
        raise ConfigError(
            "url must be printable ASCII without spaces, 2000 characters at most; "
            "percent-encode all other characters"
        )
    try:
        parts = urllib.parse.urlsplit(url)
        port = parts.port
    except ValueError:
        raise ConfigError("url cannot be read; give one like https://example.org/hook") from None
    if parts.scheme not in ("http", "https"):
        raise ConfigError("url must begin with http:// or https://")
    if not parts.hostname:
        raise ConfigError("url must name a host, as in https://example.org/hook")
    if parts.username is not None or parts.password is not None:
        raise ConfigError("url must not hold a password; give headers={'Authorization': ...}")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}" + (f":{port}" if port is not None else "")


def _checked_headers(headers: Mapping[str, str] | None) -> dict[str, str]:
    if headers is None:
        return {}
    check_instance(headers, Mapping, "headers")
    for name, value in headers.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError("headers must be strings, names and values")
        if not _TOKEN.fullmatch(name):
            raise ConfigError("a header's name must be a token of RFC 9110, such as X-Team")
        if not _VALUE.fullmatch(value):
            raise ConfigError(
                f"the value of header {name} must be one line of latin-1, up to 4000 characters"
            )
        if name.lower() in ("content-length", "transfer-encoding", "host", "connection"):
            raise ConfigError(f"header {name} is not yours to set")
    return dict(headers)
