"""HTTP as the health routes see it: requests, responses, tokens, and the origin of a request."""

from __future__ import annotations

import base64
import binascii
import hmac
import json
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any

from memguard.bounded.options import check_instance
from memguard.errors import ConfigError
from memguard.report.health.page.assets import page_policy
from memguard.report.health.page.document import notice_page

MOST_BODY = 4096
"""Bytes of a form; a longer one is refused."""
LEAST_TOKEN = 16
"""Characters: what can be guessed over a network must be long."""
_MOST_TOKEN = 1024

# No cache may keep what was true a moment ago; no guess about types; no foreign frame or script.
_ALWAYS = (
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    # Not "no-referrer": a browser then says "Origin: null" where a form is posted (Fetch, 3.2).
    ("Referrer-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
)
_NO_PAGE = "default-src 'none'; frame-ancestors 'none'"


# -- requests -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request, as far as it matters here."""

    method: str
    route: str
    """The path below the place where this is mounted."""
    mounted_at: str = ""
    """That place, for the one redirection that needs its last step."""
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    """By names in lower case."""
    body: bytes | None = b""
    """None if it is longer than ``MOST_BODY``."""


def bearer(headers: Mapping[str, str]) -> str | None:
    """Return the token of ``X-Memguard-Token`` or ``Authorization: Bearer`` (RFC 6750)."""
    own = headers.get("x-memguard-token")
    return own.strip() if own is not None else _credentials(headers, "bearer")


def password(headers: Mapping[str, str]) -> str | None:
    """Return the password of ``Authorization: Basic`` (RFC 7617), which a browser can ask for."""
    credentials = _credentials(headers, "basic")
    if credentials is None:
        return None
    try:
        decoded = base64.b64decode(credentials, validate=True)
    except (binascii.Error, ValueError):
        return None
    return decoded.decode("utf-8", "replace").partition(":")[2]


def _credentials(headers: Mapping[str, str], wanted: str) -> str | None:
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    return credentials.strip() if scheme.lower() == wanted else None


def check_token(name: str, token: str | None) -> bytes | None:
    """
    Return *token* as it is compared, None for none.

    Raises:
        TypeError: It is not a string.
        ConfigError: It is too short or too long, or cannot stand in a header.
    """
    if token is None:
        return None
    check_instance(token, str, name, optional=True)
    if not LEAST_TOKEN <= len(token) <= _MOST_TOKEN:
        raise ConfigError(
            f"{name} must be {LEAST_TOKEN} to {_MOST_TOKEN} characters (got {len(token)}); "
            "secrets.token_urlsafe() makes a good one"
        )
    if any(not "!" <= character <= "~" for character in token):
        raise ConfigError(
            f"{name} must be printable ASCII without spaces, as it stands in a header; "
            "secrets.token_urlsafe() makes a good one"
        )
    return token.encode("ascii")


def is_one_of(given: Iterable[str | None], tokens: Iterable[bytes | None]) -> bool:
    """
    Return whether one that is *given* is one of *tokens*; None fits nothing.

    Every pair is compared (``hmac.compare_digest``), so that the time reveals neither which one it
    was nor how much of it was right.
    """
    known = [token for token in tokens if token is not None]
    tried = [each.encode("utf-8", "replace") for each in given if each is not None]
    fits = [hmac.compare_digest(each, token) for each in tried for token in known]
    return any(fits)


def is_cross_site(headers: Mapping[str, str]) -> bool:
    """
    Return whether a browser sends this on behalf of another site.

    ``Sec-Fetch-Site`` (W3C Fetch Metadata) decides where it is sent; no page can forge it. In an
    older browser ``Origin`` must name the host that was asked. A client that sends neither is not a
    browser, and nobody can be tricked into sending it. The same steps as Go's
    ``http.CrossOriginProtection``.
    """
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site.strip().lower() not in ("same-origin", "none")
    origin = headers.get("origin")
    if origin is None:
        return False
    scheme, separator, place = origin.strip().lower().partition("://")
    host = headers.get("host", "").strip().lower()
    if not separator or not host or scheme not in ("http", "https"):
        return True
    return _with_port(place, scheme) != _with_port(host, scheme)


def _with_port(place: str, scheme: str) -> str:
    """Return host and port; a browser leaves the usual port out, a proxy may not."""
    _, colon, port = place.rpartition("]")[2].rpartition(":")  # after an IPv6 address
    if colon and port.isdigit():
        return place
    return place + (":443" if scheme == "https" else ":80")


# -- responses ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """What is sent; a HEAD request gets all of it but the body."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...]

    def having(self, name: str, value: str) -> Response:
        """Return it with one more header."""
        return replace(self, headers=(*self.headers, (name, value)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """An answer that takes a moment: wait for *future*, up to *seconds*."""

    future: Future[Any]
    finish: Callable[[], Response]
    """Makes the answer once the future is done."""
    late: Callable[[], Response]
    """Makes the answer if it was not done in time."""
    seconds: float


def data(status: int, content: Mapping[str, Any]) -> Response:
    """Return *content* as strict JSON, ASCII only."""
    body = json.dumps(content, allow_nan=False).encode("ascii") + b"\n"
    return _response(status, body, "application/json", _NO_PAGE)


def refusal(status: int, error: str, message: str) -> Response:
    """Return a refusal for programs: *error* is stable, *message* is for people."""
    return data(status, {"error": error, "message": message})


def html(status: int, text: str) -> Response:
    """Return a page."""
    return _response(status, text.encode("utf-8"), "text/html; charset=utf-8", page_policy())


def moved(status: int, where: str) -> Response:
    """Return a redirection to a relative address: right under any prefix."""
    return _response(status, b"", "text/plain; charset=utf-8", _NO_PAGE).having("Location", where)


@dataclass(frozen=True, slots=True)
class Replies:
    """Answers in the form that was asked for: JSON for a script, a page for a form without one."""

    as_page: bool

    @classmethod
    def to(cls, headers: Mapping[str, str]) -> Replies:
        """Return those for a request with *headers*."""
        return cls("text/html" in headers.get("accept", ""))

    def refuse(self, status: int, error: str, message: str) -> Response:
        """Return a refusal."""
        if self.as_page:
            return html(status, notice_page("Nothing was done", message))
        return refusal(status, error, message)

    def accept(self, status: int, message: str, **more: Any) -> Response:
        """Return what was done; a browser is led back to the page, which shows it."""
        if not self.as_page:
            return data(status, {"message": message, **more})
        if status == 200:
            return moved(303, "../memguard")
        return html(status, notice_page("Accepted", message))


def _response(status: int, body: bytes, kind: str, policy: str) -> Response:
    headers = (
        ("Content-Type", kind),
        ("Content-Length", str(len(body))),
        ("Content-Security-Policy", policy),
        *_ALWAYS,
    )
    return Response(status=status, body=body, headers=headers)
