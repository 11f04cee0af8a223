"""Checks of options: rejected at construction, with what to do instead."""

from __future__ import annotations

import datetime as dt
import math
import os
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from memguard.errors import ConfigError
from memguard.units import parse_bytes, parse_seconds

if TYPE_CHECKING:
    from pathlib import Path

POLICIES = ("lru", "s3fifo")
OVERSIZED = ("reject", "raise", "keep_one")
ON_ERROR = ("log", "raise")
_KINDS = {"str": "string", "Mapping": "mapping"}
_IDENTIFIER = r"[A-Za-z][A-Za-z0-9_.-]*"


def check_maxsize(maxsize: Any) -> float | None:
    """Return *maxsize* as given; None means that something else bounds the cache."""
    if maxsize is None:
        return None
    if isinstance(maxsize, bool) or not isinstance(maxsize, int | float):
        raise TypeError(
            f"maxsize must be a number of entries, or of getsizeof units "
            f"(got {type(maxsize).__name__})"
        )
    if not maxsize >= 0:
        raise ConfigError(f"maxsize must be >= 0 (got {maxsize})")
    return maxsize


def check_maxbytes(maxbytes: Any) -> int | None:
    """Return *maxbytes* as a number of bytes."""
    return None if maxbytes is None else check_bytes(maxbytes, "maxbytes")


def check_bytes(value: Any, name: str) -> int:
    """Return *value*, a number of bytes >= 1 or a string such as ``"8MiB"``, as a number."""
    count = parse_bytes(value, name=name)
    if count < 1:
        raise ConfigError(f"{name} must be >= 1 byte (got {value!r})")
    return count


def check_bounded(maxsize: float | None, maxbytes: int | None, owner: str) -> None:
    """Refuse a container without any bound."""
    if maxsize is None and maxbytes is None:
        raise ConfigError(
            f"maxsize or maxbytes is required: {owner} refuses to be unbounded; "
            f"give a number of entries, or bytes as in maxbytes='64MiB'"
        )


def check_duration(value: Any, timer: Callable[[], Any], name: str) -> Any:
    """
    Return a lifetime in the units of *timer*: seconds for clocks that count seconds.

    Numbers pass as they are, strings such as ``"10m"`` become seconds, and a timedelta becomes
    seconds for ``time.monotonic`` and stays a timedelta for a timer of datetimes.
    """
    if value is None:
        return None
    if isinstance(value, str):
        value = parse_seconds(value, name=name)
    elif isinstance(value, dt.timedelta):
        if timer in (time.monotonic, time.time, time.perf_counter):
            value = value.total_seconds()
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(
            f"{name} must be seconds, a string like '10m' or a timedelta "
            f"(got {type(value).__name__})"
        )
    if not value > type(value)(0):
        raise ConfigError(f"{name} must be > 0 seconds (got {value}); leave it out for no limit")
    return value


def check_choice(value: Any, allowed: tuple[str, ...], name: str) -> Any:
    """Return *value* when it is one of the *allowed* words."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string (got {type(value).__name__})")
    if value not in allowed:
        *others, last = map(repr, allowed)
        words = f"{', '.join(others)} or {last}" if others else last
        raise ConfigError(f"{name} must be {words} (got {value!r})")
    return value


def check_callable(value: Any, name: str, *, optional: bool = True) -> Any:
    """Return *value* when it can be called, or is None and may be."""
    if (value is None and optional) or callable(value):
        return value
    raise TypeError(f"{name} must be callable (got {type(value).__name__})")


def check_name(value: Any) -> str | None:
    """Return *value* when it can name a container in a report."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise TypeError(f"name must be a string (got {type(value).__name__})")
    if not value:
        raise ConfigError("name must not be empty; leave it out for the place of creation")
    return value


def check_positive_int(value: Any, name: str, advice: str = "") -> int:
    """Return *value* when it is an int >= 1."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int (got {type(value).__name__})")
    if value < 1:
        raise ConfigError(f"{name} must be >= 1 (got {value}){advice}")
    return value


def check_share(value: Any, name: str) -> float:
    """Return *value* when it is a share from 0 to 1."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number from 0 to 1 (got {type(value).__name__})")
    if not 0 <= value <= 1 or not math.isfinite(value):
        raise ConfigError(f"{name} must be from 0 to 1 (got {value})")
    return float(value)


def check_flag(value: Any, name: str) -> bool:
    """Return *value* when it is True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False (got {type(value).__name__})")
    return value


def check_int(value: Any, name: str, least: int, most: int | None = None) -> int:
    """Return *value* when it is an int from *least* to *most*; None is not an upper bound."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int (got {type(value).__name__})")
    if value < least or (most is not None and value > most):
        allowed = f">= {least}" if most is None else f"from {least} to {most}"
        raise ConfigError(f"{name} must be {allowed} (got {value})")
    return value


def check_number(value: Any, name: str, least: float, most: float, unit: str = "") -> float:
    """Return *value* when it is a number from *least* to *most*; *unit* is for the message."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number (got {type(value).__name__})")
    if not least <= value <= most:
        raise ConfigError(f"{name} must be from {least:g} to {most:g}{unit} (got {value})")
    return value


def check_seconds(value: Any, name: str, least: float, most: float = math.inf) -> float:
    """Return *value*, a number of seconds or a string such as ``"10m"``, from *least* to *most*."""
    seconds = parse_seconds(value, name=name)
    if not least <= seconds <= most:
        allowed = f">= {least:g}" if math.isinf(most) else f"from {least:g} to {most:g}"
        raise ConfigError(f"{name} must be {allowed} seconds (got {value!r})")
    return seconds


def check_instance(value: Any, kind: type, name: str, *, optional: bool = False) -> Any:
    """Return *value* when it is a *kind*, or None and may be."""
    if isinstance(value, kind) or (optional and value is None):
        return value
    word = _KINDS.get(kind.__name__, kind.__name__)
    wanted = f"{'an' if word[0] in 'AEIOU' else 'a'} {word}{' or None' if optional else ''}"
    raise TypeError(f"{name} must be {wanted} (got {type(value).__name__})")


def check_identifier(value: Any, name: str, longest: int) -> str:
    """Return *value* when it can name something in logs, labels and files."""
    check_instance(value, str, name)
    if not re.fullmatch(_IDENTIFIER, value) or len(value) > longest:
        raise ConfigError(
            f"{name} must be 1 to {longest} letters, digits, '_', '.' or '-', a letter first "
            f"(got {value[:longest]!r})"
        )
    return str(value)


def check_path(value: Any, name: str) -> Path:
    """Return *value*, a string or path, made absolute: the host may change its directory later."""
    if not isinstance(value, str | os.PathLike) or not isinstance(os.fspath(value), str):
        raise TypeError(f"{name} must be a string or a Path (got {type(value).__name__})")
    if not os.fspath(value):
        raise ConfigError(f"{name} must not be empty (got ''); for the current directory write '.'")
    from pathlib import Path  # noqa: PLC0415 - reason: 3 ms for every container, few of which need it

    return Path(os.path.abspath(value))  # noqa: PTH100 - reason: resolve() follows links
