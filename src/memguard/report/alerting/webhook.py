"""Messages by HTTP: JSON to a webhook of any kind, and to Slack and those who speak as it does."""

from __future__ import annotations

import json
import re
import urllib.parse
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from memguard.errors import ConfigError
from memguard.report.alerting.notice import Notice, Severity, iso
from memguard.report.alerting.sink import DeliveryError, Sink
from memguard.report.alerting.wire import Wire

if TYPE_CHECKING:
    import ssl

MOST_BODY = 64 * 1024
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
# What http.client refuses, refused at once; and nothing that latin-1 cannot say.
_VALUE = re.compile(r"[\t\x20-\x7e\xa0-\xff]{0,4000}")

# Slack cuts a text at 40,000 characters and splits it from 4,000 on; a field is shown up to 2,000.
_SLACK_TEXT = 3000
_SLACK_TITLE = 150
_SLACK_FIELDS = 10
_SLACK_COLORS = {"info": "#3b82f6", "warning": "#d97706", "critical": "#dc2626"}
_SLACK_RESOLVED = "#16a34a"


class WebhookSink(Sink):
    """
    Post each message as JSON: `Notice.to_dict`.

    Any status from 200 to 299 is a delivery. Connections that fail, timeouts, 408, 421, 425, 429
    and 5xx but 501 and 505 are tried again, a ``Retry-After`` is honoured; anything else is a
    refusal for good. Redirects are not followed. A message whose answer was lost is sent again:
    its ``id`` is the same.

    The URL and the headers may be secrets: neither is in a log, an error or a ``repr``.

    Bounded by: *timeout* for one exchange, 64 KiB for a body and for an answer.
    Locks: none.
    Keeps alive: its options.

    Args:
        url: Of http or https.
        headers: Sent with each request: ``{"Authorization": "Bearer …"}``.
        payload: Makes something else of a message, as JSON: called with the `Notice`.
        context: For TLS; by default certificates are checked against those of the system.
        trust_env: Use the proxies that the environment names (``https_proxy``, ``no_proxy``).
        name: For statistics, logs and the thread.
        least: Messages about less grave alerts are not posted.
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
        least: Severity = "info",
        timeout: float | str = 10.0,
    ) -> None:
        super().__init__(name=name, least=least, timeout=timeout)
        self._where = _checked_url(url)
        if payload is not None and not callable(payload):
            raise TypeError(f"payload must be callable (got {type(payload).__name__})")
        if not isinstance(trust_env, bool):
            raise TypeError(f"trust_env must be True or False (got {type(trust_env).__name__})")
        self._payload = payload
        # Not at the top of this module: who sends nothing loads neither http nor ssl. And not in
        # the thread either: a fork could meet it half done.
        from memguard.report.alerting.http import Poster  # noqa: PLC0415 - reason: as said above

        self._poster = Poster(url, _checked_headers(headers), context=context, trust_env=trust_env)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._where}/..., name={self.name!r})"

    def payload(self, notice: Notice) -> Any:
        """Return what is posted for *notice*."""
        return notice.to_dict() if self._payload is None else self._payload(notice)

    def deliver(self, notice: Notice, wire: Wire) -> None:
        """
        Post *notice*.

        Raises:
            DeliveryError: It was not delivered; it says whether to try again.
        """
        text = json.dumps(self.payload(notice), allow_nan=False, separators=(",", ":"))
        body = text.encode("ascii")
        if len(body) > MOST_BODY:
            raise DeliveryError(f"the payload is longer than {MOST_BODY} bytes", retry=False)
        self._poster.post(body, wire)


class SlackSink(WebhookSink):
    """
    Post each message to an incoming webhook of Slack, or of what understands the same.

    Mattermost and Rocket.Chat do, and Discord under ``/slack``.

    Args:
        url: The webhook's, which is a secret.
        channel: Where the receiver allows to choose one.
        context: For TLS.
        trust_env: Use the proxies that the environment names.
        name: For statistics, logs and the thread.
        least: Messages about less grave alerts are not posted.
        timeout: Seconds for one exchange.

    Raises:
        TypeError: An option is of the wrong kind.
        ConfigError: An option is out of its range.
    """

    def __init__(
        self,
        url: str,
        *,
        channel: str | None = None,
        context: ssl.SSLContext | None = None,
        trust_env: bool = True,
        name: str = "slack",
        least: Severity = "info",
        timeout: float | str = 10.0,
    ) -> None:
        if channel is not None and not isinstance(channel, str):
            raise TypeError(f"channel must be a string (got {type(channel).__name__})")
        self._channel = channel
        super().__init__(
            url,
            context=context,
            trust_env=trust_env,
            name=name,
            least=least,
            timeout=timeout,
        )

    def payload(self, notice: Notice) -> Any:
        """Return the message in the form of Slack."""
        found = slack_payload(notice)
        return found if self._channel is None else {**found, "channel": self._channel}


def slack_payload(notice: Notice) -> dict[str, Any]:
    """
    Return *notice* as the JSON of an incoming webhook. Pure.

    Texts stay below what Slack cuts off, and its control characters are escaped, so that no name
    of the host's can call a whole channel (``<!channel>``).

    Source: Slack, "Incoming webhooks", "Formatting text for app surfaces", "Attachments".
    """
    title = _slack(notice.title, _SLACK_TITLE)
    color = _SLACK_COLORS[notice.severity] if notice.status == "firing" else _SLACK_RESOLVED
    found = [*notice.facts, ("since", iso(notice.started_at)), ("process", str(notice.pid))]
    if notice.ended_at is not None:
        found.append(("until", iso(notice.ended_at)))
    found = found[-_SLACK_FIELDS:] if len(found) > _SLACK_FIELDS else found
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
                    for name, value in found
                ],
                "footer": _slack(" ".join(f"{n}={v}" for n, v in notice.labels), 300),
                "ts": int(notice.time),
            }
        ],
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
    if not isinstance(url, str):
        raise TypeError(f"url must be a string (got {type(url).__name__})")
    if not url.isascii() or not url.isprintable() or " " in url or len(url) > 2000:
        raise ConfigError(
            "url must be printable ASCII without spaces, 2000 characters at most; "
            "percent-encode what else is in it"
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
    if not isinstance(headers, Mapping):
        raise TypeError(f"headers must be a mapping (got {type(headers).__name__})")
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
