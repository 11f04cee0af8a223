"""Requests and responses as the health routes see them, and the headers that every answer has."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from memguard.report.health.background import Outcome
from memguard.report.health.page.document import notice
from memguard.report.health.page.style import page_policy

MOST_BODY = 4096
"""Bytes of a form; a longer one is refused."""

# No cache may keep what was true a moment ago; no guess about types; nobody else's frame or script.
_ALWAYS = (
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    # Not "no-referrer": a browser then says "Origin: null" where a form is posted (Fetch, 3.2).
    ("Referrer-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
)
_NO_PAGE = "default-src 'none'; frame-ancestors 'none'"


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
    """None where it is longer than ``MOST_BODY``."""


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
    """Something that takes a moment: to be waited for, up to *seconds*."""

    ask: Callable[[Callable[[Outcome[Any]], object]], Response | None]
    """Begin, and have the outcome told from another thread; or answer at once."""
    finish: Callable[[Outcome[Any]], Response]
    late: Callable[[], Response]
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
class Teller:
    """Answers in the way that was asked: for a script as JSON, for a form without one as a page."""

    as_page: bool

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> Teller:
        """Return one for a request with *headers*."""
        return cls("text/html" in headers.get("accept", ""))

    def refuse(self, status: int, error: str, message: str) -> Response:
        """Return a refusal."""
        if self.as_page:
            return html(status, notice("Nothing was done", message))
        return refusal(status, error, message)

    def accept(self, status: int, message: str, **more: Any) -> Response:
        """Return what was done; a browser is led back to the page, which shows it."""
        if not self.as_page:
            return data(status, {"message": message, **more})
        if status == 200:
            return moved(303, "../memguard")
        return html(status, notice("Accepted", message))


def _response(status: int, body: bytes, kind: str, policy: str) -> Response:
    headers = (
        ("Content-Type", kind),
        ("Content-Length", str(len(body))),
        ("Content-Security-Policy", policy),
        *_ALWAYS,
    )
    return Response(status=status, body=body, headers=headers)
