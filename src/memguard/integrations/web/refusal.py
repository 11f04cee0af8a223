"""Requests that are answered with 503 while memory is critical, and those that never are. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from memguard.errors import ConfigError

EXEMPT = (
    "/health",
    "/healthz",
    "/livez",
    "/readyz",
    "/ping",
    "/metrics",
    "/memguard",
)
"""Paths, and all below them, that are served however little memory is left."""


def checked_paths(paths: Iterable[str]) -> tuple[str, ...]:
    """
    Return *paths* as given.

    Raises:
        TypeError: They are no list of strings.
        ConfigError: One does not begin with a slash, or ends with one.
    """
    if isinstance(paths, str):
        raise TypeError(f"exempt must be a list of paths (got one string); write [{paths!r}]")
    found = tuple(paths)
    for path in found:
        if not isinstance(path, str):
            raise TypeError(f"exempt must be a list of paths (one is {type(path).__name__})")
        if not path.startswith("/") or path.rstrip("/") != path:
            raise ConfigError(
                f"a path in exempt must begin with / and not end with it (got {path[:60]!r}); "
                "what lies below it is exempt, too"
            )
    return found


def refusal(retry_after: int) -> tuple[list[tuple[str, str]], bytes]:
    """
    Return the headers and the body of a 503 (RFC 9110, 15.6.4 and 10.2.3).

    Args:
        retry_after: Seconds that the client is told to wait.
    """
    body = b"Not enough memory at the moment; try again later.\n"
    headers = [
        ("Content-Type", "text/plain; charset=utf-8"),
        ("Content-Length", str(len(body))),
        ("Retry-After", str(retry_after)),
        ("Cache-Control", "no-store"),
    ]
    return headers, body
