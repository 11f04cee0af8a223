"""Human units to numbers and back: "64MiB" and bytes, "10m" and seconds. The only parser of them."""

from __future__ import annotations

import math
import re

from memguard.errors import ConfigError

KiB = 1024
MiB = 1024**2
GiB = 1024**3

_BYTES = {
    "": 1,
    "b": 1,
    "k": KiB,
    "kib": KiB,
    "kb": 1000,
    "m": MiB,
    "mib": MiB,
    "mb": 1000**2,
    "g": GiB,
    "gib": GiB,
    "gb": 1000**3,
    "t": 1024**4,
    "tib": 1024**4,
    "tb": 1000**4,
}
_SECONDS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_QUANTITY = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([a-zA-Z]*)\s*")


def parse_bytes(value: int | str, *, name: str = "size") -> int:
    """
    Return *value* as a whole number of bytes.

    Args:
        value: A number of bytes, or a string such as ``"64MiB"``, ``"1.5 GB"`` or ``"512k"``.
            ``k m g t`` alone are binary, as in ``free -h`` and Kubernetes' ``Ki``.
        name: The option's name, for the error message.

    Raises:
        TypeError: *value* is neither an int nor a string.
        ConfigError: It is negative, or no size that can be read.
    """
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise TypeError(
            f"{name} must be a number of bytes or a string like '64MiB' "
            f"(got {type(value).__name__})"
        )
    if isinstance(value, int):
        number = float(value)
        result = value
    else:
        number = _parse(value, _BYTES, name, "a size like '64MiB', '1.5GB' or '4096'")
        result = round(number)
    if number < 0:
        raise ConfigError(f"{name} must be >= 0 bytes (got {value!r})")
    return result


def parse_seconds(value: float | str, *, name: str = "duration") -> float:
    """
    Return *value* as seconds.

    Args:
        value: A finite number of seconds, or a string such as ``"250ms"``, ``"10m"`` or ``"2h"``.
        name: The option's name, for the error message.

    Raises:
        TypeError: *value* is neither a number nor a string.
        ConfigError: It is negative, not finite, or no duration that can be read.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError(
            f"{name} must be a number of seconds or a string like '10m' (got {type(value).__name__})"
        )
    if isinstance(value, str):
        return _parse(value, _SECONDS, name, "a duration like '250ms', '30s', '10m' or '2h'")
    if not math.isfinite(value) or value < 0:
        raise ConfigError(f"{name} must be a finite number of seconds >= 0 (got {value!r})")
    return float(value)


def _parse(text: str, units: dict[str, float] | dict[str, int], name: str, allowed: str) -> float:
    match = _QUANTITY.fullmatch(text)
    unit = match[2].lower() if match else None
    if match is None or unit not in units:
        raise ConfigError(f"{name} must be {allowed} (got {text!r})")
    return float(match[1]) * units[unit]


def format_bytes(count: float, *, signed: bool = False) -> str:
    """
    Return *count* bytes as people read them: ``"48.2 MiB"``, ``"+512 B"`` when *signed*.

    >>> format_bytes(50_541_363)
    '48.2 MiB'
    """
    sign = "-" if count < 0 else "+" if signed else ""
    size = abs(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{sign}{size:.0f} B" if unit == "B" else f"{sign}{size:.1f} {unit}"
        size /= 1024
    return f"{sign}{size:.1f} TiB"


def format_seconds(seconds: float) -> str:
    """
    Return a duration as people read it, two units at most: ``"350 ms"``, ``"2 h 5 min"``.

    >>> format_seconds(7_500)
    '2 h 5 min'
    """
    if not math.isfinite(seconds):
        return "never"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for size, unit, small_size, small in (
        (86400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= size:
            count, rest = divmod(whole, size)
            minor = rest // small_size
            return f"{count} {unit} {minor} {small}" if minor else f"{count} {unit}"
    return f"{seconds:.1f} s"
