"""Who may ask and who may press the button: tokens and the origin of a request. Pure."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Iterable, Mapping

from memguard.errors import ConfigError

LEAST_TOKEN = 16
"""Characters: what can be guessed over a network must be long."""
_MOST_TOKEN = 1024


def check_token(name: str, token: str | None) -> bytes | None:
    """
    Return *token* as it is compared, None for none.

    Raises:
        TypeError: It is no string.
        ConfigError: It is too short or too long, or cannot stand in a header.
    """
    if token is None:
        return None
    if not isinstance(token, str):
        raise TypeError(f"{name} must be a string or None (got {type(token).__name__})")
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

    Every pair is compared (``hmac.compare_digest``), so that the time tells neither which one it
    was nor how much of it was right.
    """
    known = [token for token in tokens if token is not None]
    tried = [each.encode("utf-8", "replace") for each in given if each is not None]
    fits = [hmac.compare_digest(each, token) for each in tried for token in known]
    return any(fits)


def bearer(headers: Mapping[str, str]) -> str | None:
    """Return the token of ``X-Memguard-Token`` or ``Authorization: Bearer`` (RFC 6750)."""
    own = headers.get("x-memguard-token")
    if own is not None:
        return own.strip()
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    return credentials.strip() if scheme.lower() == "bearer" else None


def password(headers: Mapping[str, str]) -> str | None:
    """Return the password of ``Authorization: Basic`` (RFC 7617), which a browser can ask for."""
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        decoded = base64.b64decode(credentials.strip(), validate=True)
    except (binascii.Error, ValueError):
        return None
    return decoded.decode("utf-8", "replace").partition(":")[2]


def is_cross_site(headers: Mapping[str, str]) -> bool:
    """
    Return whether a browser sends this on behalf of another site.

    ``Sec-Fetch-Site`` (W3C Fetch Metadata) decides where it is sent; no page can forge it. In an
    older browser ``Origin`` must name the host that was asked. Who sends neither is no browser, and
    nobody can be tricked into being it. The same steps as Go's ``http.CrossOriginProtection``.
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
    default = ":443" if scheme == "https" else ":80"
    return place if place.endswith(default) or _has_port(place) else place + default


def _has_port(place: str) -> bool:
    return place.rpartition("]")[2].rpartition(":")[2].isdigit() and ":" in place.rpartition("]")[2]
